"""Solvers side by side on the same instances, one's own among them; every plan is checked and priced here."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float

from laegd.problem.instance import Instance, Plan
from laegd.problem.objective import make_plan
from laegd.scenario.scenario import require

CHEAPEST = "cheapest"  # of the compared plans of an instance: the reference unless another is given
BOUND_TOLERANCE = 1e-6  # relative; no plan costs less than a proved bound by more


@runtime_checkable
class Planner(Protocol):
    """What `compare` takes: a `Solver`, or any object that plans; its name is its class's unless it has one."""

    def solve(self, instances: Sequence[Instance], /) -> Sequence[Plan]:
        """Returns one plan per instance, in order."""
        ...


@dataclass(frozen=True, repr=False)
class Scores:
    """Plans of several methods for the same instances, compared; prints as a table with a row per method.

    The arrays have a row per method, in the order of `methods`, and a column per instance.
    """

    methods: tuple[str, ...]
    reference: str
    """What the ratios are to: a method, "cheapest" or "given"."""
    cost: Float[np.ndarray, "method instance"]  # inf without a feasible plan
    ratio: Float[np.ndarray, "method instance"]  # of the cost to the reference's; nan where either is missing
    gap: Float[np.ndarray, "method instance"]  # (cost - bound) / cost to the best bound of all methods; nan: unknown
    seconds: Float[np.ndarray, "method instance"]
    plans: tuple[tuple[Plan, ...], ...]

    @property
    def feasible(self) -> Bool[np.ndarray, "method instance"]:
        """Tells which plans obey every constraint."""
        return np.isfinite(self.cost)

    def to_frame(self) -> dict[str, np.ndarray]:
        """Returns the table as columns, a row per method; means are over the instances that have the number."""
        return {
            "method": np.array(self.methods, dtype=str),
            "mean_ratio": _reduced(np.mean, self.ratio),
            "ratio_standard_error": _reduced(lambda v: v.std(ddof=1) / np.sqrt(len(v)), self.ratio, 2),
            "p95_ratio": _reduced(lambda v: np.quantile(v, 0.95), self.ratio),
            "max_ratio": _reduced(np.max, self.ratio),
            "mean_gap": _reduced(np.mean, self.gap),
            "infeasible": 1.0 - self.feasible.mean(axis=1),
            "mean_seconds": self.seconds.mean(axis=1),
        }

    def __str__(self) -> str:
        rows = self._cells()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
        left = [row[0].ljust(widths[0]) + line[widths[0] :] for row, line in zip(rows, lines, strict=True)]
        return "\n".join(line.rstrip() for line in [left[0], "-" * len(left[0]), *left[1:]])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Shows the table in a notebook."""
        head, *rows = self._cells()
        lines = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
        top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
        return f"<table><tr>{top}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"

    def _cells(self) -> list[list[str]]:
        """Returns the table as text, headings first."""
        columns = self.to_frame()
        rows = [["method", f"cost / {self.reference}", "p95", "max", "gap", "infeasible", "ms"]]
        for m, method in enumerate(self.methods):
            value = {name: float(column[m]) for name, column in columns.items() if name != "method"}
            error = value["ratio_standard_error"]
            mean = _text(value["mean_ratio"], ".4f") + ("" if np.isnan(error) else f" ± {error:.4f}")
            quality = [mean, _text(value["p95_ratio"], ".3f"), _text(value["max_ratio"], ".3f")]
            shares = [_text(100 * value["mean_gap"], ".2f", " %"), _text(100 * value["infeasible"], ".1f", " %")]
            rows.append([method, *quality, *shares, _text(1e3 * value["mean_seconds"], ".3g")])
        return rows


def compare(
    solvers: Sequence[Planner],
    instances: Sequence[Instance],
    reference: str | Float[np.ndarray, "instance"] | None = None,
) -> Scores:
    """Runs solvers on the same instances and compares their plans.

    A plan's own cost and feasibility are not trusted: both are computed from its assignment and shares. Its seconds
    are; where a solver leaves them 0, they are the time of its call divided by the number of instances.

    Args:
        solvers: Ours, and any object of yours with a method `solve(instances)` that returns a list of `Plan`.
        instances: To plan.
        reference: Of the ratios: a method's name, or known costs, such as a data set's labels; None: the cheapest plan
            of each instance.

    Raises:
        ValueError: A solver returns something else than a plan of each instance, or a "lower bound" above the cost of a
            feasible plan; solver and instance are named.

    Example:
        >>> class Nearest:
        ...     def solve(self, instances):
        ...         return [laegd.make_plan(one, one.costs.transmit_delay_s.argmin(axis=1)) for one in instances]
        >>> print(laegd.compare([Nearest(), laegd.ExactSolver(), laegd.load()], instances))
    """
    require(len(instances) > 0, "instances", "at least one instance", len(instances), "Draw some with laegd.draw.")
    names = [_name_of(solver, position) for position, solver in enumerate(solvers)]
    require(0 < len(set(names)) == len(names), "solvers", "different names", names, "Give each an attribute `name`.")
    plans, seconds = [], []
    for name, solver in zip(names, solvers, strict=True):
        begin = time.perf_counter()
        answered = solver.solve(instances)
        per_instance = (time.perf_counter() - begin) / len(instances)
        plans.append(_checked(name, instances, answered))
        own = np.array([plan.seconds for plan in answered], dtype=np.float64)
        seconds.append(own if own.any() else np.full(len(instances), per_instance))
    cost = np.array([[plan.cost if plan.feasible else np.inf for plan in row] for row in plans])
    name, reference_cost = _reference(reference, names, cost)
    ratio = np.where(np.isfinite(cost) & np.isfinite(reference_cost) & (reference_cost > 0), cost, np.nan)
    ratio /= np.where(reference_cost > 0, reference_cost, 1.0)
    gap = _gaps(names, cost, plans)
    return Scores(tuple(names), name, cost, ratio, gap, np.array(seconds), tuple(map(tuple, plans)))


def _name_of(solver: Planner, position: int) -> str:
    field = f"solvers[{position}]"
    able = callable(getattr(solver, "solve", None)) and not isinstance(solver, type)
    require(
        able, field, "an object with a method `solve(instances)`", solver, "Build one, such as laegd.ExactSolver()."
    )
    return str(getattr(solver, "name", type(solver).__name__))


def _checked(name: str, instances: Sequence[Instance], answered: Any) -> list[Plan]:
    """Returns the plans with feasibility and cost as they are; raises ValueError where one is none."""
    count = len(answered) if isinstance(answered, Sequence) else answered
    require(count == len(instances), name, f"{len(instances)} plans, one for each instance", count, "Correct `solve`.")
    plans = []
    for i, (instance, plan) in enumerate(zip(instances, answered, strict=True)):
        field = f"{name}, instance {i}"
        require(isinstance(plan, Plan), field, "a laegd.Plan", plan, "Build it with laegd.make_plan(instance, server).")
        if plan.feasible:
            try:
                plan = make_plan(instance, plan.server, name, plan.seconds, plan.lower_bound, plan.share)
            except ValueError as error:
                raise ValueError(f"{field}, {error}") from error
        plans.append(replace(plan, method=name))
    return plans


def _reference(
    reference: str | np.ndarray | None, names: Sequence[str], cost: Float[np.ndarray, "method instance"]
) -> tuple[str, Float[np.ndarray, "instance"]]:
    if reference is None:
        return CHEAPEST, cost.min(axis=0)
    if isinstance(reference, str):
        known = f"one of {', '.join(names)}"
        require(reference in names, "reference", known, reference, "Add that solver, or leave it out.")
        return reference, cost[names.index(reference)]
    given = np.asarray(reference, dtype=np.float64)
    expected = f"{cost.shape[1]} costs, one for each instance"
    require(given.shape == cost.shape[1:], "reference", expected, given.shape, "Correct its length.")
    return "given", given


def _gaps(
    names: Sequence[str], cost: Float[np.ndarray, "method instance"], plans: Sequence[Sequence[Plan]]
) -> Float[np.ndarray, "method instance"]:
    """Returns the certified gaps; raises ValueError where a bound cannot be."""
    bound = np.array([[-np.inf if one.lower_bound is None else one.lower_bound for one in row] for row in plans])
    best, least = bound.max(axis=0), cost.min(axis=0)
    for i in np.flatnonzero(best > least * (1.0 + BOUND_TOLERANCE)).tolist()[:1]:
        prover, cheapest = names[int(bound[:, i].argmax())], names[int(cost[:, i].argmin())]
        expected = f"a lower bound of at most {least[i]:.10g}, what a plan of {cheapest} costs"
        require(False, f"{prover}, instance {i}", expected, float(best[i]), "Correct its bound, or leave it None.")
    known = np.isfinite(cost) & np.isfinite(best)
    above = np.where(known, cost - best, np.nan)
    return np.maximum(above, 0.0) / np.where(known & (cost > 0), cost, 1.0)


def _reduced(function: Any, values: Float[np.ndarray, "method instance"], least: int = 1) -> np.ndarray:
    """Applies a statistic to the known values of each row; nan where there are fewer than `least`."""
    rows = [row[~np.isnan(row)] for row in values]
    return np.array([float(function(row)) if len(row) >= least else np.nan for row in rows])


def _text(value: float, form: str, unit: str = "") -> str:
    return "-" if np.isnan(value) else f"{value:{form}}{unit}"
