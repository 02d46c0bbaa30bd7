"""How fast the engine trains, beside transformers' Trainer and a bare PyTorch loop over transformers' Llama.

    python evals/speed/pretrain.py [--size 4] [--length 512] [--rows 8] [--micro 8] [--no-packing] [--profile FILE]

The same shape, the same packed rows of documents, the same optimizer (AdamW, clipped at 1), bf16 with float32 main
weights (the two others: autocast), one process. Tokens a second are medians of 5 stretches of steps, the three ways in
turns. On a GPU the defaults are a model of about 1 G parameters (size 24) and rows of 4,096, and model FLOPs are set
against the peak; `--profile` writes a table of where our time goes by kernel. Exit status 1 where an aim is missed: at
least 0.95 of the bare loop, 1.0 of Trainer, and on an H200 45 % of 989 TFLOP/s.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments

from spiritlm.config import validate_recipe
from spiritlm.corpus.datasets import PackedSample
from spiritlm.engine.backend import device
from spiritlm.engine.hf_config import huggingface_config
from spiritlm.engine.parallel import process_groups
from spiritlm.engine.plan import flops_per_token, parameters
from spiritlm.engine.recipe import TrainerRecipe
from spiritlm.engine.sizes import with_size
from spiritlm.engine.trainer import Trainer as Engine
from spiritlm.engine.weights import drawn_weights, fill

VOCABULARY, DOCUMENT, REPEATS, WARM = 2048, 100, 5, 3
PEAK = 989e12
AIMS = {"bare loop": 0.95, "Trainer": 1.0}
Stretch = Callable[[int], float]
"""Trains so many steps and returns their seconds."""
Way = Callable[[TrainerRecipe, bool], AbstractContextManager[Stretch]]


class Rows:
    """Random rows of documents of about `DOCUMENT` tokens, or of one document each."""

    def __init__(self, length: int, packed: bool) -> None:
        self.length, self.packed = length, packed

    def __len__(self) -> int:
        return 10**6

    def sample(self, position: int) -> PackedSample:
        rng = np.random.default_rng(position)
        ids = rng.integers(VOCABULARY, size=self.length + 1)
        cuts = np.sort(rng.choice(np.arange(1, self.length), self.length // DOCUMENT, replace=False))
        begins = np.concatenate([[0], cuts if self.packed else [], [self.length]]).astype(np.int32)
        ones = np.ones(self.length, np.float32)
        return PackedSample(ids[:-1], ids[1:], ones, np.zeros(self.length, np.uint8), begins)

    def __getitem__(self, position: int) -> Any:
        return self.sample(position)

    def shares(self, positions: int) -> dict[str, float]:
        return {}

    def documents(self, position: int) -> list[str]:
        return []


class HuggingFaceRows(Rows):
    """The same rows as transformers asks for them: labels are shifted there, positions begin anew with a document."""

    def __getitem__(self, position: int) -> dict[str, torch.Tensor]:
        sample = self.sample(position)
        begins = np.repeat(sample.cu_seqlens[:-1], np.diff(sample.cu_seqlens))
        return {
            "input_ids": torch.from_numpy(sample.input_ids),
            "labels": torch.from_numpy(sample.input_ids),
            "position_ids": torch.from_numpy(np.arange(self.length) - begins),
        }


def recipe_of(options: argparse.Namespace, out: Path) -> TrainerRecipe:
    fields = {
        "out": out,
        "model": {"max_position_embeddings": options.length},
        "training": {
            "steps": 10**6, "global_batch_size": options.rows, "micro_batch_size": options.micro,
            "sequence_length": options.length, "log_every": 10**6,
        },
        "schedule": {"decay": "none"},
    }  # fmt: skip
    return validate_recipe(TrainerRecipe, with_size(fields, options.size), "pretrain speed")


@contextmanager
def engine(recipe: TrainerRecipe, packed: bool) -> Iterator[Stretch]:
    rows = Rows(recipe.training.sequence_length, packed)
    with process_groups(seed=0, parallel=recipe.parallel):
        start = partial(fill, read=drawn_weights(recipe.model.layers, 0.02, seed=0))
        trainer = Engine(recipe, rows, [rows.sample(0)], VOCABULARY, "speed", start)
        done = 0

        def stretch(steps: int) -> float:
            nonlocal done
            started = now()
            for step in range(done, done + steps):
                trainer.train_step(step)
            done += steps
            return now() - started

        with trainer.batches.reading_ahead():
            yield stretch


def llama(recipe: TrainerRecipe) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = huggingface_config(recipe.model, VOCABULARY, bos=1, eos=2)
    config.use_cache = False  # with a cache transformers does not look for documents in the positions
    return LlamaForCausalLM(config).to(device())


@contextmanager
def bare_loop(recipe: TrainerRecipe, packed: bool) -> Iterator[Stretch]:
    training, model = recipe.training, llama(recipe)
    rows = HuggingFaceRows(training.sequence_length, packed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.optimizer.lr, weight_decay=0.1, fused=True)
    done = 0

    def step(first: int) -> None:
        for start in range(first, first + training.global_batch_size, training.micro_batch_size):
            samples = [rows[start + number] for number in range(training.micro_batch_size)]
            batch = {name: torch.stack([s[name] for s in samples]).to(device()) for name in samples[0]}
            with torch.autocast(device().type, torch.bfloat16):
                loss = model(**batch).loss
            (loss * training.micro_batch_size / training.global_batch_size).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def stretch(steps: int) -> float:
        nonlocal done
        started = now()
        for number in range(done, done + steps):
            step(number * training.global_batch_size)
        done += steps
        return now() - started

    yield stretch


@contextmanager
def huggingface_trainer(recipe: TrainerRecipe, packed: bool) -> Iterator[Stretch]:
    training, model = recipe.training, llama(recipe)
    rows = HuggingFaceRows(training.sequence_length, packed)

    class Clock(TrainerCallback):
        """Seconds of all steps but the first, which sets up."""

        def on_step_end(self, args: Any, state: Any, control: Any, **unused: Any) -> None:
            self.first = getattr(self, "first", now())
            self.last = now()

    def stretch(steps: int) -> float:
        clock = Clock()
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                output_dir=folder, max_steps=steps + 1, per_device_train_batch_size=training.micro_batch_size,
                gradient_accumulation_steps=training.global_batch_size // training.micro_batch_size, bf16=True,
                learning_rate=recipe.optimizer.lr, weight_decay=0.1, optim="adamw_torch_fused", max_grad_norm=1.0,
                report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True,
                use_cpu=device().type == "cpu", dataloader_num_workers=0, remove_unused_columns=False,
            )  # fmt: skip
            Trainer(model, arguments, train_dataset=rows, callbacks=[clock]).train()
        return clock.last - clock.first

    yield stretch


WAYS = {"ours": engine, "bare loop": bare_loop, "Trainer": huggingface_trainer}


def now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def measure(recipe: TrainerRecipe, packed: bool, steps: int) -> dict[str, tuple[float, float]]:
    """Median tokens a second and, on a GPU, the most memory of each way, bytes."""
    per_step = recipe.training.global_batch_size * recipe.training.sequence_length
    rates: dict[str, list[float]] = {name: [] for name in WAYS}
    with ExitStack() as stack:
        stretches = {name: stack.enter_context(way(recipe, packed)) for name, way in WAYS.items()}
        for stretch in stretches.values():
            stretch(WARM)
        for _ in range(REPEATS):
            for name, stretch in stretches.items():
                rates[name].append(steps * per_step / stretch(steps))
                print(f"  {name}: {rates[name][-1]:,.0f} tokens/s", flush=True)
    return {name: (statistics.median(rates[name]), peak_memory(way, recipe, packed)) for name, way in WAYS.items()}


def peak_memory(way: Way, recipe: TrainerRecipe, packed: bool) -> float:
    """Most bytes of a GPU that one way takes when it is alone."""
    if not torch.cuda.is_available():
        return 0.0
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    with way(recipe, packed) as stretch:
        stretch(2)
    return torch.cuda.max_memory_allocated()


def profile(recipe: TrainerRecipe, packed: bool, path: Path) -> None:
    with engine(recipe, packed) as stretch:
        stretch(WARM)
        with torch.profiler.profile() as profiler:
            stretch(2)
    order = "self_device_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
    path.write_text(profiler.key_averages().table(sort_by=order, row_limit=25))


def main() -> None:
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=24 if gpu else 4, help="layers (default: %(default)s)")
    parser.add_argument("--length", type=int, default=4096 if gpu else 512, help="tokens a row (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=8, help="rows a step (default: %(default)s)")
    parser.add_argument("--micro", type=int, default=2 if gpu else 8, help="rows at a time (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=10, help="of a stretch (default: %(default)s)")
    parser.add_argument("--no-packing", dest="packed", action="store_false", help="every row is one document")
    parser.add_argument("--profile", type=Path, metavar="FILE", help="write a table of our kernels here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        recipe = recipe_of(options, Path(folder))
        found = measure(recipe, options.packed, options.steps)
        if options.profile:
            profile(recipe, options.packed, options.profile)
    sys.exit(report(found, recipe, options))


def report(found: dict[str, tuple[float, float]], recipe: TrainerRecipe, options: argparse.Namespace) -> int:
    ours, missed = found["ours"][0], False
    per_token = flops_per_token(recipe.model, VOCABULARY, options.length)
    print(f"{parameters(recipe.model, VOCABULARY):,} parameters, rows of {options.length:,}, packed: {options.packed}")
    for name, (rate, memory) in found.items():
        share = f", {rate * per_token / PEAK:.1%} of 989 TFLOP/s" if torch.cuda.is_available() else ""
        held = f", {memory / 1e9:.1f} GB" if memory else ""
        print(f"{name}: {rate:,.0f} tokens/s{share}{held}")
    for name, aim in AIMS.items():
        ratio = ours / found[name][0]
        missed |= ratio < aim
        print(f"ours / {name}: {ratio:.3f} (aim {aim:.2f}){'' if ratio >= aim else ' MISSED'}")
    if torch.cuda.is_available():
        missed |= ours * per_token / PEAK < 0.45
    return int(missed)


if __name__ == "__main__":
    main()
