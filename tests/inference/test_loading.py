import os
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from spiritlm.errors import InputError
from spiritlm.inference.loading import load_language_model


def write_model(folder: Path, dtype: torch.dtype = torch.bfloat16, **settings: object) -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=60, **sizes, **settings)).to(dtype)
    model.save_pretrained(folder)
    return model


def pickled(folder: Path) -> dict[str, torch.Tensor]:
    """The weights as they were kept before safetensors."""
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    return state


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("old", [False, True])
def test_bfloat16_weights_become_float32_on_a_cpu(tied: bool, old: bool, tmp_path: Path) -> None:
    written = write_model(tmp_path, tie_word_embeddings=tied)
    if old:
        pickled(tmp_path)
    model = load_language_model(tmp_path)
    assert not model.training
    device = next(model.parameters()).device
    assert next(model.parameters()).dtype == (torch.float32 if device.type == "cpu" else torch.bfloat16)
    for name, weight in written.state_dict().items():
        assert torch.equal(model.state_dict()[name].cpu().bfloat16(), weight)


@pytest.mark.skipif(torch.cuda.is_available(), reason="of a CPU")
def test_a_large_model_stays_as_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(tmp_path)
    stored = (tmp_path / "model.safetensors").stat().st_size
    for room, dtype in ((2 * stored, torch.bfloat16), (2 * stored + 1, torch.float32)):
        monkeypatch.setattr(psutil, "virtual_memory", lambda room=room: SimpleNamespace(available=room))
        assert next(load_language_model(tmp_path).parameters()).dtype == dtype


def test_weights_that_are_not_whole(tmp_path: Path) -> None:
    write_model(tmp_path)
    state, file = pickled(tmp_path), tmp_path / "pytorch_model.bin"
    whole, first = file.read_bytes(), next(iter(state))

    def said() -> str:
        with pytest.raises(InputError) as caught:
            load_language_model(tmp_path)
        assert str(caught.value).startswith(f"{tmp_path}: ") and len(str(caught.value).splitlines()) == 1
        return str(caught.value)

    for content in (b"", b"junk" * 100, whole[:-100]):
        file.write_bytes(content)
        assert "not a whole exported model" in said()
    torch.save({name: tensor for name, tensor in state.items() if name != first}, file)
    assert f"it has no weights {first}" in said()
    torch.save({**state, first: state[first][1:]}, file)
    assert "not a whole exported model" in said()
    file.unlink()
    assert "not a whole exported model" in said()


class _Runs:
    """Code that a pickle would run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_no_code_of_a_pickle_is_run(tmp_path: Path) -> None:
    write_model(tmp_path)
    state = pickled(tmp_path)
    torch.save({**state, "more": _Runs(tmp_path / "was_run")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match="hold more than tensors, which alone are read"):
        load_language_model(tmp_path)
    assert not (tmp_path / "was_run").exists()
