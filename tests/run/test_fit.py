import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from spiritlm.errors import InputError, Stopped
from spiritlm.run.checkpoints import CheckpointPolicy
from spiritlm.run.fit import FitRecipe, fit, learning_rate
from spiritlm.run.metrics import read_metrics

# A program that trains a small network with dropout; FAULT is "kill:STEP", "stop:STEP" or "none".
PROGRAM = """
import os, signal, sys
from pathlib import Path
import torch
from spiritlm.run.checkpoints import CheckpointPolicy
from spiritlm.run.fit import FitRecipe, fit, process_group

folder, fault = Path(sys.argv[1]), sys.argv[2]
kind, _, at = fault.partition(":")

with process_group() as (rank, world):
    def before_step(step):
        if kind != "none" and step == int(at):
            os.kill(os.getpid(), signal.SIGKILL if kind == "kill" else signal.SIGTERM)

    def batches(step):
        generator = torch.Generator().manual_seed(step)
        return {"x": torch.randn(8, 4, generator=generator)[rank::world]}

    def loss_fn(model, batch):
        loss = (model(batch["x"]) - batch["x"].sum(1, keepdim=True)).square().mean()
        return {"loss": loss, "half": loss / 2}

    torch.manual_seed(0)
    dropout = float(sys.argv[3])
    model = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Dropout(dropout), torch.nn.Linear(16, 1))
    recipe = FitRecipe(steps=6, warmup_steps=2, log_every=1, checkpoint=CheckpointPolicy(every=2, keep_last=1))
    fit(model, loss_fn, batches, recipe, folder, before_step=before_step)
    if rank == 0:
        torch.save(model.state_dict(), folder / "final.pt")
"""

RECIPE = FitRecipe(steps=6, warmup_steps=2, log_every=1, max_skipped=3, checkpoint=CheckpointPolicy())


def run(folder, fault="none", dropout=0.5, **environment):
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-c", PROGRAM, str(folder), fault, str(dropout)]
    return subprocess.Popen(
        command, env={**os.environ, "OMP_NUM_THREADS": "1", **environment}, stderr=subprocess.PIPE, text=True
    )


def finish(process, expected=0):
    error = process.communicate(timeout=120)[1]
    assert (process.returncode == 0) == (expected == 0), error
    return error


def trained(folder):
    timings = ("steps_per_second", "waited_for_data")
    rows = [{k: v for k, v in row.items() if k not in timings} for row in read_metrics(folder)]
    return torch.load(folder / "final.pt", weights_only=True), rows


def assert_same(a, b):
    assert a[1] == b[1]
    assert all(torch.equal(a[0][name], b[0][name]) for name in a[0])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    finish(run(folder))
    return trained(folder)


def test_stopped_and_resumed_equals_never_stopped(tmp_path, whole):
    assert "Stopped" in finish(run(tmp_path, "stop:2"), expected=1)
    assert [p.name for p in (tmp_path / "checkpoints").glob("step-*")] == ["step-00000003"]
    finish(run(tmp_path))
    assert_same(trained(tmp_path), whole)


def test_killed_and_resumed_equals_never_stopped(tmp_path, whole):
    process = run(tmp_path, "kill:5")
    finish(process, expected=1)
    assert process.returncode == -signal.SIGKILL
    finish(run(tmp_path))
    assert_same(trained(tmp_path), whole)


def test_truncated_checkpoint_is_skipped(tmp_path, whole):
    finish(run(tmp_path, "stop:4"), expected=1)
    state = tmp_path / "checkpoints" / "step-00000005" / "state.pt"
    state.write_bytes(state.read_bytes()[:-10])
    assert "state.pt has" in finish(run(tmp_path))
    assert_same(trained(tmp_path), whole)


def test_two_processes_equal_one(tmp_path, free_port):
    finish(run(tmp_path / "one", dropout=0))
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    ranks = [run(tmp_path / "two", dropout=0, RANK=str(rank), LOCAL_RANK=str(rank), **group) for rank in range(2)]
    for process in ranks:
        finish(process)
    (one, one_rows), (two, two_rows) = trained(tmp_path / "one"), trained(tmp_path / "two")
    assert len(one_rows) == len(two_rows) == 6
    for name in one:
        torch.testing.assert_close(one[name], two[name])
    assert one_rows[-1]["loss"] == pytest.approx(two_rows[-1]["loss"], rel=1e-5)


def fit_faulty(folder: Path, faults):
    def loss_fn(model, batch):
        return {"loss": model(batch["x"]).square().mean()}

    def batches(step):
        return {"x": torch.full((2, 3), float("nan") if step in faults else 1.0)}

    return fit(torch.nn.Linear(3, 1), loss_fn, batches, RECIPE, folder)


def test_step_without_a_finite_loss_changes_nothing(tmp_path):
    with pytest.warns(UserWarning, match="step 3: loss nan"):
        result = fit_faulty(tmp_path, {2})
    assert result["skipped"] == 1 and result["loss"] > 0


def test_gives_up_after_some_in_a_row(tmp_path):
    with (
        pytest.warns(UserWarning, match="not finite"),
        pytest.raises(InputError, match=r"step 4.*3 times in a row.*learning_rate under 0.002"),
    ):
        fit_faulty(tmp_path, {1, 2, 3})


def test_finished_run_is_not_trained_again(tmp_path):
    first = fit_faulty(tmp_path, set())
    assert fit_faulty(tmp_path, set(range(6))) == first


def test_signal_in_the_last_step_is_too_late(tmp_path):
    def before_step(step):
        if step == RECIPE.steps - 1:
            os.kill(os.getpid(), signal.SIGUSR1)

    def loss_fn(model, batch):
        return {"loss": model(batch["x"]).sum()}

    fit(torch.nn.Linear(3, 1), loss_fn, lambda step: {"x": torch.ones(2, 3)}, RECIPE, tmp_path, before_step=before_step)


def test_stopped_names_the_step(tmp_path):
    def batches(step):
        os.kill(os.getpid(), signal.SIGTERM)
        return {"x": torch.ones(2, 3)}

    with pytest.raises(Stopped, match=r"after step 1 of 6, saved in .*step-00000001"):
        fit(torch.nn.Linear(3, 1), lambda model, batch: {"loss": model(batch["x"]).sum()}, batches, RECIPE, tmp_path)


@pytest.mark.parametrize("decay", ["linear", "cosine"])
def test_learning_rate_rises_then_falls(decay):
    recipe = FitRecipe(steps=101, learning_rate=1.0, warmup_steps=10, final_fraction=0.1, decay=decay)
    rates = [learning_rate(recipe, step) for step in range(101)]
    assert rates[0] == 0.1 and rates[9] == rates[10] == 1.0 and rates[100] == pytest.approx(0.1)
    assert rates[55] == pytest.approx(0.55)
    assert all(b <= a for a, b in itertools.pairwise(rates[10:]))
