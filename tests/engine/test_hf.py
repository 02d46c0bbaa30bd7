"""The exported folder is a stock Llama that computes what the megatron-core model computes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from spiritlm.engine.hf import export_llama, from_huggingface, to_huggingface
from spiritlm.engine.model import ModelConfig, build_model
from spiritlm.engine.parallel import process_groups
from spiritlm.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:megatron")
VOCABULARY = 96
SHAPES = {
    "grouped": ModelConfig(
        hidden_size=48, layers=3, heads=4, kv_heads=2, ffn_hidden_size=80, rope_theta=5e3, norm_eps=1e-6
    ),
    "tied": ModelConfig(hidden_size=32, layers=2, heads=2, kv_heads=2, ffn_hidden_size=48, tie_embeddings=True),
}


@pytest.fixture(scope="module", autouse=True)
def groups() -> Iterator[None]:
    with process_groups(seed=0):
        yield


def perturbed(config: ModelConfig) -> Any:
    """A model none of whose norms is all ones."""
    model = build_model(config, VOCABULARY, "fp32").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_are_equal(shape: str, tmp_path: Path) -> None:
    model = perturbed(SHAPES[shape])
    export_llama(model, SHAPES[shape], tmp_path, bos=1, eos=2)
    llama = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(llama).__name__ == "LlamaForCausalLM"
    assert llama.dtype == torch.float32
    ids = torch.randint(VOCABULARY, (2, 40))
    with torch.no_grad():
        ours = model(ids, torch.arange(40).expand(2, 40), None)
        theirs = llama(input_ids=ids).logits
    assert ours.std() > 0.1
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_there_and_back_is_exact(shape: str) -> None:
    config = SHAPES[shape]
    state = {name: tensor for name, tensor in perturbed(config).state_dict().items() if torch.is_tensor(tensor)}
    back = from_huggingface(to_huggingface(state, config), config)
    assert set(back) == set(state)
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())


def test_the_folder_knows_its_special_tokens(tmp_path: Path) -> None:
    config = SHAPES["grouped"]
    llama = export_llama(perturbed(config), config, tmp_path, bos=1, eos=2)
    assert (llama.bos_token_id, llama.eos_token_id, llama.vocab_size) == (1, 2, VOCABULARY)
    assert GenerationConfig.from_pretrained(tmp_path).eos_token_id == 2
    assert {file.name for file in tmp_path.iterdir()} == {"config.json", "generation_config.json", "model.safetensors"}


def test_a_shape_that_does_not_divide_is_refused() -> None:
    with pytest.raises(InputError, match=r"heads = 5: expected to divide hidden_size = 48"):
        ModelConfig(hidden_size=48, layers=1, heads=5, kv_heads=5, ffn_hidden_size=8)
    with pytest.raises(InputError, match=r"kv_heads = 3: expected a divisor of heads = 4"):
        ModelConfig(hidden_size=48, layers=1, heads=4, kv_heads=3, ffn_hidden_size=8)
