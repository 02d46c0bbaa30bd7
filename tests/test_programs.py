"""Every program starts from any folder, and none of our folders shadows a library."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
STAGES = ("tokenizers", "synth_data", "training", "evals", "launch")
PROGRAMS = sorted(program for stage in STAGES for program in (REPO / stage).glob("*.py"))


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_help_from_another_folder(program: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", str(program), "--help"],
        cwd=tmp_path, env={**os.environ, "PYTHONSAFEPATH": "1"}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "RECIPE" in done.stdout or "RUN" in done.stdout
    for slow in ("transformers", "megatron.core", "librosa"):  # seconds, before a word is said about the recipe
        assert f" {slow}\n" not in done.stderr


def test_every_program_is_found() -> None:
    assert len(PROGRAMS) >= 10


def test_transformers_imports_from_the_repository_root() -> None:
    code = "import tokenizers, transformers; assert tokenizers.Tokenizer; from transformers import AutoTokenizer"
    subprocess.run([sys.executable, "-c", code], cwd=REPO, check=True, timeout=120)
    assert not (REPO / "tokenizers" / "__init__.py").exists()


def test_a_room_imports_only_rooms_listed_above_it() -> None:
    rooms = ["errors", "config", "run", "audio", "tokens", "units", "alignment", "synthesis", "corpus", "pipelines"]
    rooms += ["smallworld", "engine", "cluster"]
    rooms += ["inference", "scoring", "suites", "commands", "cli"]
    found = {path.stem for path in (REPO / "spiritlm").iterdir() if not path.stem.startswith("__")}
    assert found == set(rooms)
    for number, room in enumerate(rooms):
        path = REPO / "spiritlm" / room
        for file in path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]:
            for other in rooms[number + 1 :]:
                assert f"from spiritlm.{other}" not in file.read_text(), f"{file} imports {other}"
