"""Certified gaps of finished plans: the lower bound of the exact solver's relaxation, within a limit on its time."""

import time
from dataclasses import replace
from typing import Literal, get_args

from laegd.problem.instance import Instance, Plan
from laegd.scenario.scenario import require
from laegd.solvers.exact import ExactSolver

Certify = Literal["none", "quick", "full"]
"""How long plans are certified: not at all; for the smaller of 10 s and ten times the planning; or to the end."""

LONGEST_S = 10.0
TIMES_PLANNING = 10.0
SHORTEST_S = 0.5  # a plan of a millisecond is not worth less than that: most bounds take a few


def require_certify(how: Certify | bool) -> None:
    """Raises ValueError unless this says how to certify; True and False are what "full" and "none" were called."""
    known = isinstance(how, bool) or how in get_args(Certify)
    require(known, "certify", "one of none, quick, full", how, "Use quick.")


def certified(instance: Instance, plan: Plan, how: Certify | bool) -> Plan:
    """Returns the plan with a lower bound, where it is feasible and has none; adds the time that this took.

    What no network has planned, in microseconds perhaps, is certified for 10 s where `how` is "quick".
    """
    if how in ("none", False) or not plan.feasible or plan.lower_bound is not None:
        return plan
    limit_s = None if how in ("full", True) else LONGEST_S
    if limit_s is not None and plan.model_seconds:
        limit_s = min(limit_s, max(SHORTEST_S, TIMES_PLANNING * plan.seconds))
    begin = time.perf_counter()
    bound = ExactSolver(time_limit_s=limit_s).lower_bound(instance)
    return replace(plan, lower_bound=min(bound, plan.cost), certify_seconds=time.perf_counter() - begin)
