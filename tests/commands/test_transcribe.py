from collections.abc import Callable
from pathlib import Path

import numpy as np

from spiritlm.audio.files import write_wav
from spiritlm.inference.model import SpeechTextLM
from spiritlm.inference.request import Speech

RATE = 16_000
Run = Callable[..., tuple[int, str, str]]


def test_recordings_are_written_down_in_order(
    exported: Path, story: Path, tmp_path: Path, run: Run, rows_of: Callable[[str], list[dict]]
) -> None:
    long = tmp_path / "long.wav"
    write_wav(long, np.random.default_rng(1).uniform(-0.5, 0.5, 5 * RATE).astype(np.float32), RATE)
    code, said, _ = run("transcribe", story, long, story, "--model", exported, "--longest", 2, "--json")
    rows = rows_of(said)
    assert code == 0
    assert [row["file"] for row in rows] == [str(story), str(long), str(story)]
    assert [len(row["pieces"]) for row in rows] == [1, 3, 1]
    assert rows[1]["pieces"][-1]["end"] == 5.0
    (alone,) = SpeechTextLM.from_pretrained(exported).transcribe([Speech.read(story)])
    assert rows[0]["text"] == rows[2]["text"] == alone
    code, said, _ = run("transcribe", story, "--model", exported)
    assert code == 0 and said.strip().endswith(alone)


def test_errors_are_one_line(exported: Path, story: Path, tmp_path: Path, run: Run) -> None:
    noise = tmp_path / "noise.wav"
    write_wav(noise, np.random.default_rng(1).uniform(-0.5, 0.5, 14 * RATE).astype(np.float32), RATE)
    for arguments, message in (
        ((tmp_path / "none.wav",), "none.wav: expected an audio file"),
        ((story, "--longest", 0), "--longest"),
        ((noise,), "tokens, at most 256 fit together with the answer"),
    ):
        code, _, complaint = run("transcribe", *arguments, "--model", exported)
        assert code == 2 and complaint.count("\n") == 1 and message in complaint
