"""The command that plans: `solve`."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, Positional, arg

from laegd.cli.console import Infeasible, Interrupted, Preempted, progress_bar, say, tell
from laegd.cli.methods import (
    AS_TRAINED,
    WITHOUT_LIMITS,
    OptionalPath,
    ProofLimits,
    Sampling,
    check_name,
    is_model_free,
    make_solvers,
    settings_of,
)
from laegd.cli.process import Terminated
from laegd.cli.scenarios import Sources, Task, Tasks, tasks

if TYPE_CHECKING:
    from laegd.evaluation.bounds import Certify
    from laegd.problem.instance import Instance, Plan, Solver
    from laegd.scenario.scenario import Scenario

OptionalCertify = Annotated[
    Literal["none", "quick", "full"] | None, arg(metavar="{none,quick,full}", help_behavior_hint="")
]


def solve(
    scenarios: Annotated[Positional[tuple[Path, ...]], arg(metavar="SCENARIO ...", help_behavior_hint="(required)")],
    out: OptionalPath = None,
    method: str = "exact",
    checkpoint: OptionalPath = None,
    certify: OptionalCertify = None,
    picture: OptionalPath = None,
    overwrite: Annotated[bool, FlagCreatePairsOff] = False,
    limits: Annotated[ProofLimits, OmitArgPrefixes] = WITHOUT_LIMITS,
    sampling: Annotated[Sampling, OmitArgPrefixes] = AS_TRAINED,
) -> None:
    """Plans one or several scenarios; each plan comes with its certified gap.

    Of several, each plan is written when it is made. The same command skips those that are there, and goes past a
    scenario that cannot be read: code 2 at the end.

    Args:
        scenarios: Scenario files, JSON; folders of them; lists, *.jsonl, of one a line; or - for such a list on
            standard input.
        out: Plan file; for several scenarios a folder, where each plan has its scenario's file name. The plans of a
            list are a list; those of - go to standard output where this is left out.
        method: How to plan: re, ao, mcmf, mcmf-search, grlo, gdsg, gdsg-both, gadsg, gadsg-directed, random-belief,
            certified (exact, which asks gadsg where a proof takes long), exact or exact@SECONDS.
        checkpoint: Run folder or file of a learned method; default: the network that ships with laegd.
        certify: How long the gap of a plan is computed, for methods that prove nothing: none; quick (default), at most
            10 s and, for what a network plans, ten times the planning (half a second at least); or full.
        picture: Also draws the plan, as .png, .svg or .pdf; for several scenarios a folder of pictures.
        overwrite: Plans anew what the same command has planned before.
        limits: Of exact and certified.
        sampling: Settings of learned methods and random-belief.
    """
    check_name(method, "--method")
    _require_effects(method, limits, certify, sampling)
    sources = Sources.of(scenarios)
    todo = tasks(sources, out, picture, [checkpoint])
    if picture is not None:
        from laegd.evaluation.picture import require_drawable, require_matplotlib

        if sources.many or picture.is_dir():
            require_matplotlib()
        else:
            require_drawable(picture)
    run = _Run(
        todo,
        method,
        lambda: make_solvers([method], [checkpoint] if checkpoint else [], sampling, limits, "--method")[0],
        certify or "quick",
        overwrite,
        alone=not (sources.many or sources.lists),
    )
    if is_model_free(method):
        run.solver  # noqa: B018  # costs nothing, and tells of bad options before anything is read
    with progress_bar("solve") as report:
        run.all(report)


def _require_effects(method: str, limits: ProofLimits, certify: str | None, sampling: Sampling) -> None:
    """Raises ValueError at the first option that the method does not heed."""
    proves = method in ("certified", "exact") or method.startswith("exact@")

    def one(expected: str) -> str:
        return f"Expected a method that heeds it, {expected}, got {method}. Leave that out."

    limits.require_heeded(method in ("exact", "certified"), one("exact or certified"))
    heeded = {
        "--certify": (certify is None or not proves, "one that does not prove its gap itself"),
        "--seed": (sampling.seed == 0 or not is_model_free(method) or method == "re", "one that draws, such as re"),
    }
    for option, (sound, expected) in heeded.items():
        if not sound:
            raise ValueError(f"{option}: {one(expected)}")


@dataclass
class _Run:
    """A call of `solve`: what it plans with, and what it has met."""

    tasks: Tasks
    method: str
    make_solver: "Callable[[], Solver]"
    certify: "Certify"
    overwrite: bool
    alone: bool
    """Whether it is one scenario in a file of its own, whose problems end the command."""
    done: int = 0
    kept: int = 0
    bad: int = 0
    infeasible: int = 0
    warned: set[str] = field(default_factory=set)

    @cached_property
    def solver(self) -> "Solver":
        """Loaded when a scenario needs it: one that has no plan does not."""
        return self.make_solver()

    def all(self, report: Callable[[int, int, str], None]) -> None:
        """Answers all; raises at the end where some could not be."""
        try:
            for task in self.tasks:
                self._one(task, lambda what, name=task.name: report(self.done, self._total, f"{name}: {what}"))
                self.done += 1
                report(self.done, self._total, "")
        except KeyboardInterrupt as error:
            if self.alone or not self.done:
                raise
            end = Preempted if isinstance(error, Terminated) else Interrupted
            where = f"stopped with {self.done} of {self._total} scenarios done"
            raise end(f"{where}; their plans are kept, the same command goes on from there") from None
        if self.kept:
            say(f"{self.kept} of {self.done} plans were there before; --overwrite makes them anew")
        if self.bad:
            raise ValueError(
                f"scenarios: Expected {self.done} that can be planned, got {self.bad} that cannot, named above"
            )
        if self.infeasible:
            raise Infeasible("")

    @property
    def _total(self) -> int:
        return self.done if self.tasks.total is None else self.tasks.total

    def _one(self, task: Task, report: Callable[[str], None]) -> None:
        from laegd.problem.instance import Instance
        from laegd.problem.objective import infeasible_plan
        from laegd.problem.plan_json import plan_to_json
        from laegd.problem.shortfall import shortfalls

        try:
            scenario = _read(task)
            instance = Instance.from_scenario(scenario)
        except ValueError as error:
            return self._refuse(task, error)
        self._warn(task, scenario)
        report("planning")
        lacking = shortfalls(instance)
        if lacking:
            names = {name for one in lacking for name in one.users}
            plan = infeasible_plan(instance, self.method, tuple(u for u in instance.user_ids if u in names))
            task.write(plan_to_json(instance, plan))
            return self._tell_infeasible(task, "no feasible plan: " + "; ".join(map(str, lacking)))
        origin = self._origin(scenario)
        if not self.overwrite and self._keep(task, instance, origin):
            return None
        try:
            plan = self._plan(instance, report)
        except ValueError as error:
            return self._refuse(task, error)
        task.write(plan_to_json(instance, plan, origin if plan.feasible else ""))
        if not plan.feasible:
            return self._tell_infeasible(task, "no feasible plan found; it is not proved that there is none")
        if not task.quiet:
            say(f"{task.name}: {_describe(instance, plan, self._devices(plan))}")
        self._draw(task, instance, plan)

    def _plan(self, instance: "Instance", report: Callable[[str], None]) -> "Plan":
        from laegd.evaluation.bounds import certified

        (plan,) = self.solver.solve([instance])
        report("certifying" if self.certify == "full" else "certifying, at most 10 s")
        return certified(instance, plan, self.certify)

    def _devices(self, plan: "Plan") -> str:
        """Names what a network has computed on; nothing where none has."""
        if is_model_free(self.method) or (self.method == "certified" and not plan.model_seconds):
            return ""
        from laegd.training.devices import devices_in_use

        return devices_in_use()

    def _origin(self, scenario: "Scenario") -> str:
        """Names scenario, method and settings: a plan of the same ones need not be made again."""
        digest = hashlib.sha256(scenario.to_json())
        settings = {"settings": self._settings(), "method": self.method, "certify": self.certify}
        digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
        return digest.hexdigest()[:32]

    def _settings(self) -> object:
        """Returns the solver's settings, without loading a network that it has not loaded itself."""
        from laegd.scenario.scenario import settings_to_dict

        solver: Any = self.solver
        if is_model_free(self.method):
            return settings_to_dict(solver)
        if self.method != "certified":
            return settings_of(solver)
        return settings_to_dict(solver.exact), solver.network and settings_of(solver.network)

    def _keep(self, task: Task, instance: "Instance", origin: str) -> bool:
        """Takes a plan that is there over; False: there is none of this origin."""
        from laegd.problem.plan_json import plan_from_json

        content = task.finished(origin)
        if content is None:
            return False
        try:
            plan = plan_from_json(instance, content)
        except ValueError:  # damaged
            return False
        task.write(content)
        if task.picture is not None and not task.picture.exists():
            self._draw(task, instance, plan)
        self.kept += 1
        return True

    def _draw(self, task: Task, instance: "Instance", plan: "Plan") -> None:
        if task.picture is not None:
            from laegd.evaluation.picture import draw_plan

            draw_plan(instance, plan, task.picture)

    def _warn(self, task: Task, scenario: "Scenario") -> None:
        """Tells of odd values, of each field once."""
        from laegd.scenario.plausible import odd_values

        for key, text in odd_values(scenario):
            if key not in self.warned:
                self.warned.add(key)
                tell(f"warning: {task.name}: {text}")

    def _refuse(self, task: Task, error: ValueError) -> None:
        if self.alone:
            raise error
        self.bad += 1
        tell(str(error) if str(error).startswith(task.name) else f"{task.name}: {error}")
        task.write(None)

    def _tell_infeasible(self, task: Task, message: str) -> None:
        if self.alone:
            raise Infeasible(f"{task.name}: {message}")
        self.infeasible += 1
        tell(f"{task.name}: {message}")


def _read(task: Task) -> "Scenario":
    from laegd.scenario.scenario import Scenario

    content = task.read()
    try:
        return Scenario.from_json(content)
    except ValueError as error:
        raise ValueError(f"{task.name}: {error}") from error


def _describe(instance: "Instance", plan: "Plan", devices: str) -> str:
    local = int((plan.server < 0).sum())
    gap = "gap unknown" if plan.gap is None else f"certified gap {100 * plan.gap:.4f} %"
    device = f" on {devices}" if devices else ""
    certifying = f", certified in {1e3 * plan.certify_seconds:.1f} ms" if plan.certify_seconds else ""
    return (
        f"cost {plan.cost:.6g}, {gap}, {instance.num_users - local} of {instance.num_users} users offload, "
        f"planned in {1e3 * plan.seconds:.1f} ms{device}{certifying}"
    )
