"""Every solver on one data set, under one protocol: cost ratio to a reference, accuracy, infeasible share, split times.

The reference is what the data set was labelled with, `optimum` for exact labels (certified; no ratio is below 1) or
`mcmf`, or any of the methods that are compared. An instance is never dropped: a plan that breaks a constraint counts as
not accurate, and the infeasible share stands beside the mean ratio, which is over feasible plans. Where the reference
itself has no plan there is no ratio; such instances are counted, and not accurate.
"""

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import msgspec
import numpy as np
from jaxtyping import Bool, Float

from laegd.evaluation.journal import Journal, Key, line_of
from laegd.evaluation.rows import Rows, kept_plans, solve_shards
from laegd.graphs.dataset import Dataset
from laegd.problem.instance import Solver
from laegd.scenario.scenario import require
from laegd.training.cluster import answered_together, gather, num_processes, rank, together

ACCURATE_BELOW = 1.1  # cost accuracy rate: share of instances with a ratio below this
REFERENCES = {"exact": "optimum", "mcmf": "mcmf"}  # label method -> name of the reference
EQUAL_WITHIN = 1e-9  # relative; two plans that differ by less are the same plan, priced in another order


class Quantiles(msgspec.Struct, frozen=True):
    """Of the cost ratios of feasible plans."""

    p05: float
    p25: float
    p50: float
    p75: float
    p95: float
    p99: float
    max: float

    @staticmethod
    def of(ratio: Float[np.ndarray, "instance"]) -> "Quantiles":
        """Computes them, between two values by linear interpolation."""
        return Quantiles(*np.quantile(ratio, [0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0]).tolist())


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
    quantiles: Quantiles | None
    """None where there is no ratio."""
    without_reference: int
    """Number of instances for which the reference has no plan, hence no ratio."""


class Paired(msgspec.Struct, frozen=True):
    """Two methods on the same instances: the ratio of `method` minus that of `other`, where both have one."""

    method: str
    other: str
    mean_difference: float | None
    standard_error: float | None
    instances: int
    """On which both have a ratio."""
    better: int
    """Number of them on which `method` is cheaper than `other`."""
    equal: int
    """Number of them on which both cost the same, to rounding."""


@dataclass(frozen=True)
class RunConfig:
    """How a data set is gone through; nothing here changes a plan."""

    num_examples: int = 0
    """First instances of the data set whose whole plans are kept."""
    workers: int = 1
    """Processes that share the shards; for solvers that run on the host."""

    def __post_init__(self) -> None:
        require(self.num_examples >= 0, "--examples", "a number of at least 0", self.num_examples, "Use 3.")
        require(self.workers >= 1, "--workers", "at least 1 process", self.workers, "Use one per core.")


