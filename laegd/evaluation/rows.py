"""What one solver answers on one data set, as columns of numbers, shard by shard."""

import json
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from laegd.graphs.dataset import Dataset, Labelled
from laegd.graphs.processes import spread
from laegd.problem.instance import Plan, Solver
from laegd.problem.objective import is_feasible, plan_cost
from laegd.problem.plan_json import plan_to_json

IMPOSSIBLE = 1e-6  # relative; proofs are good to 1e-9, so no rounding makes a plan so much cheaper than an optimum


class Rows(NamedTuple):
    """One method's plans on one data set, an entry per instance."""

    cost: Float[np.ndarray, "instance"]  # inf for an infeasible plan
    reference: Float[np.ndarray, "instance"]  # nan where there is none
    feasible: Bool[np.ndarray, "instance"]
    seconds: Float[np.ndarray, "instance"]
    model_seconds: Float[np.ndarray, "instance"]
    decode_seconds: Float[np.ndarray, "instance"]

    @property
    def ratio(self) -> Float[np.ndarray, "instance"]:
        """Cost over the reference's cost."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.cost / self.reference

    @staticmethod
    def join(parts: "Sequence[Rows]") -> "Rows":
        """Joins the rows of shards, in order."""
        return Rows(*map(np.concatenate, zip(*parts, strict=True)))


class Answers(NamedTuple):
    """What one solver answered on one shard; the reference is the label's cost."""

    rows: Rows
    plans: tuple[dict[str, Any], ...]  # laegd-plan/1 of the shard's examples


def first_instance(dataset: Dataset, shard: int) -> int:
    """Returns the number of a shard's first instance."""
    return sum(entry.count for entry in dataset.manifest.shards[:shard])


def kept_plans(dataset: Dataset, num_examples: int, shard: int) -> int:
    """Returns how many of a shard's instances are examples of the data set."""
    return max(0, min(num_examples - first_instance(dataset, shard), dataset.manifest.shards[shard].count))


def require_possible(dataset: Dataset, shard: int, data: Labelled, plans: Sequence[Plan]) -> None:
    """Raises ValueError that names data set and instance where labels and plans contradict each other.

    A label must cost what its plan costs and no less than its own bound; no plan is cheaper than that bound, and no
    bound that a solver proves is above the label.
    """
    costs, cost = data.instances.costs, data.cost
    low = np.where(np.isnan(data.lower_bound) & (dataset.manifest.labels == "exact"), cost, data.lower_bound)
    priced = np.where(is_feasible(costs, data.server, data.share), plan_cost(costs, data.server, data.share), np.inf)
    proved = [np.inf if p.unserved else np.nan if p.lower_bound is None else p.lower_bound for p in plans]
    planned = np.array([p.cost if p.feasible else np.inf for p in plans])
    name = plans[0].method
    less, more = 1.0 - IMPOSSIBLE, 1.0 + IMPOSSIBLE
    checks = [  # what is found, what it may not be and why; of instances with a label
        (cost, (cost < priced * less) | (cost > priced * more), priced, "a label that costs what its plan costs,"),
        (cost, cost * more < low, low, "a label of at least its lower bound"),
        (planned, planned < low * less, low, f"no plan cheaper than the {dataset.manifest.labels} label's bound"),
        (cost, cost * more < np.array(proved), np.array(proved), f"a label of at least what {name} proves,"),
    ]
    for found, wrong, limit, expected in checks:
        for i in np.flatnonzero(wrong & np.isfinite(cost))[:1]:
            got = f"{found[i]:.9g}" + (f" of {name}" if found is planned else "")
            raise ValueError(
                f"{dataset.folder}, instance {first_instance(dataset, shard) + i}: Expected {expected} {limit[i]:.9g}, "
                f"got {got}. The labels are not what they claim to be: generate the data set again."
            )


def solve_shard(solver: Solver, dataset: Dataset, num_examples: int, shard: int) -> Answers:
    """Solves one shard in one call; keeps whole plans only of those instances that are examples of the data set."""
    data = dataset.read(shard)
    plans = solver.solve(data.instances)
    require_possible(dataset, shard, data, plans)
    columns = [(p.cost, p.feasible, p.seconds, p.model_seconds, p.decode_seconds) for p in plans]
    cost, feasible, *seconds = map(np.array, zip(*columns, strict=True))
    kept = kept_plans(dataset, num_examples, shard)
    examples = tuple(json.loads(plan_to_json(data.instances[i], plans[i])) for i in range(kept))
    return Answers(Rows(cost.astype(float), data.cost, feasible, *(s.astype(float) for s in seconds)), examples)


def solve_shards(
    solver: Solver, dataset: Dataset, num_examples: int, shards: Sequence[int], workers: int
) -> Iterator[tuple[int, Answers]]:
    """Yields each shard's answers as they come; with several workers, in any order.

    A shard is always solved whole and in one process: what a solver draws may depend on an instance's place in a call.
    """
    work = partial(solve_shard, solver, dataset, num_examples)
    if workers == 1 or len(shards) < 2:
        yield from ((shard, work(shard)) for shard in shards)
    else:
        yield from spread(work, shards, workers)
