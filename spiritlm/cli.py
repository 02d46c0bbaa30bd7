"""The command `spiritlm`: what one does with a trained, exported model, and a look into a store."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from spiritlm.commands import generate, inspect, speak, transcribe
from spiritlm.run.program import guarded

COMMANDS = (generate, transcribe, speak, inspect)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="spiritlm", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        found = command.add(commands)
        found.add_argument("--debug", action="store_true", help="show the trace of an error")
    options = parser.parse_args(argv)
    sys.exit(guarded(lambda: options.run(options), options.debug))


if __name__ == "__main__":
    main()
