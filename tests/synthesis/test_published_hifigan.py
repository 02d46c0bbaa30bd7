import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from spiritlm.errors import InputError
from spiritlm.synthesis.loading import load_speech_decoder
from spiritlm.synthesis.unit_decoder import UnitDecoder
from spiritlm.tokens.streams import Prosody

GOLDEN = Path(__file__).parents[1] / "golden"


def published(kind: str, folder: Path) -> Path:
    """A folder with the four files of a published vocoder."""
    case = GOLDEN / f"spirit_hifigan_{kind}"
    shutil.copy(case / "config.json", folder)
    torch.save({"generator": load_file(case / "state.safetensors")}, folder / "generator.pt")
    (folder / "speakers.txt").write_text("ex01\nex02\nex03\nex04\n")
    if kind == "base":
        (folder / "styles.txt").write_text("".join(f"style-{n}\n" for n in range(26)))
    return folder


def test_base(tmp_path: Path) -> None:
    decoder, io = (
        load_speech_decoder(published("base", tmp_path)),
        load_file(GOLDEN / "spirit_hifigan_base" / "io.safetensors"),
    )
    assert (decoder.sample_rate, decoder.vocabulary_size, decoder.deduplicated) == (16_000, 501, True)
    code, ones = io["code"].numpy(), np.ones(len(io["code"]), dtype=np.int64)
    for voice, name in (((None, None), "wav_nodur_defaults"), (("ex02", "style-3"), "wav_nodur")):
        assert np.abs(decoder.decode(code, *voice, durations=ones) - io[name].numpy()).max() < 1e-3
    wave = decoder.decode(io["code_dedup"].numpy(), "ex02", "style-3")
    assert np.abs(wave - io["wav_dur"].numpy()).max() < 1e-3


def test_expressive(tmp_path: Path) -> None:
    decoder, io = (
        load_speech_decoder(published("expressive", tmp_path)),
        load_file(GOLDEN / "spirit_hifigan_expressive" / "io.safetensors"),
    )
    assert decoder.expressive and decoder.styles[71] == "71"
    prosody = Prosody(io["f0_code_per_unit"].numpy(), io["style_code_per_unit"].numpy())
    wave = decoder.decode(io["code_dedup"].numpy(), "ex04", prosody=prosody)
    assert np.abs(wave - io["wav_dur"].numpy()).max() < 1e-3
    assert isinstance(decoder, UnitDecoder)
    decoder.save_pretrained(tmp_path / "ours")
    ours = load_speech_decoder(tmp_path / "ours")
    assert np.array_equal(ours.decode(io["code_dedup"].numpy(), "ex04", prosody=prosody), wave)


def test_broken_folders(tmp_path: Path) -> None:
    folder = published("base", tmp_path)
    (folder / "styles.txt").write_text("plain\n")
    with pytest.raises(InputError, match="styles: expected a name for each"):
        load_speech_decoder(folder)
    (folder / "styles.txt").unlink()
    with pytest.raises(InputError, match=r"styles\.txt: expected a text file"):
        load_speech_decoder(folder)
    published("base", folder)
    torch.save({"model": {}}, folder / "generator.pt")
    with pytest.raises(InputError, match=r"generator\.pt: expected tensors by name under 'generator'"):
        load_speech_decoder(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k != "embedding_dim"}))
    with pytest.raises(InputError, match="'embedding_dim' is absent"):
        load_speech_decoder(folder)
