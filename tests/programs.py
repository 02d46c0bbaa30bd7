"""Programs of the stages in the process of the tests; one of its own takes seconds to import torch."""

import io
import runpy
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from subprocess import CompletedProcess
from unittest.mock import patch


def run_here(program: Path | str, *arguments: Path | str) -> CompletedProcess[str]:
    """What `python PROGRAM ARGUMENTS` comes to. Not for what is killed, or has several processes."""
    argv = [str(program), *(str(argument) for argument in arguments)]
    out, errors = io.StringIO(), io.StringIO()
    status = 0
    with patch.object(sys, "argv", argv), redirect_stdout(out), redirect_stderr(errors):
        try:
            runpy.run_path(str(program), run_name="__main__")
        except SystemExit as end:
            assert isinstance(end.code, int)
            status = end.code
    return CompletedProcess(argv, status, out.getvalue(), errors.getvalue())
