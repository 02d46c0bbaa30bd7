"""Jobs on a real SLURM of two nodes: training that survives what clusters do to it, and arrays."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from spiritlm.run.files import read_json, read_jsonl
from spiritlm.run.metrics import read_metrics

from ..programs import run_here
from .minislurm import MiniSlurm, processes

REPO = Path(__file__).resolve().parents[2]
SITE = """
gpus_per_node = 0
save_seconds = 50
patience = 2
[environment]
OMP_WAIT_POLICY = "passive"
[sbatch]
cpus-per-task = "2"
"""
RECIPE = """
out = "{out}"
[model]
hidden_size = 64
layers = 2
heads = 4
kv_heads = 2
ffn_hidden_size = 96
[training]
steps = 80
global_batch_size = 8
micro_batch_size = 4
sequence_length = 128
precision = "fp32"
[optimizer]
lr = 1e-3
[checkpoint]
every = 8
keep_last = 3
[stores]
main = "{store}"
[[mixture]]
kind = "spans"
[[mixture]]
kind = "speech"
"""
pytestmark = pytest.mark.timeout(600)


def program(path: str, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    with patch.dict(os.environ, environment, clear=bool(environment)):
        return run_here(REPO / path, *arguments)


def submitted(cluster: MiniSlurm, *arguments: str | Path) -> str:
    """The number of the job."""
    done = program("launch/submit.py", *arguments, **cluster.environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[2].rstrip(":")


def losses(run: Path) -> list[tuple[float, float]]:
    rows = [row for row in read_metrics(run) if "loss" in row]
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    return [(row["loss"], row["grad_norm"]) for row in rows]


def log(run: Path) -> str:
    return "".join(file.read_text() for file in sorted(run.glob("slurm-*.log")))


@pytest.fixture(scope="session")
def corpus(stages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the encoded store, the recipes of its encoding and of a training, and the site's."""
    root: Path = tmp_path_factory.mktemp("corpus")
    inputs = "".join(f'{name} = "{stages / name}"\n' for name in ("speech", "units", "text"))
    (root / "encode.toml").write_text(f'out = "{root}/store"\nshard_hours = 0.002\n{inputs}')
    done = program("tokenizers/encode.py", root / "encode.toml")
    assert done.returncode == 0, done.stderr
    (root / "site.toml").write_text(SITE)
    (root / "pretrain.toml").write_text(RECIPE.format(out=root / "alone", store=root / "store"))
    return root


@pytest.fixture(scope="session")
def two_nodes(cluster: MiniSlurm, corpus: Path) -> Path:
    """A run of two nodes that nothing disturbs."""
    run, began = corpus / "two-nodes", time.monotonic()
    number = submitted(cluster, corpus / "pretrain.toml", f"out={run}", "--nodes", "2", "--site", corpus / "site.toml")
    cluster.wait_for(lambda: (run / "metrics.jsonl").is_file() and bool(read_metrics(run)), "first step")
    print(f"from submission to the first step: {time.monotonic() - began:.1f} s")
    assert cluster.wait_for_end(number)["JobState"] == "COMPLETED", log(run)
    return run


def test_two_nodes_train_what_one_process_trains(corpus: Path, two_nodes: Path) -> None:
    done = program("training/pretrain.py", corpus / "pretrain.toml")
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(losses(two_nodes), losses(corpus / "alone"), rtol=1e-5, atol=0)
    assert read_json(two_nodes / "stage.json")["counts"]["parallel"]["data"] == 2


def test_a_job_runs_the_code_of_its_run(two_nodes: Path) -> None:
    assert read_json(two_nodes / "stage.json")["code"] == str(two_nodes / "code" / "spiritlm")
    assert not list((two_nodes / "code").rglob("*.md"))
    assert (two_nodes / "code" / "COMMIT").read_text().strip()


