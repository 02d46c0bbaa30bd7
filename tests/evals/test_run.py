import importlib.util
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from spiritlm.audio.files import write_wav
from spiritlm.engine.checkpoint import save_main_weights
from spiritlm.engine.export import export_checkpoint
from spiritlm.engine.model import ModelConfig, build_chunks
from spiritlm.engine.parallel import process_groups
from spiritlm.engine.start import starting_weights, write_shape
from spiritlm.run.checkpoints import CheckpointPolicy, Checkpoints
from spiritlm.run.files import read_json
from spiritlm.tokens.vocabulary import Vocabulary
from spiritlm.units.mfcc import FEATURES, MfccKmeansTokenizer

PROGRAM = Path(__file__).resolve().parents[2] / "evals" / "run.py"
RATE = 16_000
WORDS = {"cat": "cet", "mat": "mut", "lake": "laek"}

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Exit status and what stands on stderr."""
    specification = importlib.util.spec_from_file_location("evals_run", PROGRAM)
    assert specification and specification.loader
    program = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, "evals_run", program)
    specification.loader.exec_module(program)

    def called(*arguments: str | Path) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["run.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit:
            program.main()
        return exit.value.code, capsys.readouterr().err  # type: ignore[return-value]

    return called


@pytest.fixture(scope="session")
def exported(vocabulary: Vocabulary, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, and no stage.json: a folder that came from elsewhere."""
    folder: Path = tmp_path_factory.mktemp("exported")
    torch.manual_seed(0)
    llama = LlamaConfig(
        vocab_size=vocabulary.padded_size, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=256,
    )  # fmt: skip
    LlamaForCausalLM(llama).save_pretrained(folder)
    vocabulary.save(folder)
    centres = np.random.default_rng(0).normal(size=(50, FEATURES)).astype(np.float32)
    MfccKmeansTokenizer(centres).save_pretrained(folder / "speech_tokenizer")
    return folder


