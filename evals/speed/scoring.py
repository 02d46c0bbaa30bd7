"""Pairs a second of the scorer, beside the one-by-one loop and padded batches, all with the same model.

    python evals/speed/scoring.py [--pairs 96]

A random Llama of the demo's size (11.2M parameters, 1 500 ids, float32) and pairs of StoryCloze's length: a story of
about 133 speech tokens and two endings of about 30. One by one: every sequence of every pair by itself, transformers'
logits. Padded: whole sequences, 8 or 32 a batch in the order given, padded on the right, as slamkit scores them; the
faster of the two counts. All find the same means. Medians of 5 in turns. Exit status 1 where an aim is missed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from spiritlm.scoring.loglikelihood import TokenRequest, TokenScorer

REPEATS, SIZE = 5, 1500
AIMS = {"one by one": 4.0, "padded": 1.5}
BATCHES = (8, 32)

Means = np.ndarray
"""Mean log-likelihood of each ending, float64 `[2 * pairs]`."""


def demo_model(device: str) -> LlamaForCausalLM:
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=SIZE, hidden_size=384, num_hidden_layers=6, num_attention_heads=6, num_key_value_heads=6,
        intermediate_size=1024, max_position_embeddings=1024, tie_word_embeddings=True,
    )  # fmt: skip
    return LlamaForCausalLM(shape).to(device).eval()


def story_pairs(pairs: int) -> list[TokenRequest]:
    """Right, wrong, right ...; lengths spread by a fifth."""
    rng = np.random.default_rng(0)

    def tokens(mean: int) -> np.ndarray:
        return rng.integers(0, SIZE, max(4, round(rng.normal(mean, mean / 5))))

    return [TokenRequest(story, tokens(30)) for story in (tokens(133) for _ in range(pairs)) for _ in range(2)]


@torch.inference_mode()
def one_by_one(model: LlamaForCausalLM, requests: Sequence[TokenRequest]) -> Means:
    means = []
    for request in requests:
        ids = torch.from_numpy(request.ids).to(model.device)
        log_p = model(input_ids=ids[None]).logits[0, :-1].log_softmax(-1)
        means.append(log_p.gather(1, ids[1:, None])[len(request.prompt) - 1 :].mean().item())
    return np.array(means)


@torch.inference_mode()
def padded(model: LlamaForCausalLM, requests: Sequence[TokenRequest], batch_size: int) -> Means:
    means: list[float] = []
    for first in range(0, len(requests), batch_size):
        batch = requests[first : first + batch_size]
        rows = [torch.from_numpy(request.ids) for request in batch]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(model.device)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
        logits = model(input_ids=ids, attention_mask=mask.to(model.device)).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
        for row, request in zip(loss, batch, strict=True):
            means.append(-row[len(request.prompt) - 1 : len(request.ids) - 1].mean().item())
    return np.array(means)


def ours(scorer: TokenScorer, requests: Sequence[TokenRequest]) -> Means:
    return np.array([score.total / score.tokens for score in scorer.score(requests)])


def seconds(ways: dict[str, Callable[[], Means]]) -> dict[str, float]:
    """Medians, after a first round that counts nothing and in which all must find the same."""
    found = {name: way() for name, way in ways.items()}
    for name, means in found.items():
        difference = np.abs(means - found["ours"]).max()
        if not difference < 1e-5:  # the others add up in float32
            sys.exit(f"{name}: another mean by {difference:.1e}")
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(REPEATS):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(taken) for name, taken in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=96, help="default: %(default)s")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, requests = demo_model(device), story_pairs(options.pairs)
    scorer = TokenScorer(model)
    ways: dict[str, Callable[[], Means]] = {
        "ours": lambda: ours(scorer, requests),
        "one by one": lambda: one_by_one(model, requests),
    }
    for size in BATCHES:
        ways[f"padded, {size} a batch"] = partial(padded, model, requests, size)
    taken = seconds(ways)
    cores = len(os.sched_getaffinity(0))
    where = torch.cuda.get_device_name() if device == "cuda" else f"{cores} cores, {torch.get_num_threads()} threads"
    print(f"{options.pairs} pairs on {where}")
    for name, spent in taken.items():
        print(f"  {name}: {options.pairs / spent:.1f} pairs a second")
    missed = False
    for name, aim in AIMS.items():
        ratio = min(spent for other, spent in taken.items() if other.startswith(name)) / taken["ours"]
        missed |= ratio < aim
        print(f"ours / {name}: {ratio:.2f} (aim at least {aim:g}){'' if ratio >= aim else ' MISSED'}")
    sys.exit(int(missed))


if __name__ == "__main__":
    main()
