"""Every solver on one data set, under one protocol: cost ratio to the labels, accuracy, infeasible share, split times.

The reference is what the data set was labelled with: `optimum` for exact labels (certified; no ratio is below 1) or
`mcmf`. An instance is never dropped: a plan that breaks a constraint counts as not accurate, and the infeasible share
stands beside the mean ratio, which is over feasible plans.
"""

import csv
import io
import json
import os
import platform
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from jaxtyping import Bool, Float

from laegd.graphs.dataset import Dataset
from laegd.problem.instance import Solver
from laegd.scenario.files import write_atomically
from laegd.scenario.scenario import require

RESULTS_FORMAT = "laegd-results/1"
ACCURATE_BELOW = 1.1  # cost accuracy rate: share of instances with a ratio below this
REFERENCES = {"exact": "optimum", "mcmf": "mcmf"}  # label method -> name of the reference


class Rows(NamedTuple):
    """One method's plans on one data set, an entry per instance."""

    cost: Float[np.ndarray, "instance"]  # inf for an infeasible plan
    reference: Float[np.ndarray, "instance"]
    feasible: Bool[np.ndarray, "instance"]
    seconds: Float[np.ndarray, "instance"]
    model_seconds: Float[np.ndarray, "instance"]
    decode_seconds: Float[np.ndarray, "instance"]

    @property
    def ratio(self) -> Float[np.ndarray, "instance"]:
        """Cost over the reference's cost."""
        return self.cost / self.reference


class Summary(msgspec.Struct, frozen=True):
    """One row of a results table."""

    method: str
    test_set: str
    reference: str
    instances: int
    mean_ratio: float | None
    """Over feasible plans; None where there is none."""
    ratio_standard_error: float | None
    median_ratio: float | None
    p95_ratio: float | None
    accuracy: float
    """Share of all instances with a feasible plan and a ratio below 1.1."""
    infeasible: float
    """Share of instances without a feasible plan."""
    seconds_model: float
    """Mean per instance, in the batch sizes of the solver."""
    seconds_decode: float
    seconds_total: float


def run(solver: Solver, dataset: Dataset, progress: Callable[[int, int], None] = lambda done, total: None) -> Rows:
    """Solves a data set shard by shard."""
    require_labels(dataset)
    parts: list[Rows] = []
    progress(0, len(dataset))
    for shard in range(len(dataset.manifest.shards)):
        data = dataset.read(shard)
        plans = solver.solve(data.instances)
        columns = [(p.cost, p.feasible, p.seconds, p.model_seconds, p.decode_seconds) for p in plans]
        cost, feasible, seconds, model, decode = map(np.array, zip(*columns, strict=True))
        parts.append(Rows(cost, data.cost, feasible, seconds, model, decode))
        progress(sum(len(part.cost) for part in parts), len(dataset))
    return Rows(*map(np.concatenate, zip(*parts, strict=True)))


def require_labels(dataset: Dataset) -> None:
    """Raises ValueError where a data set has no costs to compare with."""
    require(
        dataset.manifest.labels in REFERENCES,
        str(dataset.folder),
        "a data set with labels to compare with",
        dataset.manifest.labels,
        "Generate it with --labels exact.",
    )


def summarise(method: str, dataset: Dataset, rows: Rows) -> Summary:
    """Reduces one method's rows to a row of the table."""
    ratio = rows.ratio[rows.feasible]
    some = len(ratio) > 0
    return Summary(
        method=method,
        test_set=dataset.manifest.scale,
        reference=REFERENCES[dataset.manifest.labels],
        instances=len(rows.cost),
        mean_ratio=float(ratio.mean()) if some else None,
        ratio_standard_error=float(ratio.std(ddof=1) / np.sqrt(len(ratio))) if len(ratio) > 1 else None,
        median_ratio=float(np.median(ratio)) if some else None,
        p95_ratio=float(np.quantile(ratio, 0.95)) if some else None,
        accuracy=float((rows.feasible & (rows.ratio < ACCURATE_BELOW)).mean()),
        infeasible=float(1.0 - rows.feasible.mean()),
        seconds_model=float(rows.model_seconds.mean()),
        seconds_decode=float(rows.decode_seconds.mean()),
        seconds_total=float(rows.seconds.mean()),
    )


def device_name() -> str:
    """Names the devices that JAX computes on, and the host's cores."""
    import jax

    devices = jax.local_devices()
    return f"{len(devices)} x {devices[0].device_kind} ({os.cpu_count()} cores, {platform.machine()})"


def write_results(
    path: Path, dataset: Dataset, settings: dict[str, Any], results: Sequence[tuple[Summary, Rows]]
) -> None:
    """Writes `results.json` and, beside it, a CSV with a row per method and instance."""
    m, rows_path = dataset.manifest, csv_path(path)
    document = {
        "format": RESULTS_FORMAT,
        "settings": settings,
        "data": {"scale": m.scale, "count": m.count, "seed": m.seed, "labels": m.labels, "digest": dataset.digest},
        "device": device_name(),
        "versions": {name: version(name) for name in ("laegd", "jax", "numpy", "highspy")},
        "results": [msgspec.to_builtins(summary) for summary, _ in results],
    }
    write_atomically(rows_path, _csv(results))
    write_atomically(path, json.dumps(document, indent=1).encode() + b"\n")


def csv_path(path: Path) -> Path:
    """Returns where the rows per instance of a results file stand."""
    require(
        path.suffix != ".csv", str(path), "a name for JSON", path.suffix, "The CSV is written beside it: use .json."
    )
    return path.with_suffix(".csv")


def _csv(results: Sequence[tuple[Summary, Rows]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "test_set", "instance", "cost", "reference", "ratio", "feasible", "seconds"])
    for summary, rows in results:
        entries: Iterable[Any] = zip(rows.cost, rows.reference, rows.ratio, rows.feasible, rows.seconds, strict=True)
        for i, (cost, reference, ratio, feasible, seconds) in enumerate(entries):
            numbers = [repr(float(value)) for value in (cost, reference, ratio)]
            writer.writerow([summary.method, summary.test_set, i, *numbers, int(feasible), f"{seconds:.6g}"])
    return text.getvalue().encode()
