"""What has been computed so far, a line per solver and shard, so that a comparison goes on where it was stopped.

The first line tells what is compared: solvers with their settings, data sets by digest. A line is written to the disk
when its shard is solved; a line that a crash has torn is computed again. The reference is chosen from the answers at
the end, so it does not stand there.
"""

import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec
import numpy as np

from laegd.evaluation.rows import Answers, Rows
from laegd.scenario.scenario import require

JOURNAL_FORMAT = "laegd-journal/1"
_DIFFERENCES_SHOWN = 3


class Key(NamedTuple):
    """Names the answers of one solver on one shard."""

    solver: str
    data: str
    """Digest of the data set."""
    shard: int


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    solver: str
    data: str
    shard: int
    cost: list[float | None]  # None: inf
    label: list[float | None]  # None: nan
    feasible: list[bool]
    seconds: list[float]
    model_seconds: list[float]
    decode_seconds: list[float]
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
        journal = Journal(path, json.loads(json.dumps({"format": JOURNAL_FORMAT, **subject})))
        try:
            with open(path, "rb") as file:
                journal._read(file)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise ValueError(f"{path}: Expected a readable journal, got: {error.strerror}. Delete it.") from error
        return journal

    def _read(self, file: BinaryIO) -> None:
        previous: Exception | None = None
        for number, line in enumerate(file, start=1):
            if previous is not None:  # damage, and yet another line after it: no crash has done that
                raise ValueError(
                    f"{self.path}, line {number - 1}: Expected an entry, got: {previous}. Delete the file."
                )
            if not line.endswith(b"\n"):
                return
            try:
                if number == 1:
                    self._check_header(json.loads(line))
                else:
                    key, answers = _from_line(msgspec.json.decode(line, type=_Line))
                    self.done[key] = answers
                self.size += len(line)
            except (json.JSONDecodeError, msgspec.DecodeError, UnicodeDecodeError) as error:
                previous = error

    def _check_header(self, header: Any) -> None:
        found = _differences(header, self.header)
        more = f" and {len(found) - _DIFFERENCES_SHOWN} more" if len(found) > _DIFFERENCES_SHOWN else ""
        if found:
            raise ValueError(
                f"{self.path}: Expected the journal of the same comparison, got one in which other things were set: "
                f"{'; '.join(found[:_DIFFERENCES_SHOWN])}{more}. Give the settings of then, name another --out, or "
                "delete that file to begin anew."
            )

    def add(self, key: Key, answers: Answers) -> None:
        """Keeps a shard's answers; they are on the disk when this returns."""
        if self.path is not None:
            line = msgspec.json.encode(_to_line(key, answers)) + b"\n"
            self._append(self.path, line if self.size else json.dumps(self.header).encode() + b"\n" + line)
        self.done[key] = answers

    def _append(self, path: Path, content: bytes) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "ab") as file:
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
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def journal_path(results: Path) -> Path:
    """Returns where the journal of a results file stands."""
    return results.with_suffix(".partial.jsonl")


def _to_line(key: Key, answers: Answers) -> _Line:
    rows = answers.rows
    times = (rows.seconds.tolist(), rows.model_seconds.tolist(), rows.decode_seconds.tolist())
    # msgspec writes inf and nan as null
    return _Line(*key, rows.cost.tolist(), rows.reference.tolist(), rows.feasible.tolist(), *times, list(answers.plans))


def _from_line(line: _Line) -> tuple[Key, Answers]:
    lengths = {len(values) for values in (line.cost, line.label, line.feasible, line.seconds)}
    require(len(lengths) == 1, "journal", "columns of one length", lengths, "Delete the file.")
    rows = Rows(
        np.array([np.inf if value is None else value for value in line.cost]),
        np.array([np.nan if value is None else value for value in line.label]),
        np.array(line.feasible, dtype=bool),
        *(np.array(values, dtype=float) for values in (line.seconds, line.model_seconds, line.decode_seconds)),
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
