from pathlib import Path

import pytest
import soundfile
import torch

from spiritlm.cli import main
from spiritlm.synthesis.unit_decoder import UnitDecoder, UnitDecoderConfig
from spiritlm.synthesis.unit_hifigan import UnitHifigan, UnitHifiganShape

HOP = 16


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Expressive, of random weights."""
    torch.manual_seed(0)
    shape = UnitHifiganShape(
        units=30, embedding=8, channels=16, up_rates=(4, 4), up_kernels=(8, 8), kernels=(3,), dilations=((1,),),
        speakers=2, pitch_units=5, style_units=4, duration_width=8,
    )  # fmt: skip
    config = UnitDecoderConfig(
        shape=shape,
        speakers=("kal", "slt"),
        styles=("happy", "sad"),
        style_units=(3, 1),
        pitch_hertz=(0, 100, 120, 0, 0),
    )
    folder: Path = tmp_path_factory.mktemp("voice")
    UnitDecoder(UnitHifigan(shape), config).save_pretrained(folder)
    return folder


def speak(voice: Path, folder: Path, text: str, *options: str) -> tuple[int, Path]:
    tokens, out = folder / "tokens.txt", folder / "out.wav"
    tokens.write_text(text)
    with pytest.raises(SystemExit) as ended:
        main(["speak", str(tokens), "-o", str(out), "--voice", str(voice), *options])
    code = ended.value.code
    assert isinstance(code, int)
    return code, out


TOKENS = "[St2][Pi1][Hu3][Hu14][Pi2][Hu15]" * 6


def test_units_are_spoken_as_asked(voice: Path, tmp_path: Path) -> None:
    waves = {}
    for name, options in {
        "plain": [],
        "stream": ["--stream", "--block", "3"],
        "sad": ["--style", "sad"],
        "slt": ["--speaker", "slt"],
        "higher": ["--pitch-shift", "3"],
    }.items():
        code, out = speak(voice, tmp_path, TOKENS, *options)
        assert code == 0
        waves[name] = soundfile.read(out)[0]
    plain = waves.pop("plain")
    assert len(plain) % HOP == 0 and len(plain) >= 18 * HOP
    assert waves.pop("stream") == pytest.approx(plain, abs=1e-4)
    assert all(len(wave) == len(plain) and abs(wave - plain).max() > 1e-4 for wave in waves.values())


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (TOKENS, ["--style", "sda"], "style 'sda' is not one of the decoder's 2; the nearest is 'sad'"),
        (TOKENS, ["--speaker", "slt2"], "the nearest is 'slt'"),
        ("[Hu3][Hu4]", [], "the voice is told the pitch and style of every unit"),
        ("[Pi1][Hu31]", [], "unit 31 is outside the vocabulary: expected 0 to 29"),
        ("[Pi9][Hu3]", [], "pitch unit 9 is outside the vocabulary"),
        (TOKENS, ["--block", "0"], "--block 0"),
    ],
)
def test_errors_are_one_line(
    voice: Path, tmp_path: Path, text: str, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out = speak(voice, tmp_path, text, *options)
    said = capsys.readouterr().err
    assert code == 2 and said.count("\n") == 1 and message in said and not out.exists()
