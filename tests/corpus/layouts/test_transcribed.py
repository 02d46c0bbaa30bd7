"""LibriSpeech, MLS, Emilia and NeMo, as their releases lie on disk."""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from spiritlm.corpus.layouts.emilia import read_emilia
from spiritlm.corpus.layouts.found import TO_THE_END, Found, Reject
from spiritlm.corpus.layouts.librispeech import read_librispeech
from spiritlm.corpus.layouts.mls import read_mls
from spiritlm.corpus.layouts.nemo import read_nemo
from spiritlm.corpus.manifest import Sentence
from spiritlm.errors import InputError


def put(root: Path, name: str, content: str = "") -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(content)


def whole(text: str) -> tuple[Sentence, ...]:
    return (Sentence(text, 0.0, TO_THE_END),)


def lines(*rows: object) -> str:
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)


def faults(items: Iterable[Found | Reject]) -> list[tuple[str, str]]:
    return [(item.item, item.kind) for item in items if isinstance(item, Reject)]


def test_librispeech(tmp_path: Path) -> None:
    put(tmp_path, "dev-clean/84/12/84-12.trans.txt", "84-12-0000 GO ON\n84-12-0001 \n")
    put(tmp_path, "dev-clean/100/7/100-7.trans.txt", "100-7-0000 HE WENT\n")
    for name in ("84-12-0000", "84-12-0001", "84-12-0002"):
        put(tmp_path, f"dev-clean/84/12/{name}.flac")
    found = list(read_librispeech(tmp_path, "dev-clean"))
    first = Path("dev-clean/100/7/100-7-0000.flac")
    assert found[0] == Found("100-7-0000", first, whole("HE WENT"), "100", custom={"chapter": "7"})
    assert [item.id for item in found if isinstance(item, Found)] == ["100-7-0000", "84-12-0000", "84-12-0001"]
    assert faults(found) == [("84-12-0002", "transcript absent")]
    with pytest.raises(InputError, match="holds dev-clean"):
        list(read_librispeech(tmp_path, "dev-other"))


def test_librispeech_with_wav(tmp_path: Path) -> None:
    put(tmp_path, "test-clean/1/2/1-2.trans.txt", "1-2-0000 He went.\n1-2-0001 She came.\n1-2-0002 It rained.\n")
    for name in ("1-2-0000.wav", "1-2-0001.wav", "1-2-0001.flac", "1-2-0003.wav"):
        put(tmp_path, f"test-clean/1/2/{name}")
    found = list(read_librispeech(tmp_path, "test-clean"))
    audio = [item.audio.name for item in found if isinstance(item, Found)]
    assert audio == ["1-2-0000.wav", "1-2-0001.flac", "1-2-0002.flac"]
    assert faults(found) == [("1-2-0003", "transcript absent")]


def test_mls_flac_and_opus(tmp_path: Path) -> None:
    put(tmp_path, "train/transcripts.txt", "10_20_000001\the went\n10_20_000002\tshe came\nnot a line\n")
    put(tmp_path, "train/audio/10/20/10_20_000001.flac")
    put(tmp_path, "train/audio/10/20/10_20_000002.opus")
    found = list(read_mls(tmp_path, "train"))
    audio = Path("train/audio/10/20/10_20_000001.flac")
    assert found[0] == Found("10_20_000001", audio, whole("he went"), "10", custom={"book": "20"})
    assert isinstance(found[1], Found) and found[1].audio.suffix == ".opus"
    assert faults(found) == [("train/transcripts.txt:3", "malformed line")]


EMILIA = {"text": " You can.", "duration": 6.2, "speaker": "EN_S0", "language": "en", "dnsmos": 3.29}


