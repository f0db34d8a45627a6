"""Solvers by name, with the settings that `solve` and `evaluate` share."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import arg

if TYPE_CHECKING:
    from laegd.evaluation.gadsg import GADSG, PlanConfig
    from laegd.problem.instance import Solver

METHODS = ("gadsg", "random-belief", "mcmf", "exact")

# Help shows what an option takes, not that it may be left out: its text says what happens then.
OptionalPath = Annotated[Path | None, arg(metavar="PATH", help_behavior_hint="")]
OptionalInt = Annotated[int | None, arg(metavar="INT", help_behavior_hint="")]
OptionalFloat = Annotated[float | None, arg(metavar="FLOAT", help_behavior_hint="")]


@dataclass(frozen=True)
class Sampling:
    """Of gadsg and random-belief; what is left out is as in the run's settings."""

    checkpoint: OptionalPath = None
    """Run folder, for gadsg."""
    samples: OptionalInt = None
    """Samples N per instance, the best one is kept; default: 8."""
    steps: OptionalInt = None
    """Sampling steps."""
    allocation: Annotated[Literal["optimal", "model"] | None, arg(metavar="{optimal,model}", help_behavior_hint="")] = (
        None
    )
    """Shares in closed form, or the network's own."""
    polish: OptionalInt = None
    """Rounds of local search after decoding."""
    seed: int = 0
    """Seed of the samples."""

    def applied_to(self, base: "PlanConfig") -> "PlanConfig":
        """Returns the run's settings with what was given in their place."""
        sampler = base.sampler if self.steps is None else replace(base.sampler, num_steps=self.steps)
        decode = base.decode
        if self.allocation is not None:
            decode = replace(decode, allocation=self.allocation)
        if self.polish is not None:
            decode = replace(decode, polish_rounds=self.polish)
        num_samples = base.num_samples if self.samples is None else self.samples
        return replace(base, num_samples=num_samples, sampler=sampler, decode=decode, seed=self.seed, certify=False)


AS_TRAINED = Sampling()


def make_solvers(names: Sequence[str], sampling: Sampling, time_limit_s: float | None) -> "list[Solver]":
    """Builds the named solvers; a network is loaded once."""
    from laegd.solvers.exact import ExactSolver
    from laegd.solvers.mcmf import MCMFSolver

    for name in names:
        if name not in METHODS:
            raise ValueError(
                f"--methods: Expected some of {', '.join(METHODS)}, got {name!r}. Separate them by commas."
            )
        if names.count(name) > 1:
            raise ValueError(f"--methods: Expected each method once, got {name} twice. Remove one.")
    if "gadsg" in names and sampling.checkpoint is None:
        raise ValueError("--checkpoint: Expected a run folder for method gadsg, got none. Train one first.")
    exact = ExactSolver(time_limit_s=time_limit_s)
    sampled = _sampled_solvers(sampling) if {"gadsg", "random-belief"} & set(names) else {}
    return [{"exact": exact, "mcmf": MCMFSolver(), **sampled}[name] for name in names]


def _sampled_solvers(sampling: Sampling) -> "dict[str, GADSG]":
    from laegd.evaluation.gadsg import PlanConfig, load, random_belief

    network = load(sampling.checkpoint) if sampling.checkpoint is not None else None
    settings = sampling.applied_to(network.settings if network else PlanConfig())
    solvers = {"random-belief": random_belief(settings)}
    if network is not None:
        solvers["gadsg"] = replace(network, settings=settings)
    return solvers


def settings_of(solver: "Solver") -> dict[str, Any]:
    """Returns all settings of a solver, for result files."""
    from laegd.evaluation.gadsg import GADSG
    from laegd.scenario.scenario import settings_to_dict

    if not isinstance(solver, GADSG):
        return settings_to_dict(solver)
    plan, loaded = settings_to_dict(solver.settings), solver.loaded
    return plan | ({"experiment": loaded.config.to_dict(), "step": loaded.step} if loaded else {})
