import os
import signal
import time
from pathlib import Path

import pytest

from spiritlm.run.workers import WorkerDied, in_fresh_processes, map_in_workers


def square(number: int) -> int:
    if number == 13:
        raise ValueError("unlucky")
    if number == 99:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def note_process(path: Path) -> None:
    if path.name == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    path.write_text(str(os.getpid()))


def test_results_come_in_order() -> None:
    assert list(map_in_workers(square, range(12), workers=2, chunk=2)) == [n * n for n in range(12)]


def test_an_error_in_a_worker_is_raised() -> None:
    with pytest.raises(ValueError, match="unlucky"):
        list(map_in_workers(square, [1, 13], workers=2))


def test_a_killed_worker_ends_the_work(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(WorkerDied, match="died"):
        list(map_in_workers(square, [1, 99, 3], workers=2, chunk=1))
    with pytest.raises(WorkerDied, match="status -9"):
        list(in_fresh_processes(note_process, [tmp_path / name for name in ("a", "killed", "b")], workers=1))
    assert time.monotonic() - started < 30


def test_each_item_has_a_process_of_its_own(tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(6)]
    assert set(in_fresh_processes(note_process, paths, workers=2)) == set(paths)
    assert len({path.read_text() for path in paths}) == 6
