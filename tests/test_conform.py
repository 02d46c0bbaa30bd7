import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .conform import main

Conform = Callable[..., tuple[int, list[str], str]]
TESTS = Path(__file__).parent
GOLDEN = TESTS / "golden"


@pytest.fixture
def conform(capsys: pytest.CaptureFixture[str]) -> Conform:
    """Runs the program in this process: exit status, lines, errors."""

    def run(*arguments: str | Path) -> tuple[int, list[str], str]:
        status = main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return status, said.out.splitlines(), said.err

    return run


def test_every_golden_case_passes(tmp_path: Path) -> None:
    command = [sys.executable, TESTS / "conform.py", GOLDEN]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        [case.name, "PASS"] for case in sorted(GOLDEN.iterdir())
    ]


CORRUPTIONS = {
    ("spirit_tokens", "cases.json"): ('"[St67][Pi60][Hu230]', '"[St67][Hu230][Pi60]'),
    ("spirit_prompt", "forbidden.json"): ("32502", "32503"),
    ("glm_chat_template", "streams.json"): ('"finalize":true', '"finalize":false'),
    ("swuggy_sblimp", "expected.json"): ('"overall":0.7120535714285714', '"overall":0.7120535714385714'),
    ("stsp", "cases.json"): ('"accuracy_percent_2dp":"59.46"', '"accuracy_percent_2dp":"59.47"'),
    ("slamkit_interleave", "units_by_word.json"): ("<Un276>", "<Un275>"),
    ("slamkit_interleave", "statistics.json"): ('"mean_speech_spans_per_doc":7.565', '"mean_speech_spans_per_doc":8.2'),
}


@pytest.mark.parametrize(("case", "file"), CORRUPTIONS)
def test_a_corrupted_case_fails(conform: Conform, tmp_path: Path, case: str, file: str) -> None:
    folder = tmp_path / f"{case}_b"
    shutil.copytree(GOLDEN / case, folder)
    text = (folder / file).read_text(encoding="utf-8")
    right, wrong = CORRUPTIONS[case, file]
    assert right in text
    (folder / file).write_text(text.replace(right, wrong, 1), encoding="utf-8")
    status, lines, errors = conform(tmp_path)
    assert (status, errors) == (1, "")
    assert lines[0].split()[:2] == [f"{case}_b", "FAIL"]
    assert "first: " in lines[0]


def test_unknown_cases_fail_only_when_asked_for(conform: Conform, tmp_path: Path) -> None:
    for name in ("spirit_prompt-2", "glm_silence_splitter"):
        shutil.copytree(GOLDEN / "spirit_prompt", tmp_path / name)
    status, lines, _ = conform(tmp_path)
    assert status == 0
    assert [line.split()[1] for line in lines] == ["UNKNOWN", "PASS"]
    assert conform(tmp_path, "--only", "spirit_prompt-2")[0] == 0
    assert conform(tmp_path, "--only", "spirit_prompt-2,glm_silence_splitter")[0] == 1


def test_exceptions_are_failures_of_one_line(conform: Conform, tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "spirit_prompt", tmp_path / "spirit_prompt")
    (tmp_path / "spirit_prompt" / "ends.json").unlink()
    status, lines, errors = conform(tmp_path)
    assert (status, len(lines), errors) == (1, 1, "")
    assert "FileNotFoundError" in lines[0]
    assert "Traceback" in conform(tmp_path, "--debug")[2]


def test_a_case_that_compares_nothing_fails(conform: Conform, tmp_path: Path) -> None:
    (tmp_path / "slamkit_interleave").mkdir()
    for name in ("units_by_word.json", "statistics.json"):
        (tmp_path / "slamkit_interleave" / name).write_text(json.dumps([]))
    status, lines, _ = conform(tmp_path)
    assert status == 1
    assert "nothing was compared" in lines[0]


@pytest.mark.parametrize("arguments", [(GOLDEN, "--only", "nosuch"), (GOLDEN, "--only", ","), (GOLDEN / "none",)])
def test_wrong_questions(conform: Conform, arguments: tuple[str | Path, ...]) -> None:
    status, lines, errors = conform(*arguments)
    assert (status, lines) == (2, [])
    assert len(errors.splitlines()) == 1


def test_an_empty_folder_is_a_wrong_question(conform: Conform, tmp_path: Path) -> None:
    assert conform(tmp_path)[0] == 2
