"""Runs the project against folders of golden data: `python tests/conform.py DIR [--only case,case] [--debug]`.

One line a case: its name, PASS, FAIL or UNKNOWN, and what was compared. The kind of a case is the beginning of its
name: `spirit_tokens-2` is checked as `spirit_tokens`. Exit status 0 where every case of `--only` passes, or without
it where no case fails; 1 where one does; 2 where the question itself is wrong.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for `conformance`, from any folder and under PYTHONSAFEPATH

from conformance import cosy, glm, hifigan, hubert, pitch, slamkit, spirit, stsp, style, vq_whisper, zerospeech
from conformance.registry import Case, Report, check_for

FAMILIES = (spirit, hubert, pitch, style, glm, vq_whisper, cosy, hifigan, slamkit, zerospeech, stsp)
"""Importing a family registers its checks."""


class QuestionError(Exception):
    """One line and exit status 2."""


def named_cases(directory: Path, only: str | None) -> list[Path]:
    """The folders of the cases, in order."""
    if not directory.is_dir():
        raise QuestionError(f"{directory}: expected a folder of cases")
    found = {folder.name: folder for folder in sorted(directory.iterdir()) if folder.is_dir() and folder.name[0] != "."}
    if not found:
        raise QuestionError(f"{directory}: holds no case")
    if only is None:
        return list(found.values())
    names = [name.strip() for name in only.split(",") if name.strip()]
    if not names:
        raise QuestionError("--only: names no case")
    for name in names:
        if name not in found:
            raise QuestionError(f"--only: {directory} holds no case {name!r}")
    return [found[name] for name in names]


def run_case(folder: Path, debug: bool) -> tuple[str, str]:
    """PASS, FAIL or UNKNOWN, and the line about it."""
    check = check_for(folder.name)
    if check is None:
        return "UNKNOWN", "no check for this kind"
    report = Report()
    try:
        check(Case(folder, report))
    except Exception as error:
        if debug:
            traceback.print_exc()
        reason = (str(error).splitlines() or [""])[0]
        return "FAIL", f"{type(error).__name__}: {reason}"
    return ("PASS" if report.passed else "FAIL"), report.line()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("directory", type=Path, metavar="DIR", help="a folder that holds one folder for each case")
    parser.add_argument("--only", metavar="CASE,CASE", help="run these cases; each of them must pass")
    parser.add_argument("--debug", action="store_true", help="show the trace of an exception inside a case")
    options = parser.parse_args(arguments)
    try:
        folders = named_cases(options.directory, options.only)
    except QuestionError as error:
        print(error, file=sys.stderr)
        return 2
    width = max(len(folder.name) for folder in folders)
    verdicts = []
    for folder in folders:
        verdict, line = run_case(folder, options.debug)
        print(f"{folder.name:{width}}  {verdict:7}  {line}", flush=True)
        verdicts.append(verdict)
    failing = {"FAIL"} if options.only is None else {"FAIL", "UNKNOWN"}
    return 1 if failing & set(verdicts) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
