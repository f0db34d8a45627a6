"""A comparison under way: it has its results file to itself, and a journal beside it from which it goes on."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from laegd.cli.console import Interrupted, Preempted, say
from laegd.cli.process import Terminated
from laegd.training.cluster import ALONE_OR_SLURM

if TYPE_CHECKING:
    from laegd.evaluation.journal import Journal


@dataclass(frozen=True)
class Target:
    """Where results go."""

    out: Path
    inputs: tuple[Path, ...] = ()
    """What is read, which results never replace."""
    overwrite: bool = False
    """Whether finished results may be replaced."""
    stuck_after_s: float = ALONE_OR_SLURM.stuck_after_s
    """Seconds after which a silent process of the job counts as stuck."""


class Work(NamedTuple):
    """A comparison under way."""

    journal: "Journal"
    beat: Callable[[], None]

    def finish(self, write: Callable[[], None]) -> None:
        """Writes the results, by rank 0, and deletes the journal."""
        from laegd.training.cluster import share

        share(write)
        self.journal.remove()


def is_finished(target: Target, identity: str) -> bool:
    """Tells, and says, whether the results of the same comparison are there already."""
    from laegd.evaluation.journal import journal_path
    from laegd.evaluation.results import identity_of
    from laegd.training.cluster import share

    def found() -> bytes:
        left = target.overwrite or journal_path(target.out).exists()
        return b"" if left or identity_of(target.out) != identity else b"finished"

    if not share(found):
        return False
    say(f"{target.out}: finished before; --overwrite compares again")
    return True


@contextmanager
def begun(target: Target, subject: dict[str, Any], total: int) -> Iterator[Work]:
    """Yields the work on the results, which no other job may have; what is solved stays in a journal beside them."""
    from laegd.evaluation.journal import Journal, journal_path
    from laegd.training.cluster import share, watched

    path = journal_path(target.out)
    with ExitStack() as stack:
        share(lambda: _claim(target, path, stack))
        journal = Journal.open(path, subject)
        if journal.done:
            say(f"{path}: goes on with {len(journal.done)} of {total} parts done")
        try:
            yield Work(journal, stack.enter_context(watched(target.stuck_after_s)))
        except KeyboardInterrupt as error:
            if not journal.done:
                raise
            end = Preempted if isinstance(error, Terminated) else Interrupted
            raise end(
                f"stopped with {len(journal.done)} of {total} parts done; they are kept in {path}, "
                "the same command goes on from there"
            ) from None


def _claim(target: Target, journal: Path, stack: ExitStack) -> bytes:
    from laegd.evaluation.results import csv_path, is_results
    from laegd.scenario.files import locked
    from laegd.scenario.outputs import check_outputs, require_nothing_there

    out, csv = target.out, csv_path(target.out)
    if out.exists() and not (out.is_file() or out.is_dir()):
        raise ValueError(f"--out: Expected a file, got {out}, a pipe or a device. Name a file: others stand beside it.")
    check_outputs({"--out": [out, csv, journal]}, target.inputs, overwrite=True)
    # A job that was killed while it wrote its results has left them with its journal.
    meant = target.overwrite or journal.exists()
    for path in (out, csv):
        if meant and path.is_file() and path.stat().st_size and not is_results(path):
            raise ValueError(f"--out: Expected results of laegd to replace, got {path}, which is none. Name another.")
        if not meant:
            require_nothing_there("--out", path)
    stack.enter_context(locked(journal.with_suffix(".lock"), "Wait until it ends, or name another --out."))
    return b""
