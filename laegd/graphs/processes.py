"""Work spread over processes of this machine, so that Ctrl-C and a killed process end it cleanly."""

import ctypes
import multiprocessing
import multiprocessing.resource_tracker
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from laegd.graphs.signals import ENDING

_PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>

Item = TypeVar("Item")
Result = TypeVar("Result")


def spread(function: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[tuple[Item, Result]]:
    """Yields each item with its result, as they come; function, items and results must be picklable."""
    others = set(multiprocessing.active_children())
    # Spawned, not forked: a fork of a process with JAX's threads can hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(items)), context, initializer=_end_with_parent) as pool:
        queue = list(reversed(items))
        running: dict[Future[Result], Item] = {}
        try:
            while queue or running:
                with _signals_held_back():
                    while queue and len(running) < 2 * workers:
                        item = queue.pop()
                        running[pool.submit(function, item)] = item
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        except BrokenProcessPool as error:
            raise ValueError(
                "workers: Expected processes that end their work, got one that the system killed. "
                "Where memory was short, use fewer --workers; in a script of your own, call what makes data below "
                'if __name__ == "__main__". Finished shards are kept.'
            ) from error
        finally:
            # Not waited for: an item can take minutes, and who stops us does not want it any more.
            for process in set(multiprocessing.active_children()) - others:
                process.kill()
            pool.shutdown(wait=True, cancel_futures=True)


def num_cores() -> int:
    """Returns how many cores this process may use: a scheduler can give it fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _end_with_parent() -> None:
    """Ends this process when the one that started it is gone, however that ended."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    _ask_for_kill_with_parent()

    def wait_and_end() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait_and_end, daemon=True).start()


def _ask_for_kill_with_parent() -> None:
    """Has Linux do it, since native code can keep Python's threads waiting for minutes."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """Delays signals that ask to end; processes started meanwhile never see them, so that only this one answers."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    multiprocessing.resource_tracker.ensure_running()  # Starting it would let them through again.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
