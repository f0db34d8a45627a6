"""What must hold of any plan of any solver, judged by the independent program."""

import math
import os
from typing import NoReturn

import independent
import pytest


def missing(what: str, reason: str) -> NoReturn:
    """Skips a test that lacks something of the machine, or fails it where LAEGD_REQUIRE_<what> is 1, as in CI."""
    required = os.environ.get(f"LAEGD_REQUIRE_{what}") == "1"
    (pytest.fail if required else pytest.skip)(reason)


def check(scenario, plan) -> None:
    """A feasible plan obeys every constraint and costs what it says; one with a bound costs at least that."""
    if not plan.feasible:
        assert (plan.server == -1).all() and plan.cost == math.inf and plan.gap is None
        return
    assert independent.faults(scenario, plan) == []
    assert math.isclose(plan.cost, independent.cost(scenario, plan), rel_tol=1e-9)
    if plan.lower_bound is not None:
        assert 0 <= plan.lower_bound <= plan.cost and 0 <= plan.gap <= 1


def check_refusal(scenario, plan) -> None:
    """The users named miss their deadlines at home and cannot be served together; all others can be."""
    named = [u for u, user in enumerate(scenario.users) if user.id in plan.unserved]
    assert len(named) == len(plan.unserved) > 0
    assert not independent.can_serve(scenario, named, -independent.TOLERANCE)
    for user in (scenario.users[u] for u in named):
        assert independent.local_delay_s(user) > user.deadline_s * (1 - independent.TOLERANCE)
    others = [u for u in range(len(scenario.users)) if u not in named]
    assert independent.can_serve(scenario, others, independent.TOLERANCE)


def check_against_optimum(scenario, plan) -> float:
    """No plan is cheaper than the optimum over all assignments, and none is refused that exists; returns the optimum.

    Where deadlines or servers are met exactly, rounding may decide either way: the optimum lies between the two.
    """
    check(scenario, plan)
    most = independent.optimum(scenario, -independent.TOLERANCE)
    if plan.feasible:
        least = independent.optimum(scenario, independent.TOLERANCE)
        assert plan.cost >= least * (1 - 1e-9)
        assert plan.lower_bound is None or plan.lower_bound <= most * (1 + 1e-9)
    else:
        assert most == math.inf
        check_refusal(scenario, plan)
    return most
