"""The quickstart's path at a tiny size: once undisturbed, once killed again and again."""

import filecmp
import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from spiritlm.cli import main

REPO = Path(__file__).resolve().parents[2]
Command = Callable[..., tuple[int, str, str]]
ENVIRONMENT = {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
ASKED = {
    *(f"{name} {split}" for name in ("asr", "tts") for split in ("test-clean", "test-other")),
    *(f"{name} {direction}" for name in ("topic_qa", "outcome_qa") for direction in ("T>T", "S>T", "S>S")),
    *(f"stsp {direction}" for direction in ("T>T", "S>T", "T>S", "S>S")),
}


def start(run: Path) -> subprocess.Popen[bytes]:
    log = run.with_suffix(".log").open("ab")
    command = ["bash", str(REPO / "launch" / "path.sh"), "tiny", str(run)]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=log, stderr=log, start_new_session=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished tiny run."""
    run: Path = tmp_path_factory.mktemp("path") / "tiny"
    assert start(run).wait() == 0, run.with_suffix(".log").read_text()
    return run


def test_the_exported_model_has_the_losses_of_the_trained_one(run: Path) -> None:
    """Rows pack several documents, of 256 tokens in training and 512 in the evaluation, and no token sees another's."""
    trained = json.loads((run / "lm" / "stage.json").read_text())["counts"]["dev"]
    losses = json.loads((run / "results" / "results.json").read_text())["loss"]
    for name, loss in losses.items():
        assert loss["model"] == pytest.approx(trained[f"loss_{name}"], rel=0.02)


def same_content(one: Path, two: Path) -> list[str]:
    """Files under `one` that are absent or different under `two`."""
    alone = {"stage.json", "writer.json"}  # times, versions; who wrote last
    files = [file.relative_to(one) for file in one.rglob("*") if file.is_file() and file.name not in alone]
    assert files
    return [str(f) for f in files if not (two / f).is_file() or not filecmp.cmp(one / f, two / f, shallow=False)]


@pytest.fixture
def spiritlm(capsys: pytest.CaptureFixture[str]) -> Command:
    """The command, in this process: its exit status, what it says, and its errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert isinstance(ended.value.code, int)
        said = capsys.readouterr()
        return ended.value.code, said.out, said.err

    return run


def test_the_report_is_one_file_with_pictures_and_sound(run: Path) -> None:
    page = (run / "report.html").read_text()
    assert "StoryCloze" in page
    assert page.count("data:image/png;base64,") >= 6
    assert page.count("data:audio/wav;base64,") >= 4
    assert 'src="http' not in page
    assert 'href="http' not in page


def test_two_models_stand_beside_each_other(run: Path) -> None:
    """One of them has never met text and speech in one document."""
    results = json.loads((run / "results" / "results.json").read_text())
    cloze = {f"topic_storycloze {d}{scope}" for d in ("T>T", "S>S", "T>S", "S>T") for scope in ("", " whole")}
    tasks = cloze | {"swuggy", "sblimp"}
    for arm in (results, results["apart"]):
        assert set(arm["tasks"]) == tasks
        assert set(arm["asked"]) == ASKED
    assert {name for name, found in results["tasks"].items() if "trigram" in found} == tasks - {
        "topic_storycloze S>T whole", "topic_storycloze T>S whole",
    }  # fmt: skip
    files = [run / "results" / arm / "items" / "topic_storycloze_S_T.jsonl" for arm in (".", "apart")]
    scores, others = ([json.loads(line)["right"] for line in file.read_text().splitlines()] for file in files)
    assert scores != others, "of two models; what both transcribe may be nothing at this size"
    assert set(results["task_versions"]) == tasks | ASKED | {"loss"}
    assert set(results["asked"]["stsp S>S"]) >= {"value", "standard_error", "chance", "difference", "n", "items", "by"}
    columns = re.findall(r"[^\n]\| apart +\|", (run / "results" / "results.md").read_text())
    assert len(columns) == 2
    assert "apart" in (run / "report.html").read_text()
    assert "data:image/png;base64," in (run / "results" / "results.html").read_text()


@pytest.mark.parametrize("size", ["tiny", "quickstart", "demo"])
def test_the_arm_without_pairs_differs_in_its_mixture_only(size: str) -> None:
    folder = REPO / "training" / "recipes"
    recipes = [
        tomllib.loads((folder / f"{name}-{size}.toml").read_text()) for name in ("pretrain", "pretrain-unpaired")
    ]
    mixtures = [recipe.pop("mixture") for recipe in recipes]
    assert mixtures[1] == [source for source in mixtures[0] if source["kind"] not in ("asr", "tts")]
    outs = [recipe.pop("out") for recipe in recipes]
    assert outs[0] != outs[1]
    assert recipes[0] == recipes[1]


@pytest.mark.parametrize("size", ["tiny", "quickstart", "demo"])
def test_the_arm_apart_differs_in_its_mixture_only(size: str) -> None:
    folder = REPO / "training" / "recipes"
    recipes = [tomllib.loads((folder / f"{name}-{size}.toml").read_text()) for name in ("pretrain", "pretrain-apart")]
    mixtures = [{source["kind"] for source in recipe.pop("mixture")} for recipe in recipes]
    assert mixtures[1] == {"text", "speech"} < mixtures[0]
    outs = [recipe.pop("out") for recipe in recipes]
    assert outs[0] != outs[1]
    assert recipes[0] == recipes[1]


def test_every_stage_recorded_time_memory_and_counts(run: Path) -> None:
    stages = {path.parent.name: json.loads(path.read_text()) for path in run.glob("*/stage.json")}
    assert len(stages) == 15
    for stage in stages.values():
        assert stage["seconds"] > 0
        assert stage["peak_memory_bytes"] > 1e7
        assert stage["counts"]


def test_the_export_is_a_stock_llama_folder(run: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(run / "model")
    assert type(model).__name__ == "LlamaForCausalLM"
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    logits = model(**tokenizer("[Text]Tom went[Speech][Hu3]", return_tensors="pt")).logits
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("output", ["text", "speech", "any"])
def test_generate_from_text_and_speech(spiritlm: Command, run: Path, tmp_path: Path, output: str) -> None:
    heard = next((run / "speech" / "wav" / "test").glob("*_mutual.wav"))
    for seed in range(10):  # a model of a few steps may end at once
        status, said, errors = spiritlm(
            "generate", "--model", str(run / "model"), "--text", "One morning", "--speech", str(heard),
            "--output", output, "--out", str(tmp_path / "c"), "--max-new-tokens", "40", "--seed", str(seed),
            "--temperature", "1.5", "--top-p", "1.0",
        )  # fmt: skip
        assert status == 0, errors
        spoken = (tmp_path / "c.wav").is_file() and soundfile.info(tmp_path / "c.wav").frames
        if output != "speech" or spoken > 1600:
            break
    assert (tmp_path / "c.txt").read_text().strip() == said.splitlines()[0].strip()
    if output == "speech":
        wave, rate = soundfile.read(tmp_path / "c.wav")
        assert rate == 16000
        assert len(wave) > 1600
        assert np.abs(wave).max() > 1e-3
    if output == "text":
        assert not (tmp_path / "c.wav").exists()


def test_generate_is_repeated_by_its_seed(spiritlm: Command, run: Path, tmp_path: Path) -> None:
    """In another process too."""

    def arguments(name: str, seed: str) -> list[str]:
        prompt = ["generate", "--model", str(run / "model"), "--text", "One morning", "--output", "speech"]
        return [*prompt, "--out", str(tmp_path / name), "--seed", seed]

    command = [sys.executable, "-m", "spiritlm.cli", *arguments("elsewhere", "1")]
    subprocess.run(command, env=ENVIRONMENT, check=True, timeout=120)
    for seed in ("1", "2"):
        assert spiritlm(*arguments(seed, seed))[0] == 0
    elsewhere, one, two = ((tmp_path / f"{name}.wav").read_bytes() for name in ("elsewhere", "1", "2"))
    assert elsewhere == one != two


def test_bad_prompts_are_one_line_exit_2_and_nothing_written(spiritlm: Command, run: Path, tmp_path: Path) -> None:
    (tmp_path / "not.wav").write_text("this is text")
    out = str(tmp_path / "out" / "c")
    (tmp_path / "out").mkdir()
    model = str(run / "model")
    for arguments, message in (
        (["--model", model, "--speech", str(tmp_path / "not.wav")], "not.wav"),
        (["--model", model, "--speech", str(tmp_path / "absent.wav")], "absent.wav"),
        (["--model", model], "the prompt is empty"),
        (["--model", model, "--text", " "], "the prompt is empty"),
        (["--model", model, "--text", "a", "--seed", "9" * 30], "seed 9999"),
        (["--model", model, "--text", "a", "--max-new-tokens", "100000"], "at most"),
        (["--model", model, "--text", "a", "--output", "speech", "--speaker", "flite:slp"], "flite:slp"),
        (["--model", str(tmp_path), "--text", "a"], "expected the folder of an exported model"),
    ):
        status, _, errors = spiritlm("generate", *arguments, "--out", out)
        assert status == 2, (arguments, errors)
        assert errors.startswith("error: ")
        assert errors.count("\n") == 1, errors
        assert message in errors
        assert not list((tmp_path / "out").iterdir())


@pytest.mark.timeout(1800)
def test_killed_again_and_again_it_completes_and_equals(run: Path, tmp_path: Path) -> None:
    """Stages that are done before are left as they are."""
    killed = tmp_path / "killed"
    for stage, seconds in {"speech": 1.5, "lm": 3.0, "results": 1.0}.items():
        process = start(killed)
        while not (killed / stage / "stage.begun.json").is_file():
            assert process.poll() is None, killed.with_suffix(".log").read_text()
            time.sleep(0.05)
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    finished = [stage.parent for stage in killed.glob("*/stage.json")]
    assert len(finished) >= 10
    before = {path: path.stat().st_mtime_ns for stage in finished for path in stage.rglob("*")}
    assert start(killed).wait() == 0, killed.with_suffix(".log").read_text()
    assert {path: path.stat().st_mtime_ns for stage in finished for path in stage.rglob("*")} == before
    for folder in ("speech", "units/model", "text", "store", "texts", "model"):
        assert same_content(run / folder, killed / folder) == [], folder
    results = [json.loads((r / "results" / "results.json").read_text()) for r in (run, killed)]
    assert results[0] == results[1]
    assert not list(killed.rglob(".partial-*"))
