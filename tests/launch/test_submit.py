"""What is refused before anything is queued, and what is written where it is not."""

import json
import os
import subprocess
import tomllib
from pathlib import Path

import numpy as np
import pytest

from spiritlm.corpus.store import Record, write_split
from spiritlm.tokens.emit import document_of
from spiritlm.tokens.vocabulary import Vocabulary

from ..programs import run_here

REPO = Path(__file__).resolve().parents[2]


def submit(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run_here(REPO / "launch/submit.py", *arguments)


@pytest.fixture(scope="module")
def recipe(vocabulary: Vocabulary, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe of a run over a small store, beside it."""
    root: Path = tmp_path_factory.mktemp("submit")
    vocabulary.save(root / "store")
    document = document_of(np.arange(5), [(0, 0, 9)], semantic=np.arange(9))
    for split in ("train", "dev"):
        write_split(root / "store", split, [(Record("a", "b"), document)], {"semantic": 25.0}, vocabulary)
    (root / "store" / "stage.json").write_text(json.dumps({"stage": "encode", "fingerprint": "store", "inputs": {}}))
    text = (REPO / "training/recipes/pretrain-tiny.toml").read_text()
    text = text.replace('main = "runs/tiny/store"', f'main = "{root}/store"').replace('texts = "runs/tiny/texts"', "")
    mixture = text.index("[[mixture]]")
    (root / "recipe.toml").write_text(f'{text[:mixture]}[[mixture]]\nkind = "speech"\n')
    return root / "recipe.toml"


REFUSED = {
    "heads": (["parallel.tensor=3", "--gpus-per-node", "3"], "parallel.tensor = 3: expected a divisor of model.kv_"),
    "too few GPUs": (["parallel.pipeline=2", "--gpus-per-node", "1"], "expected a divisor of the number of ranks, 1"),
    "across": (["parallel.tensor=2", "--gpus-per-node", "1", "--nodes", "2"], "no more than the ranks of a node"),
    "batch": (["--gpus-per-node", "8"], "training.global_batch_size = 4: expected a multiple"),
    "newline": (["--partition", "a\nb"], "partition = 'a\\nb': expected one line"),
    "name": (["out=a\nb"], "expected a name of one line"),
    "store": (["stores.main=absent"], "absent: expected the folder of a finished stage"),
    "start": (["init_from=absent"], "absent: "),
    "key": (["training.step=5"], "steps"),
    "nodes": (["--nodes", "0"], "--nodes 0: expected 1"),
    "site": (["--site", "absent.toml"], "absent.toml"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_run_is_refused_in_one_line(recipe: Path, tmp_path: Path, case: str) -> None:
    arguments, message = REFUSED[case]
    done = submit(recipe, f"out={tmp_path}/lm", "--gpus-per-node", "0", *arguments)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert message in done.stderr
    assert not (tmp_path / "lm").exists()


def test_a_missing_container_and_too_little_memory(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text('container_image = "/absent.sqsh"\npython = "python"\n')
    done = submit(recipe, f"out={tmp_path}/lm", "--site", tmp_path / "site.toml")
    assert (done.returncode, "there is no such file" in done.stderr) == (2, True)
    (tmp_path / "site.toml").write_text('gpu = "rtx4090"\ngpus_per_node = 1\n')
    large = ("model.hidden_size=8192", "model.layers=32", "model.ffn_hidden_size=32768")
    done = submit(recipe, f"out={tmp_path}/lm", "--site", tmp_path / "site.toml", *large)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "rtx4090 has 24 GB" in done.stderr


def test_the_script_can_be_read_before(recipe: Path, tmp_path: Path) -> None:
    done = submit(
        recipe, f"out={tmp_path}/lm", "--nodes", "2", "--gpus-per-node", "2", "training.micro_batch_size=1", "--print"
    )
    assert done.returncode == 0, done.stderr
    assert f"run={tmp_path}/lm" in done.stdout
    assert "#SBATCH --nodes=2\n" in done.stdout
    assert not (tmp_path / "lm").exists()


def test_a_submission_leaves_all_it_runs_in_the_folder_of_the_run(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """sbatch is a stand-in here; `test_slurm.py` has a real one."""
    (tmp_path / "sbatch").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/called\necho "17;cluster"\n')
    (tmp_path / "sbatch").chmod(0o755)
    run = tmp_path / "a lab's run"
    arguments = (recipe, f'out="{run}"', "--gpus-per-node", "0", "optimizer.lr=2e-3")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    dry = submit(*arguments, "--dry-run")
    assert (dry.returncode, run.exists()) == (0, False), dry.stderr
    done = submit(*arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("submitted job 17: 1 nodes, 1 ranks\n")
    assert (tmp_path / "called").read_text() == f"--test-only\n--parsable {run}/submit.sbatch\n"
    assert tomllib.loads((run / "recipe.toml").read_text())["optimizer"]["lr"] == 2e-3
    assert (run / "code" / "spiritlm" / "__init__.py").is_file()
    subprocess.run(["bash", "-n", str(run / "submit.sbatch")], check=True)
