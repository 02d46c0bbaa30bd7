"""Tokens a second of batched generation, beside transformers' `generate` one by one; and how soon a model speaks.

    python evals/speed/generation.py [--batch 8] [--new 128] [--model FOLDER --speech RECORDINGS]

A random Llama of the demo's size (11.2M parameters, 1 500 ids, float32) answers greedily after prompts of 20 to 200
tokens, with as many ids forbidden as where speech is asked for. Both say the same, token for token. Medians of 5 in
turns. With `--model`, an exported folder with ears and a voice, and a folder of recordings: seconds from the end of a
recording until the first sound of its continuation (hearing it, reading it, the first block of units, the voice), and
the real-time factor of the whole. Exit status 1 where the aim is missed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from spiritlm.errors import InputError
from spiritlm.inference.decoding import TokenPrompt, decode_all
from spiritlm.inference.model import SpeechTextLM
from spiritlm.inference.request import Request, Sampling, Speech, greedy
from spiritlm.run.program import guarded

REPEATS, SIZE, TEXT_IDS, AIM = 5, 1500, 950, 3.0
RECORDINGS, UNITS = 20, 100
"""That are continued, and tokens of each continuation."""
Answers = list[list[int]]


def demo_model(device: str) -> LlamaForCausalLM:
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=SIZE, hidden_size=384, num_hidden_layers=6, num_attention_heads=6, num_key_value_heads=6,
        intermediate_size=1024, max_position_embeddings=1024, tie_word_embeddings=True, initializer_range=0.1,
    )  # fmt: skip
    return LlamaForCausalLM(shape).to(device).eval()


def prompts(count: int, new: int) -> list[TokenPrompt]:
    rng = np.random.default_rng(0)
    lengths = np.linspace(20, 200, count).astype(int)
    return [TokenPrompt(rng.integers(0, SIZE, n), greedy(new), (), range(TEXT_IDS)) for n in lengths]


@torch.inference_mode()
def one_by_one(model: LlamaForCausalLM, asked: Sequence[TokenPrompt]) -> Answers:
    answers = []
    for prompt in asked:
        ids = torch.from_numpy(prompt.ids).to(model.device)[None]
        found = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=prompt.sampling.max_new_tokens, do_sample=False,
            suppress_tokens=list(prompt.banned), pad_token_id=0, eos_token_id=None,
        )  # fmt: skip
        answers.append(found[0, ids.shape[1] :].tolist())
    return answers


def seconds(ways: dict[str, Callable[[], Answers]]) -> dict[str, float]:
    """Medians, after a first round that counts nothing and in which all must say the same."""
    found = {name: way() for name, way in ways.items()}
    for name, answers in found.items():
        if answers != found["ours"]:
            sys.exit(f"{name}: says something else")
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(REPEATS):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(taken) for name, taken in times.items()}


def first_sounds(folder: Path, recordings: Path) -> None:
    model = SpeechTextLM.from_pretrained(folder)
    if model.voice is None:
        raise InputError(f"{folder}: has no voice to speak with")
    found = sorted(path for path in recordings.rglob("*.wav") if path.is_file())[:RECORDINGS]
    if not found:
        raise InputError(f"{recordings}: expected recordings (.wav), found none")
    firsts, factors, gaps = [], [], []
    for number, path in enumerate([found[0], *found]):  # the first one is cold
        request = Request([Speech.read(path)], "speech", Sampling(UNITS, seed=number))
        started, samples, times = time.perf_counter(), 0, []
        for said in model.stream(request):
            samples += len(said.wave)
            times.append(time.perf_counter() - started)
        if number and times:
            firsts.append(times[0])
            factors.append(times[-1] * model.voice.sample_rate / samples)
            gaps.append(max(np.diff(times), default=0.0))
    if not firsts:
        raise InputError(f"{folder}: said nothing after any recording")
    at = np.percentile(firsts, [50, 95])
    print(f"first sound after {len(firsts)} recordings: p50 {1000 * at[0]:.0f} ms, p95 {1000 * at[1]:.0f} ms")
    print(f"  real-time factor {statistics.median(factors):.2f}, largest gap between pieces {1000 * max(gaps):.0f} ms")


def measure(options: argparse.Namespace) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, asked = demo_model(device), prompts(options.batch, options.new)
    taken = seconds(
        {
            "ours": lambda: [ids.tolist() for ids in decode_all(model, asked, options.batch)],
            "transformers, one by one": lambda: one_by_one(model, asked),
        }
    )
    cores = len(os.sched_getaffinity(0))
    where = torch.cuda.get_device_name() if device == "cuda" else f"{cores} cores, {torch.get_num_threads()} threads"
    print(f"{options.batch} prompts, {options.new} new tokens each, on {where}")
    for name, spent in taken.items():
        print(f"  {name}: {options.batch * options.new / spent:.0f} tokens a second")
    if options.model:
        first_sounds(options.model, options.speech)
    ratio = taken["transformers, one by one"] / taken["ours"]
    print(f"ours / one by one: {ratio:.2f} (aim at least {AIM:g}){'' if ratio >= AIM else ' MISSED'}")
    sys.exit(int(ratio < AIM))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8, help="prompts answered together (%(default)s)")
    parser.add_argument("--new", type=int, default=128, help="tokens of each answer (%(default)s)")
    parser.add_argument("--model", type=Path, metavar="FOLDER", help="exported model, for the first sound")
    parser.add_argument("--speech", type=Path, default=Path("runs/quickstart/speech/wav/test"), help="(%(default)s)")
    options = parser.parse_args()
    sys.exit(guarded(lambda: measure(options), debug=False))


if __name__ == "__main__":
    main()
