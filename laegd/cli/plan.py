"""The command that plans: `solve`."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import OmitArgPrefixes, Positional, arg

from laegd.cli.console import Infeasible, say
from laegd.cli.methods import AS_TRAINED, OptionalFloat, OptionalPath, Sampling, check_name, make_solvers

if TYPE_CHECKING:
    from laegd.problem.instance import Instance, Plan
    from laegd.scenario.scenario import Scenario


def solve(
    scenarios: Annotated[Positional[tuple[Path, ...]], arg(metavar="SCENARIO ...", help_behavior_hint="(required)")],
    out: Path,
    method: str = "exact",
    checkpoint: OptionalPath = None,
    time_limit_s: OptionalFloat = None,
    picture: OptionalPath = None,
    sampling: Annotated[Sampling, OmitArgPrefixes] = AS_TRAINED,
) -> None:
    """Plans one or several scenarios; each plan comes with its certified gap.

    Args:
        scenarios: Scenario files, JSON.
        out: Plan file; for several scenarios a folder, where each plan has its scenario's file name.
        method: How to plan: re, ao, mcmf, mcmf-search, grlo, gdsg, gdsg-both, gadsg, gadsg-directed, random-belief,
            certified (exact, which asks gadsg where a proof takes long), exact or exact@SECONDS.
        checkpoint: Run folder or file of a learned method; default: the network that ships with laegd.
        time_limit_s: Per instance, for exact and certified: the best plan until then, with its gap.
        picture: Also draws the plan as PNG; for several scenarios a folder of pictures.
        sampling: Settings of learned methods and random-belief.
    """
    from laegd.evaluation.picture import draw_plan, require_matplotlib
    from laegd.problem.instance import Instance
    from laegd.problem.plan_json import plan_to_json
    from laegd.scenario.outputs import check_outputs, write_output
    from laegd.solvers.exact import ExactSolver

    check_name(method, "--method")
    if not scenarios:
        raise ValueError("scenarios: Expected at least one file, got none. Write one with `laegd export`.")
    instances = [Instance.from_scenario(_read_scenario(path)) for path in scenarios]
    outputs = _targets(scenarios, out, ".json")
    pictures = _targets(scenarios, picture, ".png") if picture is not None else []
    check_outputs({"--out": outputs, "--picture": pictures}, [*scenarios, checkpoint], overwrite=True)
    if pictures:
        require_matplotlib()
    (solver,) = make_solvers([method], [checkpoint] if checkpoint else [], sampling, time_limit_s, "--method")
    failures = []
    plans = solver.solve(instances)
    for position, (path, instance, plan) in enumerate(zip(scenarios, instances, plans, strict=True)):
        if plan.feasible and plan.lower_bound is None:
            bound = ExactSolver(time_limit_s=time_limit_s).lower_bound(instance)
            plan = replace(plan, lower_bound=min(bound, plan.cost))
        write_output(outputs[position], plan_to_json(instance, plan))
        say(f"{path.name}: {_describe(instance, plan)}")
        if pictures:
            draw_plan(instance, plan, pictures[position])
        if not plan.feasible:
            failures.append(f"{path.name}: {_describe(instance, plan)}")
    if failures:
        raise Infeasible("; ".join(failures))


def _read_scenario(path: Path) -> "Scenario":
    from laegd.scenario.files import read_file
    from laegd.scenario.scenario import Scenario

    text = read_file(path, "a readable scenario file", "Check the path.")
    try:
        return Scenario.from_json(text)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _targets(scenarios: Sequence[Path], out: Path, suffix: str) -> list[Path]:
    """One scenario is answered in OUT itself, several in the folder OUT under their own names."""
    if len(scenarios) == 1 and not out.is_dir():
        return [out]
    names = [path.with_suffix(suffix).name for path in scenarios]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"scenarios: Expected distinct file names, got {', '.join(twice)} twice. Rename one.")
    return [out / name for name in names]


def _describe(instance: "Instance", plan: "Plan") -> str:
    from laegd.scenario.scenario import in_short

    if plan.feasible:
        local = int((plan.server < 0).sum())
        gap = "gap unknown" if plan.gap is None else f"certified gap {100 * plan.gap:.4f} %"
        return (
            f"cost {plan.cost:.6g}, {gap}, {instance.num_users - local} of {instance.num_users} users offload, "
            f"{1e3 * plan.seconds:.1f} ms"
        )
    if not plan.unserved:
        return "no feasible plan found; it is not proved that there is none"
    together = " together" if len(plan.unserved) > 1 else ""
    names = in_short(", ".join(plan.unserved))
    return (
        f"no feasible plan: {names} cannot be served{together} within the deadline; "
        "raise it, or bring a server in reach"
    )
