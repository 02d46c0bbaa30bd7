"""lm-evaluation-harness asks a model of this project in text, in the tokens that it was trained on.

Its tasks give strings; what the model reads is `<s>`, the marker of text, and the string as running text, line breaks
and all. `lm_eval --model hf` reads the same folder without the marker, which no document of training is. Needs
`lm-eval`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.models.utils import normalize_gen_kwargs

from spiritlm.errors import InputError
from spiritlm.inference.decoding import TokenPrompt, decode, decode_all
from spiritlm.inference.pieces import banned_ids, end_ids
from spiritlm.inference.request import Sampling, greedy
from spiritlm.run.progress import progress
from spiritlm.scoring.models import ExportedModel
from spiritlm.scoring.rows import TokenRequest
from spiritlm.tokens.interleave import TEXT

CHUNK = 512
"""Requests that the model is asked at a time."""
NEW_TOKENS = 256
"""Of an answer, at most, where a task does not say."""


class TextHarness(LM):
    """For `lm_eval.simple_evaluate(model=TextHarness(model), tasks=...)`, in one process."""

    def __init__(self, model: ExportedModel) -> None:
        super().__init__()
        self.model, self.vocabulary = model, model.vocabulary
        self.beginning = [self.vocabulary.bos, *self.vocabulary.opening(TEXT)]
        self.room = (model.scorer.model.context or sys.maxsize) - len(self.beginning)
        """Tokens of text that fit behind it."""
        self.shortened = 0
        """Requests whose text did not fit: its beginning was left out, as the harness does with all models."""
        self._ends: dict[tuple[str, ...], list[int]] = {}

    def loglikelihood(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Of `(context, continuation)`: the natural log probability of the continuation, and whether each of its tokens
        is the likeliest of all. Raises `InputError` where it has no tokens, or more than the model's context."""
        asked = [self._request(*request.args) for request in requests]
        found: list[tuple[float, bool]] = []
        with progress("score", len(asked)) as bar:
            for first in range(0, len(asked), CHUNK):
                some = asked[first : first + CHUNK]
                totals = [score.total for score in self.model.scorer.score(some)]
                found += zip(totals, self._are_likeliest(some), strict=True)
                bar.advance(len(some))
        return found

    def loglikelihood_rolling(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[float]:
        """Of `(text,)`, all of it. What does not fit is read in pieces, each as a document of its own that begins with
        the last token of the piece before, and the last one with as many as fit."""
        windows = [list(self._windows(self.vocabulary.text.encode_document(request.args[0]))) for request in requests]
        scores = iter(self.model.scorer.score([window for own in windows for window in own]))
        return [sum(next(scores).total for _ in own) for own in windows]

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """Of `(context, settings)`: what the model writes next, up to the first of the strings `until`. A request that
        comes twice is drawn anew. Raises `InputError` where prompt and answer do not fit."""
        prompts, stops = [], []
        for number, request in enumerate(requests):
            settings = normalize_gen_kwargs(request.args[1], NEW_TOKENS)
            stops.append(tuple(stop for stop in settings["until"] if stop))
            prompts.append(self._prompt(request.args[0], settings, stops[-1], seed=number))
        answers = [""] * len(prompts)
        with progress("answer", len(prompts)) as bar:
            for number, ids in decode(self.model.model, prompts):
                answers[number] = _cut(self.vocabulary.decode_text(ids.tolist()), stops[number])
                bar.advance()
        return answers

    def _request(self, context: str, continuation: str) -> TokenRequest:
        """White space between the two belongs to the second; at the beginning of a document there is none."""
        if not context.strip():
            context, continuation = "", continuation.lstrip()
        before = self.vocabulary.text.encode_document(context.rstrip())
        whole = self.vocabulary.text.encode_document(context + continuation)
        places = range(min(len(before), len(whole)))
        divided = next((place for place in places if before[place] != whole[place]), len(places))
        answer = whole[divided:]
        if not 0 < len(answer) <= self.room:
            raise InputError(f"{continuation[:60]!r}: {len(answer)} tokens to score, expected 1 to {self.room}")
        prompt = self.beginning + self._that_fits(whole[:divided], self.room - len(answer))
        return TokenRequest(np.array(prompt, np.int64), np.array(answer, np.int64))

    def _that_fits(self, text: list[int], room: int) -> list[int]:
        self.shortened += len(text) > room
        return text[max(0, len(text) - room) :]

    def _are_likeliest(self, asked: Sequence[TokenRequest]) -> list[bool]:
        longest: dict[bytes, int] = {}
        for request in asked:
            key = request.prompt.tobytes()
            longest[key] = max(longest.get(key, 0), len(request.continuation))
        prompts = [TokenPrompt(np.frombuffer(key, np.int64), greedy(new), ends=()) for key, new in longest.items()]
        said = dict(zip(longest, decode_all(self.model.model, prompts), strict=True))
        return [
            bool(np.array_equal(said[request.prompt.tobytes()][: len(request.continuation)], request.continuation))
            for request in asked
        ]

    def _windows(self, text: list[int]) -> Iterator[TokenRequest]:
        """Each token is asked for once."""
        start = 0
        while start < len(text):
            end = min(len(text), start + self.room - (start > 0))
            prompt = self.beginning + text[max(0, end - self.room) : start]
            yield TokenRequest(np.array(prompt, np.int64), np.array(text[start:end], np.int64))
            start = end

    def _prompt(self, context: str, settings: Mapping[str, Any], stops: tuple[str, ...], seed: int) -> TokenPrompt:
        sampling = Sampling(
            settings["max_gen_toks"],
            settings.get("temperature") or 0.0,
            settings.get("top_p") or 1.0,
            settings.get("top_k") or 0,
            seed,
        )
        room = self.room - sampling.max_new_tokens
        if room < 0:
            raise InputError(f"max_gen_toks {sampling.max_new_tokens}: expected at most the {self.room} that fit")
        ids = self.beginning + self._that_fits(self.vocabulary.text.encode_document(context.rstrip(" ")), room)
        ends = [*end_ids("text", "continue", self.vocabulary), *self._begin_with(stops)]
        return TokenPrompt(np.array(ids, np.int64), sampling, ends, self._banned)

    @cached_property
    def _banned(self) -> tuple[int, ...]:
        return banned_ids("text", "continue", self.vocabulary)

    @cached_property
    def _written(self) -> list[tuple[int, str]]:
        """Every piece of text as it stands inside of one, with what follows it."""
        ids = np.flatnonzero(self.vocabulary.is_text(np.arange(self.vocabulary.padded_size))).tolist()
        around = self.vocabulary.text.encode_document("a")
        return [(id, self.vocabulary.decode_text([*around, id, *around])[1:]) for id in ids]

    def _begin_with(self, stops: tuple[str, ...]) -> list[int]:
        """Ids whose text begins with one of `stops`: nothing before them is lost, and nothing behind them is wanted."""
        if stops not in self._ends:
            self._ends[stops] = [id for id, text in self._written if text.startswith(stops)]
        return self._ends[stops]


def _cut(text: str, stops: Sequence[str]) -> str:
    """Up to the first of the `stops` in it."""
    return text[: min((text.find(stop) for stop in stops if stop in text), default=len(text))]
