import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from spiritlm.errors import InputError
from spiritlm.synthesis.loading import load_speech_decoder
from spiritlm.synthesis.published import read_sections

GOLDEN = Path(__file__).parents[1] / "golden"
STREAM, FLOW = GOLDEN / "cosy_flow_glm_stream", GOLDEN / "cosy_flow_glm"


def as_yaml(table: dict, indent: int, heads: dict[str, str]) -> str:
    lines = []
    for name, value in table.items():
        if isinstance(value, dict):
            tag = f" !new:{heads[name]}" if name in heads else ""
            lines.append(f"{' ' * indent}{name}:{tag}\n{as_yaml(value, indent + 2, heads)}")
        else:
            lines.append(f"{' ' * indent}{name}: {json.dumps(value)}")
    return "\n".join(lines)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as it is published: a configuration for HyperPyYAML, and weights behind `generator.` in one of them."""
    config = json.loads((STREAM / "config.json").read_text())
    flow, hift = config["flow"], config["hift"]
    matching = {
        **flow["decoder"],
        "cfm_params": {"content": flow["decoder"]["cfm_params"]},
        "estimator": flow["estimator"],
    }
    sections = {
        "sample_rate": 22050,
        "flow": {
            **flow["flow"],
            "encoder": flow["encoder"],
            "length_regulator": flow["length_regulator"],
            "decoder": matching,
        },
        "hift": {**hift["generator"], "f0_predictor": hift["f0_predictor"]},
    }
    heads = {"flow": "some.Flow", "encoder": "some.Encoder", "cfm_params": "omegaconf.DictConfig", "hift": "some.Hift"}
    text = as_yaml(sections, 0, heads).replace("sampling_rate: 22050", "sampling_rate: !ref <sample_rate>")
    (tmp_path / "config.yaml").write_text(f"{text}\nllm: !new:some.Model\n    x: !name:some.function\n")
    torch.save(load_file(FLOW / "state.safetensors"), tmp_path / "flow.pt")
    hift_state = {f"generator.{name}": tensor for name, tensor in load_file(STREAM / "state.safetensors").items()}
    torch.save(hift_state, tmp_path / "hift.pt")
    return tmp_path


def test_a_published_folder_speaks(folder: Path) -> None:
    decoder = load_speech_decoder(folder)
    assert (decoder.sample_rate, decoder.vocabulary_size, decoder.deduplicated) == (22050, 128, False)
    units = load_file(STREAM / "io.safetensors")["token"][0].numpy()
    wave = decoder.decode(units)
    assert len(wave) == int(len(units) / 12.5 * 22050 / 256) * 256 and np.isfinite(wave).all()
    expected = load_file(STREAM / "io.safetensors")["offline/mel"][0]
    torch.testing.assert_close(decoder.mel(units).T.cpu(), expected, atol=1e-3, rtol=0)
    with pytest.raises(InputError, match="does not stream"):
        decoder.stream()


def test_broken_folders(folder: Path, tmp_path: Path) -> None:
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("attention_heads", "heads"))
    with pytest.raises(InputError, match="'attention_heads' is absent"):
        load_speech_decoder(folder)
    (folder / "config.yaml").write_text(text.replace("vocab_size: 128", "vocab_size: 129"))
    with pytest.raises(InputError, match=r"input_embedding\.weight is \[128, 32\], expected \[129, 32\]"):
        load_speech_decoder(folder)
    (folder / "config.yaml").write_text("a: [")
    with pytest.raises(InputError, match="not a YAML file"):
        load_speech_decoder(folder)
    (folder / "config.yaml").write_text(text)
    (folder / "flow.pt").unlink()
    with pytest.raises(InputError, match=r"flow\.pt: does not exist"):
        load_speech_decoder(folder)


def test_nothing_is_made_while_a_configuration_is_read(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "a: !apply:os.system [touch made]\nb: !new:os.mkdir\n  path: made\nc: !!python/object/apply:os.getcwd []\n"
    )
    with pytest.raises(InputError, match="not a YAML file"):
        read_sections(path)
    path.write_text("a: !apply:os.system [touch made]\nb: !new:os.mkdir\n  path: made\n")
    assert read_sections(path) == {"a": ["touch made"], "b": {"path": "made"}}
