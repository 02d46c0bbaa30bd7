"""numba functions that are compiled once for each state of the sources, not of one file.

numba's disk cache looks at the file of a function only, though functions of other files are compiled into it: after a
change there it would go on serving the old tokens. Here the cache is a folder named by a digest of all files that
define such functions.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core import config

F = TypeVar("F", bound=Callable[..., Any])

_LIBRARY = Path(__file__).parents[1]
_SOURCES = sorted([*(_LIBRARY / "tokens").glob("*.py"), *(_LIBRARY / "corpus").glob("*.py")])


def _cache_folder() -> Path:
    digest = hashlib.sha256(b"".join(hashlib.sha256(source.read_bytes()).digest() for source in _SOURCES)).hexdigest()
    beside = _LIBRARY / "__pycache__"
    writable = os.access(beside if beside.is_dir() else _LIBRARY, os.W_OK)
    return (beside if writable else Path.home() / ".cache" / "spiritlm") / f"numba-{digest[:16]}"


_FOLDER = str(_cache_folder())


def compiled(function: F) -> F:
    """Compile `function` on its first call, without the GIL, or take it from the disk."""
    before, config.CACHE_DIR = config.CACHE_DIR, _FOLDER
    try:
        return numba.njit(cache=True, nogil=True)(function)
    finally:
        config.CACHE_DIR = before
