"""`spiritlm transcribe`: what is said in recordings."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

from spiritlm.commands.options import add_model
from spiritlm.errors import InputError

LONGEST = 15.0
"""Seconds that are heard in one go, where nothing else is asked for."""


def add(commands: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        "transcribe",
        help="write down what is said in recordings",
        description="Write down what is said, by the likeliest tokens. A long recording is cut at pauses.",
    )
    parser.add_argument("recordings", type=Path, nargs="+", metavar="WAV", help="sound files")
    add_model(parser)
    parser.add_argument(
        "--longest", type=float, default=LONGEST, metavar="S", help="seconds that are heard in one go (%(default)g)"
    )
    parser.add_argument("--json", action="store_true", help="one line of JSON a recording, with its pieces and times")
    parser.add_argument("--batch-size", type=int, default=64, help="pieces heard together, at most (%(default)s)")
    parser.set_defaults(run=run)
    return parser


def run(options: argparse.Namespace) -> None:
    if not options.longest > 0 or options.batch_size < 1:
        raise InputError("expected --longest more than 0 seconds and --batch-size at least 1")

    from spiritlm.audio.vad import cut_at_pauses
    from spiritlm.inference.model import SpeechTextLM
    from spiritlm.inference.request import Speech

    with redirect_stdout(sys.stderr) if options.json else nullcontext():
        model = SpeechTextLM.from_pretrained(options.model)
        waves = [Speech.read(path) for path in options.recordings]
        cuts = [cut_at_pauses(speech.wave, speech.sample_rate, options.longest) for speech in waves]
        pieces = [
            Speech(speech.wave[round(start * speech.sample_rate) : round(end * speech.sample_rate)], speech.sample_rate)
            for speech, spans in zip(waves, cuts, strict=True)
            for start, end in spans
        ]
        try:
            said = iter(model.transcribe(pieces, options.batch_size))
        except InputError as error:
            raise InputError(f"{error}, with --longest under {options.longest:g} s") from None
    for path, spans in zip(options.recordings, cuts, strict=True):
        texts = [next(said) for _ in spans]
        text = " ".join(filter(None, texts))
        if options.json:
            pieces_said = [
                {"start": round(start, 3), "end": round(end, 3), "text": told}
                for (start, end), told in zip(spans, texts, strict=True)
            ]
            print(json.dumps({"file": str(path), "text": text, "pieces": pieces_said}, ensure_ascii=False))
        else:
            print(f"{path}: {text}" if len(options.recordings) > 1 else text)
