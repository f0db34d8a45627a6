"""Proof and sampler together: where the proof takes longer than a moment, the network's plan is its upper bound.

A good plan rules out columns by their reduced costs, so that integer programs are smaller, and stands as the answer,
with its certified gap, where the time is over first. The network changes nothing but the incumbent: so a plan is the
optimum without a time limit, and within one it is worse neither than the network's, where that came in time, nor, but
for chance in the clock, than what the exact solver finds alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int

from laegd.problem.instance import Instance, Plan, Progress, solve_each
from laegd.solvers.exact import ExactSolver

if TYPE_CHECKING:
    from laegd.evaluation.gadsg import GADSG


@dataclass(frozen=True)
class Certified:
    """A network that proposes plans, and the exact solver that improves and certifies them."""

    network: "GADSG | None" = None
    """None: the network that ships, loaded when it is first asked, since most proofs need none. In jobs of several
    processes, which load together, give one."""
    exact: ExactSolver = field(default_factory=ExactSolver)
    """Its limits are those of both, per instance: where a limit comes before the network, which on a first call of a
    shape is compiled, the answer is that of the proof alone."""
    name: str = "certified"

    @cached_property
    def sampler(self) -> "GADSG":
        """The network that is asked."""
        if self.network is not None:
            return self.network
        from laegd.evaluation.gadsg import load  # loads JAX

        return load(certify=False)

    def solve(self, instances: Sequence[Instance], progress: Progress | None = None) -> list[Plan]:
        """Returns the plan of each instance; an infeasible one names users that cannot be served together."""
        return solve_each(self.solve_one, instances, progress)

    def solve_one(self, instance: Instance) -> Plan:
        """Solves one instance; the plan's model and decoding time are 0 where the network was not asked."""
        asked: list[Plan] = []

        def propose() -> Int[np.ndarray, "user"] | None:
            network = self.sampler
            if network.takes(instance):
                asked.extend(network.with_settings(certify=False).solve([instance]))
            return asked[0].server if asked and asked[0].feasible else None

        plan = replace(self.exact.solve_one(instance, propose), method=self.name)
        if not asked:
            return plan
        sampled = asked[0]  # the search asks once
        times = {"model_seconds": sampled.model_seconds, "decode_seconds": sampled.decode_seconds}
        return replace(plan, seconds=plan.seconds + sampled.seconds, **times)
