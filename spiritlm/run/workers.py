"""A pool of worker processes that start clean: nothing the parent did at run time is inherited."""

from __future__ import annotations

import multiprocessing
import os
import sys
from multiprocessing.pool import Pool


def worker_pool(workers: int = 0, tasks_per_process: int | None = None) -> Pool:
    """`workers` processes, one a core where it is 0; each is replaced after `tasks_per_process` tasks.

    The library's modules that are imported by now are imported once, in the server that the workers fork from, so
    that a fresh worker costs milliseconds.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([name for name in sys.modules if name.startswith("spiritlm.")])
    return context.Pool(workers or os.cpu_count(), maxtasksperchild=tasks_per_process)