def test_a_run_survives_what_clusters_do(cluster: MiniSlurm, corpus: Path, two_nodes: Path) -> None:
    """Requeued, preempted, out of time, a node lost: each time it goes on. Cancelled: it stays so until it is submitted
    again. It ends as if nothing had been."""
    run = corpus / "step-1" / "disturbed"
    asked = (corpus / "pretrain.toml", f"out={run}", "--nodes", "2", "--site", corpus / "site.toml")
    number = submitted(cluster, *asked)

    def after_a_checkpoint(disturb: Callable[[], object], back: Callable[[], object] = lambda: None) -> int:
        """Disturb the run once this start of it has saved something, and wait for the next start. Its ranks stand still
        until SLURM has seen to the disturbance, so that they do not come to their end before."""
        cluster.wait_for(lambda: bool(starts(run)) and newest(run) > starts(run)[-1]["step"], "a checkpoint")
        begun = len(starts(run))
        with standing_still(number):
            disturb()
        cluster.wait_for(lambda: cluster.job(number)["JobState"] != "RUNNING", "the end of this start")
        back()
        cluster.wait_for(lambda: len(starts(run)) > begun, f"start {begun + 1}")
        return newest(run)

    def requeue() -> None:
        cluster.command("scontrol", "requeue", number)

    def preempt() -> None:
        """By a job that comes first: its nodes are taken from this one, whose ranks alone are told."""
        before = log(run).count("CANCELLED")
        urgent = ("-p", "urgent", "-N2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 1")
        cluster.command("sbatch", "--parsable", *urgent)
        cluster.wait_for(lambda: log(run).count("CANCELLED") > before, "the preemption")

    def run_out_of_time() -> None:
        cluster.command("scontrol", "update", f"JobId={number}", "TimeLimit=1")
        cluster.wait_for(lambda: "told to stop" in log(run), "the signal before the time limit")

    def lose_a_node() -> None:
        cluster.kill_node(1)

    steps = [after_a_checkpoint(disturb) for disturb in (requeue, preempt, run_out_of_time)]
    cluster.command("scontrol", "update", f"JobId={number}", "TimeLimit=60")
    steps.append(after_a_checkpoint(lose_a_node, back=lambda: cluster.start_node(1)))

    cluster.wait_for(lambda: newest(run) > starts(run)[-1]["step"], "a checkpoint")
    with standing_still(number):
        twice = program("launch/submit.py", *asked, **cluster.environment)
        cluster.command("scancel", number)
    assert (twice.returncode, f"job {number} has it" in twice.stderr) == (2, True)
    assert cluster.wait_for_end(number)["JobState"] == "CANCELLED"
    assert "one that was cancelled does not" in log(run)
    assert len(starts(run)) == 5
    told = json.loads(program("launch/status.py", run, "--json").stdout)
    assert (told["stage"], told["starts"], told["steps"], told["job"]) == ("pretrain", 5, 80, int(number))
    assert told["state"].startswith("stopped: at step")
    steps.append(newest(run))
    number = cluster.command("sbatch", "--parsable", run / "submit.sbatch").strip()
    assert cluster.wait_for_end(number, 200)["JobState"] == "COMPLETED", log(run)
    assert steps == sorted(set(steps)), "every start went further"
    assert log(run).count("requeued: stopped at step") >= 2
    assert losses(run) == losses(two_nodes)
    last = Path("checkpoints") / "step-00000080"
    for file in sorted((two_nodes / last).glob("*.distcp")):
        assert (run / last / file.name).read_bytes() == file.read_bytes()
    assert re.search(r"state +done", program("launch/status.py", run).stdout)


def starts(run: Path) -> list[dict[str, Any]]:
    return list(read_jsonl(run / "starts.jsonl")) if (run / "starts.jsonl").is_file() else []


def newest(run: Path) -> int:
    complete = [int(file.parent.name[5:]) for file in (run / "checkpoints").glob("step-*/complete.json")]
    return max(complete, default=0)


@pytest.mark.parametrize(
    ("does", "count", "reason"),
    [
        (":", 2, "given up: 1 starts in a row saved nothing after step 0"),
        ("exec sleep 600", 2, "requeued: nothing was written for 3 s"),
        ("""echo '{"why": "no such store"}' > $RUN/stage.failed.json""", 1, "would fail again: no such store"),
    ],
)
def test_a_job_that_gets_nowhere_is_given_up(
    cluster: MiniSlurm, corpus: Path, tmp_path: Path, does: str, count: int, reason: str
) -> None:
    """Its ranks end at once, whatever is tried, and say nothing; hang; or say why."""
    run, python = tmp_path / "run", tmp_path / "python"
    python.write_text(f"#!/bin/sh\nRUN={run}\n{does}\nexit 1\n")
    python.chmod(0o755)
    site = SITE.replace("patience = 2", "patience = 1\nstall_seconds = 3")
    (tmp_path / "site.toml").write_text(f'python = "{python}"\n{site}')
    number = submitted(cluster, corpus / "pretrain.toml", f"out={run}", "--site", tmp_path / "site.toml")
    assert cluster.wait_for_end(number)["JobState"] == "FAILED"
    assert [line["restart"] for line in starts(run)] == list(range(count))
    assert reason in log(run)
    assert "failed: " in program("launch/status.py", run).stdout


