"""Solvers by name, with the settings that `solve`, `evaluate` and `sweep` share."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import arg

if TYPE_CHECKING:
    from laegd.evaluation.gadsg import GADSG, PlanConfig
    from laegd.problem.instance import Solver
    from laegd.solvers.exact import ExactSolver

LEARNED = ("grlo", "gdsg", "gdsg-both", "gadsg", "gadsg-directed")
METHODS = ("re", "ao", "mcmf", "mcmf-search", *LEARNED, "random-belief", "certified", "exact")

# Help shows what an option takes, not that it may be left out: its text says what happens then.
OptionalPath = Annotated[Path | None, arg(metavar="PATH", help_behavior_hint="")]
OptionalInt = Annotated[int | None, arg(metavar="INT", help_behavior_hint="")]
OptionalFloat = Annotated[float | None, arg(metavar="FLOAT", help_behavior_hint="")]
OptionalName = Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")]
OptionalNames = Annotated[str | None, arg(metavar="NAME,NAME,...", help_behavior_hint="")]


@dataclass(frozen=True)
class Sampling:
    """Of learned methods and random-belief; what is left out is as in the run's settings."""

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
    polish_top: OptionalInt = None
    """How many of an instance's cheapest candidates local search starts from; default: 1. Whole cities: always 1."""
    seed: int = 0
    """Seed of the samples, and of re."""

    def applied_to(self, base: "PlanConfig") -> "PlanConfig":
        """Returns the run's settings with what was given in their place."""
        sampler = base.sampler if self.steps is None else replace(base.sampler, num_steps=self.steps)
        decode = base.decode
        if self.allocation is not None:
            decode = replace(decode, allocation=self.allocation)
        if self.polish is not None:
            decode = replace(decode, polish_rounds=self.polish)
        if self.polish_top is not None:
            if not decode.polish_rounds:
                raise ValueError("--polish-top: Expected it with local search, got none. Give --polish too.")
            decode = replace(decode, polish_top=self.polish_top)
        num_samples = base.num_samples if self.samples is None else self.samples
        return replace(base, num_samples=num_samples, sampler=sampler, decode=decode, seed=self.seed, certify="none")


AS_TRAINED = Sampling()


@dataclass(frozen=True)
class ProofLimits:
    """Of proofs: at one of them the best plan is the answer, with its gap."""

    time_limit_s: OptionalFloat = None
    """Per instance, for exact and certified; default: none."""
    memory_limit_mib: OptionalFloat = None
    """For exact and certified; default: half of what the machine, or its control group, has."""

    def solver(self) -> "ExactSolver":
        """Returns the exact solver within these limits."""
        from laegd.solvers.exact import ExactSolver

        memory = self.memory_limit_mib
        if memory is not None and not (math.isfinite(memory) and memory >= 1):
            raise ValueError(f"--memory-limit-mib: Expected at least 1 MiB, got {memory:g}. Give e.g. 4096.")
        return ExactSolver(
            time_limit_s=self.time_limit_s, memory_limit_bytes=None if memory is None else int(memory * 2**20)
        )

    def require_heeded(self, proves: bool, expected: str) -> None:
        """Raises ValueError where a limit is given to methods that have none; `expected` tells what they are."""
        for option, value in (("--time-limit-s", self.time_limit_s), ("--memory-limit-mib", self.memory_limit_mib)):
            if value is not None and not proves:
                raise ValueError(f"{option}: {expected}")


WITHOUT_LIMITS = ProofLimits()


