from pathlib import Path

import pytest

from spiritlm.alignment.readers import read_textgrid
from spiritlm.errors import InputError

WORDS = [("", 0.0, 0.25), ("he", 0.25, 0.5), ('said "no"', 0.5, 1.0), ("<eps>", 1.0, 1.25), ("1 2", 1.25, 2.0)]
SPOKEN = [("he", 0.25, 0.5), ('said "no"', 0.5, 1.0), ("1 2", 1.25, 2.0)]


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def long_format(tier: str) -> str:
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0 ", "xmax = 2 "]
    lines += ["tiers? <exists> ", "size = 2 ", "item []: ", "    item [1]:", '        class = "TextTier" ']
    lines += ['        name = "bell" ', "        xmin = 0 ", "        xmax = 2 ", "        points: size = 1 "]
    lines += ["        points [1]:", "            number = 0.5 ", '            mark = "ding" ', "    item [2]:"]
    lines += ['        class = "IntervalTier" ', f"        name = {quoted(tier)} ", "        xmin = 0 "]
    lines += ["        xmax = 2 ", f"        intervals: size = {len(WORDS)} "]
    for number, (text, start, end) in enumerate(WORDS, start=1):
        lines += [f"        intervals [{number}]:", f"            xmin = {start} ", f"            xmax = {end} "]
        lines += [f"            text = {quoted(text)} "]
    return "\n".join(lines) + "\n"


def short_format(tier: str) -> str:
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "0", "2", "<exists>", "2"]
    lines += ['"TextTier"', '"bell"', "0", "2", "1", "0.5", '"ding"', '"IntervalTier"', quoted(tier), "0", "2"]
    lines += [str(len(WORDS))]
    for text, start, end in WORDS:
        lines += [str(start), str(end), quoted(text)]
    return "\r\n".join(lines) + "\r\n"


@pytest.mark.parametrize("content", [long_format, short_format])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("tier", ["words", "ann - words"])
def test_words_come_back_and_silence_does_not(content, encoding, tier, tmp_path: Path) -> None:
    path = tmp_path / "a.TextGrid"
    path.write_bytes(content(tier).encode(encoding))
    assert [(w.text, w.start, w.end) for w in read_textgrid(path)] == SPOKEN


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (long_format("phones"), "expected an interval tier 'words', found 'phones'"),
        (long_format("words")[:-60], "cut short"),
        ("hello", "cut short"),
        ('"ooTextFile" "Sound" 0 2', "expected a TextGrid"),
        (short_format("words").replace("0.25\r\n0.5\r\n", "0.5\r\n0.25\r\n"), "before it starts"),
    ],
)
def test_other_files_are_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.TextGrid").write_text(content)
    with pytest.raises(InputError, match=message):
        read_textgrid(tmp_path / "a.TextGrid")


def test_another_encoding_and_an_absent_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.TextGrid").write_bytes(long_format("wörds").encode("latin-1"))
    with pytest.raises(InputError, match="expected UTF-8"):
        read_textgrid(tmp_path / "a.TextGrid")
    with pytest.raises(InputError, match="No such file"):
        read_textgrid(tmp_path / "b.TextGrid")
