import json
import os
import time
from pathlib import Path
from threading import Timer
from typing import ClassVar

import pytest

from spiritlm.config import Recipe, load_recipe
from spiritlm.errors import InputError, RunError, Stopped
from spiritlm.run.program import run_program
from spiritlm.run.stage import Folder, Input, Inputs, OptionalInput, Stage, StageRecipe, read_stage


class First(StageRecipe):
    seed: int = 0


class Second(StageRecipe):
    first: Input
    size: int = 1


class Third(StageRecipe):
    stores: Inputs
    corpus: OptionalInput = None


class Measured(StageRecipe):
    data: Folder


class Shared(Recipe):
    steps: int = 1
    at_once: int = 1


class Fourth(StageRecipe):
    free: ClassVar[frozenset[str]] = StageRecipe.free | {"layout", "training.at_once"}
    layout: Shared = Shared()
    training: Shared = Shared()


def program(argv: list[str], recipe_class: type[StageRecipe] = First) -> tuple[int, list[str]]:
    """Exit status, and a note of each time the work was really done."""
    worked: list[str] = []

    def work(recipe: StageRecipe, stage: Stage) -> dict[str, int]:
        worked.append(stage.name)
        return {"files": 3}

    with pytest.raises(SystemExit) as exit:
        run_program("first", recipe_class, work, "A test.", argv)
    return exit.value.code, worked  # type: ignore[return-value]


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    path = tmp_path / "first.toml"
    path.write_text(f'out = "{tmp_path}/out"\n')
    return str(path)


@pytest.mark.parametrize(
    ("error", "status", "file"),
    [
        (Stopped("at step 3"), 143, "stage.stopped.json"),
        (RunError("at step 3"), 1, ""),
        (InputError("at step 3"), 2, "stage.failed.json"),
    ],
)
def test_a_run_says_in_its_folder_why_it_does_not_go_on(
    recipe: str, tmp_path: Path, error: Exception, status: int, file: str
) -> None:
    def run(asked: StageRecipe, stage: Stage) -> dict[str, int]:
        (stage.folder / "written").touch()
        if not (tmp_path / "well").exists():
            raise error
        return {}

    for left, code in (([file] if file else [], status), ([], 0)):
        with pytest.raises(SystemExit) as exit:
            run_program("first", First, run, "A test.", [recipe])
        assert exit.value.code == code
        halted = [path for path in (tmp_path / "out").glob("stage.*.json") if path.name != "stage.begun.json"]
        assert [path.name for path in halted] == left
        assert all(json.loads(path.read_text())["why"] == "at step 3" for path in halted)
        (tmp_path / "well").touch()


