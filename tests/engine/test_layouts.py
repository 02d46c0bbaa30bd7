"""Every parallel layout trains what one process trains. This file is also the program of one rank of such runs."""

import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from spiritlm.config import validate_recipe
from spiritlm.corpus.datasets import PackedSample
from spiritlm.run.metrics import read_metrics

pytestmark = [pytest.mark.filterwarnings("ignore::UserWarning:megatron"), pytest.mark.timeout(1800)]
VOCABULARY, LENGTH, ROWS, STEPS = 64, 32, 8, 4
FIGURES = ("loss", "loss_text", "loss_semantic", "grad_norm")
LAYOUTS = {
    2: {
        "tensor": {"tensor": 2, "sequence": False},
        "tensor-sequence": {"tensor": 2},
        "pipeline": {"pipeline": 2},
        "stages": {"pipeline": 2, "virtual_stages": 2},
        "context": {"context": 2},
        "data": {"overlap": False},
        "data-overlap": {},
    },
    4: {
        "tensor-pipeline": {"tensor": 2, "pipeline": 2},
        "pipeline-context": {"pipeline": 2, "context": 2},
        "tensor-data-recompute": {"tensor": 2, "recompute": "layers"},
    },
}
SHAPES = {
    "qwen2-tied": {"qkv_bias": True, "tie_embeddings": True},
    "qwen3": {"qk_norm": True, "head_size": 12},
    "glm": {"qkv_bias": True, "rotary_neighbours": True, "rotary_share": 0.5},
}


class Rows:
    """Random rows of several documents each, text and speech in turns."""

    def __getitem__(self, position: int) -> PackedSample:
        rng = np.random.default_rng(position)
        ids = rng.integers(VOCABULARY, size=LENGTH + 1)
        cuts = np.sort(rng.choice(np.arange(1, LENGTH), size=position % 4, replace=False))
        begins = np.concatenate([[0], cuts, [LENGTH]]).astype(np.int32)
        mask = (rng.random(LENGTH) < 0.8).astype(np.float32)
        modality = np.repeat(np.arange(len(begins) - 1) % 2, np.diff(begins)).astype(np.uint8)
        return PackedSample(ids[:-1], ids[1:], mask, modality, begins)

    def shares(self, positions: int) -> dict[str, float]:
        return {}

    def documents(self, position: int) -> list[str]:
        return []


def train(
    out: str, layout: dict[str, object], shape: dict[str, object], start: str = "", bucket: int | None = None
) -> None:
    """`start`: the folder of a run whose checkpoint of step 2 to go on from; `bucket`: parameters exchanged
    at a time."""
    import torch.distributed as dist

    from spiritlm.engine import model
    from spiritlm.engine.parallel import process_groups
    from spiritlm.engine.recipe import TrainerRecipe
    from spiritlm.engine.trainer import NextIds, Trainer
    from spiritlm.engine.weights import drawn_weights, fill

    settings = {
        "out": out,
        "model": {"hidden_size": 32, "layers": 4, "heads": 4, "kv_heads": 2, "ffn_hidden_size": 48, **shape},
        "training": {
            "steps": STEPS, "global_batch_size": ROWS, "micro_batch_size": 2, "sequence_length": LENGTH,
            "precision": "fp32", "evaluate_every": STEPS, "z_loss": 1e-4, "loss_weights": {"semantic": 0.5},
        },
        "parallel": layout,
        "optimizer": {"lr": 1e-3},
        "schedule": {"decay": "none"},
        "checkpoint": {"every": 2, "keep_last": 3},
    }  # fmt: skip
    recipe = validate_recipe(TrainerRecipe, settings, "test")
    model.BUCKET_SIZE = bucket
    with process_groups(seed=1, parallel=recipe.parallel):
        if dist.get_rank() == 0:
            recipe.out.mkdir()
            if start:
                checkpoint = Path("checkpoints", "step-00000002")
                shutil.copytree(start / checkpoint, recipe.out / checkpoint)
        dist.barrier()
        dev = [Rows()[10_000 + row] for row in range(3)]
        initial = partial(fill, read=drawn_weights(4, 0.1, seed=5))

        def picked(step: int, next_ids: NextIds) -> None:
            ids = next_ids(dev).tolist()
            (recipe.out / f"picked-{dist.get_rank()}.json").write_text(json.dumps(ids))

        Trainer(recipe, Rows(), dev, VOCABULARY, "v", initial, picked).run()


