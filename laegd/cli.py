"""The command line: parse, call, print. Exit codes: 0 done, 2 bad input, 3 no feasible plan, 130 interrupted.

Every command imports what it needs when it runs, so that `--help` and `generate` do not wait for JAX.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from tyro.conf import Positional, UseAppendAction, arg

if TYPE_CHECKING:
    from laegd.evaluation.gadsg import PlanConfig
    from laegd.problem.instance import Instance, Plan, Solver
    from laegd.scenario.scenario import Scenario

EXIT_BAD_INPUT = 2
EXIT_INFEASIBLE = 3
EXIT_INTERRUPTED = 130

_out = Console()
_err = Console(stderr=True)


class _Infeasible(Exception):
    """No plan exists; the message says for whom."""


class _Interrupted(Exception):
    """Ctrl-C, after what was under way has been kept."""


@contextmanager
def _progress_bar(title: str) -> Iterator[Callable[[int, int, str], None]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=_err) as progress:
        task = progress.add_task(title, total=None, note="")
        yield lambda done, total, note: progress.update(task, completed=done, total=total, note=note)


def _read_scenario(path: Path) -> "Scenario":
    from laegd.scenario.scenario import Scenario

    try:
        return Scenario.from_json(path.read_bytes())
    except OSError as error:
        raise ValueError(
            f"{path}: Expected a readable scenario file, got: {error.strerror}. Check the path."
        ) from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _parse_shard(text: str) -> tuple[int, int]:
    index, slash, parts = text.partition("/")
    if not (slash and index.isdecimal() and parts.isdecimal()):
        raise ValueError(f"--shard: Expected i/n such as 2/16, got {text!r}. Count from 1.")
    return int(index), int(parts)


def generate(
    scale: str,
    count: int,
    out: Path,
    seed: int = 0,
    labels: Literal["exact", "mcmf", "none"] = "exact",
    shard: str = "1/1",
    workers: int = 0,
    config: Path | None = None,
) -> None:
    """Draws networks and labels them: a data set.

    Args:
        scale: Numbers of ground servers, ground users and aerial users, such as gs3_gu7_au5.
        count: Number of instances.
        out: Folder of the data set; an interrupted run goes on there.
        seed: The same seed and settings give the same bytes.
        labels: Certified optimum, the paper's heuristic, or no labels.
        shard: Part i/n, such as 2/16, to share the work between machines.
        workers: Processes; 0: one per core.
        config: TOML with scenario settings that differ from the defaults, such as deadline_s = 1.5.
    """
    from laegd.config import load_scenario_config
    from laegd.graphs.dataset import Recipe
    from laegd.graphs.dataset import generate as make

    settings = load_scenario_config(config) if config else None
    recipe = Recipe(scale, count, seed, labels, settings) if settings else Recipe(scale, count, seed, labels)
    with _progress_bar(f"{scale} {labels}") as bar:
        complete = make(recipe, out, _parse_shard(shard), workers or os.cpu_count() or 1, lambda d, t: bar(d, t, ""))
    if complete:
        _out.print(f"{out}: {count} instances of {scale}, labels {labels}, complete")
    else:
        _out.print(f"{out}: part {shard} is done; the manifest is written when all parts are")


def _train(config: Any, workdir: Path, data: Path | None) -> Any:
    from laegd.training.loop import train as run

    with _progress_bar("train") as bar:

        def report(progress: Any) -> None:
            note = "labelling" if progress.stage == "data" else f"loss {progress.loss:.3f}"
            if progress.ratio is not None:
                note += f"  validation cost ratio {progress.ratio:.4f}"
            bar(progress.done, progress.total, note)

        result = run(config, workdir, data, report)
    if result.interrupted:
        raise _Interrupted(f"stopped at step {result.step}; checkpoint kept, the same command goes on from there")
    return result


def train(
    config: Path,
    workdir: Path,
    set: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="KEY=VALUE")] = (),
    data: Path | None = None,
    seed: int | None = None,
) -> None:
    """Trains GADSG; makes the data sets first where they are missing. The same command goes on where it stopped.

    Args:
        config: Settings, TOML.
        workdir: Folder of the run: checkpoints, metrics.jsonl.
        set: Overrides a setting, such as training.steps=500; may be repeated.
        data: Where data sets lie and are made; default: WORKDIR/data.
        seed: Short for --set training.seed=SEED.
    """
    from laegd.config import load_config

    overrides = (*set, f"training.seed={seed}") if seed is not None else set
    result = _train(load_config(config, overrides), workdir, data)
    _out.print(
        f"{workdir}: step {result.step}; best validation cost ratio {result.best_ratio:.4f} at step {result.best_step}"
    )


def _plan_config(
    base: "PlanConfig",
    samples: int | None,
    steps: int | None,
    allocation: Literal["optimal", "model"] | None,
    polish: int | None,
    seed: int,
) -> "PlanConfig":
    from dataclasses import replace

    sampler = base.sampler if steps is None else replace(base.sampler, num_steps=steps)
    decode = base.decode
    if allocation is not None:
        decode = replace(decode, allocation=allocation)
    if polish is not None:
        decode = replace(decode, polish_rounds=polish)
    return replace(base, num_samples=samples or base.num_samples, sampler=sampler, decode=decode, seed=seed)


def _solvers(
    names: str,
    checkpoint: Path | None,
    time_limit_s: float | None,
    adjust: Callable[["PlanConfig"], "PlanConfig"],
    certify: bool = False,
) -> "list[Solver]":
    """Builds the named solvers; networks are loaded once."""
    from dataclasses import replace

    from laegd.solvers.exact import ExactSolver
    from laegd.solvers.mcmf import MCMFSolver

    known = ("gadsg", "random-belief", "mcmf", "exact")
    solvers: list[Solver] = []
    network = None
    for name in names.split(","):
        if name not in known:
            raise ValueError(f"--methods: Expected some of {', '.join(known)}, got {name!r}. Separate them by commas.")
        if name == "exact":
            solvers.append(ExactSolver(time_limit_s=time_limit_s))
        elif name == "mcmf":
            solvers.append(MCMFSolver())
        else:
            from laegd.evaluation.gadsg import PlanConfig, load, random_belief

            if name == "gadsg" and checkpoint is None:
                raise ValueError("--checkpoint: Expected a run folder for method gadsg, got none. Train one first.")
            if network is None and checkpoint is not None:
                network = load(checkpoint)
            settings = replace(adjust(network.settings if network else PlanConfig()), certify=certify)
            if name == "gadsg":
                assert network is not None
                solvers.append(replace(network, settings=settings))
            else:
                solvers.append(random_belief(settings))
    return solvers


def evaluate(
    data: Path,
    out: Path,
    checkpoint: Path | None = None,
    methods: str = "gadsg,random-belief,mcmf,exact",
    samples: int | None = None,
    steps: int | None = None,
    allocation: Literal["optimal", "model"] | None = None,
    polish: int | None = None,
    time_limit_s: float | None = None,
    seed: int = 0,
) -> None:
    """Compares methods on a labelled data set; prints a table, writes results and a CSV with a row per instance.

    Args:
        data: Folder of the data set.
        out: Results, JSON; the CSV stands beside it.
        checkpoint: Run folder, for gadsg.
        methods: Any of gadsg, random-belief, mcmf, exact, separated by commas.
        samples: Samples N per instance; default: 8.
        steps: Sampling steps; default: the run's, 5.
        allocation: Shares in closed form, or the model's own; default: the run's, optimal.
        polish: Rounds of local search after decoding; default: the run's, none.
        time_limit_s: Per instance, for exact.
        seed: Seed of the samples.
    """
    from laegd.evaluation.benchmark import run, summarise, write_results
    from laegd.evaluation.report import results_table
    from laegd.graphs.dataset import Dataset

    dataset = Dataset.open(data)
    results = []
    solvers = _solvers(
        methods, checkpoint, time_limit_s, lambda base: _plan_config(base, samples, steps, allocation, polish, seed)
    )
    for solver in solvers:
        with _progress_bar(solver.name) as bar:
            rows = run(solver, dataset, lambda done, total: bar(done, total, ""))
        results.append((summarise(solver.name, dataset, rows), rows))
    settings = {solver.name: _settings_of(solver) for solver in solvers}
    write_results(out, dataset, settings, results)
    _out.print(results_table([summary for summary, _ in results], _title(dataset)))


def _title(dataset: Any) -> str:
    m = dataset.manifest
    return f"{m.count} instances of {m.scale}, seed {m.seed}, data {dataset.digest}"


def _settings_of(solver: "Solver") -> dict[str, Any]:
    from laegd.scenario.scenario import settings_to_dict

    if hasattr(solver, "loaded"):
        loaded = solver.loaded  # pyright: ignore[reportAttributeAccessIssue]
        plan = settings_to_dict(solver.settings)  # pyright: ignore[reportAttributeAccessIssue]
        return plan | ({"experiment": loaded.config.to_dict(), "step": loaded.step} if loaded else {})
    return settings_to_dict(solver)


def _outputs(scenarios: Sequence[Path], out: Path) -> list[Path]:
    """One scenario is written to OUT itself, several into the folder OUT under their own names."""
    if len(scenarios) == 1 and not out.is_dir():
        return [out]
    names = [path.name for path in scenarios]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"scenarios: Expected distinct file names, got {', '.join(twice)} twice. Rename one.")
    return [out / name for name in names]


def _describe(instance: "Instance", plan: "Plan") -> str:
    if not plan.feasible:
        return "no feasible plan" + (
            f": {', '.join(plan.unserved)} cannot be served together" if plan.unserved else " found"
        )
    local = int((plan.server < 0).sum())
    gap = "gap unknown" if plan.gap is None else f"certified gap {100 * plan.gap:.4f} %"
    return (
        f"cost {plan.cost:.6g}, {gap}, {instance.num_users - local} of {instance.num_users} users offload, "
        f"{1e3 * plan.seconds:.1f} ms"
    )


def solve(
    scenarios: Positional[tuple[Path, ...]],
    out: Path,
    method: Literal["gadsg", "random-belief", "mcmf", "exact"] = "exact",
    checkpoint: Path | None = None,
    time_limit_s: float | None = None,
    samples: int | None = None,
    steps: int | None = None,
    polish: int | None = None,
    picture: Path | None = None,
    seed: int = 0,
) -> None:
    """Plans one or several scenarios; each plan comes with its certified gap.

    Args:
        scenarios: Scenario files, JSON.
        out: Plan file; for several scenarios a folder, where each plan has its scenario's file name.
        method: How to plan; gadsg needs --checkpoint.
        checkpoint: Run folder, for gadsg.
        time_limit_s: Per instance, for exact: the best plan until then, with its gap.
        samples: Samples N, for gadsg.
        steps: Sampling steps, for gadsg.
        polish: Rounds of local search, for gadsg.
        picture: Also draws the plan as PNG; for several scenarios a folder of pictures.
        seed: Seed of the samples.
    """
    from dataclasses import replace

    from laegd.problem.instance import Instance
    from laegd.problem.plan_json import plan_to_json
    from laegd.scenario.files import write_atomically
    from laegd.solvers.exact import ExactSolver

    if not scenarios:
        raise ValueError("scenarios: Expected at least one file, got none. Write one with `laegd export`.")
    instances = [Instance.from_scenario(_read_scenario(path)) for path in scenarios]
    outputs = _outputs(scenarios, out)
    (solver,) = _solvers(
        method,
        checkpoint,
        time_limit_s,
        lambda base: _plan_config(base, samples, steps, None, polish, seed),
        certify=True,
    )
    plans = solver.solve(instances)
    failures = []
    for path, target, instance, plan in zip(scenarios, outputs, instances, plans, strict=True):
        if plan.feasible and plan.lower_bound is None:
            plan = replace(
                plan, lower_bound=min(ExactSolver(time_limit_s=time_limit_s).lower_bound(instance), plan.cost)
            )
        write_atomically(target, plan_to_json(instance, plan))
        _out.print(f"{path.name}: {_describe(instance, plan)}", highlight=False, soft_wrap=True)
        if not plan.feasible:
            failures.append(path.name)
    if picture is not None:
        from laegd.evaluation.picture import draw_plan

        targets = [picture] if len(plans) == 1 else [picture / f"{path.stem}.png" for path in scenarios]
        for target, instance, plan in zip(targets, instances, plans, strict=True):
            draw_plan(instance, plan, target)
    if failures:
        raise _Infeasible(f"no feasible plan for {', '.join(failures)}")


def export(data: Positional[Path], out: Path, index: int = 0) -> None:
    """Writes one instance of a data set as a scenario file.

    Args:
        data: Folder of the data set.
        out: Scenario file, JSON.
        index: Number of the instance, from 0.
    """
    from laegd.graphs.dataset import BLOCK, Dataset
    from laegd.scenario.files import write_atomically

    dataset = Dataset.open(data)
    if not 0 <= index < len(dataset):
        raise ValueError(
            f"--index: Expected 0 to {len(dataset) - 1}, got {index}. The data set has {len(dataset)} instances."
        )
    scenario = dataset.read(index // BLOCK).scenarios.scenario(index % BLOCK)
    write_atomically(out, scenario.to_json())
    _out.print(f"{out}: instance {index} of {dataset.manifest.scale}", highlight=False, soft_wrap=True)


def import_sites(
    servers: Path,
    users: Path,
    out: Path,
    centre: str | None = None,
    num_servers: int | None = None,
    num_users: int | None = None,
    aerial_share: float = 0.4,
    coverage_radius_m: float | None = None,
    config: Path | None = None,
    seed: int = 0,
) -> None:
    """Turns tables of real places (CSV with latitude and longitude) into a scenario.

    Args:
        servers: CSV of server sites.
        users: CSV of user places.
        out: Scenario file, JSON.
        centre: "latitude,longitude" in degrees; default: the mean of the sites.
        num_servers: Takes the sites nearest to the centre; default: all.
        num_users: Draws this many users; default: all.
        aerial_share: Share of the users that fly, 0 to 1.
        coverage_radius_m: Horizontal reach of a ground server; default: 900.
        config: TOML with scenario settings that differ from the defaults, such as num_haps = 2.
        seed: Seed of tasks, devices and the choice of users.
    """
    import numpy as np

    from laegd.config import load_scenario_config
    from laegd.scenario.files import write_atomically
    from laegd.scenario.places import read_sites
    from laegd.scenario.topology import scenario_from_places

    scenario, coverage = scenario_from_places(
        read_sites(servers),
        read_sites(users),
        rng=np.random.default_rng(seed),
        centre_deg=_parse_centre(centre),
        num_servers=num_servers,
        num_users=num_users,
        aerial_share=aerial_share,
        coverage_radius_m=coverage_radius_m,
        config=load_scenario_config(config) if config else None,
    )
    write_atomically(out, scenario.to_json())
    _out.print(f"{out}: {coverage}", highlight=False, soft_wrap=True)


def _parse_centre(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        latitude, longitude = map(float, text.split(","))
    except ValueError:
        raise ValueError(
            f'--centre: Expected "latitude,longitude" in degrees, got {text!r}. Write -37.81,144.96.'
        ) from None
    return latitude, longitude


def demo(out: Path = Path("demo"), seed: int = 0) -> None:
    """Draws networks, labels them, trains a small GADSG, compares it and draws one solved network; a few minutes.

    Args:
        out: Folder for everything it makes.
        seed: Seed of parameters, batches and samples.
    """
    from dataclasses import replace

    import laegd
    from laegd.evaluation.benchmark import run, summarise, write_results
    from laegd.evaluation.demo import DEMO, TEST
    from laegd.evaluation.gadsg import random_belief
    from laegd.evaluation.picture import draw_plans
    from laegd.evaluation.report import results_table
    from laegd.solvers.exact import ExactSolver
    from laegd.solvers.mcmf import MCMFSolver
    from laegd.training.loop import Progress as Step
    from laegd.training.loop import ensure_data

    config = replace(DEMO, training=replace(DEMO.training, seed=seed))
    _train(config, out / "run", out / "data")
    with _progress_bar("test set") as bar:

        def report(progress: Step) -> None:
            bar(progress.done, progress.total, "labelling")

        dataset = ensure_data(TEST, out / "data", report)
    network = laegd.load(out / "run", certify=False)
    solvers: list[Solver] = [network, random_belief(network.settings), MCMFSolver(), ExactSolver()]
    results = []
    for solver in solvers:
        with _progress_bar(solver.name) as bar:
            rows = run(solver, dataset, lambda done, total: bar(done, total, ""))
        results.append((summarise(solver.name, dataset, rows), rows))
    write_results(out / "results.json", dataset, {s.name: _settings_of(s) for s in solvers}, results)
    _out.print(results_table([summary for summary, _ in results], _title(dataset)))
    instance = dataset.read(0).instances[0]
    plans = [solver.solve([instance])[0] for solver in (ExactSolver(), network.with_settings(certify=True))]
    draw_plans(instance, plans, out / "plan.png")
    _out.print(f"picture: {out / 'plan.png'}   results: {out / 'results.json'}", highlight=False, soft_wrap=True)


COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo,
    "generate": generate,
    "train": train,
    "evaluate": evaluate,
    "solve": solve,
    "export": export,
    "import-sites": import_sites,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command; one line on standard error and an exit code where it fails."""
    try:
        tyro.extras.subcommand_cli_from_dict(
            COMMANDS, args=arguments, prog="laegd", description="Offloading plans with certified gaps."
        )
    except _Infeasible as error:
        _fail(str(error), EXIT_INFEASIBLE)
    except (_Interrupted, KeyboardInterrupt) as error:
        _fail(str(error) or "interrupted", EXIT_INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except (ValueError, FloatingPointError, OSError) as error:
        _fail(" ".join(str(error).split()), EXIT_BAD_INPUT)


def _fail(message: str, code: int) -> None:
    print(f"laegd: {message}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
