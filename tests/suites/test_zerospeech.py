import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiritlm.errors import InputError
from spiritlm.suites.gold import GOLD, LEXICAL, SYNTACTIC, pairs_of, read_gold
from spiritlm.suites.zerospeech import read_spoken, read_written


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_words_heard(lexical: Path) -> None:
    task = read_spoken("swuggy", lexical)
    assert (task.name, task.split, task.skipped, task.published) == ("swuggy", "dev", 0, ("mean", "full"))
    assert [pair.id for pair in task.pairs] == ["0-A", "0-B", "1-A", "1-B", "2-A", "3-A"]
    assert task.pairs[1].labels == {"item": "0", "voice": "B", "frequency": "oov", "length": "3"}
    assert [p.labels["frequency"] for p in task.pairs[2:]] == ["6-20", "6-20", ">100", "6-20"]
    right, wrong = task.pairs[1].right, task.pairs[1].wrong
    assert (right.prompt, wrong.prompt) == ((), ())
    assert right.continuation[0].source == lexical / "catB.wav"
    assert wrong.continuation[0].source == lexical / "cetB.wav"


@given(order=st.permutations(range(12)), columns=st.permutations(LEXICAL))
def test_pairs_do_not_depend_on_the_order_of_rows_and_columns(
    tmp_path_factory, lexical_rows, gold_text, order: list[int], columns: list[str]
) -> None:
    path = tmp_path_factory.mktemp("gold") / GOLD
    path.write_text(gold_text([lexical_rows[i] for i in order], columns))
    found = pairs_of(read_gold(path, LEXICAL), path)
    assert {key: (right["word"], wrong["word"]) for key, (right, wrong) in found.items()} == {
        "0-A": ("cat", "cet"), "0-B": ("cat", "cet"), "1-A": ("mat", "mut"), "1-B": ("mat", "mut"),
        "2-A": ("lake", "laek"), "3-A": ("tom", "tim"),
    }  # fmt: skip


def test_words_read_count_once(lexical: Path) -> None:
    """Also where a voice has another number of phones."""
    edit(lexical / GOLD, "catB,0,B,0,cat,c a t,3", "catB,0,B,0,cat,c a t,4")
    task = read_written("swuggy", lexical)
    assert [pair.id for pair in task.pairs] == ["0", "1", "2", "3"]
    assert task.pairs[0].right.continuation == ("cat",)
    assert task.pairs[0].wrong.continuation == ("cet",)
    assert task.gold is None


def test_sentences_by_type_and_id(tmp_path: Path, gold_text, write_tone) -> None:
    """Ids begin again in every subtype; wrong sentences stand in another order than right ones."""
    rows = [
        {"filename": f"{side}{type}{id}", "id": id, "voice": "A", "type": type, "subtype": f"{type}_1",
         "transcription": f"{side} {type} {id}", "correct": int(side == "good")}
        for side, ids in (("good", (0, 1)), ("bad", (1, 0)))
        for id in ids
        for type in ("agreement", "gap")
    ]  # fmt: skip
    for row in rows:
        write_tone(tmp_path / f"{row['filename']}.wav", 0.1)
    (tmp_path / GOLD).write_text(gold_text(rows, SYNTACTIC))
    task = read_spoken("sblimp", tmp_path)
    for pair in task.pairs:
        assert pair.wrong.continuation[0].source.stem == pair.right.continuation[0].source.stem.replace("good", "bad")
    assert [pair.labels["item"] for pair in task.pairs][:2] == ["agreement/agreement_1/0", "gap/gap_1/0"]
    written = read_written("sblimp", tmp_path)
    assert written.pairs[0].wrong.continuation == ("bad agreement 0",)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("voice", "voices", "has no column 'voice', it has .*; the nearest is 'voices'"),
        ("catB,0,B", "catA,0,B", "recording 'catA' is named 2 times"),
        ("catB,0,B", "catB,0,A", "0-A is there twice as correct = 1"),
        ("cetB,0,B", "cetB,0,C", "0-B has no row of correct = 0"),
        ("tim,t i m,3,0", "tim,t i", "row 13: expected 8 columns, found 6"),
        ("cat,c a t,3,1", "cat,c a t,3,yes", "row 2: correct is 'yes', expected 0 or 1"),
        ("cat,c a t,3,1", "cat,c a t,,1", r"gold\.csv: row 2: length is '', expected a number"),
        ("A,0,cat", "A,often,cat", r"gold\.csv: row 2: frequency is 'often', expected a number"),
    ],
)
def test_faults_of_the_gold_file(lexical: Path, old: str, new: str, message: str) -> None:
    edit(lexical / GOLD, old, new)
    with pytest.raises(InputError, match=message):
        read_spoken("swuggy", lexical)


def test_recordings_and_rows_are_the_same(lexical: Path, write_tone) -> None:
    write_tone(lexical / "more.wav", 0.1)
    with pytest.raises(InputError, match=r"1 recordings are not named in gold\.csv, the first is 'more'"):
        read_spoken("swuggy", lexical)
    (lexical / "more.wav").unlink()
    for name in ("mutA", "timA"):
        (lexical / f"{name}.wav").unlink()
    with pytest.raises(
        InputError, match=r"2 of the 12 recordings that gold\.csv names are absent, the first is 'mutA'"
    ):
        read_spoken("swuggy", lexical)
    (lexical / GOLD).unlink()
    with pytest.raises(InputError, match=r"gold\.csv: No such file"):
        read_spoken("swuggy", lexical)


def test_written_forms_that_are_empty_or_differ(lexical: Path) -> None:
    edit(lexical / GOLD, ",tim,", ",,")
    with pytest.raises(InputError, match="3-A: word is empty"):
        read_written("swuggy", lexical)
    edit(lexical / GOLD, ",,,t i m", ",,tim,t i m")
    edit(lexical / GOLD, "catB,0,B,0,cat", "catB,0,B,0,cats")
    with pytest.raises(InputError, match="0-B: another word than in another voice"):
        read_written("swuggy", lexical)


def test_recordings_in_archives(lexical: Path) -> None:
    (lexical / "audio").mkdir()
    with tarfile.open(lexical / "audio" / "testset_1-000.tar", "w") as archive:
        for path in sorted(lexical.glob("*.wav")):
            content = path.read_bytes()
            info = tarfile.TarInfo(f"some/{path.name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    expected = (lexical / "catA.wav").read_bytes()
    for path in lexical.glob("*.wav"):
        path.unlink()
    task = read_spoken("swuggy", lexical)
    assert len(task.pairs) == 6
    assert task.pairs[0].right.continuation[0].source == expected
