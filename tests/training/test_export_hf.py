"""Pretrain on a small store, export, and load the folder as a stranger would."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from spiritlm.corpus.store import NamedDocument, write_split
from spiritlm.engine.checkpoint import load_main_weights
from spiritlm.engine.hf import to_huggingface
from spiritlm.engine.model import ModelConfig, build_model
from spiritlm.engine.parallel import process_groups
from spiritlm.run.files import read_json
from spiritlm.tokens.documents import AlignedDocument
from spiritlm.tokens.vocabulary import Vocabulary

REPO = Path(__file__).resolve().parents[2]
WORDS = ["Tom", "went", "to", "the", "lake", "with", "his", "mother", "and", "soon", "the", "rain", "came"]


def stage(program: str, recipe: str, *overrides: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPO / "training" / program), str(REPO / "training" / "recipes" / recipe)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    return subprocess.run([*command, *overrides], capture_output=True, text=True, timeout=200, env=environment)


def finished(folder: Path, **inputs: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stage.json").write_text(json.dumps({"fingerprint": folder.name, "inputs": inputs}))
    return folder


def document(vocabulary: Vocabulary, seed: int) -> NamedDocument:
    rng = np.random.default_rng(seed)
    pieces = [vocabulary.encode_text(str(word)) for word in rng.choice(WORDS, size=20)]
    text = np.array([id for piece in pieces for id in piece], dtype=np.int32)
    units = rng.integers(0, 50, size=100).astype(np.uint16)
    aligned = AlignedDocument(text, units, np.cumsum([0, *map(len, pieces)]), np.arange(0, 101, 5))
    return NamedDocument(f"doc-{seed}", "voice", aligned)


@pytest.fixture(scope="module")
def run(vocabulary: Vocabulary, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of finished stages up to the export, the model trained for six steps in bf16."""
    run: Path = tmp_path_factory.mktemp("run")
    vocabulary.save(run / "store")
    for split in ("train", "dev", "written"):
        write_split(run / "store", split, [document(vocabulary, seed) for seed in range(8)], 25.0, vocabulary)
    for folder in (
        finished(run / "store"),
        finished(run / "units"),
        finished(run / "voice", units="units", store="store"),
    ):
        (folder / "model").mkdir()
    (run / "units" / "model" / "config.json").write_text('{"ears": 1}')
    (run / "voice" / "model" / "config.json").write_text('{"voice": 1}')
    size = ("training.steps=6", "training.sequence_length=64", "training.evaluate_every=0")
    done = stage("pretrain.py", "pretrain-tiny.toml", f"out={run}/lm", f"store={run}/store", *size)
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


def test_the_export_holds_the_main_weights_in_float32(run: Path) -> None:
    shape = read_json(run / "lm" / "model.json")
    config = ModelConfig.model_validate(shape["model"])
    with process_groups(seed=0):
        model = build_model(config, shape["vocabulary_size"], "fp32")
        load_main_weights(run / "lm" / "checkpoints" / "step-00000006", model)
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
