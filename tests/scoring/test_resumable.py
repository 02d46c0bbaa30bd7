import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spiritlm.errors import InputError, RunError
from spiritlm.scoring import resumable
from spiritlm.scoring.protocol import Request, Score, Sound
from spiritlm.scoring.resumable import resumable_scores

REQUESTS = {
    f"story {n} {side}": Request((f"It was ä story {n}.",), ("The ending." * (n % 5 + 1) + side,))
    for n in range(30)
    for side in ("right", "wrong")
}
TASK = {"name": "storycloze", "version": 1, "split": "test"}


class Letters:
    """A score by the letters of a request, and a count of what it was asked."""

    def __init__(self, version: str = "one", dies_after: int = 10**9) -> None:
        self.identity = {"weights": version, "vocabulary": "letters"}
        self.asked: list[Request] = []
        self.dies_after = dies_after

    def loglikelihood(self, requests: Sequence[Request]) -> list[Score]:
        if len(self.asked) + len(requests) > self.dies_after:
            raise KeyboardInterrupt
        self.asked += requests
        return [Score(-sum(map(ord, str(r))) / 7, len(str(r.continuation)), None) for r in requests]

    def generate(self, questions: object) -> list[str | np.ndarray]:
        raise NotImplementedError


EXPECTED = dict(zip(REQUESTS, Letters().loglikelihood(list(REQUESTS.values())), strict=True))


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumable, "CHUNK", 7)


def test_scores_come_in_order_and_are_asked_for_once(tmp_path: Path) -> None:
    model = Letters()
    found = resumable_scores(model, REQUESTS, tmp_path / "cloze", TASK)
    assert list(found.items()) == list(EXPECTED.items())
    assert model.asked == list(REQUESTS.values())
    assert [path.name for path in (tmp_path / "cloze").iterdir()] == ["scores.jsonl"]
    again = Letters()
    assert resumable_scores(again, REQUESTS, tmp_path / "cloze", TASK) == found
    assert not again.asked


