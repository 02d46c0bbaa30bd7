from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

pytest.importorskip("lm_eval")

from lm_eval.api.instance import Instance

from spiritlm.errors import InputError
from spiritlm.scoring.harness import TextHarness
from spiritlm.scoring.models import ExportedModel
from spiritlm.tokens.huggingface import save_huggingface_tokenizer
from spiritlm.tokens.layout import spirit
from spiritlm.tokens.text import HuggingFaceText, TextTokenizer
from spiritlm.tokens.vocabulary import Vocabulary

CONTEXT = 64
STORY = "Tom went to the lake with his mother. He wanted to catch a big fish."


def of(vocabulary: Vocabulary) -> TextHarness:
    torch.manual_seed(0)
    llama = LlamaConfig(
        vocab_size=vocabulary.padded_size, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=CONTEXT, initializer_range=0.4,
    )  # fmt: skip
    return TextHarness(ExportedModel(LlamaForCausalLM(llama).eval(), vocabulary, None, {}))


@pytest.fixture(scope="module")
def harness(vocabulary: Vocabulary) -> TextHarness:
    return of(vocabulary)


@pytest.fixture(scope="module")
def byte_level() -> TextHarness:
    """A tokenizer of another kind: no space is put before the text, and spaces and line breaks share tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([STORY, "Q: a\n\nA: b\n\n" * 9] * 9, trainer)
    text: TextTokenizer = HuggingFaceText(tokenizer.to_str().encode(), "<|end|>", "<|end|>")
    return of(Vocabulary(text, spirit(text.size, {"semantic": 50}, text.bos, text.eos)))


def instances(kind: Any, *arguments: tuple[Any, ...]) -> list[Instance]:
    return [Instance(kind, {}, one, number) for number, one in enumerate(arguments)]


def log_probabilities(harness: TextHarness, text: str) -> tuple[list[int], torch.Tensor, list[bool]]:
    """Ids of the text, and of each its log probability and whether it is the likeliest, in a document of its own."""
    ids = harness.vocabulary.text.encode_document(text)
    whole = torch.tensor([[harness.vocabulary.bos, harness.vocabulary.marker("[Text]"), *ids]])
    with torch.inference_mode():
        logits = harness.model.model(input_ids=whole).logits[0, 1:-1].double()
    own = logits.log_softmax(-1)[torch.arange(len(ids)), torch.tensor(ids)]
    return ids, own, (logits.argmax(-1) == torch.tensor(ids)).tolist()


def test_a_continuation_is_scored_behind_its_document(harness: TextHarness) -> None:
    context, continuation = "Tom went to the", " lake with his mother."
    ids, found, likeliest = log_probabilities(harness, context + continuation)
    new = len(ids) - len(harness.vocabulary.text.encode_document(context))
    ((total, all_likeliest),) = harness.loglikelihood(instances("loglikelihood", (context, continuation)))
    assert total == pytest.approx(float(found[-new:].sum()), abs=1e-4)
    assert all_likeliest == all(likeliest[-new:]) and isinstance(all_likeliest, bool)


@pytest.mark.parametrize("name", ["harness", "byte_level"])
def test_what_is_likeliest_is_found(name: str, request: pytest.FixtureRequest) -> None:
    harness: TextHarness = request.getfixturevalue(name)
    words = STORY.split()
    contexts = [" ".join(words[:n]) for n in range(1, len(words))]
    asked = []
    for context in contexts:  # what the model would say, where that is a text that follows with a token of its own
        ids = torch.tensor([[*harness.beginning, *harness.vocabulary.text.encode_document(context)]])
        best = int(harness.model.model(input_ids=ids).logits[0, -1].argmax())
        text = harness.vocabulary.decode_text([best]) if harness.vocabulary.is_text(np.array([best]))[0] else "x"
        asked += [(context, f"{space}{text}{more}") for space in ("", " ") for more in ("", " lake") if text]
    found = harness.loglikelihood(instances("loglikelihood", *asked))
    seen = set()
    for (context, continuation), (total, likeliest) in zip(asked, found, strict=True):
        _, own, best_ones = log_probabilities(harness, context + continuation)
        new = len(harness._request(context, continuation).continuation)
        assert total == pytest.approx(float(own[-new:].sum()), abs=1e-4)
        assert likeliest == all(best_ones[-new:]) and isinstance(likeliest, bool)
        seen.add(likeliest)
    assert seen == {False, True}


def test_white_space_between_two_pieces_belongs_to_the_second(harness: TextHarness) -> None:
    v = harness.vocabulary
    same = [harness._request(*pair) for pair in (("Tom went", " to the lake"), ("Tom went ", "to the lake"))]
    assert all(np.array_equal(a, b) for a, b in zip(*(r[:2] for r in same), strict=True))
    assert same[0].prompt.tolist() == [v.bos, v.marker("[Text]"), *v.encode_text("Tom went")]
    for context in ("", " ", "\n"):
        first = harness._request(context, " Tom went")
        assert first.prompt.tolist() == harness.beginning
        assert first.continuation.tolist() == v.encode_text("Tom went")


def test_line_breaks_are_read(harness: TextHarness) -> None:
    asked = harness._request("Tom went\nto", " the lake")
    assert "<0x0A>" in [harness.vocabulary.token(id) for id in asked.prompt]


def test_a_text_that_does_not_fit_loses_its_beginning(vocabulary: Vocabulary) -> None:
    harness = of(vocabulary)
    long = " ".join([STORY] * 6)
    whole = harness._request(long, " Tom was sad.")
    assert len(whole.ids) == CONTEXT and whole.prompt[:2].tolist() == harness.beginning
    assert whole.ids[2:].tolist() == vocabulary.encode_text(f"{long} Tom was sad.")[2 - CONTEXT :]
    assert harness.shortened == 1
    harness._request(STORY, " Tom was sad.")
    assert harness.shortened == 1
    for continuation, tokens in ((f" {long}", r"\d+ tokens to score, expected 1 to 62"), ("", "0 tokens to score")):
        with pytest.raises(InputError, match=tokens):
            harness._request("Tom", continuation)
    with pytest.raises(InputError, match="max_gen_toks 63: expected at most the 62 that fit"):
        harness.generate_until(instances("generate_until", ("Tom", {"max_gen_toks": 63})))


def test_of_a_whole_text_each_token_is_scored_once(harness: TextHarness) -> None:
    short, long = STORY, " ".join([STORY] * 6)
    found = harness.loglikelihood_rolling(instances("loglikelihood_rolling", (short,), (long,), ("",)))
    ids, own, _ = log_probabilities(harness, short)
    assert len(ids) < harness.room and found[0] == pytest.approx(float(own.sum()), abs=1e-4)
    text = harness.vocabulary.text.encode_document(long)
    windows = list(harness._windows(text))
    assert len(windows) > 2 and np.concatenate([window.continuation for window in windows]).tolist() == text
    read = [window.ids[2:].tolist() for window in windows]
    assert [len(window) for window in read] == [harness.room] * len(windows)
    assert all(later[0] == earlier[-1] for earlier, later in pairwise(read[:-1]))
    assert [len(window.prompt) for window in windows][:-1] == [2] + [3] * (len(windows) - 2)
    assert found[1] == pytest.approx(sum(s.total for s in harness.model.scorer.score(windows)))
    assert found[2] == 0


@pytest.mark.parametrize("name", ["harness", "byte_level"])
def test_an_answer_ends_before_what_it_may_not_hold(name: str, request: pytest.FixtureRequest) -> None:
    harness: TextHarness = request.getfixturevalue(name)
    prompts = ["Tom went to the", "He wanted\n\nA:", "The rain came soon and"]
    settings = {"max_gen_toks": 20}
    free = harness.generate_until(instances("generate_until", *[(prompt, settings) for prompt in prompts]))
    assert all(free)
    stops = sorted({text[at : at + n] for text in free for at in range(0, len(text) - 3, 2) for n in (1, 2)} - {" "})
    for stop in [*stops[:25], "\n", ". "]:
        asked = {**settings, "until": [stop, "never written"]}
        found = harness.generate_until(instances("generate_until", *[(prompt, asked) for prompt in prompts]))
        assert [text.rstrip() for text in found] == [text.split(stop)[0].rstrip() for text in free]
        assert harness.generate_until(instances("generate_until", (prompts[0], {**asked, "until": stop}))) == found[:1]


def test_draws_are_repeatable_and_each_its_own(harness: TextHarness) -> None:
    drawn = {"max_gen_toks": 10, "do_sample": True, "temperature": 1.0, "top_p": 0.9, "top_k": 50}
    asked = instances("generate_until", *[("Tom went", drawn)] * 4)
    assert harness.generate_until(asked) == harness.generate_until(asked)
    assert len(set(harness.generate_until(asked))) > 1


def test_where_the_marker_is_written_plain_lm_eval_says_the_same(harness: TextHarness, tmp_path: Path) -> None:
    from lm_eval.models.huggingface import HFLM

    harness.model.model.save_pretrained(tmp_path)
    save_huggingface_tokenizer(harness.vocabulary, tmp_path)
    plain = HFLM(pretrained=str(tmp_path), device="cpu", batch_size=4)
    pairs = [(STORY, " Tom."), ("Tom", " went"), ("Tom went ", "to the lake"), ("He\nwanted", "\nto")]
    asked = instances("loglikelihood", *pairs)
    marked = instances("loglikelihood", *[(f"[Text]{context}", continuation) for context, continuation in pairs])
    for ours, theirs in zip(harness.loglikelihood(asked), plain.loglikelihood(marked, True), strict=True):
        assert ours[0] == pytest.approx(theirs[0], abs=1e-3) and ours[1] == theirs[1]
    unmarked = plain.loglikelihood(asked, True)
    assert abs(unmarked[0][0] - harness.loglikelihood(asked)[0][0]) > 0.1
