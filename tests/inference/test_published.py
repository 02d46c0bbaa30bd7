import json
import os
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from spiritlm.errors import InputError
from spiritlm.inference import published
from spiritlm.inference.model import SpeechTextLM
from spiritlm.inference.request import Request, Sampling, Speech, greedy
from spiritlm.run.files import write_json
from spiritlm.tokens.interleave import SPEECH, TEXT, deduplicate
from spiritlm.tokens.layout import SPIRIT_SIZES, SPIRIT_TOKENS, spirit
from spiritlm.tokens.text import SentencePieceText

GOLDEN = Path(__file__).parents[1] / "golden"
RATE = 16_000
SOUND = Speech(load_file(GOLDEN / "spirit_hubert25" / "io.safetensors")["waveform"].numpy()[: 2 * RATE], RATE)
LAYERS, UNITS = 12, 501


def with_pieces(text_model: bytes, names: list[str]) -> bytes:
    """A sentencepiece model with further pieces that stand for themselves: messages in a row are one message."""
    for name in names:
        text = name.encode()
        piece = b"\x0a" + bytes([len(text)]) + text + b"\x15" + struct.pack("<f", 0) + b"\x18\x04"
        text_model += b"\x0a" + bytes([len(piece)]) + piece
    return text_model


def markers_and_units(kind: str) -> list[str]:
    units = SPIRIT_SIZES[f"spirit-{kind}"].items()
    return ["[Text]", "[Speech]", *(SPIRIT_TOKENS[stream].format(n) for stream, size in units for n in range(size))]


def write_hubert(folder: Path) -> None:
    """The golden case up to the layer that it quantizes, behind it layers that pass on what they hear, for the
    published layer is the eleventh; and its quantizer, with units that are never said up to the published number."""
    folder.mkdir()
    case = GOLDEN / "spirit_hubert25"
    config, state = json.loads((case / "config.json").read_text()), load_file(case / "state.safetensors")
    weights = {name: tensor for name, tensor in state.items() if not name.startswith("quantizer::")}
    for layer in range(config["output_layer"], LAYERS):
        for name in [name for name in state if name.startswith("encoder.layers.0.")]:
            norm = name.endswith("layer_norm.weight")
            weights[name.replace(".0.", f".{layer}.", 1)] = torch.full_like(state[name], float(norm))
    network = {"model_cfg": {**config["model_cfg"], "encoder_layers": LAYERS}, "task_cfg": config["task_cfg"]}
    torch.save({**network, "model_weight": weights, "dictionaries_symbols": []}, folder / "mhubert_base_25hz.pt")
    layers = {n.removeprefix("quantizer::"): tensor for n, tensor in state.items() if n.startswith("quantizer::")}
    for name, never in (("4.weight", 0.0), ("4.bias", -1e3)):
        units, blank = layers[name][:-1], layers[name][-1:]
        more = torch.full((UNITS - 1 - len(units), *units.shape[1:]), never)
        layers[name] = torch.cat([units, more, blank])
    described = {**config["quantizer_model_cfg"], "vocab_size": UNITS - 1}
    torch.save({"model_cfg": described, "model_weight": layers}, folder / "L11_quantizer_500.pt")


def write_voice(folder: Path, kind: str) -> None:
    folder.mkdir()
    case = GOLDEN / f"spirit_hifigan_{kind}"
    shutil.copy(case / "config.json", folder)
    torch.save({"generator": load_file(case / "state.safetensors")}, folder / "generator.pt")
    (folder / "speakers.txt").write_text("ex01\nex02\nex03\nex04\n")
    if kind == "base":
        (folder / "styles.txt").write_text("".join(f"style-{n}\n" for n in range(26)))


def write_prosody(parts: Path) -> None:
    case, folder = GOLDEN / "spirit_f0_vqvae", parts / "vqvae_f0_quantizer"
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(json.loads((case / "config.json").read_text())))
    torch.save({"model": load_file(case / "state.safetensors")}, folder / "model.pt")
    case, folder = GOLDEN / "spirit_style_w2v2", parts / "style_encoder_w2v2"
    folder.mkdir()
    shutil.copy(case / "config.json", folder)
    torch.save(load_file(case / "state.safetensors"), folder / "pytorch_model.bin")


