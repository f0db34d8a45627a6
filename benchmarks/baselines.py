"""Measures the classical baselines against the certified optimum and prints the tables of docs/baselines.md.

    python benchmarks/baselines.py

Quick but for mcmf-search, which therefore solves only the first instances of the larger scales.
"""

from dataclasses import replace

import numpy as np
import tyro

from laegd.evaluation.benchmark import ACCURATE_BELOW
from laegd.graphs.shards import draw_feasible
from laegd.problem.instance import InstanceBatch, Solver
from laegd.problem.objective import violations
from laegd.scenario.generator import Scale, ScenarioConfig
from laegd.solvers.alternating import AlternatingOptimization
from laegd.solvers.exact import ExactSolver
from laegd.solvers.mcmf import MCMF_SEARCH, MCMFSolver
from laegd.solvers.random_execution import RandomExecution

SEARCHED = {"gs3_gu7_au5": 100, "gs6_gu14_au10": 40, "gs9_gu20_au13": 24}  # instances that mcmf-search solves
HEADINGS = ("method", "instances", "mean ratio", "s.e.", "median", "95 %", "accuracy", "infeasible", "optimal", "ms")
OPTIMAL_BELOW = 1.0 + 1e-9


def table_row(solver: Solver, instances: InstanceBatch, optimum: np.ndarray) -> str:
    """Solves and returns a row in Markdown."""
    plans = solver.solve(instances)
    feasible = np.array([plan.feasible and not violations(i, plan) for i, plan in zip(instances, plans, strict=True)])
    every = np.where(feasible, [plan.cost for plan in plans], np.inf) / optimum
    ratio = every[feasible]
    cells = [
        solver.name,
        str(len(plans)),
        f"{ratio.mean():.4f}",
        f"{ratio.std(ddof=1) / np.sqrt(len(ratio)):.4f}",
        f"{np.median(ratio):.4f}",
        f"{np.quantile(ratio, 0.95):.4f}",
        *(f"{100 * share:.0f} %" for share in ((every < ACCURATE_BELOW).mean(), 1.0 - feasible.mean())),
        f"{100 * (every < OPTIMAL_BELOW).mean():.0f} %",
        f"{1e3 * np.mean([plan.seconds for plan in plans]):.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def main(
    scales: tuple[str, ...] = tuple(SEARCHED),
    count: int = 100,
    seed: int = 91,
    search_weights: tuple[int, ...] = (MCMF_SEARCH.num_weights,),
) -> None:
    """Prints a table per scale.

    Args:
        scales: of networks.
        count: of instances per scale.
        seed: of the instances.
        search_weights: numbers of weight vectors of mcmf-search, a row each; none: without it.
    """
    for scale in scales:
        scenarios, _ = draw_feasible(ScenarioConfig(), Scale.parse(scale), count, np.random.default_rng(seed))
        instances = InstanceBatch.from_scenarios(scenarios)
        optimum = np.array([plan.cost for plan in ExactSolver().solve(instances)])
        print(f"\n{scale}, seed {seed}\n\n| {' | '.join(HEADINGS)} |\n|---|{'---:|' * (len(HEADINGS) - 1)}")
        for solver in (RandomExecution(), AlternatingOptimization(), MCMFSolver()):
            print(table_row(solver, instances, optimum), flush=True)
        first = min(count, SEARCHED.get(scale, count))
        for number in search_weights:
            name = f"{MCMF_SEARCH.name}, {number} weights"
            solver = replace(MCMF_SEARCH, num_weights=number, name=name)
            print(table_row(solver, instances[:first], optimum[:first]), flush=True)


if __name__ == "__main__":
    tyro.cli(main)
