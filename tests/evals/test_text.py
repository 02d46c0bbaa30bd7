import importlib.util
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from spiritlm.run.files import read_json
from spiritlm.tokens.vocabulary import Vocabulary

PROGRAM = Path(__file__).resolve().parents[2] / "evals" / "text.py"
HAS_LM_EVAL = importlib.util.find_spec("lm_eval") is not None
needs_lm_eval = pytest.mark.skipif(not HAS_LM_EVAL, reason="lm-eval is not installed")

TASK = """
task: which_ending
dataset_path: json
dataset_kwargs:
  data_files: {{test: {data}, train: {data}}}
test_split: test
fewshot_split: train
output_type: multiple_choice
doc_to_text: "{{{{story}}}}"
doc_to_choice: endings
doc_to_target: answer
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
metadata: {{version: 3}}
"""
STORIES = [
    {"story": "Tom went to the lake.", "endings": ["He wanted a fish.", "The rain was sad."], "answer": 0},
    {"story": "The rain came soon.", "endings": ["The fish was big.", "Tom was sad."], "answer": 1},
    {"story": "He wanted to catch a fish.", "endings": ["It was big.", "His mother came."], "answer": 0},
]

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Exit status, and what stands on stdout and stderr."""
    if HAS_LM_EVAL:
        import datasets

        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    specification = importlib.util.spec_from_file_location("evals_text", PROGRAM)
    assert specification and specification.loader
    program = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, "evals_text", program)
    specification.loader.exec_module(program)

    def called(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["text.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit:
            program.main()
        said = capsys.readouterr()
        return exit.value.code, said.out, said.err  # type: ignore[return-value]

    return called


@pytest.fixture(scope="module")
def exported(vocabulary: Vocabulary, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("exported")
    torch.manual_seed(0)
    llama = LlamaConfig(
        vocab_size=vocabulary.padded_size, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=40,
    )  # fmt: skip
    LlamaForCausalLM(llama).save_pretrained(folder)
    vocabulary.save(folder)
    return folder


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    folder = tmp_path / "tasks"
    folder.mkdir()
    data = folder / "stories.jsonl"
    data.write_text("".join(json.dumps(story) + "\n" for story in STORIES))
    (folder / "which_ending.yaml").write_text(TASK.format(data=data))
    return folder


@needs_lm_eval
def test_a_task_of_ones_own(run: Run, exported: Path, tasks: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    asked = (exported, "--tasks", "which_ending", "--include", tasks, "--out", out)
    status, said, errors = run(*asked)
    assert status == 0, errors
    results = read_json(out / "results.json")
    figures = results["results"]["which_ending"]
    rows = [json.loads(line) for line in (out / "items" / "which_ending.jsonl").read_text().splitlines()]
    assert [row["doc"] for row in rows] == STORIES
    for row in rows:
        scores = [score for score, _ in row["filtered_resps"]]
        assert row["acc"] == (scores.index(max(scores)) == row["target"])
    assert figures["acc,none"] == sum(row["acc"] for row in rows) / 3
    assert f"which_ending  acc  {figures['acc,none']:.4f} ± {figures['acc_stderr,none']:.4f}" in said
    assert results["versions"] == {"which_ending": 3} and results["shortened"] == 0
    assert len(results["model"]["weights"]) == 64
    assert read_json(out / "stage.json")["counts"] == {"items": {"which_ending": 3}, "shortened": 0}
    before = (out / "results.json").stat().st_mtime_ns
    status, said, _ = run(*asked)
    assert status == 0 and "done before" in said and (out / "results.json").stat().st_mtime_ns == before
    assert "few_shot was None, now 2" in run(*asked, "few_shot=2")[2]


@needs_lm_eval
def test_examples_and_first_documents(run: Run, exported: Path, tasks: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f'model = "{exported}"\ntasks = ["which_ending"]\ninclude = "{tasks}"\nout = "{tmp_path}/out"\n')
    status, _, errors = run(recipe, "few_shot=2", "limit=1")
    assert status == 0, errors
    results = read_json(tmp_path / "out" / "results.json")
    assert results["n-shot"] == {"which_ending": 2}
    assert results["n-samples"] == {"which_ending": {"original": 3, "effective": 1}}
    assert results["shortened"] == 2, "both endings, behind three stories"


@needs_lm_eval
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("stories.jsonl", "nowhere.jsonl"), r"tasks which_ending: FileNotFoundError: .*nowhere.jsonl"),
        (("test_split: test", "test_split: tset"), "tasks which_ending: KeyError: 'tset'"),
        (("{{story}}", "{{stroy}}"), "tasks which_ending: UndefinedError: 'stroy' is undefined"),
        (("which_ending", "what_ending"), "error: task 'which_ending': expected .*; the nearest is 'what_ending'"),
    ],
)
def test_tasks_that_cannot_be_asked(
    change: tuple[str, str], expected: str, run: Run, exported: Path, tasks: Path, tmp_path: Path
) -> None:
    file = tasks / "which_ending.yaml"
    file.write_text(file.read_text().replace(*change))
    out = tmp_path / "out"
    status, _, errors = run(exported, "--tasks", "which_ending", "--include", tasks, "--out", out)
    assert status == 2 and "Traceback" not in errors and not out.exists()
    last = errors.splitlines()[-1]
    assert last.startswith("error: ") and re.search(expected, last), last


def test_lm_eval_is_absent(run: Run, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    status, _, errors = run(exported, "--tasks", "lambada_openai", "--out", tmp_path / "out")
    assert status == 2 and errors.startswith("error: expected lm-eval: pip install -e .[eval]"), errors
    assert not (tmp_path / "out").exists()


def test_what_is_wrong_before_anything_is_loaded(
    run: Run, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    for arguments, expected in (
        ((exported, "--tasks", "a", "--out", out, "--include", tmp_path / "nowhere"), "nowhere: expected a folder"),
        ((tmp_path / "nowhere", "--tasks", "a", "--out", out), "nowhere: expected a folder"),
        ((exported, "--tasks", "a", "--out", out, "limit=0"), "limit"),
        ((exported, "--out", out), "tasks"),
        ((exported, "--out", out, "tasks=[]"), "tasks: expected at least one"),
    ):
        status, _, errors = run(*arguments)
        assert status == 2 and expected in errors and len(errors.splitlines()) == 1
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "2 processes: expected one" in run(exported, "--tasks", "a", "--out", out)[2]
