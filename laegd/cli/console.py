"""What all commands share: exit codes, lines for the user, progress."""

import errno
import io
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from laegd.cli.process import EXIT_INTERRUPTED, EXIT_PREEMPTED

if TYPE_CHECKING:
    from laegd.training.cluster import Cluster

EXIT_INFEASIBLE = 3

SECONDS_BETWEEN_LINES = 30.0  # of progress, where standard error is a file


class Infeasible(Exception):
    """No plan exists, or none was found; the message says for whom."""


class Interrupted(Exception):
    """Ctrl-C, after what was under way has been kept."""

    exit_code = EXIT_INTERRUPTED


class Preempted(Interrupted):
    """The same after SIGTERM or SIGHUP."""

    exit_code = EXIT_PREEMPTED


_rank = 0
_lost: OSError | None = None  # why standard output could not be written


def join_cluster(cluster: "Cluster") -> None:
    """Joins the other processes of a job, if there are any; from then on rank 0 alone prints."""
    from laegd.training.cluster import rank, start

    global _rank
    found = start(cluster)
    if found is not None:
        _rank = rank()
        say(found)


def say(line: str) -> None:
    """Prints a line of the answer, neither wrapped nor marked up; what would move the cursor is escaped."""
    if _rank == 0:
        with output():
            print(_printable(line), flush=True)


def _printable(line: str) -> str:
    from laegd.scenario.scenario import printable  # loads NumPy

    return printable(line)


def show(table: Any) -> None:
    """Prints a table as wide as the terminal, 80 columns where there is none."""
    from rich.console import Console

    if _rank == 0:
        # Not printed by rich, which would end the process where the reader has left, and fail where a disk is full.
        drawn, terminal = io.StringIO(), Console()
        Console(file=drawn, width=terminal.width, force_terminal=terminal.is_terminal).print(table)
        with output():
            print(drawn.getvalue(), end="")


@contextmanager
def output() -> Iterator[None]:
    """Lets a command finish its work where standard output cannot be written; `lost_output` tells why at the end."""
    global _lost
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        _lost = _lost or error
        with suppress(OSError):  # what is still buffered, and all that follows, goes nowhere
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)


def lost_output() -> OSError | None:
    """Returns the first error of standard output since it was asked for; None: everything was printed."""
    global _lost
    lost, _lost = _lost, None
    return lost


def is_broken_pipe(error: OSError) -> bool:
    """Tells whether whoever read us has left."""
    return error.errno == errno.EPIPE


def tell(message: str) -> None:
    """Prints one line on standard error, where it can be written; ranks other than 0 say who they are."""
    who = f"rank {_rank}: " if _rank else ""
    print(f"laegd: {who}{_printable(' '.join(message.split()))}", file=_unfailing_stderr(), flush=True)


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int, str], None]]:
    """Yields report(done, total, note): a bar that vanishes at the end, or now and then a line in a log file."""
    title = _printable(title)
    if _rank:
        yield lambda done, total, note: None
        return
    if not sys.stderr.isatty():
        yield _progress_lines(title)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    console, proxied = Console(file=_unfailing_stderr()), sys.stdout.isatty()  # plans in a pipe stay there
    with Progress(*columns, console=console, transient=True, redirect_stdout=proxied) as progress:
        task = progress.add_task(title, total=None, note="")
        yield lambda done, total, note: progress.update(task, completed=done, total=total, note=note)


def _progress_lines(title: str) -> Callable[[int, int, str], None]:
    last = time.monotonic()

    def report(done: int, total: int, note: str) -> None:
        nonlocal last
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            print(f"{title} {done}/{total} {note}".rstrip(), file=_unfailing_stderr(), flush=True)

    return report


class _Unfailing:
    """Standard error as a file whose writes never fail: that a terminal has gone must not end what it watched."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._file.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._file.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _unfailing_stderr() -> Any:
    return _Unfailing(sys.stderr)