def test_emilia_one_json_a_line(tmp_path: Path) -> None:
    rows = [
        {**EMILIA, "id": "a", "wav": "EN_B0/a.mp3"},
        "{",
        {"id": "b", "mp3": "b.mp3"},
        {"id": "c"},
        {**EMILIA, "id": 5},
    ]
    put(tmp_path, "EN/EN_B0.jsonl", lines(*rows))
    found = list(read_emilia(tmp_path, "EN/*.jsonl"))
    custom = {"language": "en", "dnsmos": "3.29"}
    assert found[0] == Found("a", Path("EN/EN_B0/a.mp3"), whole("You can."), "EN_S0", 6.2, custom=custom)
    assert found[2] == Found("b", Path("EN/b.mp3"), whole(""))
    assert faults(found) == [
        ("EN/EN_B0.jsonl:2", "not JSON"),
        ("EN/EN_B0.jsonl:4", "malformed row"),
        ("EN/EN_B0.jsonl:5", "malformed row"),
    ]


def test_emilia_one_json_beside_each_sound(tmp_path: Path) -> None:
    put(tmp_path, "EN/b.json", json.dumps({**EMILIA, "id": "b", "wav": "elsewhere/b.mp3"}))
    put(tmp_path, "EN/b.mp3")
    put(tmp_path, "EN/a.json", json.dumps({**EMILIA, "mp3": "sound/a.mp3"}))
    found = [item for item in read_emilia(tmp_path, "**/*.json") if isinstance(item, Found)]
    assert [(item.id, item.audio) for item in found] == [("a", Path("EN/sound/a.mp3")), ("b", Path("EN/b.mp3"))]


def test_nemo_lines_of_one_file_are_one_document(tmp_path: Path) -> None:
    put(
        tmp_path,
        "manifests/train.json",
        lines(
            {"audio_filepath": "../wav/talk.wav", "duration": 1.5, "text": "Later.", "offset": 2.0, "speaker": 7},
            {"audio_filepath": "../wav/short.wav", "duration": 0.8, "text": "Short.", "lang": "en"},
            {"audio_filepath": "../wav/talk.wav", "duration": 1.0, "text": "Before.", "offset": 0.5},
            {"audio_filepath": "../wav/talk.wav", "text": "No duration."},
            {"duration": 1.0, "text": "No path."},
        ),
    )
    found = list(read_nemo(tmp_path, "manifests/*.json"))
    talk, short = (item for item in found if isinstance(item, Found))
    assert talk.sentences == (Sentence("Later.", 2.0, 3.5), Sentence("Before.", 0.5, 1.5))
    assert (talk.id, talk.speaker, talk.duration) == ("wav_talk", "7", None)
    assert short.sentences == (Sentence("Short.", 0.0, 0.8),)
    assert (short.id, short.duration, short.custom) == ("wav_short", 0.8, {"language": "en"})
    assert faults(found) == [("manifests/train.json:4", "malformed row"), ("manifests/train.json:5", "malformed row")]


def test_nemo_absolute_paths(tmp_path: Path) -> None:
    rows = [{"audio_filepath": str(tmp_path / "a.wav"), "duration": 1.0, "text": "In."}]
    put(tmp_path, "m.json", lines(*rows, {"audio_filepath": "/etc/a.wav", "duration": 1.0, "text": "Out."}))
    found = [item for item in read_nemo(tmp_path, "m.json") if isinstance(item, Found)]
    assert [item.id for item in found] == ["a", "etc_a"]


@pytest.mark.parametrize(
    ("field", "value"),
    [("duration", float("nan")), ("duration", 10**400), ("text", "\ud800"), ("id", ""), ("id", None)],
)
def test_values_that_cannot_be_written_down_again_are_rejects(tmp_path: Path, field: str, value: object) -> None:
    put(tmp_path, "a.jsonl", lines({**EMILIA, "id": "x/1", "wav": "a.wav"}, {**EMILIA, "wav": "b.wav", field: value}))
    first, second = read_emilia(tmp_path, "a.jsonl")
    assert isinstance(first, Found) and first.id == "x_1"
    assert isinstance(second, Reject) and second.kind == "malformed row"
    second.reason.encode()
