"""Work in several processes that start clean: nothing the parent did at run time is inherited.

Processes fork from a server that has imported what the program had imported of the library by then, so a fresh one
costs milliseconds. A worker that dies (killed, out of memory) ends the stage with an error; it is never waited for.
"""

from __future__ import annotations

import multiprocessing
import os
import select
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from typing import TypeVar, cast

T = TypeVar("T")
U = TypeVar("U")


class WorkerDied(RuntimeError):
    """A worker process ended without a result."""


def map_in_workers(work: Callable[[T], U], items: Sequence[T], workers: int = 0, chunk: int = 8) -> Iterator[U]:
    """`work(item)` in the order of `items`, computed by `workers` processes (0: one a core), `chunk` items a message.

    Raises what `work` raises, and `WorkerDied`.
    """
    try:
        with ProcessPoolExecutor(
            _count(workers), mp_context=_context(), initializer=_end_with, initargs=(os.getpid(),)
        ) as pool:
            yield from pool.map(work, items, chunksize=chunk)
    except BrokenProcessPool:
        raise WorkerDied("a worker process died: killed, or out of memory; run the same command again") from None


def in_fresh_processes(work: Callable[[T], None], items: Sequence[T], workers: int = 0) -> Iterator[T]:
    """Each `work(item)` in a process of its own, `workers` of them at a time; items come out as they are done.

    For libraries that carry state from call to call. `work` leaves its results in files. Raises `WorkerDied` where
    a process fails; the trace of its error is on stderr.
    """
    context, left = _context(), list(reversed(items))
    running: dict[int, tuple[BaseProcess, T]] = {}
    try:
        while left or running:
            while left and len(running) < _count(workers):
                process = context.Process(target=_alone, args=(os.getpid(), work, left[-1]))
                process.start()
                running[process.sentinel] = process, left.pop()
            for sentinel in wait(list(running)):
                ended, item = running.pop(cast(int, sentinel))
                ended.join()
                if ended.exitcode != 0:
                    raise WorkerDied(f"a worker process ended with status {ended.exitcode}; run the same command again")
                yield item
    finally:
        for process_left, _ in running.values():
            process_left.terminate()
            process_left.join()


def _alone(program: int, work: Callable[[T], None], item: T) -> None:
    _end_with(program)
    work(item)


def _end_with(program: int) -> None:
    """End this process when `program` ends, also where that was killed and could not say so."""

    def watch(descriptor: int) -> None:
        select.select([descriptor], [], [])
        os._exit(1)

    try:
        descriptor = os.pidfd_open(program)
    except ProcessLookupError:
        os._exit(1)
    threading.Thread(target=watch, args=(descriptor,), daemon=True).start()


def _count(workers: int) -> int:
    return workers or len(os.sched_getaffinity(0))


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([name for name in sys.modules if name.startswith("spiritlm.")])
    return context