def sound(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_wav(path, 0.3 * np.random.default_rng(seed).normal(size=RATE // 4), RATE)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """sWUGGY and StoryCloze, very small."""
    root = tmp_path / "data"
    lines = ["filename,id,voice,frequency,word,phones,length,correct"]
    for id, words in enumerate(WORDS.items()):
        for correct, word in zip((1, 0), words, strict=True):
            lines.append(f"{word},{id},A,{3 if correct else ''},{word},{' '.join(word)},{len(word)},{correct}")
            sound(root / "swuggy" / "lexical" / "dev" / f"{word}.wav", 10 * id + correct)
    (root / "swuggy" / "lexical" / "dev" / "gold.csv").write_text("\n".join(lines) + "\n")
    for seed, (part, text) in enumerate({"mutual": "Tom went.", "correct": "He sat.", "incorrect": "Rain."}.items()):
        for name in ("a", "b"):
            sound(root / "storycloze" / f"{name}_{part}.wav", 100 + seed)
            (root / "storycloze" / f"{name}_{part}.txt").write_text(text)
    return root


def test_a_model_and_names_of_tasks_are_enough(run: Run, exported: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    tasks = "swuggy,swuggy_text,storycloze"
    assert run(exported, "--tasks", tasks, "--data", data, "--out", out)[0] == 0
    results = read_json(out / "results.json")
    assert len(results["tasks"]) == 2 + 8
    swuggy = results["tasks"]["swuggy"]
    assert (swuggy["n"], swuggy["skipped"], swuggy["split"]) == (3, 0, "dev")
    assert swuggy["accuracy"]["mean"]["modality"] is not None
    assert swuggy["official"]["overall"] == pytest.approx(swuggy["accuracy"]["mean"]["full"]["value"])
    assert results["model"] and results["task_versions"]["storycloze S>T"] >= 2
    for file in ("results.md", "results.html", "items/storycloze_S_T_whole.jsonl", "submission/lexical/dev.txt"):
        assert (out / file).is_file()
    assert len((out / "submission" / "lexical" / "dev.txt").read_text().splitlines()) == 6
    before = (out / "results.json").stat().st_mtime_ns
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f'model = "{exported}"\ntasks = {json.dumps(tasks.split(","))}\ndata = "{data}"\nout = "x"\n')
    assert run(recipe, f"out={out}")[0] == 0, "a recipe says the same"
    assert (out / "results.json").stat().st_mtime_ns == before
    assert "already holds a run with other settings" in run(recipe, f"out={out}", "--tasks", "swuggy")[1]


def cut_parquet(data: Path) -> None:
    (data / "sblimp").mkdir()
    pq.write_table(pa.Table.from_pylist([{"id": 0}]), data / "sblimp" / "train.parquet")
    content = (data / "sblimp" / "train.parquet").read_bytes()
    (data / "sblimp" / "train.parquet").write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    ("tasks", "spoil", "message"),
    [
        ("swugy", None, "tasks: there is no 'swugy'; the nearest is 'swuggy'"),
        ("swuggy,loss", None, "task loss: expected store"),
        ("sblimp", None, "task sblimp: expected its benchmark in"),
        ("swuggy", lambda data: (data / "swuggy/lexical/dev/cet.wav").unlink(), "1 of the 6 recordings"),
        ("swuggy", lambda data: (data / "swuggy/lexical/dev/cet.wav").write_text("no sound"), "cet.wav"),
        ("storycloze", lambda data: (data / "storycloze/b_correct.txt").unlink(), "b_correct.txt: absent"),
        ("sblimp", cut_parquet, "expected a whole parquet file"),
    ],
)  # fmt: skip
def test_what_cannot_be_scored_is_one_line_and_no_result(
    run: Run, exported: Path, data: Path, tmp_path: Path, tasks: str, spoil: Callable[[Path], None], message: str
) -> None:
    if spoil:
        spoil(data)
    status, error = run(exported, "--tasks", tasks, "--data", data, "--out", tmp_path / "out")
    assert status == 2
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error
    assert not (tmp_path / "out" / "results.json").exists()


def test_settings_that_are_absent(run: Run, exported: Path, data: Path, tmp_path: Path) -> None:
    for arguments, message in (
        (("--tasks", "swuggy", "--data", data), "'out' is absent"),
        (("--data", data, "--out", tmp_path / "out"), "'tasks' is absent"),
        (("--tasks", "swuggy", "--out", tmp_path / "out"), "task swuggy: expected data"),
        (("--tasks", "swuggy", "--data", tmp_path / "none", "--out", tmp_path / "out"), "expected a folder"),
        (("--tasks", "", "--data", data, "--out", tmp_path / "out"), "tasks"),
    ):
        status, error = run(exported, *arguments)
        assert (status, error.count("\n")) == (2, 1), error
        assert message in error
    assert not (tmp_path / "out").exists()


def test_a_split_of_pairs_is_none_of_answers(run: Run, exported: Path, data: Path, tmp_path: Path) -> None:
    for overrides, message in (
        (("--tasks", "asr", "--split", "dev-clean"), "expected answers_split for these tasks"),
        (("--tasks", "asr", "shots=[-1]"), "shots"),
        (("--tasks", "tts", "recognizer=ctc"), "recognizer_folder = None: expected a folder for 'ctc'"),
    ):
        code, said = run(exported, *overrides, "--data", data, "--out", tmp_path / "out")
        assert code == 2 and message in said and said.count("\n") == 1
        assert not (tmp_path / "out").exists()


def test_what_is_not_asked_does_not_count(run: Run, exported: Path, data: Path) -> None:
    """Neither another benchmark beside nor the results themselves; another recording does."""
    arguments = (exported, "--tasks", "swuggy_text", "--data", data, "--out", data / "results")
    assert run(*arguments)[0] == 0
    sound(data / "storycloze" / "c_mutual.wav", 0)
    assert run(*arguments) == (0, "")
    sound(data / "swuggy" / "lexical" / "dev" / "cat.wav", 99)
    assert "input data was" in run(*arguments)[1]
    inside = run(*arguments[:-1], data / "swuggy" / "lexical" / "dev" / "results")
    assert inside[0] == 2
    assert "lies in the benchmark" in inside[1]


def test_a_checkpoint_of_a_run_has_the_figures_of_its_export(
    run: Run, exported: Path, vocabulary: Vocabulary, data: Path, tmp_path: Path
) -> None:
    config = ModelConfig(
        hidden_size=16, layers=1, heads=2, kv_heads=1, ffn_hidden_size=32, max_position_embeddings=128, init_std=0.1
    )
    trained, model, ears = tmp_path / "run", tmp_path / "model", exported / "speech_tokenizer"
    vocabulary.save(trained)
    write_shape(trained, config, vocabulary.padded_size)
    with process_groups(seed=0):
        chunks = build_chunks(config, vocabulary.padded_size, "fp32")
        starting_weights(config, None, vocabulary, seed=0)(chunks)
        checkpoints = Checkpoints(trained / "checkpoints", CheckpointPolicy())
        save_main_weights(checkpoints, 1, chunks, {"vocabulary": vocabulary.hash})
    export_checkpoint(trained, model, None)
    shutil.copytree(ears, model / "speech_tokenizer")
    found = []
    (step,) = (trained / "checkpoints").glob("step-*")
    for number, folder in enumerate((model, trained, step)):
        more = [] if folder == model else [f"speech_tokenizer={ears}"]
        out = tmp_path / f"out-{number}"
        assert run(folder, "--tasks", "swuggy", "--data", data, "--out", out, *more) == (0, "")
        found.append(read_json(out / "results.json"))
    assert found[0] == found[1] == found[2]
    (trained / "stage.begun.json").write_text("{}")
    assert "is not finished" in run(trained, "--tasks", "swuggy", "--data", data, "--out", tmp_path / "out")[1]
