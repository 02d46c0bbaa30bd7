"""The training loop on synthetic rows. This file is also the program of its own runs in other processes."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spiritlm.config import validate_recipe
from spiritlm.corpus.datasets import PackedSample
from spiritlm.errors import InputError, Stopped
from spiritlm.run.files import read_jsonl
from spiritlm.run.metrics import read_metrics

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:megatron")
VOCABULARY, LENGTH, ROWS, STEPS = 64, 32, 4, 6


class Rows:
    """Rows of noisy counting: text counts up by one, speech by two. A dataset and, at will, a fault."""

    def __init__(self, **faults: int) -> None:
        self.faults = faults
        """`nan_position`: its loss mask is not finite; `SIGTERM`, `SIGKILL`: sent when that step's rows are read;
        `killed_saving`: SIGKILL as soon as that step's checkpoint is being written; `disk_full`: from that step's
        checkpoint on no file grows beyond 10 kB."""

    def __getitem__(self, position: int) -> PackedSample:
        for name in ("SIGTERM", "SIGKILL"):
            if self.faults.get(name) == position // ROWS:
                self.faults = {}
                os.kill(os.getpid(), getattr(signal, name))
        rng = np.random.default_rng(position)
        speech = position % 2
        ids = (rng.integers(VOCABULARY) + (1 + speech) * np.arange(LENGTH + 1) + rng.integers(3, size=LENGTH + 1)) % 50
        mask = (np.arange(LENGTH) > position % 5).astype(np.float32)
        if self.faults.get("nan_position") == position:
            mask[7] = np.nan
        begins = np.array([0, LENGTH], dtype=np.int32)
        return PackedSample(ids[:-1], ids[1:], mask, np.full(LENGTH, speech, dtype=np.uint8), begins)

    def shares(self, positions: int) -> dict[str, float]:
        return {"text": (positions + 1) // 2 / positions, "speech": positions // 2 / positions}

    def documents(self, position: int) -> list[str]:
        return [f"row-{position}"]


def train(out: Path, dataset: Rows, vocabulary_hash: str = "v", **training: object) -> dict[str, object]:
    from spiritlm.engine.parallel import process_groups
    from spiritlm.engine.recipe import TrainerRecipe
    from spiritlm.engine.trainer import Trainer
    from spiritlm.engine.weights import drawn_weights, fill

    recipe = {
        "out": out,
        "model": {"hidden_size": 32, "layers": 2, "heads": 4, "kv_heads": 2, "ffn_hidden_size": 48},
        "training": {
            "steps": STEPS, "global_batch_size": ROWS, "micro_batch_size": 2, "sequence_length": LENGTH,
            "precision": "fp32", "evaluate_every": 3, **training,
        },
        "optimizer": {"lr": 1e-2},
        "schedule": {"warmup_steps": 2, "final_factor": 0.1},
        "checkpoint": {"every": 2, "keep_last": 3},
    }  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    with process_groups(seed=1):
        dev = [Rows()[10_000 + row] for row in range(3)]
        checked, start = (
            validate_recipe(TrainerRecipe, recipe, "test"),
            partial(fill, read=drawn_weights(2, 0.02, seed=1)),
        )
        trainer = Trainer(checked, dataset, dev, VOCABULARY, vocabulary_hash, start)
        trainer.writer.save = saving(trainer.writer, dataset.faults)  # type: ignore[method-assign]
        return trainer.run()


def saving(writer: Any, faults: dict[str, int]) -> Any:
    """`writer.save`, and what befalls the machine meanwhile."""
    original = writer.save

    def save(step: int, *arguments: Any) -> None:
        if faults.get("disk_full") == step:
            writer.finish()
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        original(step, *arguments)
        if faults.get("killed_saving") == step:
            os.kill(os.getpid(), signal.SIGKILL)

    return save


def train_elsewhere(out: Path, processes: int = 1, **faults: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    command += [__file__, str(out), json.dumps(faults)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)


def figures(out: Path, *names: str) -> list[tuple[float, ...]]:
    """Rows of the log that hold all of `names`, with their steps; none is there twice."""
    rows = [(row["step"], *(row[name] for name in names)) for row in read_metrics(out) if names[0] in row]
    assert len({row[0] for row in rows}) == len(rows)
    return rows


def final_weights(out: Path) -> dict[str, torch.Tensor]:
    from spiritlm.engine.checkpoint import load_main_weights
    from spiritlm.engine.model import ModelConfig, build_chunks
    from spiritlm.engine.parallel import process_groups

    config = ModelConfig(hidden_size=32, layers=2, heads=4, kv_heads=2, ffn_hidden_size=48)
    with process_groups(seed=2):
        (model,) = build_chunks(config, VOCABULARY, "fp32")
        load_main_weights(out / "checkpoints" / f"step-{STEPS:08d}", [model])
        return {name: tensor for name, tensor in model.state_dict().items() if torch.is_tensor(tensor)}


def assert_same_run(one: Path, two: Path) -> None:
    """The same bits in every figure and in every weight."""
    for names in (("loss", "loss_text", "loss_semantic", "lr", "grad_norm"), ("dev_loss",)):
        assert figures(one, *names) == figures(two, *names)
    for name, tensor in final_weights(one).items():
        assert torch.equal(tensor, final_weights(two)[name]), name


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never disturbed."""
    out = tmp_path_factory.mktemp("straight")
    counts = train(out, Rows())
    assert counts["tokens"] == STEPS * ROWS * LENGTH
    assert counts["dev"]["loss"] == figures(out, "dev_loss")[-1][1]
    return out


