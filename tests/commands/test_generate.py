import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile

Run = Callable[..., tuple[int, str, str]]
HOT = ("--temperature", "2", "--top-p", "1")


def test_one_answer_in_files_and_on_a_page(exported: Path, story: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "answer"
    asked = (
        "generate",
        "--model",
        exported,
        "--text",
        "Tom <b>",
        "--speech",
        story,
        "--output",
        "speech",
        "--out",
        out,
    )
    code, said, _ = run(*asked, *HOT, "--seed", 1, "--max-new-tokens", 40)
    assert code == 0
    assert (tmp_path / "answer.txt").read_text().strip() in said
    seconds = soundfile.info(tmp_path / "answer.wav").duration
    assert f"({seconds:.1f} s)" in said
    page = (tmp_path / "answer.html").read_text()
    assert page.count("<audio") == 2
    assert "Tom &lt;b&gt;" in page
    code, _, _ = run(*asked[:-4], "--output", "text", "--out", out, *HOT, "--max-new-tokens", 5)
    assert code == 0
    assert not (tmp_path / "answer.wav").exists()


def test_several_answers_differ_and_come_again(
    exported: Path, story: Path, tmp_path: Path, run: Run, rows_of: Callable[[str], list[dict]]
) -> None:
    asked = ("generate", "--model", exported, "--speech", story, "--output", "text", "--json", *HOT)
    asked = (*asked, "--max-new-tokens", 12)
    code, said, progress = run(*asked, "--n", 4, "--out", tmp_path / "a", "--seed", 7)
    rows = rows_of(said)
    assert code == 0 and "answer 4/4" in progress
    assert [row["seed"] for row in rows] == [7, 8, 9, 10]
    assert len({row["transcript"] for row in rows}) == 4
    assert [Path(row["txt"]).name for row in rows] == [f"a-{n}.txt" for n in (1, 2, 3, 4)]
    assert rows[0]["prompt"] == [{"speech": str(story)}]
    _, said, _ = run(*asked, "--n", 2, "--out", tmp_path / "b", "--seed", 9, "--batch-size", 1)
    assert [row["segments"] for row in rows_of(said)] == [row["segments"] for row in rows[2:]]


def test_many_prompts_from_a_file(
    exported: Path, story: Path, tmp_path: Path, run: Run, rows_of: Callable[[str], list[dict]]
) -> None:
    shutil.copy(story, tmp_path / "story.wav")
    lines = [
        {"id": "heard", "prompt": [{"speech": "story.wav"}, {"text": "Tom"}], "output": "text"},
        {"prompt": [{"text": "Tom went"}], "output": "speech"},
    ]
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps(line) + "\n" for line in lines))
    asked = ("generate", "--model", exported, "--prompts", prompts, "--out", tmp_path / "x", "--json", *HOT)
    code, said, _ = run(*asked, "--max-new-tokens", 20)
    assert code == 0
    rows = rows_of(said)
    assert [(row["name"], row["output"]) for row in rows] == [("heard", "text"), ("2", "speech")]
    assert (tmp_path / "x-heard.txt").is_file() and (tmp_path / "x-2.wav").is_file()
    assert (tmp_path / "x.html").read_text().count("<audio") == 2
    for wrong, message in (
        ({"prompt": [{"song": "la"}]}, "line 3: prompt: expected"),
        ({"prompt": []}, "line 3: prompt: expected a list"),
        ({"prompt": [{"text": "a"}], "id": "heard"}, "line 3: id 'heard'"),
        ({"prompt": [{"text": "a"}], "outputs": "text"}, "line 3: 'outputs': expected id, prompt and output"),
        ({"prompt": [{"speech": "none.wav"}]}, "none.wav: expected an audio file"),
    ):
        prompts.write_text("".join(json.dumps(line) + "\n" for line in [*lines, wrong]))
        code, said, complaint = run(*asked)
        assert (code, said) == (2, "") and message in complaint and complaint.count("\n") == 1


def test_streamed(exported: Path, tmp_path: Path, run: Run) -> None:
    asked = ("generate", "--model", exported, "--text", "Tom went", "--out", tmp_path / "s", *HOT, "--seed", 1)
    code, said, _ = run(*asked, "--output", "speech", "--stream", "--max-new-tokens", 30)
    assert code == 0 and "first sound after" in said
    streamed = soundfile.read(tmp_path / "s.wav")[0]
    run(*asked, "--output", "speech", "--max-new-tokens", 30)
    assert streamed == pytest.approx(soundfile.read(tmp_path / "s.wav")[0], abs=1e-4)