@pytest.mark.parametrize("name", ["pretrain", "encode", "evaluate"])
def test_the_scripts_are_taken_as_they_are(cluster: MiniSlurm, name: str) -> None:
    command = ["sbatch", "--test-only", str(REPO / "launch" / "slurm" / f"{name}.sbatch"), "run", "recipe.toml"]
    done = subprocess.run(command, env=cluster.environment, capture_output=True, text=True, cwd=REPO)
    assert "to start at" in done.stderr, done.stderr


def test_a_script_is_used_by_hand(cluster: MiniSlurm, corpus: Path) -> None:
    script, run = REPO / "launch" / "slurm" / "encode.sbatch", corpus / "by-hand"
    command = ["sbatch", "--parsable", "-o", corpus / "by-hand.log", script, run, corpus / "encode.toml"]
    environment = {**cluster.environment, "PYTHON": sys.executable}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=REPO)
    assert done.returncode == 0, done.stderr
    assert cluster.wait_for_end(done.stdout.strip())["JobState"] == "COMPLETED", (corpus / "by-hand.log").read_text()
    assert read_json(run / "stage.json")["counts"] == read_json(corpus / "store" / "stage.json")["counts"]


def test_an_array_encodes_on_two_nodes(cluster: MiniSlurm, corpus: Path) -> None:
    """One task is killed: only that one runs again, and the store is that of a single process."""
    out = corpus / "array"
    overrides = (f"out={out}", "executor.kind=slurm", "executor.partition=main", "executor.mem_per_cpu_gb=1")
    command = [sys.executable, str(REPO / "tokenizers/encode.py"), str(corpus / "encode.toml"), *overrides]
    environment = {**cluster.environment, "OMP_NUM_THREADS": "1"}
    handed_over = subprocess.run([*command, "executor.wait=false"], env=environment, capture_output=True, text=True)
    assert (handed_over.returncode, "5 of 5 shards are not finished" in handed_over.stderr) == (143, True)
    first = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    cluster.wait_for(lambda: bool(tasks(1)), "task 1")
    for process in tasks(1):
        os.kill(process, signal.SIGKILL)
    said = first.communicate(timeout=120)[1]
    assert first.returncode == 1
    assert "1 of 5 shards failed" in said, said + "".join(
        f.read_text()[-1500:] for f in (out / "shards/log/slurm_logs").glob("*")
    )
    assert "the same command runs those alone again" in said
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert again.returncode == 0, again.stderr
    told = cluster.command("scontrol", "-o", "show", "job")
    assert sorted(Counter(re.findall(r"ArrayJobId=(\d+) ArrayTaskId=", told)).values()) == [1, 5]
    for file in [*(corpus / "store").rglob("*.bin"), *(corpus / "store").rglob("*.idx")]:
        assert (out / file.relative_to(corpus / "store")).read_bytes() == file.read_bytes()


@contextmanager
def standing_still(job: str) -> Iterator[None]:
    """Inside, the ranks of a job do nothing."""
    stopped = ranks(job)
    for rank in stopped:
        os.kill(rank, signal.SIGSTOP)
    yield
    for rank in stopped:
        with suppress(ProcessLookupError):  # it was on a node that is lost
            os.kill(rank, signal.SIGCONT)


def ranks(job: str) -> list[int]:
    """Processes of a job that train."""
    return processes(f"SLURM_JOB_ID={job}", r"python\0-u\0.*/training/pretrain\.py\0")


def tasks(number: int) -> list[int]:
    """Processes of an array's task that run the pipeline."""
    return processes(f"SLURM_ARRAY_TASK_ID={number}", r"python[^\0]*\0[^\0]*launch_pickled_pipeline\0")
