"""Pretrain on a small store, export, and load the folder as a stranger would."""

import json
import shutil
import tomllib
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

from spiritlm.corpus.store import Record, write_split
from spiritlm.engine.checkpoint import load_main_weights
from spiritlm.engine.hf import to_huggingface
from spiritlm.engine.model import ModelConfig, build_chunks
from spiritlm.engine.parallel import process_groups
from spiritlm.run.files import read_json
from spiritlm.run.metrics import read_metrics
from spiritlm.tokens.emit import Document, document_of
from spiritlm.tokens.text import words_to_ids
from spiritlm.tokens.vocabulary import Vocabulary

from ..programs import run_here

REPO = Path(__file__).resolve().parents[2]
WORDS = ["Tom", "went", "to", "the", "lake", "with", "his", "mother", "and", "soon", "the", "rain", "came"]


def stage(program: str, recipe: str, *overrides: str) -> CompletedProcess[str]:
    return run_here(REPO / "training" / program, REPO / "training" / "recipes" / recipe, *overrides)


def finished(folder: Path, **inputs: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stage.json").write_text(json.dumps({"fingerprint": folder.name, "inputs": inputs}))
    return folder


def document(vocabulary: Vocabulary, seed: int) -> tuple[Record, Document]:
    """Twenty words of five units each."""
    rng = np.random.default_rng(seed)
    ids, starts = words_to_ids(rng.choice(WORDS, size=20).tolist(), vocabulary.text)
    words = [(first, 5 * number, 5 * number + 5) for number, first in enumerate(starts[:-1])]
    return Record(f"doc-{seed}", "voice"), document_of(ids, words, semantic=rng.integers(0, 50, size=100))


def written(vocabulary: Vocabulary, seed: int) -> tuple[Record, Document]:
    record, spoken = document(vocabulary, seed)
    return record, document_of(spoken.text)


@pytest.fixture(scope="module")
def run(vocabulary: Vocabulary, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of finished stages up to the export, the model trained for six steps in bf16."""
    run: Path = tmp_path_factory.mktemp("run")
    vocabulary.save(run / "store")
    for split in ("train", "dev"):
        documents = [document(vocabulary, seed) for seed in range(8)]
        write_split(run / "store", split, documents, {"semantic": 25.0}, vocabulary)
    vocabulary.save(run / "texts")
    write_split(run / "texts", "train", [written(vocabulary, seed) for seed in range(8, 16)], {}, vocabulary)
    finished(run / "texts")
    for folder in (
        finished(run / "store"),
        finished(run / "units"),
        finished(run / "voice", units="units", store="store"),
    ):
        (folder / "model").mkdir()
    (run / "units" / "model" / "config.json").write_text('{"ears": 1}')
    (run / "voice" / "model" / "config.json").write_text('{"voice": 1}')
    size = ("training.steps=6", "training.sequence_length=64", "training.evaluate_every=0")
    stores = (f"stores.main={run}/store", f"stores.texts={run}/texts")
    done = stage("pretrain.py", "pretrain-tiny.toml", f"out={run}/lm", *stores, *size)
    assert done.returncode == 0, done.stderr
    inputs = (f"run={run}/lm", f"speech_tokenizer={run}/units", f"voice={run}/voice")
    done = stage("export_hf.py", "export-tiny.toml", f"out={run}/model", *inputs)
    assert done.returncode == 0, done.stderr
    return run


def test_pretrain_writes_what_the_stages_after_it_read(run: Path, vocabulary: Vocabulary) -> None:
    counts = read_json(run / "lm" / "stage.json")["counts"]
    assert (counts["steps"], counts["tokens"]) == (6, 6 * 4 * 64)
    assert counts["tokens_per_second"] > 0
    assert set(counts["dev"]) == {"loss", "loss_text", "loss_semantic"}
    assert Vocabulary.load(run / "lm").hash == vocabulary.hash
    assert read_json(run / "lm" / "model.json")["vocabulary_size"] == vocabulary.padded_size


def test_pretrain_says_what_the_mixture_became(run: Path) -> None:
    mixture = read_json(run / "lm" / "stage.json")["counts"]["mixture"]
    asked = tomllib.loads((REPO / "training/recipes/pretrain-tiny.toml").read_text())["mixture"]
    names = [f"{number}-{part['kind']}-{part.get('store', 'main')}-train" for number, part in enumerate(asked)]
    assert list(mixture) == names
    total = sum(part["share"] for part in asked)
    for name, part in zip(mixture, asked, strict=True):
        assert mixture[name]["share"] == pytest.approx(part["share"] / total, abs=1 / 24)
        assert mixture[name]["epochs"] == pytest.approx(24 * mixture[name]["share"] / mixture[name]["rows"], abs=1e-3)
        assert read_json(run / f"lm/plan/{name}/epoch-00000/plan.json")["rows"] > 0
    logged = read_metrics(run / "lm")[-2]
    assert {f"share_{name}": logged[f"share_{name}"] for name in mixture} == pytest.approx(
        {f"share_{name}": mixture[name]["share"] for name in mixture}, abs=1e-6
    )


def test_a_run_needs_the_store_it_is_evaluated_on(run: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "no-main.toml"
    text = (REPO / "training/recipes/pretrain-tiny.toml").read_text()
    recipe.write_text(text.replace('main = "runs/tiny/store"', f'other = "{run}/store"'))
    done = stage("pretrain.py", str(recipe), f"out={tmp_path}/lm", f"stores.texts={run}/texts")
    assert done.returncode == 2
    assert "expected a store named 'main', found other, texts" in done.stderr
    assert not (tmp_path / "lm").exists()


def test_the_export_holds_the_main_weights_in_float32(run: Path) -> None:
    shape = read_json(run / "lm" / "model.json")
    config = ModelConfig.model_validate(shape["model"])
    with process_groups(seed=0):
        (model,) = build_chunks(config, shape["vocabulary_size"], "fp32")
        load_main_weights(run / "lm" / "checkpoints" / "step-00000006", [model])
    weights = to_huggingface({n: t for n, t in model.state_dict().items() if torch.is_tensor(t)}, config)
    exported = load_file(run / "model" / "model.safetensors")
    assert set(exported) == set(weights)
    assert all(torch.equal(exported[name], tensor) for name, tensor in weights.items())
    assert any(not torch.equal(tensor, tensor.bfloat16().float()) for tensor in exported.values())


def test_the_export_is_whole(run: Path, vocabulary: Vocabulary) -> None:
    model = AutoModelForCausalLM.from_pretrained(run / "model")
    assert type(model).__name__ == "LlamaForCausalLM"
    assert model.config.vocab_size == vocabulary.padded_size
    ids = AutoTokenizer.from_pretrained(run / "model")("[Text]Tom went[Speech][Hu3]", return_tensors="pt")
    assert torch.isfinite(model(**ids).logits).all()
    assert Vocabulary.load(run / "model").hash == vocabulary.hash
    assert read_json(run / "model" / "speech_tokenizer" / "config.json") == {"ears": 1}
    assert read_json(run / "model" / "voice" / "config.json") == {"voice": 1}


def test_a_run_grows_a_hugging_face_model(run: Path, vocabulary: Vocabulary, tmp_path: Path) -> None:
    """Trained for one step that changes nothing, it comes out as it went in, with rows for units below the text's."""
    torch.manual_seed(0)
    text = vocabulary.layout.text_size
    config = Qwen3Config(
        vocab_size=text + 5, hidden_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=16, intermediate_size=80, max_position_embeddings=256,
    )  # fmt: skip
    start = Qwen3ForCausalLM(config)
    start.save_pretrained(tmp_path / "start")
    recipe = tmp_path / "grown.toml"
    before, after = (REPO / "training/recipes/pretrain-tiny.toml").read_text().split("[model]")
    recipe.write_text(f'{before}init_from = "{tmp_path}/start"\n[training]{after.split("[training]")[1]}')
    size = ("training.steps=1", "training.sequence_length=64", "training.precision=fp32", "training.evaluate_every=0")
    stores = (f"stores.main={run}/store", f"stores.texts={run}/texts")
    still = ("optimizer.lr=1e-15", "schedule.warmup_steps=0", "profile=[1, 1]", "samples.count=3", "samples.tokens=5")
    done = stage("pretrain.py", str(recipe), f"out={tmp_path}/lm", *size, *stores, *still)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "lm" / "trace-0.json").stat().st_size > 1000
    samples = [json.loads(line) for line in (tmp_path / "lm" / "samples.jsonl").read_text().splitlines()]
    assert [(sample["step"], 0 < len(sample["ids"]) <= 5) for sample in samples] == [(1, True)] * 3
    mute = tmp_path / "mute.toml"
    mute.write_text(f'out = "{tmp_path}/model"\nrun = "{tmp_path}/lm"\n')
    done = stage("export_hf.py", str(mute))
    assert done.returncode == 0, done.stderr
    grown = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert type(grown) is Qwen3ForCausalLM
    expected = start.state_dict()
    for name, tensor in grown.state_dict().items():
        old = tensor[:text] if tensor.shape[0] == vocabulary.padded_size else tensor
        torch.testing.assert_close(old, expected[name][: len(old)], rtol=0, atol=1e-9)
    rows = grown.get_input_embeddings().weight
    assert rows[text:].std().item() == pytest.approx(rows[:text].std().item(), rel=0.05)


def test_a_run_that_goes_on_is_exported_at_a_step(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "lm", tmp_path / "lm")
    (tmp_path / "lm" / "stage.json").rename(tmp_path / "lm" / "stage.begun.json")
    recipe = tmp_path / "export.toml"
    recipe.write_text(f'out = "{tmp_path}/model"\nrun = "{tmp_path}/lm"\n')
    done = stage("export_hf.py", str(recipe))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "is not finished; say the step of the checkpoint" in done.stderr
    done = stage("export_hf.py", str(recipe), f"run={run}/store")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "expected one that trained or imported a model" in done.stderr
    done = stage("export_hf.py", str(recipe), "step=6")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == (run / "model/model.safetensors").read_bytes()


def test_a_folder_that_is_no_stage_is_refused(run: Path, tmp_path: Path) -> None:
    done = stage("export_hf.py", "export-tiny.toml", f"out={tmp_path}/model", f"run={tmp_path}/absent")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "model").exists()


def test_a_voice_of_another_tokenizer_is_refused(run: Path, tmp_path: Path) -> None:
    (finished(tmp_path / "other") / "model").mkdir()
    inputs = (f"run={run}/lm", f"speech_tokenizer={tmp_path}/other", f"voice={run}/voice")
    done = stage("export_hf.py", "export-tiny.toml", f"out={tmp_path}/model", *inputs)
    assert done.returncode == 2
    assert "made from another 'units' stage" in done.stderr
    assert not (tmp_path / "model").exists()
