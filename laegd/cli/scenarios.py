"""Where scenarios come from and where their plans go: files, folders of them, and lists with one a line."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from laegd.scenario.scenario import Scenario

STDIN = Path("-")
_BAD_SHOWN = 5  # scenarios in an error


@dataclass(frozen=True)
class Task:
    """A scenario to plan."""

    name: str
    read: Callable[[], bytes]
    finished: Callable[[str], bytes | None]
    """Returns the plan, where one of that origin is there."""
    write: Callable[[bytes | None], None]
    """Takes the plan; None: the scenario cannot be read."""
    picture: Path | None = None
    quiet: bool = False
    """Whether standard output is for plans alone."""


class Origin(msgspec.Struct):
    """What of a plan file tells what it is the plan of."""

    made_from: str = ""


class Sources(NamedTuple):
    """What was named on the command line."""

    files: list[Path]
    lists: list[Path]
    """Of scenarios, one a line; `-` is standard input."""
    many: bool
    """Whether OUT is a folder, or a list."""

    @staticmethod
    def of(named: Sequence[Path]) -> "Sources":
        """Looks into folders; raises ValueError where there is nothing to plan, or a list stands beside other input."""
        if not named:
            raise ValueError("scenarios: Expected at least one file, got none. Write one with `laegd export`.")
        files, lists = [], []
        for path in named:
            if path == STDIN or path.suffix == ".jsonl":
                lists.append(path)
            elif path.is_dir():
                found = sorted(path.glob("*.json"))
                if not found:
                    raise ValueError(f"{path}: Expected a folder of scenarios, *.json, got none. Name another.")
                files += found
            else:
                files.append(path)
        if STDIN in lists and len(named) > 1:
            raise ValueError("scenarios: Expected - by itself, got other files beside it. Name one or the other.")
        return Sources(files, lists, len(named) > 1 or any(path.is_dir() for path in named))


def read_scenarios(named: Path) -> "dict[str, Scenario]":
    """Returns the scenarios of a folder, a list or a file, by name; raises ValueError that names all that are bad."""
    from laegd.scenario.scenario import Scenario

    sources = Sources.of([named])
    found: dict[str, Scenario] = {}
    bad = []

    def read(name: str, text: Callable[[], bytes]) -> None:
        try:
            found[name] = Scenario.from_json(text())
        except ValueError as error:
            bad.append(f"{name}: {error}")

    for path in sources.files:
        read(path.name, lambda path=path: _content(path))
    for path in sources.lists:
        with _opened(path) as lines:
            for number, line in _numbered(lines):
                read(f"line {number}", lambda line=line: line)
    if bad:
        told = " | ".join(bad[:_BAD_SHOWN]) + (f" | and {len(bad) - _BAD_SHOWN} more." if bad[_BAD_SHOWN:] else "")
        raise ValueError(f"{named}: {len(bad)} of {len(bad) + len(found)} scenarios cannot be used: {told}")
    return found


def tasks(sources: Sources, out: Path | None, picture: Path | None, reads: Sequence[Path | None]) -> "Tasks":
    """Checks where plans and pictures go, and returns what there is to do."""
    from laegd.scenario.outputs import check_outputs

    if sources.lists and picture is not None:
        raise ValueError("--picture: Expected scenarios in files of their own, got a list. Leave it out.")
    if out is None and sources.lists != [STDIN]:
        raise ValueError("--out: Expected a file for the plan, or a folder for several, got none. Name one.")
    named = [*sources.files, *sources.lists]
    targets = [] if out is None else _targets(sources, named, out, ".json")
    pictures = [] if picture is None else _targets(sources, named, picture, ".png")
    inputs = [path for path in named if path != STDIN]
    partial = [_partial(path) for path in targets[len(sources.files) :]]
    check_outputs({"--out": [*targets, *partial], "--picture": pictures}, [*inputs, *reads], overwrite=True)
    count = len(sources.files) + sum(_count(path) for path in sources.lists)
    return Tasks(sources, targets, pictures, None if STDIN in sources.lists else count)


def _targets(sources: Sources, named: list[Path], out: Path, suffix: str) -> list[Path]:
    """One scenario is answered in OUT itself, several in the folder OUT under their own names."""
    if not sources.many and not out.is_dir():
        return [out]
    names = [
        (path.name if path.suffix == ".jsonl" else path.with_suffix(suffix).name) if path != STDIN else "plans.jsonl"
        for path in named
    ]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"scenarios: Expected distinct file names, got {', '.join(twice)} twice. Rename one.")
    return [out / name for name in names]


def _count(path: Path) -> int:
    if path == STDIN:
        return 0
    with _opened(path) as lines:
        return sum(1 for _ in _numbered(lines))


def _numbered(lines: Iterator[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yields the lines that hold something, with their numbers from 1."""
    return ((number, line) for number, line in enumerate(lines, start=1) if line.strip())