def run_ranks(ranks: int, jobs: list[dict[str, object]], free_port: Callable[[], int]) -> None:
    """Do `jobs`, one after the other, with `ranks` processes that stay the same; none is waited for once one fails."""
    environment = {
        **os.environ, "WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()),
        "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive",
    }  # fmt: skip
    with ExitStack() as stack:
        logs = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(ranks)]
        command = [sys.executable, __file__, json.dumps(jobs)]
        processes = [
            subprocess.Popen(command, env={**environment, "RANK": str(rank)}, stderr=log)
            for rank, log in enumerate(logs)
        ]
        while any(process.poll() is None for process in processes):
            if any(process.poll() for process in processes):
                for process in processes:
                    process.kill()
            time.sleep(0.1)
        for log in logs:
            log.seek(0)
        codes = [process.returncode for process in processes]
        assert codes == [0] * ranks, "\n".join(log.read() for log in logs)


def figures(out: Path, first: int = 1) -> np.ndarray:
    """float64 `[steps, figures]`, from step `first`."""
    rows = [row for row in read_metrics(out) if "loss" in row and row["step"] >= first]
    assert [row["step"] for row in rows] == list(range(first, STEPS + 1))
    return np.array([[row[name] for name in FIGURES] for row in rows])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Path:
    """Runs of one process, `one` and `SHAPE`; of every layout from the beginning, `LAYOUT`, and from step 2 of the one
    before it, `from-LAYOUT`; of every shape under shared weights, `SHAPE-RANKS`; and of one process from the last."""
    root: Path = tmp_path_factory.mktemp("layouts")
    train(str(root / "one"), {}, {})
    for name, shape in SHAPES.items():
        train(str(root / name), {}, shape)
    before = "one"
    for ranks, layouts in LAYOUTS.items():
        jobs: list[dict[str, object]] = []
        for name, layout in layouts.items():
            jobs.append({"out": str(root / name), "layout": layout, "shape": {}, "bucket": 5000})
            jobs.append({"out": str(root / f"from-{name}"), "layout": layout, "shape": {}, "start": str(root / before)})
            before = name
        shared = {"tensor": 2} if ranks == 2 else {"pipeline": 2}
        jobs += [{"out": str(root / f"{n}-{ranks}"), "layout": shared, "shape": s} for n, s in SHAPES.items()]
        run_ranks(ranks, jobs, free_port)
    train(str(root / "from-back"), {}, {}, start=str(root / before))
    return root


NAMES = [name for layouts in LAYOUTS.values() for name in layouts]


@pytest.mark.parametrize("layout", NAMES)
def test_losses_and_gradients_are_those_of_one_process(runs: Path, layout: str) -> None:
    expected = figures(runs / "one")
    assert len(set(expected[:, 0])) == STEPS
    np.testing.assert_allclose(figures(runs / layout), expected, rtol=1e-5, atol=0)
    dev = [[row["dev_loss"] for row in read_metrics(runs / name) if "dev_loss" in row] for name in (layout, "one")]
    np.testing.assert_allclose(dev[0], dev[1], rtol=1e-5, atol=0)


@pytest.mark.parametrize("layout", NAMES)
def test_every_rank_is_given_the_likeliest_ids(runs: Path, layout: str) -> None:
    expected = json.loads((runs / "one" / "picked-0.json").read_text())
    assert np.shape(expected) == (3, LENGTH)
    assert len(np.unique(expected)) > 10
    files = list((runs / layout).glob("picked-*.json"))
    assert len(files) in LAYOUTS
    assert all(json.loads(file.read_text()) == expected for file in files)


@pytest.mark.parametrize("layout", [*NAMES, "back"])
def test_a_checkpoint_moves_from_layout_to_layout(runs: Path, layout: str) -> None:
    np.testing.assert_allclose(figures(runs / f"from-{layout}", first=3), figures(runs / "one")[2:], rtol=1e-5, atol=0)


@pytest.mark.parametrize("ranks", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_trains_alike_on_shared_weights(runs: Path, shape: str, ranks: int) -> None:
    np.testing.assert_allclose(figures(runs / f"{shape}-{ranks}"), figures(runs / shape), rtol=1e-5, atol=0)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for job in json.loads(sys.argv[1]):
        train(**job)
        gc.collect()  # the groups of a run, whose threads would disturb the next one
