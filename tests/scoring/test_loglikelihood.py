import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from spiritlm.errors import InputError
from spiritlm.scoring.accuracy import pair_win
from spiritlm.scoring.causal import CausalModel
from spiritlm.scoring.loglikelihood import TokenScorer
from spiritlm.scoring.protocol import Score
from spiritlm.scoring.rows import TokenRequest, rows_of

SIZE = 60
SHAPE: dict[str, Any] = {
    "vocab_size": SIZE, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 96, "initializer_range": 0.1,
}  # fmt: skip


def made(kind: Any, config: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    model: PreTrainedModel = kind(config).eval()
    return model


MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": lambda: made(LlamaForCausalLM, LlamaConfig(**SHAPE, tie_word_embeddings=True)),
    "llama, eager": lambda: made(LlamaForCausalLM, LlamaConfig(**SHAPE, attn_implementation="eager")),
    "qwen3": lambda: made(Qwen3ForCausalLM, Qwen3Config(**SHAPE, num_key_value_heads=2, head_dim=16)),
    "gpt2": lambda: made(GPT2LMHeadModel, GPT2Config(vocab_size=SIZE, n_embd=32, n_layer=2, n_head=4, n_positions=96)),
}
UNSHARED: dict[str, Callable[[], PreTrainedModel]] = {
    "sliding window": lambda: made(MistralForCausalLM, MistralConfig(**SHAPE, num_key_value_heads=4, sliding_window=9)),
    "state space": lambda: made(
        MambaForCausalLM, MambaConfig(vocab_size=SIZE, hidden_size=32, num_hidden_layers=2, initializer_range=0.2)
    ),
    "alibi": lambda: made(BloomForCausalLM, BloomConfig(vocab_size=SIZE, hidden_size=32, n_layer=2, n_head=4)),
    "dynamic rotation": lambda: made(
        LlamaForCausalLM,
        LlamaConfig(
            **SHAPE | {"max_position_embeddings": 16},
            rope_parameters={"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0},
        ),
    ),
}


def pairs(number: int) -> list[TokenRequest]:
    """Right, wrong, right ...: endings after one prompt, whole sequences that begin alike, and some that do not."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(number):
        prompt = rng.integers(0, SIZE, rng.integers(1, 40))
        for _ in range(2):
            ending = rng.integers(0, SIZE, rng.integers(1, 12))
            if rng.random() < 0.3:
                ending = np.concatenate([prompt[1:], ending])
                found.append(TokenRequest(prompt[:1], ending, rng.random(len(ending)) < 0.8))
                found[-1].scored[-1] = True
            else:
                found.append(TokenRequest(prompt, ending))
    return found


REQUESTS = pairs(24)
MODALITY = np.arange(SIZE) // 25


def one_by_one(model: PreTrainedModel, request: TokenRequest) -> Score:
    """In float64, in the plainest way."""
    with torch.inference_mode():
        logits = model(input_ids=torch.from_numpy(request.ids)[None]).logits[0].double()
    full = restricted = 0.0
    for place in request.targets:
        scores, id = logits[place - 1], request.ids[place]
        full += float(scores.log_softmax(-1)[id])
        same = np.flatnonzero(MODALITY[id] == MODALITY)
        restricted += float(scores[same].log_softmax(-1)[same.tolist().index(id)])
    return Score(full, len(request.targets), restricted)


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    return MODELS[request.param]()


def require_same(found: list[Score], expected: list[Score], tolerance: float = 1e-6) -> None:
    """Mean log-likelihoods, and which of each two is the likelier."""
    assert [score.tokens for score in found] == [score.tokens for score in expected]
    for which in ("total", "restricted"):
        means = [[getattr(s, which) / s.tokens for s in scores] for scores in (found, expected)]
        np.testing.assert_allclose(*means, rtol=0, atol=tolerance)
        wins = [[pair_win(*pair) for pair in zip(m[::2], m[1::2], strict=True)] for m in means]
        assert wins[0] == wins[1]


def test_scores_are_those_of_one_sequence_at_a_time_in_float64(model: PreTrainedModel) -> None:
    exact = copy.deepcopy(model).double()
    scorer = TokenScorer(model, MODALITY)
    assert scorer.share
    require_same(scorer.score(REQUESTS), [one_by_one(exact, request) for request in REQUESTS])


def test_no_setting_and_no_order_changes_a_score(model: PreTrainedModel) -> None:
    expected = TokenScorer(model, MODALITY, batch_size=1, share=False).score(REQUESTS)
    for batch_size in (1, 7, 64):
        for share in (True, False):
            scorer = TokenScorer(model, MODALITY, batch_size=batch_size, share=share)
            require_same(scorer.score(REQUESTS), expected)
            require_same(scorer.score(REQUESTS[::-1])[::-1], expected)
            require_same(TokenScorer(model, MODALITY, 4096, batch_size, share, "left").score(REQUESTS), expected)
    require_same(TokenScorer(model, MODALITY, batch_tokens=50).score(REQUESTS), expected)


@pytest.mark.parametrize("name", UNSHARED)
def test_a_model_that_cannot_be_told_what_a_token_sees_reads_one_by_one(name: str) -> None:
    model = UNSHARED[name]()
    scorer = TokenScorer(model, MODALITY, batch_tokens=300)
    assert not scorer.share
    context = scorer.model.context or 96
    both = zip(REQUESTS[::2], REQUESTS[1::2], strict=True)
    requests = [request for pair in both if max(len(r.ids) for r in pair) <= context for request in pair]
    assert len(requests) > 8
    exact = copy.deepcopy(model).double()
    require_same(scorer.score(requests), [one_by_one(exact, request) for request in requests], 2e-6)
    with pytest.raises(ValueError, match="cannot be told"):
        TokenScorer(model, padding="left").score(requests)


def test_a_leak_between_branches_is_found_by_trying() -> None:
    """A model that says it takes a mask, and does not look at it."""

    class Deaf(LlamaForCausalLM):
        def __init__(self, config: LlamaConfig) -> None:
            super().__init__(config)
            told = self.model.forward
            self.model.forward = lambda attention_mask=None, **rest: told(**rest)  # type: ignore[method-assign]

    assert CausalModel(made(LlamaForCausalLM, LlamaConfig(**SHAPE))).takes_branches
    assert not CausalModel(made(Deaf, LlamaConfig(**SHAPE))).takes_branches


def test_logits_that_are_more_than_the_output_embedding_are_taken_whole() -> None:
    model = made(GraniteForCausalLM, GraniteConfig(**SHAPE, logits_scaling=0.5))
    require_same(
        TokenScorer(model, MODALITY).score(REQUESTS), [one_by_one(copy.deepcopy(model).double(), r) for r in REQUESTS]
    )


def test_any_module_that_gives_logits_will_do() -> None:
    inner = MODELS["llama"]()

    class Bare(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, input_ids: torch.Tensor) -> Any:
            return self.inner(input_ids=input_ids)

    require_same(TokenScorer(Bare(), MODALITY).score(REQUESTS), TokenScorer(inner, MODALITY).score(REQUESTS))


def test_a_large_vocabulary_is_scored_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    model = MODELS["llama"]()
    expected = TokenScorer(model, MODALITY).score(REQUESTS)
    monkeypatch.setattr("spiritlm.scoring.causal.LOGITS", 3 * SIZE)
    require_same(TokenScorer(model, MODALITY).score(REQUESTS), expected)


def test_without_modalities_nothing_is_restricted_and_nothing_gives_nothing() -> None:
    scorer = TokenScorer(MODELS["llama"]())
    assert {score.restricted for score in scorer.score(REQUESTS[:3])} == {None}
    assert scorer.score([]) == []


def test_what_cannot_be_scored_is_named() -> None:
    scorer, ids = TokenScorer(MODELS["llama"]()), np.arange(97) % SIZE
    assert len(scorer.score([TokenRequest(ids[:95], ids[:1])])) == 1
    with pytest.raises(InputError, match=r"^request 1: 97 tokens, at most the 96 of the model's context fit$"):
        scorer.score([REQUESTS[0], TokenRequest(ids[:95], ids[:2])])
    with pytest.raises(InputError, match="request 0: 0 tokens of prompt and 2 to score"):
        scorer.score([TokenRequest(ids[:0], ids[:2])])


token_lists = st.lists(st.integers(0, 2), min_size=2, max_size=9)


@given(st.lists(token_lists, min_size=1, max_size=7), st.randoms())
@settings(max_examples=60)
def test_every_row_holds_its_requests_and_order_makes_no_difference(lists: list[list[int]], random: Any) -> None:
    requests = [TokenRequest(np.array(ids[:1]), np.array(ids[1:])) for ids in lists]
    rows = rows_of(requests, share=True, most_tokens=20)
    assert sorted(owner for row in rows for owner in set(row.owners.tolist())) == list(range(len(requests)))
    for row in rows:
        for owner in set(row.owners.tolist()):
            for place, target, counted in zip(
                row.places[row.owners == owner], row.targets[row.owners == owner], requests[owner].targets, strict=True
            ):
                seen = np.flatnonzero((row.branches == 0) | (row.branches == row.branches[place]))
                seen = seen[seen <= place]
                assert row.ids[seen].tolist() == lists[owner][:counted]
                assert row.positions[seen].tolist() == list(range(counted))
                assert target == lists[owner][counted]
    shuffled = random.sample(requests, len(requests))
    assert [r.ids.tolist() for r in rows_of(shuffled, True, 20)] == [r.ids.tolist() for r in rows]


def test_members_of_a_pair_share_what_they_begin_with() -> None:
    story, endings = np.arange(30), (np.array([1, 2, 3]), np.array([1, 5]))
    after = [TokenRequest(story, ending) for ending in endings]
    whole = [TokenRequest(story[:1], np.concatenate([story[1:], ending])) for ending in endings]
    for requests in (after, whole):
        (row,) = rows_of(requests, share=True, most_tokens=100)
        assert row.ids.tolist() == [*range(30), 1, 2]
        assert len(rows_of(requests, share=False, most_tokens=100)) == 2
        assert len(rows_of(requests, share=True, most_tokens=31)) == 2
    words = [TokenRequest(np.array([0, 1]), np.arange(20) + 10 * n) for n in range(4)]
    assert len(rows_of(words, share=True, most_tokens=100)) == 4
