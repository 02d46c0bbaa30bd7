"""A Hugging Face model imported by two ranks, read again as a start, and exported."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

from spiritlm.engine.hf import grown_model
from spiritlm.engine.hf_config import model_config_of
from spiritlm.engine.model import build_chunks
from spiritlm.engine.parallel import process_groups
from spiritlm.engine.start import starting_weights
from spiritlm.engine.weights import fill
from spiritlm.errors import InputError
from spiritlm.run.files import read_json
from spiritlm.tokens.vocabulary import Vocabulary

from ..programs import run_here

REPO = Path(__file__).resolve().parents[2]
SEED = 3
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:megatron")


def program(name: str, recipe: str, *overrides: str, ranks: int = 1) -> subprocess.CompletedProcess[str]:
    command = [str(REPO / "training" / name), recipe, *overrides]
    if ranks == 1:
        return run_here(*command)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    return subprocess.run(
        [sys.executable, *torchrun, *command], capture_output=True, text=True, timeout=200, env=environment
    )


@pytest.fixture(scope="module")
def imported(vocabulary: Vocabulary, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root: Path = tmp_path_factory.mktemp("import")
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=vocabulary.layout.text_size + 5, hidden_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=80, max_position_embeddings=256,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(root / "qwen")
    vocabulary.save(root / "store")
    (root / "store" / "stage.json").write_text(json.dumps({"fingerprint": "store", "inputs": {}}))
    recipe = root / "import.toml"
    recipe.write_text(f'out = "{root}/start"\nmodel = "{root}/qwen"\nstore = "{root}/store"\nseed = {SEED}\n')
    done = program("import_hf.py", str(recipe), "parallel.tensor=2", ranks=2)
    assert done.returncode == 0, done.stderr
    return root


def test_an_imported_model_starts_a_run_as_its_folder_does(imported: Path, vocabulary: Vocabulary) -> None:
    config = model_config_of(imported / "qwen")
    with process_groups(seed=0):
        (direct,) = build_chunks(config, vocabulary.padded_size, "fp32")
        fill([direct], grown_model(imported / "qwen", config, vocabulary.layout.text_size, SEED))
        (again,) = build_chunks(config, vocabulary.padded_size, "fp32")
        starting_weights(config, imported / "start", vocabulary, seed=0)([again])
        (short,) = build_chunks(config, vocabulary.padded_size, "bf16")
        starting_weights(config, imported / "start", vocabulary, seed=0)([short])
    for name, parameter in direct.named_parameters():
        assert torch.equal(again.get_parameter(name), parameter)
        assert torch.equal(short.get_parameter(name), parameter.bfloat16())


def test_an_imported_model_is_exported_bit_for_bit(imported: Path, vocabulary: Vocabulary, tmp_path: Path) -> None:
    recipe = tmp_path / "export.toml"
    recipe.write_text(f'out = "{tmp_path}/model"\nrun = "{imported}/start"\n')
    done = program("export_hf.py", str(recipe))
    assert done.returncode == 0, done.stderr
    before = AutoModelForCausalLM.from_pretrained(imported / "qwen").state_dict()
    after = AutoModelForCausalLM.from_pretrained(tmp_path / "model").state_dict()
    assert set(before) == set(after)
    for name, tensor in after.items():
        text = vocabulary.layout.text_size if tensor.shape[0] == vocabulary.padded_size else tensor.shape[0]
        assert torch.equal(tensor[:text], before[name][:text])


def test_a_start_that_does_not_fit_is_refused(imported: Path, vocabulary: Vocabulary, tmp_path: Path) -> None:
    config = model_config_of(imported / "qwen")
    deeper = config.model_copy(update={"layers": 3})
    with pytest.raises(InputError, match=r"start: layers = 2, expected model.layers = 3"):
        starting_weights(deeper, imported / "start", vocabulary, seed=0)
    longer = config.model_copy(update={"rope_theta": 5e5, "max_position_embeddings": 512})
    assert starting_weights(longer, imported / "start", vocabulary, seed=0)
    (tmp_path / "model.json").write_text(json.dumps(read_json(imported / "start" / "model.json")))
    with pytest.raises(InputError, match="the run is not finished"):
        starting_weights(config, tmp_path, vocabulary, seed=0)
    (tmp_path / "stage.json").write_text("{}")
    with pytest.raises(InputError, match="expected a complete checkpoint, found none"):
        starting_weights(config, tmp_path, vocabulary, seed=0)


def test_a_full_disk_is_one_line(imported: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(REPO / "training/import_hf.py"), str(imported / "import.toml"), f"out={tmp_path}/s"]
    done = subprocess.run(["bash", "-c", 'ulimit -f 20; exec "$@"', "-", *command], capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "the checkpoint of step 0 was not written" in done.stderr