def test_it_learns_and_logs_everything(straight: Path) -> None:
    losses = figures(straight, "loss")
    assert [step for step, _ in losses] == list(range(1, STEPS + 1))
    assert losses[0][1] == pytest.approx(np.log(VOCABULARY), abs=0.1)
    assert losses[-1][1] < losses[0][1] - 0.3
    row = read_metrics(straight)[0]
    assert {"tokens", "tokens_per_second", "data_wait_share", "memory_bytes", "lr", "grad_norm"} <= set(row)
    assert [step for step, _ in figures(straight, "dev_loss")] == [3, 6]
    assert figures(straight, "share_text", "share_speech") == [(step, 0.5, 0.5) for step in range(1, STEPS + 1)]


def test_stopped_and_resumed_is_the_same_run(straight: Path, tmp_path: Path) -> None:
    with pytest.raises(Stopped, match="of 6"):
        train(tmp_path, Rows(SIGTERM=3))
    assert 0 < figures(tmp_path, "loss")[-1][0] < STEPS
    train(tmp_path, Rows())
    assert_same_run(straight, tmp_path)


def test_killed_with_a_truncated_checkpoint_resumes_from_the_one_before(straight: Path, tmp_path: Path) -> None:
    assert train_elsewhere(tmp_path, SIGKILL=5).returncode == -signal.SIGKILL
    newest = sorted((tmp_path / "checkpoints").glob("step-*"))[-1]
    shard = max(newest.iterdir(), key=lambda file: file.stat().st_size)
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.warns(UserWarning, match=f"{newest.name} is skipped: {shard.name}"):
        train(tmp_path, Rows())
    assert_same_run(straight, tmp_path)


def test_killed_while_a_checkpoint_is_written_it_resumes_from_the_one_before(straight: Path, tmp_path: Path) -> None:
    assert train_elsewhere(tmp_path, killed_saving=4).returncode == -signal.SIGKILL
    checkpoints = tmp_path / "checkpoints"
    assert [folder.name for folder in sorted(checkpoints.glob("step-*"))] == ["step-00000002"]
    train(tmp_path, Rows())
    assert_same_run(straight, tmp_path)
    assert not list(checkpoints.glob(".partial*"))


def test_a_full_disk_ends_the_run_and_leaves_the_last_checkpoint(straight: Path, tmp_path: Path) -> None:
    done = train_elsewhere(tmp_path, disk_full=4)
    assert done.returncode == 1
    assert "RunError: " in done.stderr.splitlines()[-1]
    assert "the checkpoint of step 4 was not written" in done.stderr.splitlines()[-1]
    assert [folder.name for folder in sorted((tmp_path / "checkpoints").glob("step-*"))] == ["step-00000002"]
    train(tmp_path, Rows())
    assert_same_run(straight, tmp_path)


def test_two_processes_give_the_losses_of_one(straight: Path, tmp_path: Path) -> None:
    done = train_elsewhere(tmp_path, processes=2)
    assert done.returncode == 0, done.stderr
    names = ("loss", "loss_text", "loss_semantic", "grad_norm")
    np.testing.assert_allclose(figures(tmp_path, *names), figures(straight, *names), rtol=0, atol=1e-5)
    shutil.rmtree(tmp_path / "checkpoints" / f"step-{STEPS:08d}")
    train(tmp_path, Rows())  # goes on with one process from the checkpoint of two
    np.testing.assert_allclose(figures(tmp_path, *names), figures(straight, *names), rtol=0, atol=1e-5)
    for name, tensor in final_weights(tmp_path).items():
        torch.testing.assert_close(tensor, final_weights(straight)[name], rtol=0, atol=1e-4)


def test_bf16_learns_and_resumes_exactly(straight: Path, tmp_path: Path) -> None:
    train(tmp_path / "straight", Rows(), precision="bf16")
    with pytest.raises(Stopped):
        train(tmp_path / "stopped", Rows(SIGTERM=3), precision="bf16")
    train(tmp_path / "stopped", Rows(), precision="bf16")
    assert_same_run(tmp_path / "straight", tmp_path / "stopped")
    exact = [loss for _, loss in figures(straight, "loss")]
    assert [loss for _, loss in figures(tmp_path / "straight", "loss")] == pytest.approx(exact, abs=0.05)


def test_a_step_that_is_not_finite_changes_nothing(tmp_path: Path) -> None:
    bad = 2 * ROWS + 1
    counts = train(tmp_path, Rows(nan_position=bad))
    assert counts["nonfinite_steps"] == 1
    (row,) = [row for row in read_metrics(tmp_path) if "skipped" in row]
    assert (row["step"], row["first_position"], row["last_position"]) == (3, 8, 11)
    (told,) = read_jsonl(tmp_path / "nonfinite.jsonl")
    assert told == {"step": 3, "documents": {str(position): [f"row-{position}"] for position in range(8, 12)}}
    assert len(figures(tmp_path, "loss")) == STEPS - 1
    assert all(torch.isfinite(tensor).all() for tensor in final_weights(tmp_path).values())


def test_too_many_steps_that_are_not_finite_end_the_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not finite in 1 steps in a row, up to step 3"):
        train(tmp_path, Rows(nan_position=2 * ROWS), max_nonfinite_steps=1)


def test_another_vocabulary_is_refused(straight: Path, tmp_path: Path) -> None:
    shutil.copytree(straight / "checkpoints", tmp_path / "checkpoints")
    with pytest.raises(InputError, match="made with vocabulary v, expected w"):
        train(tmp_path, Rows(), vocabulary_hash="w")


def test_sizes_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"global_batch_size = 4: expected a multiple of .* 3 x 1"):
        train(tmp_path, Rows(), micro_batch_size=3)
    with pytest.raises(InputError, match=r"sequence_length = 4096: expected at most .* 2048"):
        train(tmp_path, Rows(), sequence_length=4096)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    train(Path(sys.argv[1]), Rows(**json.loads(sys.argv[2])))
