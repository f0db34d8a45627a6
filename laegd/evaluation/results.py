"""Files of results: JSON with all that a table or a report needs, and a CSV with a row per method and instance."""

import csv
import hashlib
import io
import json
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from laegd.evaluation.benchmark import REFERENCES, Paired, Summary, device_name
from laegd.evaluation.journal import Journal, Key
from laegd.evaluation.rows import Rows, first_instance
from laegd.graphs.dataset import Dataset, Labelled
from laegd.problem.objective import make_plan
from laegd.problem.plan_json import plan_to_json
from laegd.scenario.outputs import write_output
from laegd.scenario.scenario import printable, require
from laegd.training.meta import source_commit

RESULTS_FORMAT = "laegd-results/1"
CSV_COLUMNS = ("method", "test_set", "instance", "cost", "reference", "ratio", "feasible", "seconds")
_FORMULAS = ("=", "+", "-", "@")
_BEGINNINGS = (b'{\n "format": "laegd-results/', b'{\n "format": "laegd-sweep/', b"method,test_set,instance,")


@dataclass(frozen=True)
class Comparison:
    """What `evaluate` has found: methods on one data set."""

    dataset: Dataset
    settings: dict[str, Any]
    """Of each method."""
    results: Sequence[tuple[Summary, Rows]]
    paired: Sequence[Paired] = ()
    examples: Sequence[dict[str, Any]] = ()
    identity: str = ""
    """Digest of what was compared, see `digest_of`."""


def surroundings() -> dict[str, Any]:
    """Returns what answers and times depend on beside methods and data: commit, device, versions."""
    return {
        "commit": source_commit(),
        "device": device_name(),
        "versions": {name: version(name) for name in ("laegd", "jax", "numpy", "highspy")},
    }


def digest_of(subject: dict[str, Any], reference: str) -> str:
    """Returns a digest of all that results depend on: the same comparison, again, has the same."""
    text = json.dumps({**subject, "reference": reference}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def identity_of(path: Path) -> str | None:
    """Returns the digest of the comparison whose results a file holds; None where it holds none."""
    try:
        document = json.loads(path.read_bytes()) if is_results(path) else {}
    except (ValueError, RecursionError):
        return None
    return document.get("comparison")


def is_results(path: Path) -> bool:
    """Tells whether a file, JSON or CSV, begins as results do."""
    try:
        with open(path, "rb") as file:
            return path.is_file() and file.read(64).startswith(_BEGINNINGS)
    except OSError:
        return False


def origin(reference: str, identity: str) -> dict[str, Any]:
    """Returns how a results file came about: command, time, reference, surroundings and what was compared."""
    return {
        "command": f"laegd {shlex.join(sys.argv[1:])}",
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "reference": reference,
        "comparison": identity,
        **surroundings(),
    }


def about(dataset: Dataset) -> dict[str, Any]:
    """Returns what tells a data set from others."""
    m = dataset.manifest
    return {"scale": m.scale, "count": m.count, "seed": m.seed, "labels": m.labels, "digest": dataset.digest}


def write_results(path: Path, found: Comparison) -> None:
    """Writes `results.json` and, beside it, a CSV with a row per method and instance."""
    document = {
        "format": RESULTS_FORMAT,
        **origin(found.results[0][0].reference, found.identity),
        "settings": found.settings,
        "data": about(found.dataset),
        "results": [msgspec.to_builtins(summary) for summary, _ in found.results],
        "paired": [msgspec.to_builtins(pair) for pair in found.paired],
        "examples": list(found.examples),
    }
    write_csv(path, CSV_COLUMNS, (row for summary, rows in found.results for row in csv_rows(summary, rows)))
    write_json(path, document)


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Writes a results file."""
    write_output(path, json.dumps(document, indent=1, allow_nan=False).encode() + b"\n")


def csv_path(path: Path) -> Path:
    """Returns where the rows per instance of a results file stand."""
    require(
        path.suffix != ".csv", str(path), "a name for JSON", path.suffix, "The CSV is written beside it: use .json."
    )
    return path.with_suffix(".csv")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes the rows per instance beside a results file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_no_formula(cell) for cell in row] for row in rows)
    write_output(csv_path(path), text.getvalue().encode())


def _no_formula(cell: Any) -> Any:
    """Returns a cell that a spreadsheet shows and does not compute: a name may begin like a formula."""
    if not isinstance(cell, str):
        return cell
    cell = printable(cell)
    if not cell.startswith(_FORMULAS):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def csv_rows(summary: Summary, rows: Rows) -> Iterator[tuple[Any, ...]]:
    """Yields a row per instance; costs and ratios read back to the same float64."""
    entries: Iterable[Any] = zip(rows.cost, rows.reference, rows.ratio, rows.feasible, rows.seconds, strict=True)
    for i, (cost, reference, ratio, feasible, seconds) in enumerate(entries):
        numbers = [repr(float(value)) for value in (cost, reference, ratio)]
        yield (summary.method, summary.test_set, i, *numbers, int(feasible), f"{seconds:.6g}")


def examples(dataset: Dataset, methods: Sequence[str], journal: Journal, count: int) -> list[dict[str, Any]]:
    """Returns the first instances with the label's plan and every method's, from the journal of a finished run."""
    found: list[dict[str, Any]] = []
    shard = 0
    while len(found) < min(count, len(dataset)):
        data = dataset.read(shard)
        for i in range(min(count - first_instance(dataset, shard), len(data))):
            plans = [journal.done[Key(name, dataset.digest, shard)].plans[i] for name in methods]
            scenario = json.loads(data.scenarios.scenario(i).to_json())
            entry = {"index": len(found), "scenario": scenario, "plans": [*_label_plan(dataset, data, i), *plans]}
            found.append(entry)
        shard += 1
    return found


def _label_plan(dataset: Dataset, data: Labelled, i: int) -> list[dict[str, Any]]:
    """Returns the label as a plan under the reference's name; nothing where there is none."""
    name, bound = REFERENCES.get(dataset.manifest.labels), float(data.lower_bound[i])
    if name is None:
        return []
    lower_bound = None if bound != bound else bound
    plan = make_plan(data.instances[i], data.server[i], name, 0.0, lower_bound, data.share[i])
    return [json.loads(plan_to_json(data.instances[i], plan))]