def _content(path: Path) -> bytes:
    from laegd.scenario.files import read_file

    return read_file(path, "a readable scenario file", "Check the path.")


@contextmanager
def _opened(path: Path) -> Iterator[Iterator[bytes]]:
    if path == STDIN:
        yield iter(sys.stdin.buffer)
        return
    try:
        file = open(path, "rb")
    except OSError as error:
        reason = error.strerror
        raise ValueError(f"{path}: Expected a readable list of scenarios, got: {reason}. Check the path.") from error
    with file:
        yield iter(file)


class Tasks(NamedTuple):
    """What there is to do, in order."""

    sources: Sources
    targets: list[Path]
    pictures: list[Path]
    total: int | None
    """None: standard input has no end yet."""

    def __iter__(self) -> Iterator[Task]:  # pyright: ignore[reportIncompatibleMethodOverride]
        for i, path in enumerate(self.sources.files):
            yield self._of_file(path, self.targets[i], self.pictures[i] if self.pictures else None)
        for i, path in enumerate(self.sources.lists, start=len(self.sources.files)):
            yield from _of_list(path, self.targets[i] if self.targets else None)

    def _of_file(self, path: Path, target: Path, picture: Path | None) -> Task:
        from laegd.scenario.outputs import write_output

        def finished(origin: str) -> bytes | None:
            try:
                content = target.read_bytes() if self.sources.many and target.is_file() else b""
            except OSError:
                return None
            return content if made_from(content) == origin else None

        def write(content: bytes | None) -> None:
            if content is not None:
                write_output(target, content)

        name = path.name if self.sources.many or path.exists() else str(path)
        return Task(name, lambda: _content(path), finished, write, picture)


def _of_list(path: Path, target: Path | None) -> Iterator[Task]:
    name = "standard input" if path == STDIN else path.name
    with ExitStack() as stack:
        lines = stack.enter_context(_opened(path))
        answers = None if target is None else stack.enter_context(_Answers.begun(target))
        finished, write = (lambda _: None, _print) if answers is None else (answers.kept.get, answers.add)
        for number, line in _numbered(lines):
            yield Task(f"{name}, line {number}", lambda line=line: line, finished, write, quiet=target is None)
        if answers is not None:
            answers.finish()


def _print(content: bytes | None) -> None:
    from laegd.cli.console import say

    say(_line(content).decode().rstrip("\n"))


def _line(content: bytes | None) -> bytes:
    return b"null\n" if content is None else msgspec.json.format(content, indent=-1).strip() + b"\n"


def made_from(plan: bytes) -> str:
    """Returns the origin of a plan, as far as it can be read."""
    try:
        return msgspec.json.decode(plan, type=Origin).made_from
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return ""


def _partial(target: Path) -> Path:
    return target.with_suffix(".partial.jsonl")


class _Answers:
    """A list of plans under way: each is on the disk when it is made, in a file that becomes the list at the end."""

    def __init__(self, target: Path, file: IO[bytes]) -> None:
        self.target, self.file = target, file
        self.lines: list[bytes] = []
        self.kept: dict[str, bytes] = {}
        """Plans that are there, by origin: of an earlier run that has ended, or not."""
        whole = target.read_bytes() if target.is_file() else b""
        file.seek(0)
        for line in [*whole.splitlines(), *file.read().splitlines()]:
            if origin := made_from(line):
                self.kept[origin] = line

    @staticmethod
    @contextmanager
    def begun(target: Path) -> "Iterator[_Answers]":
        """Has the list to itself."""
        import os

        from laegd.scenario.files import locked, open_own

        partial = _partial(target)
        with locked(partial.with_suffix(".lock"), "Wait until it ends, or name another --out."):
            with os.fdopen(open_own(partial), "r+b") as file:
                yield _Answers(target, file)
            if not partial.stat().st_size:
                partial.unlink()

    def add(self, content: bytes | None) -> None:
        """Takes the next plan."""
        line = _line(content)
        self.lines.append(line)
        if (origin := made_from(line)) and origin not in self.kept:
            self.kept[origin] = line
            self.file.write(b"\n" + line)  # what a crash has torn ends there
            self.file.flush()

    def finish(self) -> None:
        """Makes the list of the plans, in the order of their scenarios."""
        from laegd.scenario.outputs import write_output

        write_output(self.target, b"".join(self.lines))
        self.file.truncate(0)