def run(
    solver: Solver,
    dataset: Dataset,
    progress: Callable[[int, int], None] = lambda done, total: None,
    journal: Journal | None = None,
    name: str | None = None,
    settings: RunConfig = RunConfig(),
    beat: Callable[[], None] = lambda: None,
) -> Rows:
    """Solves the shards of a data set that the journal does not have yet; the reference is the labels.

    Several processes call this together: each takes every n-th shard, and all end with the rows of all shards.

    Args:
        solver: What to run.
        dataset: What to solve.
        progress: Called with the instances done and their total.
        journal: Where answers are kept; None: in memory.
        name: Of the solver in the journal; None: its own.
        settings: How.
        beat: Called whenever all processes have met.
    """
    journal = Journal() if journal is None else journal
    shards = dataset.manifest.shards
    keys = [Key(name or solver.name, dataset.digest, shard) for shard in range(len(shards))]
    todo = [key.shard for key in keys if key not in journal.done]
    _check_entries(journal, [key for key in keys if key in journal.done], dataset, settings.num_examples)
    progress(len(dataset) - sum(shards[shard].count for shard in todo), len(dataset))
    solved = solve_shards(solver, dataset, settings.num_examples, todo[rank() :: num_processes()], settings.workers)
    with answered_together() as settle:
        for _ in range(-(-len(todo) // num_processes())):
            mine = together(lambda: next(solved, None))
            given = gather(b"" if mine is None else line_of(keys[mine[0]], mine[1]))
            beat()
            journal.add([line for line in given if line])
            done = sum(entry.count for key, entry in zip(keys, shards, strict=True) if key in journal.done)
            progress(done, len(dataset))
            settle()
    return Rows.join([journal.done[key].rows for key in keys])


def _check_entries(journal: Journal, keys: Sequence[Key], dataset: Dataset, num_examples: int) -> None:
    """Raises ValueError where an entry is not of all instances of its shard, or lacks the plans of examples."""
    for key in keys:
        found = (len(journal.done[key].rows.cost), len(journal.done[key].plans))
        count, plans = dataset.manifest.shards[key.shard].count, kept_plans(dataset, num_examples, key.shard)
        field, expected = f"{journal.path}, {key.solver}, shard {key.shard}", f"{count} answers and {plans} plans"
        require(found[0] == count and found[1] >= plans, field, expected, found, "Delete the file.")


def choose_reference(reference: str | None, datasets: Sequence[Dataset], methods: Sequence[str]) -> str:
    """Returns the name of the reference: the one asked for, or what the data sets are labelled with.

    Raises:
        ValueError: It is neither their labels nor one of the methods, or they have different labels, or none.
    """
    labels = {REFERENCES.get(dataset.manifest.labels) for dataset in datasets}
    if reference in methods or {reference} == labels != {None}:
        assert reference is not None
        return reference
    if reference is not None:
        known = ", ".join(sorted({*methods, *(labels if len(labels) == 1 else ())} - {None}))
        raise ValueError(
            f"--reference: Expected the labels of the data or a method that is compared, one of {known}, "
            f"got {reference!r}. Add it to --methods."
        )
    for dataset in datasets:
        require_labels(dataset)
    (first, *others) = sorted(filter(None, labels))
    require(not others, "--data", "data sets with the same kind of labels", [first, *others], "Name a --reference.")
    return first


def require_labels(dataset: Dataset) -> None:
    """Raises ValueError where a data set has no costs to compare with."""
    require(
        dataset.manifest.labels in REFERENCES,
        str(dataset.folder),
        "a data set with labels to compare with",
        dataset.manifest.labels,
        "Generate it with --labels exact, or name a method that is compared as --reference.",
    )


def against(reference: str, dataset: Dataset, rows: Mapping[str, Rows]) -> dict[str, Rows]:
    """Returns every method's rows with the costs of this reference in place of the labels' where it is a method."""
    if REFERENCES.get(dataset.manifest.labels) == reference:
        return dict(rows)
    other = rows[reference]
    cost = np.where(other.feasible, other.cost, np.nan)
    return {name: one._replace(reference=cost) for name, one in rows.items()}


def _rated(rows: Rows) -> Bool[np.ndarray, "instance"]:
    return rows.feasible & np.isfinite(rows.ratio)


def _mean_with_error(values: Float[np.ndarray, "instance"]) -> tuple[float | None, float | None]:
    mean = float(values.mean()) if len(values) else None
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
    return mean, error


def summarise(
    method: str, dataset: Dataset, rows: Rows, reference: str | None = None, test_set: str | None = None
) -> Summary:
    """Reduces one method's rows to a row of the table; `reference` names what the rows are compared with."""
    if reference is None:
        require_labels(dataset)
        reference = REFERENCES[dataset.manifest.labels]
    ratio = rows.ratio[_rated(rows)]
    mean, error = _mean_with_error(ratio)
    quantiles = Quantiles.of(ratio) if len(ratio) else None
    return Summary(
        method=method,
        test_set=test_set or dataset.manifest.scale,
        reference=reference,
        instances=len(rows.cost),
        mean_ratio=mean,
        ratio_standard_error=error,
        median_ratio=quantiles and quantiles.p50,
        p95_ratio=quantiles and quantiles.p95,
        accuracy=float((_rated(rows) & (rows.ratio < ACCURATE_BELOW)).mean()),
        infeasible=float(1.0 - rows.feasible.mean()),
        seconds_model=float(rows.model_seconds.mean()),
        seconds_decode=float(rows.decode_seconds.mean()),
        seconds_total=float(rows.seconds.mean()),
        quantiles=quantiles,
        without_reference=int((~(rows.reference > 0)).sum()),
    )


def compare_pairs(rows: Mapping[str, Rows]) -> list[Paired]:
    """Compares every method with every later one, instance by instance."""
    pairs = []
    for (method, ours), (other, theirs) in combinations(rows.items(), 2):
        both = _rated(ours) & _rated(theirs)
        left, right = ours.ratio[both], theirs.ratio[both]
        equal = np.isclose(left, right, rtol=EQUAL_WITHIN, atol=0.0)
        mean, error = _mean_with_error(left - right)
        better = int((~equal & (left < right)).sum())
        pairs.append(Paired(method, other, mean, error, int(both.sum()), better, int(equal.sum())))
    return pairs


def device_name() -> str:
    """Names the devices that JAX computes on, and each host's cores."""
    import jax

    devices = jax.local_devices()
    kind = f"{len(devices)} x {devices[0].device_kind} ({os.cpu_count()} cores, {platform.machine()})"
    return kind if num_processes() == 1 else f"{num_processes()} processes with {kind} each"
