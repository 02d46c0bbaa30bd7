import pytest

from spiritlm.run import progress as module
from spiritlm.run.progress import progress, track


def test_a_log_gets_few_lines_and_always_the_last(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track(range(1000), "count", 1000)) == list(range(1000))
    assert capsys.readouterr().out.splitlines() == ["  count 1000/1000 (0 s)"]


def test_a_line_a_tenth_and_what_was_done_before(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0.0)
    with progress("train", 20, done=10) as bar:
        for step in range(10):
            bar.advance(note=f"loss {step}")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["10/20", "12/20", "14/20", "16/20", "18/20", "20/20"]
    assert lines[-1].endswith("loss 9")
