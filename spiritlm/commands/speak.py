"""`spiritlm speak`: units that are written down become speech."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from spiritlm.commands.options import DEFAULT_MODEL, add_voice
from spiritlm.errors import InputError


def add(commands: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        "speak",
        help="speak units that are written down",
        description="Units of TOKENS (12, [Hu12] or <|audio_12|>, one behind the other; with pitch and style "
        "[St3][Pi7][Hu12]) become speech. A decoder that predicts how long a unit lasts hears each run of equal units "
        "once.",
    )
    parser.add_argument("tokens", type=Path, metavar="TOKENS", help="text file of units")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="WAV", help="where to write the sound")
    parser.add_argument(
        "--voice",
        type=Path,
        default=DEFAULT_MODEL / "voice",
        metavar="FOLDER",
        help="speech decoder: model/ of its training, voice/ of an exported model, or a published folder "
        "(default: %(default)s)",
    )
    add_voice(parser)
    parser.add_argument("--stream", action="store_true", help="speak block by block, and say how soon and how fast")
    parser.add_argument("--block", type=int, default=10, metavar="N", help="units that arrive at a time (%(default)s)")
    parser.set_defaults(run=run)
    return parser


def run(options: argparse.Namespace) -> None:
    if options.block < 1:
        raise InputError(f"--block {options.block}: expected at least 1")
    if options.out.resolve() == options.tokens.resolve():
        raise InputError(f"--out {options.out}: would replace the units")
    if options.out.is_dir() or not options.out.resolve().parent.is_dir():
        raise InputError(f"--out {options.out}: expected a file in a folder that is there")

    from spiritlm.audio.files import write_wav
    from spiritlm.synthesis.loading import load_speech_decoder
    from spiritlm.synthesis.protocol import as_given
    from spiritlm.synthesis.timing import timed_stream
    from spiritlm.synthesis.unit_decoder import shift_pitch
    from spiritlm.tokens.units_text import read_units

    try:
        text = options.tokens.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else "not a text file"
        raise InputError(f"{options.tokens}: {reason}") from None
    units, prosody = read_units(text, str(options.tokens))
    decoder = load_speech_decoder(options.voice)
    units, _, prosody = as_given(decoder, units, prosody)
    prosody = shift_pitch(decoder, prosody, options.pitch_shift)
    if options.stream:
        spoken = timed_stream(decoder, units, options.block, options.speaker, options.style, prosody)
        wave, rate = spoken.wave, decoder.sample_rate
        print(f"first sound after {1000 * spoken.first:.0f} ms of work, real-time factor {spoken.factor(rate):.3f}")
    else:
        wave = decoder.decode(units, options.speaker, options.style, prosody)
    write_wav(options.out, wave, decoder.sample_rate)
    print(f"spoken: {options.out} ({len(wave) / decoder.sample_rate:.1f} s)")
