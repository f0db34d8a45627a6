"""Sampler and proof together: the network's plan is the proof's upper bound.

A good plan from the start rules out columns by their reduced costs before any integer program is made, and stands as
the answer, with its certified gap, where the time is over first. So the plan is never worse than the sampler's, and
without a time limit it is the optimum.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from laegd.evaluation.gadsg import GADSG
from laegd.problem.instance import Instance, Plan
from laegd.solvers.exact import ExactSolver


@dataclass(frozen=True)
class Certified:
    """A network that proposes plans, and the exact solver that improves and certifies them."""

    network: GADSG
    exact: ExactSolver = field(default_factory=ExactSolver)
    """Its time limit is that of the proof, per instance, beside the time of the sampler."""
    name: str = "certified"

    def solve(self, instances: Sequence[Instance]) -> list[Plan]:
        """Returns the plan of each instance; an infeasible one names users that cannot be served together."""
        proposed = self.network.with_settings(certify=False).solve(instances)
        plans = []
        for instance, hint in zip(instances, proposed, strict=True):
            plan = self.exact.solve_one(instance, hint)
            sampled = {"model_seconds": hint.model_seconds, "decode_seconds": hint.decode_seconds}
            plans.append(replace(plan, method=self.name, seconds=hint.seconds + plan.seconds, **sampled))
        return plans