def test_a_job_that_is_started_again_waits_for_what_is_left_of_it(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begun() -> Stage:
        stage = Stage("first", load_recipe(First, recipe))
        stage.begin()
        return stage

    first = begun()
    with pytest.raises(InputError, match="another process is writing it"):
        begun()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    later = Timer(1.0, first._unlock)
    later.start()
    began = time.monotonic()
    begun()
    assert time.monotonic() - began >= 0.9


def test_a_done_stage_is_skipped(recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert program([recipe]) == (0, ["first"])
    record = read_stage(tmp_path / "out")
    assert record["counts"] == {"files": 3}
    assert record["recipe"] == {"seed": 0}
    assert record["peak_memory_bytes"] > 1_000_000
    assert program([recipe]) == (0, [])
    assert "done before" in capsys.readouterr().out


def test_another_recipe_is_refused(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    program([recipe])
    assert program([recipe, "seed=1"]) == (2, [])
    assert "seed was 0, now 1" in capsys.readouterr().err


def test_a_begun_stage_of_another_recipe_is_refused(tmp_path: Path) -> None:
    Stage("first", First(out=tmp_path)).begin()
    assert not Stage("first", First(out=tmp_path)).is_done()
    with pytest.raises(InputError, match="seed was 0, now 1"):
        Stage("first", First(out=tmp_path, seed=1)).is_done()


def test_dry_run_writes_nothing(recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert program([recipe, "--dry-run"]) == (0, [])
    assert not (tmp_path / "out").exists()
    assert '"seed": 0' in capsys.readouterr().out


def test_bad_input_is_one_line_and_exit_2(recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    for argv in ([recipe, "sed=1"], [recipe, f"out={tmp_path}/file/out"], [str(tmp_path / "absent.toml")]):
        assert program(argv) == (2, [])
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_unwritable_folder(recipe: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert program([recipe]) == (2, [])


def test_an_unfinished_input_is_refused(tmp_path: Path) -> None:
    for state in ("does not exist", "is not finished"):
        with pytest.raises(InputError, match=state):
            Stage("second", Second(out=tmp_path / "b", first=tmp_path / "a"))
        (tmp_path / "a").mkdir(exist_ok=True)


def test_the_fingerprint_follows_the_inputs_and_not_the_paths(tmp_path: Path) -> None:
    fingerprints = []
    for run, seed in (("one", 0), ("two", 0), ("three", 1)):
        first = Stage("first", First(out=tmp_path / run / "a", seed=seed))
        first.begin()
        first.finish({})
        fingerprints.append(Stage("second", Second(out=tmp_path / run / "b", first=tmp_path / run / "a")).fingerprint)
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]


def test_what_a_run_may_go_on_with_changed_is_in_no_fingerprint(tmp_path: Path) -> None:
    def fingerprint(**fields: object) -> str:
        return Stage("fourth", Fourth(out=tmp_path, **fields)).fingerprint  # type: ignore[arg-type]

    same = [Shared(steps=2), Shared(at_once=2)]
    assert {fingerprint(), fingerprint(layout=same[0]), fingerprint(training=same[1])} == {fingerprint()}
    assert fingerprint(training=same[0]) != fingerprint()


def test_several_and_optional_inputs(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 1)):
        first = Stage("first", First(out=tmp_path / name, seed=seed))
        first.begin()
        first.finish({})
    a, b = tmp_path / "a", tmp_path / "b"

    def third(corpus: Path | None = None, **stores: Path) -> Stage:
        return Stage("third", Third(out=tmp_path / "c", stores=stores, corpus=corpus))

    assert third(main=a, texts=b).inputs == {"stores.main": a, "stores.texts": b}
    assert third(main=a, corpus=b).inputs == {"stores.main": a, "corpus": b}
    assert third(main=a, texts=b).recipe == third(main=a, corpus=b).recipe == {}
    given = (third(main=a), third(main=b), third(texts=a), third(main=a, texts=b), third(main=a, corpus=b))
    assert len({stage.fingerprint for stage in given}) == 5
    assert third(texts=b, main=a).fingerprint == third(main=a, texts=b).fingerprint
    with pytest.raises(InputError, match="does not exist"):
        third(main=a, texts=tmp_path / "absent")


def test_an_unsearchable_folder_is_one_line(recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(recipe: StageRecipe, stage: Stage) -> dict[str, int]:
        raise PermissionError(13, "Permission denied", "/closed/out")

    with pytest.raises(SystemExit) as exit:
        run_program("first", First, refuse, "A test.", [recipe])
    assert exit.value.code == 2
    assert capsys.readouterr().err == "error: [Errno 13] Permission denied: '/closed/out'\n"


def test_flags_and_overrides_in_any_order(recipe: str, tmp_path: Path) -> None:
    assert program([recipe, "--dry-run", "seed=1"]) == (0, [])
    assert program(["--debug", recipe, "seed=1"]) == (0, ["first"])


def test_a_run_that_could_not_start_leaves_no_folder(recipe: str, tmp_path: Path) -> None:
    def refuse(recipe: StageRecipe, stage: Stage) -> dict[str, int]:
        raise InputError("no")

    with pytest.raises(SystemExit):
        run_program("first", First, refuse, "A test.", [recipe])
    assert not (tmp_path / "out").exists()
    assert program([recipe, "seed=1"]) == (0, ["first"])


def test_two_runs_do_not_write_one_folder(tmp_path: Path) -> None:
    first, second = (Stage("first", First(out=tmp_path)) for _ in range(2))
    first.begin()
    with pytest.raises(InputError, match="another process is writing it"):
        second.begin()
    first.finish({})
    second.begin()


def test_a_killed_stage_is_not_done(tmp_path: Path) -> None:
    stage = Stage("first", First(out=tmp_path))
    stage.begin()
    assert not stage.is_done()
    assert json.loads((tmp_path / "stage.begun.json").read_text())["fingerprint"] == stage.fingerprint
    stage.finish({})
    assert stage.is_done()
    assert not (tmp_path / "stage.begun.json").exists()


def test_a_folder_made_elsewhere_is_known_by_its_files(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with pytest.raises(InputError, match="data: expected a folder, but there is none"):
        Stage("measure", Measured(out=tmp_path / "out", data=data))
    (data / "below").mkdir(parents=True)
    (data / "below" / "a.wav").write_text("1")

    def fingerprint(folder: Path) -> str:
        return Stage("measure", Measured(out=tmp_path / "out", data=folder)).fingerprint

    before = fingerprint(data)
    moved = data.rename(tmp_path / "moved")
    assert fingerprint(moved) == before
    (moved / "below" / "a.wav").write_text("2")
    assert fingerprint(moved) != before, "of the same size"
    (moved / "below").rename(tmp_path / "elsewhere")
    (moved / "below").symlink_to(tmp_path / "elsewhere")
    (moved / "below" / "a.wav").write_text("1")
    (moved / "below" / "itself").symlink_to(moved)
    assert fingerprint(moved) == before, "links are followed"
    (moved / "b.wav").write_text("")
    assert fingerprint(moved) != before
    (moved / "stage.begun.json").write_text("{}")
    with pytest.raises(InputError, match=r"moved: expected the folder of a finished stage, but it is not finished"):
        fingerprint(moved)
    write = json.dumps({"stage": "made", "fingerprint": "f", "recipe": {}, "inputs": {}})
    (tmp_path / "moved" / "stage.json").write_text(write)
    assert Stage("measure", Measured(out=tmp_path / "out", data=tmp_path / "moved")).input_fingerprints == {"data": "f"}
