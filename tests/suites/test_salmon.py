from collections.abc import Callable
from pathlib import Path

import pytest

from spiritlm.errors import InputError
from spiritlm.suites.salmon import read


def test_the_first_two_of_each_sample(tmp_path: Path, write_tone: Callable[[Path, float], Path]) -> None:
    for name in ("sample_10_0", "sample_10_1", "sample_2_0", "sample_2_10", "sample_2_9"):
        write_tone(tmp_path / f"{name}.wav", 0.1)
    task = read("salmon_bg_alignment", tmp_path)
    names = [[request.continuation[0].source.stem for request in (pair.right, pair.wrong)] for pair in task.pairs]
    assert names == [["sample_2_0", "sample_2_9"], ["sample_10_0", "sample_10_1"]]
    assert [pair.id for pair in task.pairs] == ["2", "10"]
    assert task.skipped == 1


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("sample_0_0",), "sample 0 has recordings 0, expected 0 and another"),
        (("sample_0_1", "sample_0_2"), "sample 0 has recordings 1, 2, expected 0"),
        (("sample_0_0", "sample_0_1", "sampel_1_0"), r"sampel_1_0\.wav: expected a name like"),
        (("sample_0_0", "sample_00_0"), "has two recordings number 0"),
        ((), "found none"),
    ],
)
def test_faulty_folders(
    tmp_path: Path, write_tone: Callable[[Path, float], Path], names: tuple[str, ...], message: str
) -> None:
    for name in names:
        write_tone(tmp_path / f"{name}.wav", 0.1)
    with pytest.raises(InputError, match=message):
        read("salmon_x", tmp_path)
