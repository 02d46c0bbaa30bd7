from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spiritlm.errors import InputError
from spiritlm.suites.storycloze import DIRECTIONS, PARTS, read

TEXTS = {"mutual": "Tom went to the lake.", "correct": "Tom was sad.", "incorrect": "The rain came."}


@pytest.fixture
def crossed(tmp_path: Path, write_tone: Callable[[Path, float], Path]) -> Path:
    for name in ("b", "a"):
        for part, text in TEXTS.items():
            write_tone(tmp_path / f"{name}_{part}.wav", 0.1)
            (tmp_path / f"{name}_{part}.txt").write_text(f"{text}\n")
    return tmp_path


def test_four_directions_and_two_scopes(crossed: Path) -> None:
    tasks = {task.name: task for task in read("storycloze", crossed)}
    assert set(tasks) == {f"storycloze {d}{scope}" for d in DIRECTIONS for scope in ("", " whole")}
    assert all([pair.id for pair in task.pairs] == ["a", "b"] for task in tasks.values())

    def shown(pieces) -> list[str]:
        return [piece if isinstance(piece, str) else piece.source.name for piece in pieces]

    for direction in DIRECTIONS:
        heard, told = direction.split(">")
        story = TEXTS["mutual"] if heard == "T" else "a_mutual.wav"
        right, wrong = (TEXTS[p] if told == "T" else f"a_{p}.wav" for p in ("correct", "incorrect"))
        pair, whole = (tasks[f"storycloze {direction}{scope}"].pairs[0] for scope in ("", " whole"))
        assert [shown(pieces) for pieces in (*pair.right, *pair.wrong)] == [[story], [right], [story], [wrong]]
        assert [shown(pieces) for pieces in (*whole.right, *whole.wrong)] == [[], [story, right], [], [story, wrong]]


def test_what_else_is_known_of_the_stories(crossed: Path) -> None:
    (crossed / "items.csv").write_text("name,voice,mood\nb,slt,sad\na,rms,happy\n")
    for task in read("storycloze", crossed):
        assert [pair.labels for pair in task.pairs] == [
            {"voice": "rms", "mood": "happy"},
            {"voice": "slt", "mood": "sad"},
        ]
    for column in ("item", "id"):
        (crossed / "items.csv").write_text(f"name,{column}\na,1\nb,1\n")
        with pytest.raises(InputError, match=rf"items\.csv: column '{column}': expected another name"):
            read("storycloze", crossed)
    (crossed / "items.csv").write_text("name,voice\na,rms\nb,slt\na,slt\n")
    with pytest.raises(InputError, match=r"items\.csv: row 4: story 'a' is there twice"):
        read("storycloze", crossed)
    (crossed / "items.csv").write_text("name,voice\na,rms\n")
    with pytest.raises(InputError, match=r"items\.csv: story 'b' is in the table or in the folder, not in both"):
        read("storycloze", crossed)


def test_one_modality_alone(crossed: Path) -> None:
    for path in crossed.glob("*.txt"):
        path.unlink()
    assert [task.name for task in read("x", crossed)] == ["x S>S", "x S>S whole"]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("suffix", [".wav", ".txt"])
def test_an_incomplete_story_is_refused(crossed: Path, part: str, suffix: str) -> None:
    (crossed / f"b_{part}{suffix}").unlink()
    with pytest.raises(InputError, match=rf"b_{part}\{suffix}: absent"):
        read("storycloze", crossed)


def test_files_that_say_nothing_or_are_of_no_story(crossed: Path, write_tone: Callable[[Path, float], Path]) -> None:
    (crossed / "a_correct.txt").write_text(" \n")
    with pytest.raises(InputError, match=r"a_correct\.txt: is empty"):
        read("storycloze", crossed)
    (crossed / "a_correct.txt").write_text("Tom was sad.")
    strange = write_tone(crossed / "c_mutua.wav", 0.1)
    with pytest.raises(InputError, match=r"c_mutua\.wav: expected NAME_mutual"):
        read("storycloze", crossed)
    strange.unlink()
    (crossed / "license.txt").write_text("free")
    assert len(read("storycloze", crossed)) == 8


def test_consecutive_recordings(tmp_path: Path, write_tone: Callable[[Path, float], Path]) -> None:
    for number in (10, 2, 3, 11):
        write_tone(tmp_path / f"{number}_story.wav", 0.1)
    (task,) = read("storycloze", tmp_path)
    assert task.name == "storycloze S>S whole"
    names = [[r.continuation[0].source.name for r in (p.right, p.wrong)] for p in task.pairs]
    assert names == [["2_story.wav", "3_story.wav"], ["10_story.wav", "11_story.wav"]]


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (("0", "1", "2"), "has no recording number 3"),
        (("0", "1", "3", "4"), "has no recording number 2"),
        (("1", "2", "4", "5"), "has no recording number 0"),
        (("1", "2", "3", "4"), "has no recording number 0, which is a pair with 1_story"),
        (("0", "00"), "is that of 0.* too"),
        (("0", "1", "x"), "expected a name that begins with a number"),
    ],
)
def test_absent_recordings_never_make_pairs_of_strangers(
    tmp_path: Path, write_tone: Callable[[Path, float], Path], numbers: tuple[str, ...], message: str
) -> None:
    for number in numbers:
        write_tone(tmp_path / f"{number}_story.wav", 0.1)
    with pytest.raises(InputError, match=message):
        read("storycloze", tmp_path)


def row(id: int, text: str = "") -> dict:
    sounds = {f"{side}_audio": {"bytes": side.encode(), "path": None} for side in ("correct", "negative")}
    return {"id": f"s{id}", "correct_text": f"right {id}{text}", "negative_text": f"wrong {id}", **sounds}


def test_the_mirror_of_several_speakers(tmp_path: Path) -> None:
    for voice in ("bm", "af"):
        (tmp_path / voice).mkdir()
        pq.write_table(pa.Table.from_pylist([row(0), row(1)]), tmp_path / voice / "train-00000-of-00001.parquet")
    for part in ("bm", "af"):  # a linked voice is one
        (tmp_path / part).rename(tmp_path.with_name(f"{tmp_path.name}-{part}"))
        (tmp_path / part).symlink_to(tmp_path.with_name(f"{tmp_path.name}-{part}"))
    with pytest.raises(InputError, match="has no split 'dev'; its parquet files are of train"):
        read("storycloze", tmp_path, "dev")
    read_, heard = read("storycloze", tmp_path)
    assert (read_.name, heard.name, heard.split) == ("storycloze T>T whole", "storycloze S>S whole", "train")
    assert [pair.id for pair in read_.pairs] == ["s0", "s1"]
    assert [pair.labels for pair in heard.pairs][:3] == [
        {"item": "s0", "voice": "af"}, {"item": "s1", "voice": "af"}, {"item": "s0", "voice": "bm"},
    ]  # fmt: skip
    assert heard.pairs[0].wrong.continuation[0].source == b"negative"
    pq.write_table(pa.Table.from_pylist([row(0), row(0)]), tmp_path / "bm" / "train-00000-of-00001.parquet")
    with pytest.raises(InputError, match="id s0 is there twice in voice bm"):
        read("storycloze", tmp_path)
    pq.write_table(pa.Table.from_pylist([row(0, " too")]), tmp_path / "bm" / "train-00000-of-00001.parquet")
    with pytest.raises(InputError, match="id s0 is another story than in another voice"):
        read("storycloze", tmp_path)


def test_a_folder_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected NAME_mutual"):
        read("storycloze", tmp_path)
