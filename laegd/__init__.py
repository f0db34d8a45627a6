"""laegd: offloading plans with certified gaps for low-altitude networks, by graph-attention diffusion."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from laegd.evaluation.certified import Certified
    from laegd.evaluation.gadsg import GADSG, load
    from laegd.evaluation.picture import draw_plan, figure_of
    from laegd.evaluation.scores import Scores, compare
    from laegd.graphs.dataset import Dataset
    from laegd.problem.instance import LOCAL, Instance, InstanceBatch, Plan, Solver
    from laegd.problem.networks import draw
    from laegd.problem.objective import make_plan, violations
    from laegd.problem.plan_frame import plans_to_frame
    from laegd.problem.plan_json import plan_from_json, plan_to_json
    from laegd.scenario.generator import Scale, ScenarioConfig
    from laegd.scenario.scenario import Channel, Scenario, Server, User
    from laegd.solvers.exact import ExactSolver, lower_bound
    from laegd.solvers.mcmf import MCMFSolver, to_networkx

__version__ = version("laegd")

# Where each public name lives; imported when first asked for, so that `import laegd` does not wait for JAX.
_HOME = {
    "Certified": "laegd.evaluation.certified",
    "GADSG": "laegd.evaluation.gadsg",
    "load": "laegd.evaluation.gadsg",
    "draw_plan": "laegd.evaluation.picture",
    "figure_of": "laegd.evaluation.picture",
    "Scores": "laegd.evaluation.scores",
    "compare": "laegd.evaluation.scores",
    "Dataset": "laegd.graphs.dataset",
    "LOCAL": "laegd.problem.instance",
    "Instance": "laegd.problem.instance",
    "InstanceBatch": "laegd.problem.instance",
    "Plan": "laegd.problem.instance",
    "Solver": "laegd.problem.instance",
    "draw": "laegd.problem.networks",
    "make_plan": "laegd.problem.objective",
    "violations": "laegd.problem.objective",
    "plans_to_frame": "laegd.problem.plan_frame",
    "plan_from_json": "laegd.problem.plan_json",
    "plan_to_json": "laegd.problem.plan_json",
    "Scale": "laegd.scenario.generator",
    "ScenarioConfig": "laegd.scenario.generator",
    "Channel": "laegd.scenario.scenario",
    "Scenario": "laegd.scenario.scenario",
    "Server": "laegd.scenario.scenario",
    "User": "laegd.scenario.scenario",
    "ExactSolver": "laegd.solvers.exact",
    "lower_bound": "laegd.solvers.exact",
    "MCMFSolver": "laegd.solvers.mcmf",
    "to_networkx": "laegd.solvers.mcmf",
}

__all__ = [  # noqa: RUF022  # in the order of a user's work
    "Scenario", "Server", "User", "Channel", "Scale", "ScenarioConfig", "draw", "Dataset",
    "Instance", "InstanceBatch", "Plan", "LOCAL", "make_plan", "violations",
    "plan_to_json", "plan_from_json", "plans_to_frame", "draw_plan", "figure_of",
    "Solver", "ExactSolver", "lower_bound", "MCMFSolver", "to_networkx", "GADSG", "load", "Certified",
    "compare", "Scores",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'laegd' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
