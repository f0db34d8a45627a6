"""Time and quality of decoding and polish on random beliefs: `python benchmarks/decoding.py [scale ...]`."""

import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from laegd.decoding.decode import DecodeConfig, decode, problem_of
from laegd.problem.feasibility import packable
from laegd.problem.instance import InstanceBatch
from laegd.scenario.generator import Scale, ScenarioConfig, draw

NUM_INSTANCES, NUM_SAMPLES, NUM_REPEATS = 128, 8, 5
SETTINGS = {
    "optimal shares": DecodeConfig(),
    "model's shares": DecodeConfig(allocation="model"),
    "polish 5 rounds": DecodeConfig(polish_rounds=5),
    "polish 20 rounds": DecodeConfig(polish_rounds=20),
    "polish 20 rounds, top 4": DecodeConfig(polish_rounds=20, polish_top=4),
}


def main(scales: list[str]) -> None:
    print(f"{'scale':16}{'settings':26}{'ms/instance':>12}{'cost':>9}{'undecoded':>11}")
    for scale in scales:
        rng = np.random.default_rng(0)
        costs = InstanceBatch.from_scenarios(draw(ScenarioConfig(), Scale.parse(scale), NUM_INSTANCES, rng)).costs
        problem = problem_of(costs)
        shape = (NUM_INSTANCES, NUM_SAMPLES, *problem.usable.shape[1:])
        belief, shares = jax.random.uniform(jax.random.key(0), (2, *shape))
        first = None
        for name, settings in SETTINGS.items():
            decoded = jax.block_until_ready(decode(belief, shares, problem, settings))
            first = decoded if first is None else first
            seconds = []
            for _ in range(NUM_REPEATS):
                start = time.perf_counter()
                jax.block_until_ready(decode(belief, shares, problem, settings))
                seconds.append(time.perf_counter() - start)
            both = decoded.feasible & first.feasible
            ratio = jnp.where(both, decoded.cost / first.cost, 0.0).sum() / both.sum()
            # Instances that have a feasible plan which decoding missed.
            missed = int((packable(costs) & ~np.asarray(decoded.feasible)).sum())
            print(f"{scale:16}{name:26}{np.median(seconds) / NUM_INSTANCES * 1e3:12.3f}{ratio:9.3f}{missed:11d}")


if __name__ == "__main__":
    main(sys.argv[1:] or ["gs3_gu7_au5", "gs9_gu20_au13"])
