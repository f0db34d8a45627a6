"""What all commands share: exit codes, lines for the user, progress."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from laegd.scenario.scenario import printable

if TYPE_CHECKING:
    from laegd.training.cluster import Cluster

EXIT_BAD_INPUT = 2
EXIT_INFEASIBLE = 3
EXIT_PREEMPTED = 75
"""After SIGTERM: what was finished is kept, the same command goes on; a scheduler that sent it may start it again."""
EXIT_INTERRUPTED = 130

SECONDS_BETWEEN_LINES = 30.0  # of progress, where standard error is a file


class Infeasible(Exception):
    """No plan exists, or none was found; the message says for whom."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, answered like Ctrl-C."""


class Interrupted(Exception):
    """Ctrl-C, after what was under way has been kept."""

    exit_code = EXIT_INTERRUPTED


class Preempted(Interrupted):
    """The same after SIGTERM."""

    exit_code = EXIT_PREEMPTED


_rank = 0


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
        print(printable(line), flush=True)


def show(table: Any) -> None:
    """Prints a table as wide as the terminal, 80 columns where there is none."""
    if _rank == 0:
        Console().print(table)


def tell(message: str) -> None:
    """Prints one line on standard error; ranks other than 0 say who they are."""
    who = f"rank {_rank}: " if _rank else ""
    print(f"laegd: {who}{printable(' '.join(message.split()))}", file=sys.stderr, flush=True)


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int, str], None]]:
    """Yields report(done, total, note): a bar that vanishes at the end, or now and then a line in a log file."""
    title = printable(title)
    if _rank:
        yield lambda done, total, note: None
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _progress_lines(title)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(title, total=None, note="")
        yield lambda done, total, note: progress.update(task, completed=done, total=total, note=note)


def _progress_lines(title: str) -> Callable[[int, int, str], None]:
    last = time.monotonic()

    def report(done: int, total: int, note: str) -> None:
        nonlocal last
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            print(f"{title} {done}/{total} {note}".rstrip(), file=sys.stderr, flush=True)

    return report