def split_names(text: str, option: str = "--methods") -> list[str]:
    """Reads method names separated by commas; raises ValueError at one that is unknown or there twice."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        check_name(name, option)
        if names.count(name) > 1:
            raise ValueError(f"{option}: Expected each method once, got {name} twice. Remove one.")
    return names


def check_name(name: str, option: str) -> None:
    """Raises ValueError unless a method has this name."""
    if name.startswith("exact@"):
        _time_limit(name, option)
    elif name not in METHODS:
        known = ", ".join((*METHODS, "exact@SECONDS"))
        remedy = "Separate them by commas." if option == "--methods" else "Name one of them."
        raise ValueError(f"{option}: Expected one of {known}, got {name!r}. {remedy}")


def _time_limit(name: str, option: str) -> float:
    try:
        seconds = float(name.removeprefix("exact@"))
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"{option}: Expected exact@SECONDS with a number above 0, got {name!r}. Write exact@0.1.")
    return seconds


def is_model_free(name: str) -> bool:
    """Tells whether the method runs on the host, without JAX."""
    return name not in (*LEARNED, "random-belief", "certified")


def make_model_free(
    name: str, seed: int = 0, limits: ProofLimits = WITHOUT_LIMITS, option: str = "--methods"
) -> "Solver":
    """Builds a solver that needs no network."""
    match name:
        case "re":
            from laegd.solvers.random_execution import RandomExecution

            return RandomExecution(seed=seed)
        case "ao":
            from laegd.solvers.alternating import AlternatingOptimization

            return AlternatingOptimization()
        case "mcmf":
            from laegd.solvers.mcmf import MCMFSolver

            return MCMFSolver()
        case "mcmf-search":
            from laegd.solvers.mcmf import MCMF_SEARCH

            return MCMF_SEARCH
    solver = limits.solver()
    return solver if name == "exact" else replace(solver, name=name, time_limit_s=_time_limit(name, option))


def make_solvers(
    names: Sequence[str] | None,
    checkpoints: Sequence[Path],
    sampling: Sampling,
    limits: ProofLimits = WITHOUT_LIMITS,
    option: str = "--methods",
) -> "list[Solver]":
    """Builds the named solvers; a network is loaded once. None: all that the given runs allow.

    Without a run, gadsg and certified take the network that ships with laegd.
    """
    for name in names or ():
        if name in LEARNED and name != "gadsg" and not checkpoints:
            raise ValueError(f"--checkpoint: Expected a run folder for method {name}, got none. Train one first.")
    host: dict[str, Solver] = {
        name: make_model_free(name, sampling.seed, limits, option) for name in (names or METHODS) if is_model_free(name)
    }
    if not checkpoints and sampling == AS_TRAINED and {*(names or ())} - host.keys() == {"certified"}:
        from laegd.evaluation.certified import Certified

        host["certified"] = Certified(exact=limits.solver())  # loads its network when it asks
    elif not checkpoints and {"gadsg", "certified"} & {*(names or ())}:
        from laegd.training.model_file import DEFAULT  # loads JAX, which the other methods do not need

        checkpoints = [Path(DEFAULT)]
    needed = bool(checkpoints) if names is None else not host.keys() >= set(names)
    if not needed and (checkpoints or replace(sampling, seed=AS_TRAINED.seed) != AS_TRAINED):
        given = "--checkpoint" if checkpoints else "--samples and other settings of sampling"
        raise ValueError(
            f"{option}: Expected a method that samples, such as gadsg, with {given}, got {', '.join(names or host)}. "
            "Name one, or leave that out."
        )
    sampled = _sampled_solvers(checkpoints, sampling, limits) if needed else {}
    if names is None:
        first = ["re", "ao", "mcmf"]
        names = [*first, *(name for name in METHODS if name in sampled and name != "certified"), "exact"]
    for name in names:
        if name not in host and name not in sampled:
            have = ", ".join(sampled.keys() - {"random-belief", "certified"})
            raise ValueError(f"--checkpoint: Expected a run folder for method {name}, got runs of {have}. Add one.")
    return [host[name] if name in host else sampled[name] for name in names]


def load_network(run: Path, sampling: Sampling) -> "GADSG":
    """Loads a run as a solver of its method, with the given settings in place of its own."""
    from laegd.evaluation.gadsg import load

    network = load(run)
    return replace(network, settings=sampling.applied_to(network.settings))


def _sampled_solvers(checkpoints: Sequence[Path], sampling: Sampling, limits: ProofLimits) -> "dict[str, Solver]":
    from laegd.evaluation.certified import Certified
    from laegd.evaluation.gadsg import PlanConfig, random_belief

    networks: dict[str, GADSG] = {}
    folders: dict[str, Path] = {}
    for run in checkpoints:
        network = load_network(run, sampling)
        if network.name in networks:
            raise ValueError(
                f"--checkpoint: Expected one run per method, got {folders[network.name]} and {run}, both "
                f"{network.name}. Compare runs of one method with `laegd sweep`."
            )
        networks[network.name], folders[network.name] = network, run
    settings = next((network.settings for network in networks.values()), None)
    chance = random_belief(sampling.applied_to(PlanConfig()) if settings is None else settings)
    solvers: dict[str, Solver] = {**networks, "random-belief": chance}
    if "gadsg" in networks:
        solvers["certified"] = Certified(networks["gadsg"], limits.solver())
    return solvers


def settings_of(solver: "Solver") -> dict[str, Any]:
    """Returns all settings of a solver, for result files; of a network also what tells it from others."""
    from laegd.evaluation.certified import Certified
    from laegd.evaluation.gadsg import GADSG
    from laegd.scenario.scenario import settings_to_dict

    if isinstance(solver, Certified):
        return {"network": settings_of(solver.sampler), "exact": settings_to_dict(solver.exact)}
    if not isinstance(solver, GADSG):
        return settings_to_dict(solver)
    plan, loaded = settings_to_dict(solver.settings), solver.loaded
    if loaded is None:
        return plan
    return plan | {"experiment": loaded.config.to_dict(), "step": loaded.step, "weights": _digest(loaded.params)}


def _digest(params: Any) -> str:
    """Returns the first 16 hexadecimal digits of the SHA-256 of a network's parameters."""
    import jax
    import numpy as np

    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()[:16]
