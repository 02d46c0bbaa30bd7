import json
import pickle
from typing import Literal

import pytest
import torch

from spiritlm.config import Recipe
from spiritlm.errors import InputError
from spiritlm.run.weights import load_weights, read_config, read_folder, read_tensors, save_model


class Config(Recipe):
    type: Literal["line"] = "line"
    width: int


def test_a_model_is_read_as_it_was_saved(tmp_path):
    line = torch.nn.Linear(3, 2)
    save_model(tmp_path / "model", {"type": "line", "width": 3}, line.state_dict())
    assert read_config(tmp_path / "model", Config).width == 3
    path = tmp_path / "model" / "model.safetensors"
    again = load_weights(torch.nn.Linear(3, 2), read_tensors(path), path)
    assert all(torch.equal(a, b) for a, b in zip(line.parameters(), again.parameters(), strict=True))


def test_what_does_not_fit_is_named(tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(tmp_path, {"type": "curve", "width": 3}, torch.nn.Linear(3, 2, bias=False).state_dict())
    with pytest.raises(InputError, match="type"):
        read_config(tmp_path, Config)
    with pytest.raises(InputError, match=r"bias is None, expected \[2\]"):
        load_weights(torch.nn.Linear(3, 2), read_tensors(path), path)
    with pytest.raises(InputError, match=r"weight is \[2, 3\], expected \[4, 3\]"):
        load_weights(torch.nn.Linear(3, 4, bias=False), read_tensors(path), path)
    path.write_bytes(b"not safetensors")
    with pytest.raises(InputError, match="not a safetensors file"):
        read_tensors(path)


def test_folders_of_others_are_read_in_each_of_their_forms(tmp_path):
    line = torch.nn.Linear(3, 2).state_dict()
    save_model(tmp_path / "one", {}, line)
    for name, tensor in line.items():
        save_model(tmp_path / "shards" / name, {}, {name: tensor})
    index = {"weight_map": {name: f"{name}/model.safetensors" for name in line}}
    (tmp_path / "shards" / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "old").mkdir()
    torch.save(line, tmp_path / "old" / "pytorch_model.bin")
    for folder in ("one", "shards", "old"):
        found = read_folder(tmp_path / folder)
        assert found.keys() == line.keys() and all(torch.equal(found[name], line[name]) for name in line)
    (tmp_path / "old" / "pytorch_model.bin").write_bytes(pickle.dumps(Config))
    with pytest.raises(InputError, match="not a file of tensors and plain values"):
        read_folder(tmp_path / "old")
    with pytest.raises(InputError, match="found neither"):
        read_folder(tmp_path)
