"""laegd: offloading plans with certified gaps for low-altitude networks, by graph-attention diffusion."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from laegd.evaluation.certified import Certified
    from laegd.evaluation.gadsg import GADSG, load
    from laegd.evaluation.picture import draw_plan, figure_of
    from laegd.problem.instance import Instance, InstanceBatch, Plan, Solver
    from laegd.problem.objective import violations
    from laegd.scenario.generator import Scale, ScenarioConfig, draw
    from laegd.scenario.scenario import Scenario
    from laegd.solvers.exact import ExactSolver, lower_bound
    from laegd.solvers.mcmf import MCMFSolver

__version__ = version("laegd")

# Where each public name lives; imported when first asked for, so that `import laegd` does not wait for JAX.
_HOME = {
    "Certified": "laegd.evaluation.certified",
    "GADSG": "laegd.evaluation.gadsg",
    "load": "laegd.evaluation.gadsg",
    "draw_plan": "laegd.evaluation.picture",
    "figure_of": "laegd.evaluation.picture",
    "Instance": "laegd.problem.instance",
    "InstanceBatch": "laegd.problem.instance",
    "Plan": "laegd.problem.instance",
    "Solver": "laegd.problem.instance",
    "violations": "laegd.problem.objective",
    "Scale": "laegd.scenario.generator",
    "ScenarioConfig": "laegd.scenario.generator",
    "draw": "laegd.scenario.generator",
    "Scenario": "laegd.scenario.scenario",
    "ExactSolver": "laegd.solvers.exact",
    "lower_bound": "laegd.solvers.exact",
    "MCMFSolver": "laegd.solvers.mcmf",
}

__all__ = [  # noqa: RUF022  # in the order of a user's work
    "Scenario", "Scale", "ScenarioConfig", "draw", "Instance", "InstanceBatch", "Plan", "violations",
    "Solver", "ExactSolver", "lower_bound", "MCMFSolver", "GADSG", "load", "Certified", "draw_plan", "figure_of",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'laegd' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
