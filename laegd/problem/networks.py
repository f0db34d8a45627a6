"""Random networks that have a plan: the simulator's, with infeasible ones drawn again."""

import numpy as np

from laegd.problem.feasibility import packable
from laegd.problem.instance import InstanceBatch
from laegd.scenario.generator import Scale, ScenarioConfig
from laegd.scenario.generator import draw as draw_any
from laegd.scenario.scenario import Nodes, ScenarioBatch

MAX_REDRAWS = 100  # rounds of redrawing infeasible instances before the settings are called hopeless


def draw(
    config: ScenarioConfig, scale: Scale, count: int, rng: np.random.Generator, feasible: bool = True
) -> ScenarioBatch:
    """Draws random networks of one scale.

    Args:
        config: Settings of the simulator; their defaults are the paper's.
        scale: Numbers of ground servers, ground users and aerial users.
        count: How many networks.
        rng: Source of chance; the same state gives the same networks.
        feasible: Whether networks without a feasible plan are drawn again; else they stay.

    Raises:
        ValueError: The settings hardly allow a plan.

    Example:
        >>> scale = laegd.Scale.parse("gs3_gu7_au5")
        >>> scenarios = laegd.draw(laegd.ScenarioConfig(), scale, 100, np.random.default_rng(0))
    """
    return draw_feasible(config, scale, count, rng)[0] if feasible else draw_any(config, scale, count, rng)


def draw_feasible(
    config: ScenarioConfig, scale: Scale, count: int, rng: np.random.Generator
) -> tuple[ScenarioBatch, int]:
    """Draws networks that have a feasible plan; returns them and the number of redrawn ones."""
    batch = draw_any(config, scale, count, rng)
    redrawn = 0
    for _ in range(MAX_REDRAWS):
        bad = np.flatnonzero(~packable(InstanceBatch.from_scenarios(batch).costs))
        if len(bad) == 0:
            return batch, redrawn
        redrawn += len(bad)
        fresh = draw_any(config, scale, len(bad), rng)
        nodes = Nodes(*(values.copy() for values in batch.nodes))
        for old, new in zip(nodes, fresh.nodes, strict=True):
            old[bad] = new
        batch = ScenarioBatch(batch.channel, batch.chip_energy_factor, nodes)
    raise ValueError(
        f"scenario: Expected settings under which networks of {scale} have a plan, got {len(bad)} of {count} "
        f"without one after {MAX_REDRAWS} redraws. Raise deadline_s or the capacities, or lower the number of users."
    )