@settings(max_examples=40)
@given(st.integers(0, 1000))
def test_a_run_killed_at_any_byte_goes_on(tmp_path_factory: pytest.TempPathFactory, thousandths: int) -> None:
    folder = tmp_path_factory.mktemp("killed")
    with pytest.raises(KeyboardInterrupt):
        resumable_scores(Letters(dies_after=45), REQUESTS, folder, TASK)
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[: thousandths * len(whole) // 1000])
    kept = max(0, file.read_bytes().count(b"\n") - 1)
    model = Letters()
    assert resumable_scores(model, REQUESTS, folder, TASK) == EXPECTED
    assert model.asked == list(REQUESTS.values())[kept:]


def test_two_processes_give_what_one_gives_and_may_be_another_number_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each half stops before it would wait for the other."""

    class Done(Exception):
        pass

    def stop() -> None:
        raise Done

    monkeypatch.setattr(resumable, "wait_for_all", stop)
    models = [Letters(), Letters()]
    for rank, model in enumerate(models):
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("RANK", str(rank))
        with pytest.raises(Done):
            resumable_scores(model, REQUESTS, tmp_path, TASK)
    assert min(len(model.asked) for model in models) >= 28
    assert sorted(map(str, models[0].asked + models[1].asked)) == sorted(map(str, REQUESTS.values()))
    last = Letters()
    monkeypatch.undo()
    monkeypatch.setattr(resumable, "CHUNK", 7)
    (tmp_path / "scores-1.jsonl").write_bytes((tmp_path / "scores-1.jsonl").read_bytes()[:-9])
    assert resumable_scores(last, REQUESTS, tmp_path, TASK) == EXPECTED
    assert len(last.asked) == 1


def test_under_torchrun_every_process_gets_all(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        f"import json, os, sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from pathlib import Path\n"
        "from test_resumable import REQUESTS, TASK, Letters\n"
        "from spiritlm.scoring.resumable import resumable_scores\n"
        "for name in 'abcdef':\n"
        f"    found = resumable_scores(Letters(), REQUESTS, Path({str(tmp_path)!r}) / name, TASK)\n"
        f"Path({str(tmp_path)!r}, 'rank-' + os.environ['RANK']).write_text(json.dumps(found))\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200)
    assert done.returncode == 0, done.stderr
    for rank in range(2):
        found = json.loads((tmp_path / f"rank-{rank}").read_text())
        assert {key: Score(*score) for key, score in found.items()} == EXPECTED
    assert [path.name for path in (tmp_path / "f").iterdir()] == ["scores.jsonl"]


def test_a_file_of_another_model_task_or_requests_is_refused(tmp_path: Path) -> None:
    resumable_scores(Letters(), REQUESTS, tmp_path, TASK)
    fewer = dict(list(REQUESTS.items())[1:])
    for message, model, requests, task in (
        ("scores of another model: its weights is one, expected two", Letters("two"), REQUESTS, TASK),
        ("scores of another task: its version is 1, expected 2", Letters(), REQUESTS, TASK | {"version": 2}),
        ("scores of other requests", Letters(), fewer, TASK),
    ):
        with pytest.raises(InputError, match=message) as caught:
            resumable_scores(model, requests, tmp_path, task)
        assert str(tmp_path / "scores.jsonl") in str(caught.value)
        assert not model.asked
    (tmp_path / "scores.jsonl").write_text("nonsense\n")
    with pytest.raises(InputError, match="line 1: expected a score"):
        resumable_scores(Letters(), REQUESTS, tmp_path, TASK)


def test_sounds_are_told_apart_by_what_is_in_them(tmp_path: Path) -> None:
    def asked(source: bytes | Path) -> dict[str, Request]:
        return {"only": Request((), (Sound(str(source), source),))}

    before, moved = tmp_path / "a.wav", tmp_path / "moved.wav"
    before.write_bytes(b"1234")
    resumable_scores(Letters(), asked(before), tmp_path / "scores", TASK)
    before.rename(moved)
    for same in (b"1234", moved):
        assert resumable_scores(Letters("one", dies_after=0), asked(same), tmp_path / "scores", TASK)
    moved.write_bytes(b"1235")
    for other in (b"1235", moved, tmp_path / "none.wav"):
        with pytest.raises(InputError, match="other requests"):
            resumable_scores(Letters(), asked(other), tmp_path / "scores", TASK)


NAN = float("nan")


@pytest.mark.parametrize(
    "score",
    [Score(NAN, 3), Score(-float("inf"), 3), Score(-1.0, 0), Score(-1.0, 1, NAN), Score("-1.0", 1), Score(-1, 1.5)],
)
def test_a_score_that_is_no_number_stops_the_task(tmp_path: Path, score: Score) -> None:
    class Lost(Letters):
        def loglikelihood(self, requests: Sequence[Request]) -> list[Score]:
            return [Score(np.float32(-1), np.int64(2)), score, *super().loglikelihood(requests[2:])]

    with pytest.raises(InputError, match=r"^story 0 wrong: the model's score is .*, expected finite numbers"):
        resumable_scores(Lost(), REQUESTS, tmp_path, TASK)
    resumable_scores(Letters(), REQUESTS, tmp_path, TASK)
    lines = (tmp_path / "scores.jsonl").read_text().splitlines()
    lines[2] = json.dumps({"key": "story 0 wrong", **score._asdict()})
    (tmp_path / "scores.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=r"scores\.jsonl, line 3: expected a score"):
        resumable_scores(Letters(), REQUESTS, tmp_path, TASK)


def test_no_score_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(Letters):
        def loglikelihood(self, requests: Sequence[Request]) -> list[Score]:
            return super().loglikelihood(requests)[:-1]

    with pytest.raises(ValueError, match="shorter"):
        resumable_scores(Silent(), REQUESTS, tmp_path / "silent", TASK)
    header = {"model": Letters().identity, "task": TASK, "requests": resumable._digest(REQUESTS)}
    (tmp_path / "scores-0.jsonl").write_text(json.dumps(header) + "\n")
    with pytest.raises(RunError, match="60 of 60 requests have no score, 'story 0 right' is the first"):
        resumable._merge(tmp_path, header, list(REQUESTS))