def write_published(root: Path, kind: str, text_model: bytes, shards: int = 1) -> Path:
    """A tiny model of random weights in all files of the release; with several `shards`, as its `.bin` may come."""
    parts, folder = root / "speech_tokenizer", root / "spiritlm_model" / f"spirit-lm-{kind}-7b"
    parts.mkdir(parents=True)
    folder.mkdir(parents=True)
    write_hubert(parts / "hubert_25hz")
    write_voice(parts / ("hifigan_spiritlm_base" if kind == "base" else "hifigan_spiritlm_expressive_w2v2"), kind)
    if kind == "expressive":
        write_prosody(parts)
    text = SentencePieceText(text_model)
    rows = spirit(text.size, SPIRIT_SIZES[f"spirit-{kind}"]).padded_size()
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=rows, initializer_range=0.5, **sizes)).to(torch.bfloat16)
    described = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": rows, **sizes}
    described |= {"max_position_embeddings": 256, "rope_theta": 100000.0, "torch_dtype": "bfloat16"}
    write_json(folder / "config.json", {**described, "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu"})
    write_json(
        folder / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2, "do_sample": True, "temperature": 0.6}
    )
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True})
    (folder / "tokenizer.model").write_bytes(text_model)
    state = model.state_dict()
    files = {}
    for shard in range(shards):
        name = "pytorch_model.bin" if shards == 1 else f"pytorch_model-{shard + 1:05d}-of-{shards:05d}.bin"
        own = list(state)[shard::shards]
        torch.save({weight: state[weight].clone() for weight in own}, folder / name)
        files |= dict.fromkeys(own, name)
    if shards > 1:
        write_json(folder / "pytorch_model.bin.index.json", {"metadata": {}, "weight_map": files})
    return folder


