"""Scenarios a second on one core: drawn, and drawn with all link and cost values.

python benchmarks/simulator.py
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import statistics
import time

import numpy as np

from laegd.problem.instance import InstanceBatch
from laegd.scenario.generator import Scale, ScenarioConfig, draw

COUNT, REPEATS = 1000, 7


def main() -> None:
    for name in ("gs2_gu4_au2", "gs3_gu7_au5", "gs6_gu14_au10", "gs9_gu20_au13"):
        scale, rates = Scale.parse(name), []
        for seed in range(REPEATS):
            begin = time.process_time()
            scenarios = draw(ScenarioConfig(), scale, COUNT, np.random.default_rng(seed))
            drawn = time.process_time()
            InstanceBatch.from_scenarios(scenarios)
            end = time.process_time()
            rates.append((COUNT / (drawn - begin), COUNT / (end - begin)))
        drawn_rate, priced_rate = (statistics.median(column) for column in zip(*rates, strict=True))
        print(f"{name}: {drawn_rate:,.0f} drawn, {priced_rate:,.0f} with costs, per second of CPU time")


if __name__ == "__main__":
    main()
