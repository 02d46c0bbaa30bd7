"""Stock transformers models and ours compute the same, in both directions."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    GlmConfig,
    GlmForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from spiritlm.engine import hf
from spiritlm.engine.hf import HuggingFaceWeights, export, grown_model, grown_weights
from spiritlm.engine.hf_config import LLAMA3_ROTATION, model_config_of
from spiritlm.engine.model import ModelConfig, build_chunks
from spiritlm.engine.parallel import process_groups
from spiritlm.engine.weights import fill, grown_rows
from spiritlm.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:megatron")
VOCABULARY = 96
SIZES = {
    "vocab_size": VOCABULARY, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 80, "max_position_embeddings": 64, "rms_norm_eps": 1e-6,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2, "head_dim": 16,
}  # fmt: skip
ROTATION = {"rope_type": "default", "rope_theta": 5e3}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, **LLAMA3_ROTATION}
HALF = {**ROTATION, "partial_rotary_factor": 0.5}
MODELS: dict[str, tuple[type, type, dict[str, Any]]] = {
    "llama": (LlamaForCausalLM, LlamaConfig, {"rope_parameters": ROTATION}),
    "llama-3.1-tied": (LlamaForCausalLM, LlamaConfig, {"rope_parameters": LLAMA3, "tie_word_embeddings": True}),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, {"rope_parameters": ROTATION, "head_dim": 12}),
    "qwen2-tied": (Qwen2ForCausalLM, Qwen2Config, {"tie_word_embeddings": True, "head_dim": 12}),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, {"rope_parameters": ROTATION}),
    "qwen3-tied": (Qwen3ForCausalLM, Qwen3Config, {"tie_word_embeddings": True}),
    "glm": (GlmForCausalLM, GlmConfig, {"rope_parameters": HALF, "attention_bias": True}),
}


@pytest.fixture(scope="module", autouse=True)
def groups() -> Iterator[None]:
    with process_groups(seed=0):
        yield


def theirs(name: str, folder: Path) -> PreTrainedModel:
    """A random model, no norm of which is all ones and no bias all zeros, saved to `folder` in several files."""
    torch.manual_seed(1)
    family, config, settings = MODELS[name]
    model: PreTrainedModel = family(config(**{**SIZES, **settings})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder, max_shard_size=50_000)
    return model


def ours(folder: Path, config: ModelConfig) -> Any:
    (model,) = build_chunks(config, VOCABULARY, "fp32")
    fill([model], grown_model(folder, config, VOCABULARY, seed=0))
    return model.eval()


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_equal_and_there_and_back_is_exact(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = theirs(name, tmp_path / "theirs")
    assert len(list((tmp_path / "theirs").glob("*.safetensors"))) > 1
    config = model_config_of(tmp_path / "theirs")
    model = ours(tmp_path / "theirs", config)
    ids = torch.randint(VOCABULARY, (2, 40))
    with torch.no_grad():
        logits = model(ids, None, None)
        assert logits.std() > 0.1
        torch.testing.assert_close(logits, reference(input_ids=ids).logits, rtol=0, atol=1e-5)
    monkeypatch.setattr(hf, "SHARD_BYTES", 50_000)
    export(model.state_dict(), config, tmp_path / "back", bos=1, eos=2)
    assert len(list((tmp_path / "back").glob("*.safetensors"))) > 1
    back, original = tensors(tmp_path / "back"), tensors(tmp_path / "theirs")
    assert set(back) == set(original)
    assert all(torch.equal(back[name], tensor) for name, tensor in original.items())
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "back")
    assert type(loaded) is type(reference)
    with torch.no_grad():
        assert torch.equal(loaded(input_ids=ids).logits, reference(input_ids=ids).logits)


def test_the_folder_knows_its_special_tokens(tmp_path: Path) -> None:
    config = ModelConfig(hidden_size=32, layers=2, heads=2, kv_heads=2, ffn_hidden_size=48)
    (model,) = build_chunks(config, VOCABULARY, "fp32")
    shape = export(model.state_dict(), config, tmp_path, bos=1, eos=2, dtype=torch.bfloat16)
    assert (shape.bos_token_id, shape.eos_token_id, shape.vocab_size) == (1, 2, VOCABULARY)
    assert GenerationConfig.from_pretrained(tmp_path).eos_token_id == 2
    assert {file.name for file in tmp_path.iterdir()} == {"config.json", "generation_config.json", "model.safetensors"}
    assert AutoModelForCausalLM.from_pretrained(tmp_path).dtype == torch.bfloat16


def test_new_rows_have_the_mean_and_covariance_of_the_old() -> None:
    old = torch.randn(400, 6, generator=torch.Generator().manual_seed(3)) @ torch.randn(6, 6) + torch.arange(6.0)
    grown = grown_rows(old, 20_400, seed=7, name="embedding")
    assert torch.equal(grown[:400], old)
    new = grown[400:]
    deviation = old.std(dim=0)
    assert ((new.mean(dim=0) - old.mean(dim=0)).abs() < 0.05 * deviation).all()
    scale = deviation[:, None] * deviation
    assert ((new.T.cov() - old.T.cov()).abs() / scale < 0.06).all()
    assert torch.equal(grown_rows(old, 20_400, seed=7, name="embedding"), grown)
    for seed, name in ((8, "embedding"), (7, "output_layer")):
        assert not torch.equal(grown_rows(old, 20_400, seed, name)[400:], new)


def test_a_grown_model_gives_old_ids_their_old_logits(tmp_path: Path) -> None:
    reference = theirs("llama", tmp_path)
    config, text = model_config_of(tmp_path), 90
    (model,) = build_chunks(config, 128, "fp32")
    fill([model], grown_weights(HuggingFaceWeights(tmp_path, config), text, seed=0))
    ids = torch.randint(text, (1, 20))
    with torch.no_grad():
        logits = model.eval()(ids, None, None)
        torch.testing.assert_close(logits[..., :text], reference(input_ids=ids).logits[..., :text], rtol=0, atol=1e-5)
    assert logits.shape[-1] == 128


def test_folders_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="absent: does not exist"):
        model_config_of(tmp_path / "absent")
    with pytest.raises(InputError, match=r"has no config\.json"):
        model_config_of(tmp_path)
    theirs("llama", tmp_path / "llama")
    config = model_config_of(tmp_path / "llama")
    with pytest.raises(InputError, match="96 ids, expected the 97 of the stores' text tokenizer"):
        grown_model(tmp_path / "llama", config, 97, seed=0)
    with pytest.raises(InputError, match=r"hidden size 48, expected model.hidden_size = 64"):
        grown_model(tmp_path / "llama", config.model_copy(update={"hidden_size": 64}), 96, seed=0)
    wider = config.model_copy(update={"layers": 4})
    with pytest.raises(InputError, match=r"no weight 'model.layers.3.input_layernorm.weight' \(9 are missing\)"):
        HuggingFaceWeights(tmp_path / "llama", wider)
    shard = next((tmp_path / "llama").glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(InputError, match=shard.name):
        fill(build_chunks(config, VOCABULARY, "fp32"), grown_model(tmp_path / "llama", config, 96, seed=0))


def test_scaled_rotations_that_megatron_does_not_know_are_refused(tmp_path: Path) -> None:
    LlamaConfig(**{**SIZES, "rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}}
    ).save_pretrained(tmp_path)  # fmt: skip
    with pytest.raises(InputError, match="rotary positions of type 'linear'"):
        model_config_of(tmp_path)


def test_a_shape_that_does_not_divide_is_refused() -> None:
    with pytest.raises(InputError, match=r"heads = 5: expected to divide hidden_size = 48"):
        ModelConfig(hidden_size=48, layers=1, heads=5, kv_heads=5, ffn_hidden_size=8)
    with pytest.raises(InputError, match=r"kv_heads = 3: expected a divisor of heads = 4"):
        ModelConfig(hidden_size=48, layers=1, heads=4, kv_heads=3, ffn_hidden_size=8)
