"""Local search: where it ends no single change helps, and what it thinks that a change costs is what it costs."""

from itertools import combinations

import numpy as np
import pytest

from laegd.problem.allocation import optimal_shares
from laegd.problem.feasibility import pack
from laegd.problem.instance import LOCAL, Instance
from laegd.problem.objective import is_feasible, plan_cost
from laegd.scenario.generator import Scale, ScenarioConfig, draw
from laegd.solvers.local_search import improve


def drawn(scale: str, count: int, seed: int, **config) -> list[Instance]:
    batch = draw(ScenarioConfig(**config), Scale.parse(scale), count, np.random.default_rng(seed))
    instances = [Instance.from_scenario(batch.scenario(i)) for i in range(count)]
    return [instance for instance in instances if pack(instance.costs) is not None]


def cost_of(instance: Instance, server: np.ndarray) -> float:
    share = optimal_shares(instance.costs, server)
    return float(plan_cost(instance.costs, server, share)) if is_feasible(instance.costs, server, share) else np.inf


def neighbours(instance: Instance, server: np.ndarray) -> list[np.ndarray]:
    """Every assignment one move or one swap away, one after the other."""
    usable, home = instance.costs.usable, instance.costs.local_allowed
    options = [[*np.flatnonzero(usable[u]), *([LOCAL] if home[u] else [])] for u in range(len(server))]
    found = []
    for u, places in enumerate(options):
        found += [np.where(np.arange(len(server)) == u, place, server) for place in places if place != server[u]]
    for u, v in combinations(range(len(server)), 2):
        if server[u] != server[v] and server[v] in options[u] and server[u] in options[v]:
            other = server.copy()
            other[[u, v]] = server[[v, u]]
            found.append(other)
    return found


@pytest.mark.parametrize("scale", ["gs2_gu4_au2", "gs3_gu7_au5", "gs6_gu14_au10"])
def test_no_move_and_no_swap_improves_the_end(scale):
    """Where the search ends, no neighbour of the plan is cheaper, priced as whole plans; and it ends no higher."""
    for instance in drawn(scale, 6, 3):
        start = pack(instance.costs)
        end = improve(instance.costs, start)
        best = cost_of(instance, end)
        assert best <= cost_of(instance, start) * (1 + 1e-12)
        assert min(cost_of(instance, other) for other in neighbours(instance, end)) >= best * (1 - 1e-9)


def test_every_step_is_the_best_one():
    """It ends where a search ends that prices all moves and swaps as whole plans and always takes the cheapest."""
    long = 0
    for instance in drawn("gs3_gu7_au5", 5, 4):
        start = pack(instance.costs)
        kept, server, steps = start.copy(), start, 0
        while True:
            best = min(neighbours(instance, server), key=lambda other: cost_of(instance, other))
            if cost_of(instance, best) >= cost_of(instance, server) * (1 - 1e-9):
                break
            server, steps = best, steps + 1
        np.testing.assert_array_equal(improve(instance.costs, start), server)
        np.testing.assert_array_equal(start, kept)  # it leaves its argument alone
        long += steps > 3
    assert long > 1


def test_limits_leave_a_whole_plan(monkeypatch):
    """No time, or room for few sets at once, few changes, or for few users: whole plans."""
    for instance in drawn("gs6_gu14_au10", 3, 5):
        start = pack(instance.costs)
        end = improve(instance.costs, start)
        np.testing.assert_array_equal(improve(instance.costs, start, deadline=0.0), start)
        np.testing.assert_array_equal(improve(instance.costs, start, max_changes=0), start)
        some = improve(instance.costs, start, max_changes=2)
        assert 0 < np.count_nonzero(some != start) <= 4
        assert cost_of(instance, end) < cost_of(instance, some) < cost_of(instance, start)
        with monkeypatch.context() as patch:
            patch.setattr("laegd.solvers.local_search._MEMBERS_AT_ONCE", 1)
            np.testing.assert_array_equal(improve(instance.costs, start), end)
            patch.setattr("laegd.solvers.local_search.MAX_USERS", instance.num_users - 1)
            np.testing.assert_array_equal(improve(instance.costs, start), start)
