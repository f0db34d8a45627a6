"""Feeds one file after another to what reads them, under limits of time and memory, and says what went wrong."""

import resource
import signal
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from readers import Kind

SECONDS = 5.0  # of CPU time, for one file; on a busy machine the clock says nothing of a reader
HANG_S = 300.0  # by the clock: longer without an end is a wait for something that never comes
MEMORY = 2**30  # bytes above what the process has before
LONGEST_LINE = 2_000  # characters of an error
REFUSALS = (ValueError, FloatingPointError, OSError)  # what the command line turns into a line and code 2


class TooSlow(BaseException):
    """Not an Exception, so that no reader takes it for damage."""


def _stop(signal_number: int, frame: object) -> None:
    raise TooSlow("still at it when its time was up")


@contextmanager
def time_limit(seconds: float = SECONDS) -> Iterator[None]:
    """Raises TooSlow where the block takes more CPU time of this process, or hangs."""
    timers = {signal.SIGPROF: (signal.ITIMER_PROF, seconds), signal.SIGALRM: (signal.ITIMER_REAL, HANG_S)}
    previous = {number: signal.signal(number, _stop) for number in timers}
    for timer, limit in timers.values():
        signal.setitimer(timer, limit)
    try:
        yield
    finally:
        for number, (timer, _) in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, previous[number])


@contextmanager
def memory_limit() -> Iterator[None]:
    """Lets a block have no more memory than MEMORY beyond what there is."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


class Outcomes:
    """How many files were accepted and refused."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def feed(self, kind: Kind, content: bytes, folder: Path, where: str) -> None:
        """Reads a file and works with it; fails with `where`, from which the file can be made again."""
        try:
            with time_limit():
                fault = self._feed(kind, content, folder)
        except (Exception, TooSlow):
            fault = traceback.format_exc()
        assert fault is None, f"{where} of {kind.name}, {len(content)} bytes beginning {content[:300]!r}: {fault}"

    def _feed(self, kind: Kind, content: bytes, folder: Path) -> str | None:
        try:
            thing: Any = kind.read(content, folder)
        except REFUSALS as error:
            self.counts["refused"] += 1
            return flaw(str(error))
        self.counts["accepted"] += 1
        kind.work(thing, folder)
        return None


def flaw(message: str) -> str | None:
    """Returns what a line of the command line lacks: the rule, the value and a length that can be read."""
    if "Expected" not in message or ", got" not in message:
        return f"Expected an error that names rule and value, got: {message[:500]}"
    return None if len(message) <= LONGEST_LINE else f"Expected an error of a line, got {len(message)} characters"


@pytest.fixture
def limited() -> Iterator[None]:
    """Every file is dealt with in seconds of CPU time and in a gigabyte."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with memory_limit(), time_limit():
        yield
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MEMORY
