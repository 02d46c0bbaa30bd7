import json
from pathlib import Path

import pytest

from spiritlm.errors import InputError
from spiritlm.run.rejects import Rejects


def test_within_and_over_budget(tmp_path: Path) -> None:
    rejects = Rejects(tmp_path, max_bad_fraction=0.1)
    rejects.add("a.wav", "not audio")
    assert rejects.close(total=10) == 1
    assert json.loads((tmp_path / "rejects.jsonl").read_text()) == {"item": "a.wav", "reason": "not audio"}
    rejects.add("b.wav", "empty")
    with pytest.raises(InputError, match=r"2 of 10 items.*a\.wav: not audio"):
        rejects.close(total=10)
