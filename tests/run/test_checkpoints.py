from pathlib import Path

import pytest

from spiritlm.errors import InputError, RunError
from spiritlm.run.checkpoints import CheckpointPolicy, Checkpoints


def save(checkpoints: Checkpoints, step: int) -> Path:
    folder = checkpoints.begin(step)
    (folder / "weights").write_bytes(bytes(100))
    return checkpoints.complete(step, {"consumed": 4 * step})


def steps(root: Path) -> list[int]:
    return sorted(int(folder.name.removeprefix("step-")) for folder in root.glob("step-*"))


def test_newest_last_kept_and_permanent(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, CheckpointPolicy(every=1, keep_last=2, permanent_every=3))
    assert checkpoints.newest() is None
    for step in range(1, 9):
        save(checkpoints, step)
    assert steps(tmp_path) == [3, 6, 7, 8]
    newest = checkpoints.newest()
    assert newest is not None
    assert checkpoints.state(newest) == {"consumed": 32, "step": 8}


def test_incomplete_and_truncated_ones_are_named_and_skipped(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, CheckpointPolicy(keep_last=9))
    good, truncated, unsealed, begun = (save(checkpoints, step) for step in (1, 2, 3, 4))
    (truncated / "weights").write_bytes(bytes(99))
    (unsealed / "complete.json").unlink()
    begun.rename(checkpoints.begin(5) / "moved")
    (save(checkpoints, 6) / "complete.json").write_text("{")
    with pytest.warns(UserWarning) as warnings:
        assert checkpoints.newest() == good
    messages = [str(warning.message) for warning in warnings]
    assert any("step-00000003" in m and "complete.json" in m for m in messages)
    assert any("step-00000006" in m and "not valid JSON" in m for m in messages)
    assert any("step-00000002" in m and "99 bytes, expected 100" in m for m in messages)


def test_one_that_is_asked_for_must_be_complete(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, CheckpointPolicy(keep_last=9))
    with pytest.raises(InputError, match="expected a complete checkpoint, found none"):
        checkpoints.require()
    first, second = save(checkpoints, 10), save(checkpoints, 20)
    assert (checkpoints.require(), checkpoints.require(10)) == (second, first)
    (second / "weights").unlink()
    with pytest.raises(InputError, match=r"step-00000020: weights is missing; complete are steps 10$"):
        checkpoints.require(20)


def test_what_is_left_of_an_earlier_start_writes_no_more(tmp_path: Path) -> None:
    first, second = (Checkpoints(tmp_path, CheckpointPolicy()) for _ in range(2))
    first.claim()
    first.begin(1)
    second.claim()
    for work in (lambda: first.complete(1, {}), lambda: first.begin(2)):
        with pytest.raises(RunError, match="another start of this run writes here now"):
            work()
    assert second.newest() is None
    save(second, 2)
    assert steps(tmp_path) == [2]


def test_when_one_is_due() -> None:
    policy = Checkpoints(Path(), CheckpointPolicy(every=3))
    assert [step for step in range(1, 8) if policy.due(step)] == [3, 6]
    assert not any(Checkpoints(Path(), CheckpointPolicy()).due(step) for step in range(1, 8))
