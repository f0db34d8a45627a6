"""Feeds one file after another to what reads them, under limits of time and memory, and says what went wrong."""

import resource
import signal
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from readers import Kind

SECONDS = 5.0  # for one file
MEMORY = 2**30  # bytes above what the process has before
LONGEST_LINE = 2_000  # characters of an error
REFUSALS = (ValueError, FloatingPointError, OSError)  # what the command line turns into a line and code 2


class TooSlow(BaseException):
    """Not an Exception, so that no reader takes it for damage."""


def _stop(signal_number: int, frame: object) -> None:
    raise TooSlow(f"still at it after {SECONDS:g} seconds")


@contextmanager
def limits() -> Iterator[None]:
    """Limits memory while files are read."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before, previous = resource.getrlimit(resource.RLIMIT_AS), signal.signal(signal.SIGALRM, _stop)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.signal(signal.SIGALRM, previous)


class Outcomes:
    """How many files were accepted and refused."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def feed(self, kind: Kind, content: bytes, folder: Path, where: str) -> None:
        """Reads a file and works with it; fails with `where`, from which the file can be made again."""
        fault = None
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            fault = self._feed(kind, content, folder)
        except (Exception, TooSlow):
            fault = traceback.format_exc()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        assert fault is None, f"{where} of {kind.name}, {len(content)} bytes beginning {content[:300]!r}: {fault}"

    def _feed(self, kind: Kind, content: bytes, folder: Path) -> str | None:
        try:
            thing: Any = kind.read(content, folder)
        except REFUSALS as error:
            self.counts["refused"] += 1
            return _flaw(str(error))
        self.counts["accepted"] += 1
        kind.work(thing, folder)
        return None


def _flaw(message: str) -> str | None:
    """Returns what a line of the command line lacks: the rule, the value and a length that can be read."""
    if "Expected" not in message or ", got" not in message:
        return f"Expected an error that names rule and value, got: {message[:500]}"
    return None if len(message) <= LONGEST_LINE else f"Expected an error of a line, got {len(message)} characters"
