import pytest

from spiritlm.errors import InputError
from spiritlm.run import program
from spiritlm.run.program import guarded


def fail() -> None:
    raise InputError("a.wav: no sound")


@pytest.mark.parametrize(("rank", "said"), [("0", "a.wav: no sound"), ("1", "rank 1: a.wav: no sound")])
def test_whichever_process_finds_bad_input_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], rank: str, said: str
) -> None:
    monkeypatch.setattr(program, "PATIENCE", 0.0)
    for name, value in {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert guarded(fail) == 2
    assert capsys.readouterr().err == f"error: {said}\n"
