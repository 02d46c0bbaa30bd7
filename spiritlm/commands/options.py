"""What several commands share: which model, who speaks, where to write."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from spiritlm.errors import InputError

SUFFIXES = (".txt", ".wav", ".html")
DEFAULT_MODEL = Path("runs/quickstart/model")


def add_model(command: argparse.ArgumentParser) -> None:
    command.add_argument("--model", type=Path, default=DEFAULT_MODEL, help="exported folder (default: %(default)s)")


def add_voice(command: argparse.ArgumentParser) -> None:
    """Who speaks and how."""
    command.add_argument("--speaker", help="voice to speak with (default: the decoder's own)")
    command.add_argument(
        "--style", help="manner to speak in, of all that is said (default: the units', or the decoder's)"
    )
    command.add_argument(
        "--pitch-shift",
        type=float,
        default=0.0,
        metavar="N",
        help="semitones up or down; needs pitch units (%(default)g)",
    )


def require_writable(out: Path) -> None:
    """Raises `InputError` where no file can be written beside `out`."""
    if not out.name:
        raise InputError(f"--out {str(out)!r}: expected a name for the files of the answer")
    folder = out.resolve().parent
    if not folder.is_dir():
        raise InputError(f"--out {out}: {folder} is not there")
    for suffix in SUFFIXES:
        if (taken := out.with_name(out.name + suffix)).is_dir():
            raise InputError(f"--out {out}: {taken} is a folder")
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        raise InputError(f"--out {out}: {folder} is not a folder that can be written") from None