@pytest.fixture(scope="module")
def base(text_model: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_published(tmp_path_factory.mktemp("base"), "base", text_model)


@pytest.fixture(scope="module")
def expressive(text_model: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_published(tmp_path_factory.mktemp("expressive"), "expressive", text_model, shards=2)


def test_base_hears_writes_and_speaks(base: Path) -> None:
    model = SpeechTextLM.from_pretrained(base)
    v = model.vocabulary
    assert v.text.size == v.layout.text_size and v.semantic.start == v.text.size + 2
    assert model.ears is not None and model.voice is not None
    heard = model.ears.encode(SOUND.wave, RATE)
    assert len(heard.semantic.values) == 50 and list(model.ears.streams) == ["semantic"]
    units = v.encode_units(deduplicate(heard.semantic.values)[0]).tolist()
    assert len(units) > 5
    text = [*v.opening(TEXT), *v.encode_text("Tom went")]
    assert model.prompt_ids(["Tom went", SOUND], "text") == [
        v.bos, *text, *v.opening(SPEECH), *units, *v.opening(TEXT),
    ]  # fmt: skip
    (said,) = model.generate([SOUND], "text", greedy(8))
    assert said.modality == TEXT and said.text
    (spoken,) = model.generate(["Tom went", SOUND], "speech", greedy(20))
    wave = model.speak([spoken])
    assert len(spoken.units) > 5 and len(wave) >= 640 * len(deduplicate(spoken.units)[0]) and np.isfinite(wave).all()


def test_the_weights_are_the_stored_ones(base: Path) -> None:
    model = SpeechTextLM.from_pretrained(base)
    stored = torch.load(base / "pytorch_model.bin", weights_only=True)
    loaded = model.model.state_dict()
    assert loaded.keys() == stored.keys()
    assert all(torch.equal(loaded[name], weight.to(loaded[name].dtype)) for name, weight in stored.items())
    assert model.model.config.rope_parameters["rope_theta"] == 1e5
    assert model.context == 256


def test_expressive_hears_writes_and_speaks(expressive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "TRACKERS", {"fcpe": ("not_here", "fcpe"), "world": published.TRACKERS["world"]})
    with pytest.warns(UserWarning, match=r"tracked with pyworld: .* those of Spirit LM; pip install -e \.\[fcpe\]"):
        model = SpeechTextLM.from_pretrained(expressive)
    v = model.vocabulary
    start = v.text.size + 2
    assert [v.blocks[name].start for name in ("semantic", "pitch", "style")] == [start, start + 501, start + 565]
    assert {name: shape.size for name, shape in model.ears.streams.items()} == {
        "semantic": 500, "pitch": 64, "style": 100,
    }  # fmt: skip
    heard = model.prompt_ids([SOUND], "speech")
    assert [v.token(id)[:3] for id in heard[2:5]] == ["[St", "[Pi", "[Hu"]
    segments = [model.generate(["Tom", SOUND], "speech", Sampling(40, seed=seed))[0] for seed in range(3)]
    assert any(segment.prosody is not None for segment in segments)
    for segment in segments:
        assert np.isfinite(model.speak([segment])).all()
    answers = dict(model.generate_many([Request(["Tom"], "text", greedy(5)), Request([SOUND], "any", greedy(5))]))
    assert sorted(answers) == [0, 1]


@pytest.mark.parametrize("kind", ["base", "expressive"])
@pytest.mark.parametrize("marked", [False, True], ids=["text alone", "text, markers and units"])
def test_ids_are_the_published_ones(kind: str, marked: bool, text_model: bytes, tmp_path: Path) -> None:
    """With as many pieces as Llama 2 has."""
    size = SentencePieceText(text_model).size
    whole = with_pieces(text_model, [f"<extra{n}>" for n in range(size, 32000)])
    (tmp_path / "tokenizer.model").write_bytes(with_pieces(whole, markers_and_units(kind) if marked else []))
    write_json(tmp_path / "config.json", {"vocab_size": {"base": 32512, "expressive": 32768}[kind]})
    found = published.read_vocabulary(tmp_path)
    assert (found.marker("[Text]"), found.marker("[Speech]"), found.semantic.start) == (32000, 32001, 32002)
    assert {name: block.start for name, block in found.blocks.items() if name != "semantic"} == (
        {} if kind == "base" else {"pitch": 32503, "style": 32567}
    )
    assert (found.bos, found.eos, found.layout.text_size) == (1, 2, 32000)
    assert found.encode_text("Tom went") == SentencePieceText(text_model).encode("Tom went")
    assert not found.is_text(np.array([32000, 32002, 32511])).any()


def test_models_that_are_no_spirit_lm(base: Path, text_model: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "spiritlm_model" / "mine"
    shutil.copytree(base, folder)
    config = json.loads((folder / "config.json").read_text())
    size = SentencePieceText(text_model).size
    write_json(folder / "config.json", {**config, "vocab_size": 32000})
    rows = [-(-(size + more) // 128) * 128 for more in (503, 667)]
    expected = rf"config\.json: vocab_size is 32000, expected {rows[0]} \(Spirit LM Base\) or {rows[1]} \(Expressive\)"
    with pytest.raises(InputError, match=expected):
        SpeechTextLM.from_pretrained(folder)
    write_json(folder / "config.json", config)
    (folder / "tokenizer.model").write_bytes(with_pieces(text_model, ["[Text]", "[Hu0]", "[Speech]"]))
    with pytest.raises(InputError, match=r"tokenizer\.model: vocabulary: id \d+ is '\[Hu0\]' to the text tokenizer"):
        SpeechTextLM.from_pretrained(folder)
    (folder / "tokenizer.model").write_bytes(b"no model")
    with pytest.raises(InputError, match=r"mine/tokenizer\.model: .*not a sentencepiece model"):
        SpeechTextLM.from_pretrained(folder)


def test_speech_tokenizers_that_are_absent(
    base: Path, expressive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "spiritlm_model" / base.name
    shutil.copytree(base, folder)
    with pytest.raises(InputError, match=r"speech_tokenizer: expected .* beside spiritlm_model"):
        SpeechTextLM.from_pretrained(folder)
    (tmp_path / "speech_tokenizer").mkdir()
    with pytest.raises(InputError, match=r"mhubert_base_25hz\.pt: does not exist"):
        published.read_ears(folder)
    with pytest.raises(InputError, match=r"hifigan_spiritlm_base/config\.json: No such file"):
        published.read_voice(folder)
    monkeypatch.chdir(folder.parent)
    assert published.is_published(Path(base.name))
    with pytest.raises(InputError, match=r"mhubert_base_25hz\.pt: does not exist"):
        published.read_ears(Path(base.name))
    monkeypatch.setattr(published, "TRACKERS", {"fcpe": ("not_here", "fcpe"), "world": ("nor_here", "pitch")})
    one_line = r"not_here \(pip install -e \.\[fcpe\]\) or nor_here \(pip install -e \.\[pitch\]\)$"
    with pytest.raises(InputError, match=f"no tracker of F0 is installed: expected {one_line}"):
        published.read_ears(expressive)


class _Runs:
    """Code that a pickle would run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize(
    "file", ["spiritlm_model/spirit-lm-base-7b/pytorch_model.bin", "speech_tokenizer/hubert_25hz/mhubert_base_25hz.pt",
             "speech_tokenizer/hifigan_spiritlm_base/generator.pt"],
)  # fmt: skip
def test_no_code_of_a_checkpoint_is_run(file: str, base: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(base.parents[1], root)
    torch.save({"generator": _Runs(tmp_path / "was_run")}, root / file)
    with pytest.raises(InputError) as caught:
        SpeechTextLM.from_pretrained(root / "spiritlm_model" / base.name)
    assert not (tmp_path / "was_run").exists()
    assert len(str(caught.value).splitlines()) == 1 and len(str(caught.value)) < 300
