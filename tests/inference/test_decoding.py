from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from spiritlm.inference import decoding
from spiritlm.inference.decoding import TokenPrompt, decode, decode_all, decode_steps
from spiritlm.inference.request import Sampling, greedy

ENDS, BANNED = [3, 4, *range(20, 30)], list(range(40, 60))


def random_model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=60, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        initializer_range=0.3,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


MODEL = random_model()


@pytest.fixture(scope="module")
def prompts() -> list[TokenPrompt]:
    rng = np.random.default_rng(0)
    return [
        TokenPrompt(rng.integers(0, 60, rng.integers(1, 30)), greedy(int(rng.integers(1, 12))), ENDS, BANNED)
        for _ in range(23)
    ]


def step_by_step(prompt: TokenPrompt) -> list[int]:
    """The whole again for each token, alone and without a cache."""
    ids = prompt.ids.tolist()
    with torch.inference_mode():
        for _ in range(prompt.sampling.max_new_tokens):
            logits = MODEL(input_ids=torch.tensor([ids])).logits[0, -1]
            logits[list(prompt.banned)] = -torch.inf
            if int(logits.argmax()) in prompt.ends:
                break
            ids.append(int(logits.argmax()))
    return ids[len(prompt.ids) :]


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_the_likeliest_token_again_and_again(prompts: list[TokenPrompt], batch_size: int) -> None:
    expected = [step_by_step(prompt) for prompt in prompts]
    assert [ids.tolist() for ids in decode_all(MODEL, prompts, batch_size)] == expected
    lengths = {len(ids) for ids in expected}
    assert 0 in lengths
    assert any(len(ids) == p.sampling.max_new_tokens for ids, p in zip(expected, prompts, strict=True))
    assert not {id for ids in expected for id in ids} & {*ENDS, *BANNED}


def test_equal_prompts_are_read_once_and_answered_apart(prompts: list[TokenPrompt]) -> None:
    again = [prompts[3], prompts[0], prompts[3], prompts[3]]
    reads: list[tuple[int, ...]] = []
    hook = MODEL.register_forward_pre_hook(
        lambda module, _, given: reads.append(tuple(given["input_ids"].shape)), with_kwargs=True
    )
    found = decode_all(MODEL, again)
    hook.remove()
    assert [ids.tolist() for ids in found] == [step_by_step(prompt) for prompt in again]
    assert reads[0][0] == 2


@settings(max_examples=30, deadline=None)
@given(
    asked=st.lists(
        st.tuples(
            st.lists(st.integers(0, 59), min_size=1, max_size=12),
            st.integers(1, 9),
            st.sampled_from([0.0, 0.7, 2.0]),
            st.sampled_from([0.3, 1.0]),
            st.sampled_from([0, 1, 5]),
            st.integers(0, 3),
        ),
        min_size=1,
        max_size=6,
    ),
    batch_size=st.integers(1, 6),
)
def test_what_is_drawn_does_not_depend_on_what_is_asked_beside_it(
    asked: list[tuple[list[int], int, float, float, int, int]], batch_size: int
) -> None:
    prompts = [
        TokenPrompt(np.array(ids), Sampling(most, temperature, top_p, top_k, seed), ENDS, BANNED)
        for ids, most, temperature, top_p, top_k, seed in asked
    ]
    together = [ids.tolist() for ids in decode_all(MODEL, prompts, batch_size)]
    assert together == [decode_all(MODEL, [prompt])[0].tolist() for prompt in prompts]
    assert {n: ids.tolist() for n, ids in decode(MODEL, prompts[::-1])} == dict(enumerate(together[::-1]))


def test_one_of_the_likeliest_is_the_likeliest(prompts: list[TokenPrompt]) -> None:
    expected = [step_by_step(prompt) for prompt in prompts]
    for narrow in (Sampling(top_k=1, temperature=5.0), Sampling(top_p=1e-9, temperature=0.5)):
        drawn = [
            prompt._replace(sampling=replace(narrow, max_new_tokens=prompt.sampling.max_new_tokens))
            for prompt in prompts
        ]
        assert [ids.tolist() for ids in decode_all(MODEL, drawn)] == expected


def test_draws_are_as_frequent_as_they_are_likely() -> None:
    prompt, count = np.array([5, 17, 33]), 3000
    asked = [TokenPrompt(prompt, Sampling(1, 1.3, 1.0, 0, seed), (), BANNED) for seed in range(count)]
    found = Counter(int(ids[0]) for ids in decode_all(MODEL, asked, 500))
    with torch.inference_mode():
        logits = MODEL(input_ids=torch.tensor(prompt[None])).logits[0, -1].double()
    logits = logits.clone()
    logits[BANNED] = -torch.inf
    expected = (logits / 1.3).softmax(-1).numpy()
    assert not set(found) & set(BANNED)
    for id, share in enumerate(expected):
        assert abs(found[id] / count - share) <= 4 * np.sqrt(share * (1 - share) / count) + 1e-9


def test_tokens_come_one_by_one_and_then_the_end(prompts: list[TokenPrompt]) -> None:
    steps = list(decode_steps(MODEL, prompts[:3]))
    for number, expected in enumerate(map(step_by_step, prompts[:3])):
        assert [step.id for step in steps if step.request == number] == [*expected, None]


def test_a_batch_holds_no_more_tokens_than_it_may(prompts: list[TokenPrompt], monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [ids.tolist() for ids in decode_all(MODEL, prompts)]
    monkeypatch.setitem(decoding.BATCH_TOKENS, "cpu", 90)
    rows: list[int] = []
    hook = MODEL.register_forward_pre_hook(
        lambda module, _, given: rows.append(len(given["input_ids"])), with_kwargs=True
    )
    assert [ids.tolist() for ids in decode_all(MODEL, prompts)] == expected
    hook.remove()
    longest = max(len(prompt.ids) + prompt.sampling.max_new_tokens for prompt in prompts)
    assert 1 < max(rows) <= 90 // min(len(prompt.ids) for prompt in prompts)
    assert 90 // longest < len(prompts)


def test_equally_likely_tokens_do_not_depend_on_the_neighbours() -> None:
    level = torch.zeros(2, 200, dtype=torch.float64)
    narrow, wide = Sampling(temperature=1.0, top_p=1.0, top_k=5), Sampling(temperature=1.0, top_p=1.0, top_k=60)
    for draw in (0.0, 0.3, 0.99):
        (alone,) = decoding._draw(level[:1], [narrow], [draw]).tolist()
        both = decoding._draw(level, [narrow, wide], [draw, 0.5]).tolist()
        assert both[0] == alone < 5
    cold = Sampling(temperature=1e-310, top_p=1.0)
    assert decoding._draw(torch.arange(9, dtype=torch.float64)[None], [cold], [0.7]).tolist() == [8]
