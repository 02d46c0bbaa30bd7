"""Work in several processes that start clean: nothing the parent did at run time is inherited.

Processes fork from a server that has imported what the program had imported of the library by then, so a fresh one
costs milliseconds. A worker that dies (killed, out of memory) ends the stage with an error; it is never waited for.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import ForkServerContext
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")


class WorkerDied(RuntimeError):
    """A worker process ended without a result."""


def map_in_workers(work: Callable[[T], U], items: Sequence[T], workers: int = 0, chunk: int = 8) -> Iterator[U]:
    """`work(item)` in the order of `items`, computed by `workers` processes (0: one a core), `chunk` items a message.

    Raises what `work` raises, and `WorkerDied`.
    """
    try:
        with ProcessPoolExecutor(_count(workers), mp_context=_context()) as pool:
            yield from pool.map(work, items, chunksize=chunk)
    except BrokenProcessPool:
        raise WorkerDied("a worker process died: killed, or out of memory; run the same command again") from None


def in_fresh_processes(work: Callable[[T], None], items: Sequence[T], workers: int = 0) -> Iterator[T]:
    """Each `work(item)` in a process of its own, `workers` of them at a time; items come out as they are done.

    For libraries that carry state from call to call. `work` leaves its results in files. Raises `WorkerDied` where
    a process fails; the trace of its error is on stderr.
    """
    context = _context()

    def run(item: T) -> T:
        process = context.Process(target=work, args=(item,))
        process.start()
        process.join()
        if process.exitcode != 0:
            raise WorkerDied(f"a worker process ended with status {process.exitcode}; run the same command again")
        return item

    with ThreadPoolExecutor(_count(workers)) as threads:
        futures = [threads.submit(run, item) for item in items]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            threads.shutdown(cancel_futures=True)


def _count(workers: int) -> int:
    return workers or os.cpu_count() or 1


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([name for name in sys.modules if name.startswith("spiritlm.")])
    return context