def test_no_recording_of_ones_own_is_replaced(exported: Path, story: Path, tmp_path: Path, run: Run) -> None:
    own = tmp_path / "told.wav"
    shutil.copy(story, own)
    asked = ("generate", "--model", exported, "--output", "text", "--out", tmp_path / "told", "--max-new-tokens", 5)
    for prompt in (("--speech", own), ("--text", "Tom"), ("--speech", own, "--stream")):
        code, _, complaint = run(*asked, *prompt)
        assert code == 2 and complaint.count("\n") == 1 and "told.wav is" in complaint
    (tmp_path / "told.txt").write_text("an answer")
    assert run(*asked, "--text", "Tom")[0] == 0 and not own.exists()
    shutil.copy(story, tmp_path / "x-a.wav")
    line = json.dumps({"id": "a", "prompt": [{"speech": "x-a.wav"}]})
    (tmp_path / "p.jsonl").write_text(line + "\n")
    code, _, complaint = run(
        "generate", "--model", exported, "--prompts", tmp_path / "p.jsonl", "--out", tmp_path / "x"
    )
    assert code == 2 and "x-a.wav is in the prompt" in complaint


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--speech", "noise.txt"), "noise.txt: expected an audio file"),
        ((), "the prompt is empty: give text, speech or both"),
        (("--text", " "), "the prompt is empty: a written piece has no words"),
        (("--text", "Tom " * 300), "together at most 256 fit"),
        (("--text", "Tom", "--speaker", "c"), "speaker 'c' is not one of the decoder's 2"),
        (("--text", "Tom", "--style", "sad"), "style 'sad': the decoder has no styles"),
        (("--text", "Tom", "--pitch-shift", "2"), "the voice is told no pitch units"),
        (("--text", "Tom", "--top-p", "0"), "top_p 0.0: expected more than 0"),
        (("--text", "Tom", "--seed", "-1"), "seed -1: expected"),
        (("--text", "Tom", "--n", "0"), "--n 0"),
        (("--text", "Tom", "--stream", "--n", "2"), "--stream: expected one prompt"),
        (("--text", "Tom", "--model", "nowhere"), "nowhere: expected the folder of an exported model"),
        (("--text", "Tom", "--out", "no/where"), "is not there"),
        (("--text", "Tom", "--prompts", "x.jsonl"), "not both"),
        (("--prompts", "x.jsonl"), "x.jsonl: expected a file of JSON lines"),
        (("--text", "Tom", "--out", "."), "expected a name for the files"),
    ],
)
def test_errors_are_one_line(
    exported: Path, tmp_path: Path, run: Run, arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("noise.txt").write_text("no sound")
    code, _, complaint = run("generate", "--model", exported, *arguments)
    assert code == 2 and complaint.count("\n") == 1 and message in complaint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["noise.txt"]


def test_without_a_voice_speech_stays_units(exported: Path, tmp_path: Path, run: Run) -> None:
    mute = tmp_path / "mute"
    shutil.copytree(exported, mute)
    shutil.rmtree(mute / "voice")
    asked = ("generate", "--model", mute, "--text", "Tom", "--out", tmp_path / "m", "--max-new-tokens", 9, *HOT)
    code, _, complaint = run(*asked, "--output", "speech")
    assert code == 2 and f"{mute}: has no voice; ask for --output text, or any" in complaint
    code, said, _ = run(*asked, "--output", "text")
    assert code == 0 and "the model has no voice" in said
    assert not (tmp_path / "m.wav").exists()


def test_without_ears_speech_is_not_heard(exported: Path, story: Path, tmp_path: Path, run: Run) -> None:
    deaf = tmp_path / "deaf"
    shutil.copytree(exported, deaf)
    shutil.rmtree(deaf / "speech_tokenizer")
    code, _, complaint = run("generate", "--model", deaf, "--speech", story, "--out", tmp_path / "d")
    assert code == 2 and "the model cannot hear the prompt" in complaint
    assert run("generate", "--model", deaf, "--text", "Tom", "--output", "text", "--out", tmp_path / "d")[0] == 0
