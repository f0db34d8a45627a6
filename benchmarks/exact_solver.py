"""Prints how long the exact solver takes per instance: `python benchmarks/exact_solver.py [--count 100]`."""

import argparse

import numpy as np

from laegd.problem.instance import InstanceBatch
from laegd.scenario.generator import Scale, ScenarioConfig, draw
from laegd.solvers.exact import ExactSolver

SCALES = ("gs2_gu4_au2", "gs3_gu7_au5", "gs6_gu14_au10", "gs9_gu20_au13")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scales", nargs="+", default=SCALES)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--time-limit-s", type=float, default=None)
    options = parser.parse_args()
    print(f"{'scale':<16} {'median s':>9} {'p95 s':>9} {'mean s':>9} {'feasible':>9} {'largest gap':>12}")
    for name in options.scales:
        scenarios = draw(ScenarioConfig(), Scale.parse(name), options.count, np.random.default_rng(options.seed))
        plans = ExactSolver(time_limit_s=options.time_limit_s).solve(InstanceBatch.from_scenarios(scenarios))
        seconds = np.array([plan.seconds for plan in plans])
        gap = max((plan.gap for plan in plans if plan.gap is not None), default=float("nan"))
        feasible = np.mean([plan.feasible for plan in plans])
        median, p95 = np.quantile(seconds, [0.5, 0.95])
        print(f"{name:<16} {median:9.4f} {p95:9.4f} {seconds.mean():9.4f} {feasible:9.3f} {gap:12.2e}")


if __name__ == "__main__":
    main()
