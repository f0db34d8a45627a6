"""Drawn networks have a plan unless asked otherwise, from the same chance."""

import numpy as np

from laegd.problem.feasibility import packable
from laegd.problem.instance import InstanceBatch
from laegd.problem.networks import draw, draw_feasible
from laegd.scenario.generator import Scale, ScenarioConfig
from laegd.scenario.generator import draw as draw_any

HARD = ScenarioConfig(deadline_s=1.2)
SCALE = Scale.parse("gs2_gu4_au2")


def test_networks_have_a_plan():
    """Where chance alone leaves some without; those that have one are the same."""
    drawn, any_ = draw(HARD, SCALE, 40, np.random.default_rng(0)), draw_any(HARD, SCALE, 40, np.random.default_rng(0))
    had = packable(InstanceBatch.from_scenarios(any_).costs)
    assert 0 < had.sum() < 40
    assert packable(InstanceBatch.from_scenarios(drawn).costs).all()
    for ours, theirs in zip(drawn.nodes, any_.nodes, strict=True):
        np.testing.assert_array_equal(ours[had], theirs[had])


def test_infeasible_networks_can_be_asked_for():
    """Then chance decides alone."""
    drawn = draw(HARD, SCALE, 40, np.random.default_rng(0), feasible=False)
    for ours, theirs in zip(drawn.nodes, draw_any(HARD, SCALE, 40, np.random.default_rng(0)).nodes, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_data_sets_draw_the_same_networks():
    """One way to draw again, so that a seed means the same everywhere."""
    batch, redrawn = draw_feasible(HARD, SCALE, 40, np.random.default_rng(0))
    assert redrawn > 0
    for ours, theirs in zip(draw(HARD, SCALE, 40, np.random.default_rng(0)).nodes, batch.nodes, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_none_can_be_drawn():
    """Zero networks are a batch of length 0."""
    assert len(draw(HARD, SCALE, 0, np.random.default_rng(0))) == 0
