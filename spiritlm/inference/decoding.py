"""Tokens after prompts, many prompts at a time, as they are chosen.

Prompts of about one length make a batch; those still nearer in length are read together, padded on the left, where the
attention mask hides the padding, and equal ones once. Keys and values of what was read are kept, and rows that have
ended leave the batch. Each request draws from its own generator, so neither batch size nor order changes what is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from spiritlm.errors import InputError
from spiritlm.inference.request import BATCH_SIZE, Sampling

BATCH_TOKENS = {"cpu": 1 << 16, "cuda": 1 << 15}
"""Read and new ones that the requests of a batch may have together; of a model of 7 billion parameters the second is
16 GiB of keys and values."""
PADDING = 1.25
"""Prompts are read together where the longest is at most so many times the shortest."""


class TokenPrompt(NamedTuple):
    ids: np.ndarray
    """int64 `[tokens]`, at least one."""
    sampling: Sampling
    ends: Sequence[int]
    """Ids that end the answer; they are no part of it."""
    banned: Sequence[int] = ()
    """Ids that are never taken."""


class Chosen(NamedTuple):
    """One more token of an answer."""

    request: int
    """Its place among the prompts."""
    id: int | None
    """None: the answer has ended."""


def decode(
    model: torch.nn.Module, prompts: Sequence[TokenPrompt], batch_size: int = BATCH_SIZE
) -> Iterator[tuple[int, np.ndarray]]:
    """Answers int64 `[tokens]` with their place among `prompts`, as they end. `model`: a causal transformer of
    transformers, with room for every prompt and what is asked for. `batch_size`: see `BATCH_TOKENS`, too."""
    said: dict[int, list[int]] = {number: [] for number in range(len(prompts))}
    for number, id in decode_steps(model, prompts, batch_size):
        if id is None:
            yield number, np.array(said.pop(number), np.int64)
        else:
            said[number].append(id)


def decode_all(
    model: torch.nn.Module, prompts: Sequence[TokenPrompt], batch_size: int = BATCH_SIZE
) -> list[np.ndarray]:
    """The answers of `decode` in the order of `prompts`."""
    answers = dict(decode(model, prompts, batch_size))
    return [answers[number] for number in range(len(prompts))]


def decode_steps(
    model: torch.nn.Module, prompts: Sequence[TokenPrompt], batch_size: int = BATCH_SIZE
) -> Iterator[Chosen]:
    """Tokens as they are chosen, by turns of all that are decoded together; a last one with id None for each."""
    order = sorted(range(len(prompts)), key=lambda n: (len(prompts[n].ids), prompts[n].sampling.max_new_tokens))
    device = next(model.parameters()).device.type
    for numbers in _batches(prompts, order, batch_size, BATCH_TOKENS.get(device, BATCH_TOKENS["cuda"])):
        for row, id in _Batch(model, [prompts[n] for n in numbers]).steps():
            yield Chosen(numbers[row], id)


def _batches(prompts: Sequence[TokenPrompt], order: Sequence[int], rows: int, tokens: int) -> Iterator[list[int]]:
    """Neighbours in `order`, at most `rows` of them, which would fill at most `tokens` if all were as long as the
    longest; one alone may be longer."""
    batch: list[int] = []
    longest = 0
    for number in order:
        length = len(prompts[number].ids) + prompts[number].sampling.max_new_tokens
        if batch and (len(batch) == rows or (len(batch) + 1) * max(longest, length) > tokens):
            yield batch
            batch, longest = [], 0
        batch.append(number)
        longest = max(longest, length)
    if batch:
        yield batch


class _Read(NamedTuple):
    logits: torch.Tensor
    """Of the last tokens, `[texts, vocabulary]`."""
    cache: Any
    """What is to be remembered."""


class _Batch:
    """Requests that are decoded together; rows that have ended are dropped."""

    def __init__(self, model: torch.nn.Module, prompts: Sequence[TokenPrompt]) -> None:
        self.model, self.prompts = model, prompts
        self.device = next(model.parameters()).device
        self.generators = [np.random.default_rng(prompt.sampling.seed) for prompt in prompts]
        self.left = [prompt.sampling.max_new_tokens for prompt in prompts]
        self.choice = _Choice(prompts, self.device)
        self.rows = list(range(len(prompts)))
        """Numbers of the requests that go on."""

    @torch.inference_mode()
    def steps(self) -> Iterator[Chosen]:
        logits = self._read()
        while True:
            draws = [self.generators[row].random() for row in self.rows]
            ids = self.choice(logits, self.rows, draws)
            going, kept = [], []
            for place, (row, id) in enumerate(zip(self.rows, ids, strict=True)):
                self.left[row] -= 1
                ended = id in self.prompts[row].ends
                if not ended:
                    yield Chosen(row, id)
                if ended or not self.left[row]:
                    yield Chosen(row, None)
                else:
                    going.append(place)
                    kept.append(id)
            if not going:
                return
            self._keep(going)
            logits = self._step(kept)

    def _read(self) -> torch.Tensor:
        """The prompts -> logits of their last tokens, `[rows, vocabulary]`."""
        from spiritlm.inference.cache import is_plain, joined  # and with it transformers, seconds

        texts = [tuple(prompt.ids.tolist()) for prompt in self.prompts]
        different = list(dict.fromkeys(texts))
        first, *others = _of_about_one_length(different)
        parts = [self._read_together(first)]
        if is_plain(parts[0].cache):
            parts += [self._read_together(group) for group in others]
            self.cache = joined([part.cache for part in parts])
        else:
            parts = [self._read_together(different)]
            self.cache = parts[0].cache
        logits = torch.cat([part.logits for part in parts])
        del parts
        lengths = torch.tensor([len(ids) for ids in different], device=self.device)[:, None]
        longest = int(lengths.max())
        self.mask = (torch.arange(longest, device=self.device) >= longest - lengths).long()
        places = [different.index(ids) for ids in texts]
        if len(different) < len(texts):
            self._select(places)
            logits = logits[places]
        self.positions = self.mask.sum(1)
        return logits

    def _read_together(self, texts: Sequence[tuple[int, ...]]) -> _Read:
        longest = max(map(len, texts))
        ids = torch.tensor([(0,) * (longest - len(text)) + text for text in texts], device=self.device)
        lengths = torch.tensor([len(text) for text in texts], device=self.device)[:, None]
        mask = (torch.arange(longest, device=self.device) >= longest - lengths).long()
        found = self.model(
            input_ids=ids,
            attention_mask=None if bool(mask.all()) else mask,
            position_ids=(mask.cumsum(1) - 1).clamp(min=0),
            use_cache=True,
            logits_to_keep=1,
        )
        if getattr(found, "past_key_values", None) is None:
            raise InputError(f"{type(self.model).__name__}: keeps no keys and values, expected a causal transformer")
        return _Read(found.logits[:, -1], found.past_key_values)

    def _step(self, ids: Sequence[int]) -> torch.Tensor:
        self.mask = torch.nn.functional.pad(self.mask, (0, 1), value=1)
        found = self.model(
            input_ids=torch.tensor(ids, device=self.device)[:, None],
            attention_mask=self.mask,
            position_ids=self.positions[:, None],
            past_key_values=self.cache,
            use_cache=True,
        )
        self.positions = self.positions + 1
        logits: torch.Tensor = found.logits[:, -1]
        return logits

    def _keep(self, places: Sequence[int]) -> None:
        if len(places) < len(self.rows):
            self._select(places)
            self.positions = self.positions[list(places)]
            self.rows = [self.rows[place] for place in places]

    def _select(self, places: Sequence[int]) -> None:
        self.cache.batch_select_indices(torch.tensor(places, device=self.device))
        self.mask = self.mask[list(places)]


def _of_about_one_length(texts: Sequence[tuple[int, ...]]) -> Iterator[list[tuple[int, ...]]]:
    """`texts` in order, neighbours of about one length together; the longer ones come later."""
    group: list[tuple[int, ...]] = []
    for text in texts:
        if group and len(text) > PADDING * len(group[0]):
            yield group
            group = []
        group.append(text)
    yield group


class _Choice:
    """The next id of each row: the likeliest, or drawn."""

    def __init__(self, prompts: Sequence[TokenPrompt], device: torch.device) -> None:
        self.samplings = [prompt.sampling for prompt in prompts]
        self.device = device
        sets = {id(prompt.banned): prompt.banned for prompt in prompts}
        self.bans = [list(sets).index(id(prompt.banned)) for prompt in prompts]
        self.sets = [torch.tensor(list(ids), dtype=torch.long, device=device) for ids in sets.values()]
        self.draws_at_all = any(sampling.temperature for sampling in self.samplings)

    def __call__(self, logits: torch.Tensor, rows: Sequence[int], draws: Sequence[float]) -> list[int]:
        """`logits` `[rows, vocabulary]`; `draws` in [0, 1), one a row."""
        logits = logits.float().clone()
        bans = [self.bans[row] for row in rows]
        for number in set(bans):
            own = [place for place, one in enumerate(bans) if one == number]
            logits[torch.tensor(own, device=self.device)[:, None], self.sets[number]] = -torch.inf
        ids = logits.argmax(-1)
        if self.draws_at_all:
            drawn = [place for place, row in enumerate(rows) if self.samplings[row].temperature]
            if drawn:
                chosen = [self.samplings[rows[place]] for place in drawn]
                ids[drawn] = _draw(logits[drawn].double(), chosen, [draws[place] for place in drawn])
        return ids.tolist()


def _draw(logits: torch.Tensor, samplings: Sequence[Sampling], draws: Sequence[float]) -> torch.Tensor:
    """Ids `[rows]` for `logits` float64 `[rows, vocabulary]`: one among the likeliest, by its cumulative
    probability."""

    def column(values: Sequence[float]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float64, device=logits.device)[:, None]

    sorted_logits, order = logits.sort(descending=True, stable=True)
    sorted_logits = sorted_logits - sorted_logits[:, :1]
    probabilities = (sorted_logits / column([s.temperature for s in samplings])).softmax(-1)
    ranks = torch.arange(probabilities.shape[1], device=logits.device)
    within = ranks < column([s.top_k or logits.shape[1] for s in samplings])
    probabilities = probabilities * within
    probabilities /= probabilities.sum(-1, keepdim=True)
    before = probabilities.cumsum(-1) - probabilities
    probabilities = probabilities * (before < column([s.top_p for s in samplings]))
    cumulative = probabilities.cumsum(-1)
    wanted = column(draws) * cumulative[:, -1:]
    last = (probabilities > 0).sum(-1, keepdim=True) - 1
    place = torch.searchsorted(cumulative, wanted, right=True).minimum(last)
    return order.gather(1, place)[:, 0]
