"""Say how runs stand, from their folders alone.

python launch/status.py RUN [RUN ...] [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from dataclasses import asdict
from pathlib import Path

from spiritlm.engine.plan import human
from spiritlm.run.program import guarded, print_columns
from spiritlm.run.status import Status, status


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run")
    parser.add_argument("--json", action="store_true", help="one line of JSON a run")
    parser.add_argument("--debug", action="store_true", help="show the trace of an error")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # a checkpoint that is being written is no news here

    def work() -> None:
        for run in options.runs:
            found = status(run)
            if options.json:
                print(json.dumps({"run": str(run), **asdict(found), "seconds_left": found.seconds_left}))
            else:
                show(run, found)

    sys.exit(guarded(work, options.debug))


def show(run: Path, found: Status) -> None:
    left = found.seconds_left
    rows = {
        "state": found.state,
        "last sign of life": f"{_duration(found.seconds_silent)} ago" if found.state == "begun" else None,
        "step": f"{found.step:,} of {found.steps:,}" if found.step and found.steps else None,
        "loss": f"{found.loss:.3f}" if found.loss is not None else None,
        "tokens": human(found.tokens) if found.tokens else None,
        "pace": f"{human(found.tokens_per_second)} tokens/s" if found.tokens_per_second else None,
        "time left": _duration(left) if left is not None else None,
        "last checkpoint": f"step {found.checkpoint:,}" if found.checkpoint is not None else None,
        "shards": f"{found.shards[0]:,} of {found.shards[1]:,}" if found.shards else None,
        "starts": f"{found.starts}, the last as job {found.job} on {found.nodes}" if found.starts else None,
        "rejects": str(found.rejects) if found.rejects else None,
    }
    print(f"{found.stage}: {run}")
    print_columns({name: value for name, value in rows.items() if value is not None})


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


if __name__ == "__main__":
    main()
