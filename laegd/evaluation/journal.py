"""What has been computed so far, a line per solver and shard, so that a comparison goes on where it was stopped.

Every rank of a job knows it; rank 0 has the file.
The first line tells what is compared: solvers with their settings, data sets by digest. A line is written to the disk
when its shard is solved; a line that a crash has torn is computed again. The reference is chosen from the answers at
the end, so it does not stand there.
"""

import io
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np

from laegd.evaluation.rows import Answers, Rows
from laegd.scenario.files import open_own, read_file
from laegd.scenario.scenario import in_short, require
from laegd.training.cluster import rank, share

JOURNAL_FORMAT = "laegd-journal/1"
_DIFFERENCES_SHOWN = 3
MAX_SECONDS = 1e9  # 30 years for an instance


class Key(NamedTuple):
    """Names the answers of one solver on one shard."""

    solver: str
    data: str
    """Digest of the data set."""
    shard: int


_Cost = Annotated[float, msgspec.Meta(ge=0.0)]
_Seconds = Annotated[float, msgspec.Meta(ge=0.0, le=MAX_SECONDS)]


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    solver: str
    data: str
    shard: int
    cost: list[_Cost | None]  # None: inf
    label: list[_Cost | None]  # None: nan
    feasible: list[bool]
    seconds: list[_Seconds]
    model_seconds: list[_Seconds]
    decode_seconds: list[_Seconds]
    plans: list[dict[str, Any]]


@dataclass
class Journal:
    """Answers in memory and, where `path` is given, in a file."""

    path: Path | None = None
    header: dict[str, Any] = field(default_factory=dict)
    done: dict[Key, Answers] = field(default_factory=dict)
    size: int = 0
    """Bytes of whole lines in the file; what lies behind them is torn."""

    @staticmethod
    def open(path: Path, subject: dict[str, Any]) -> "Journal":
        """Reads the journal of an earlier run, if there is one; makes no file.

        Args:
            path: Of the journal.
            subject: What is compared, JSON values; answers are only taken over where it is the same.

        Raises:
            ValueError: The journal is of another comparison, or damaged; it names what differs.
        """
        # Of rank 0: other machines may have other cores.
        header = share(lambda: json.dumps({"format": JOURNAL_FORMAT, **subject}).encode())
        journal = Journal(path, json.loads(header))

        def read() -> bytes:
            if path.is_symlink():
                raise ValueError(f"{path}: Expected a file of its own, got a link to another. Delete the link.")
            return read_file(path, "a readable journal", "Delete it.") if path.exists() else b""

        journal._read(share(read))
        return journal

    def _read(self, content: bytes) -> None:
        previous: Exception | None = None
        for number, line in enumerate(io.BytesIO(content), start=1):
            if previous is not None:  # damage, and yet another line after it: no crash has done that
                where, reason = f"{self.path}, line {number - 1}", in_short(str(previous).rstrip("."))
                raise ValueError(f"{where}: Expected an entry, got: {reason}. Delete the file.")
            if not line.endswith(b"\n"):
                return
            try:
                found = json.loads(line) if number == 1 else _from_line(msgspec.json.decode(line, type=_Line))
            except (ValueError, msgspec.DecodeError, RecursionError) as error:
                previous = error
                continue
            if number == 1:
                self._check_header(found)
            else:
                key, answers = found
                self.done[key] = answers
            self.size += len(line)

    def _check_header(self, header: Any) -> None:
        found = _differences(header, self.header)
        shown = [in_short(text) for text in found[:_DIFFERENCES_SHOWN]]
        more = f" and {len(found) - _DIFFERENCES_SHOWN} more" if len(found) > _DIFFERENCES_SHOWN else ""
        if found:
            raise ValueError(
                f"{self.path}: Expected the journal of the same comparison, got one in which other things were set: "
                f"{'; '.join(shown)}{more}. Give the settings of then, name another --out, or "
                "delete that file to begin anew."
            )

    def add(self, lines: Sequence[bytes]) -> None:
        """Keeps the answers of shards, a `line_of` each; they are on the disk when this returns."""
        if self.path is not None:
            content = b"".join(lines)

            def write() -> bytes:
                assert self.path is not None
                self._append(self.path, content if self.size else json.dumps(self.header).encode() + b"\n" + content)
                return b""

            share(write)
        for line in lines:
            key, answers = _from_line(msgspec.json.decode(line, type=_Line))
            self.done[key] = answers

    def _append(self, path: Path, content: bytes) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(open_own(path), "ab") as file:
                file.truncate(self.size)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            with suppress(OSError):
                os.truncate(path, self.size) if self.size else path.unlink()
            reason = error.strerror or error
            raise ValueError(
                f"{path}: Expected a writable folder with room, got: {reason}. Free space or choose another."
            ) from error
        self.size += len(content)

    def remove(self) -> None:
        """Deletes the file, once the results are written."""
        if self.path is not None and rank() == 0:
            self.path.unlink(missing_ok=True)


def journal_path(results: Path) -> Path:
    """Returns where the journal of a results file stands."""
    return results.with_suffix(".partial.jsonl")


def line_of(key: Key, answers: Answers) -> bytes:
    """Returns a shard's answers as a line; numbers read back to the same float64."""
    rows = answers.rows
    answer = (rows.cost.tolist(), rows.reference.tolist(), rows.feasible.tolist())
    times = (rows.seconds.tolist(), rows.model_seconds.tolist(), rows.decode_seconds.tolist())
    # msgspec writes inf and nan as null
    return msgspec.json.encode(_Line(*key, *answer, *times, list(answers.plans))) + b"\n"


def _from_line(line: _Line) -> tuple[Key, Answers]:
    times = (line.seconds, line.model_seconds, line.decode_seconds)
    lengths = {len(values) for values in (line.cost, line.label, line.feasible, *times)}
    require(len(lengths) == 1, "journal", "columns of one length", lengths, "Delete the file.")
    rows = Rows(
        np.array([np.inf if value is None else value for value in line.cost]),
        np.array([np.nan if value is None else value for value in line.label]),
        np.array(line.feasible, dtype=bool),
        *(np.array(values, dtype=float) for values in times),
    )
    return Key(line.solver, line.data, line.shard), Answers(rows, tuple(line.plans))


def _differences(there: Any, here: Any, name: str = "") -> list[str]:
    """Returns what differs between two JSON values, by dotted key."""
    if isinstance(there, dict) and isinstance(here, dict):
        found = []
        for key in sorted({*there, *here}):
            dotted = f"{name}.{key}".lstrip(".")
            if key in there and key in here:
                found += _differences(there[key], here[key], dotted)
            else:
                found.append(f"{dotted} is only {'there' if key in there else 'here'}")
        return found
    return [] if there == here else [f"{name} = {there} there, {here} here"]
