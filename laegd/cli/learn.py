"""Commands around networks: `train`, `pack`, and `demo`, the whole way in small."""

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, Positional, UseAppendAction, arg

from laegd.cli.compare import compare
from laegd.cli.console import Interrupted, Preempted, join_cluster, progress_bar, say
from laegd.cli.methods import OptionalInt, OptionalPath
from laegd.cli.settings import NONE_GIVEN, Settings, overrides
from laegd.cli.work import Target
from laegd.training.cluster import ALONE_OR_SLURM, Cluster

if TYPE_CHECKING:
    from laegd.config import ExperimentConfig
    from laegd.graphs.dataset import Recipe
    from laegd.training.loop import Progress, TrainResult


def _train(
    config: "ExperimentConfig", workdir: Path, data: Path | None, cluster: Cluster = ALONE_OR_SLURM
) -> "TrainResult":
    from laegd.training.loop import train as run

    with progress_bar("train") as bar:

        def report(progress: "Progress") -> None:
            note = "labelling" if progress.stage == "data" else f"loss {progress.loss:.3f}"
            if progress.ratio is not None:
                note += f"  validation cost ratio {progress.ratio:.4f}"
            bar(progress.done, progress.total, note)

        result = run(config, workdir, data, report, cluster.stuck_after_s)
    if result.interrupted:
        end = Interrupted if result.signal == signal.SIGINT else Preempted
        raise end(f"stopped at step {result.step}; checkpoint kept, the same command goes on from there")
    return result


def train(
    config: Path,
    workdir: Path,
    set: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="KEY=VALUE")] = (),
    data: OptionalPath = None,
    seed: OptionalInt = None,
    cluster: Annotated[Cluster, OmitArgPrefixes] = ALONE_OR_SLURM,
    settings: Annotated[Settings, arg(name="")] = NONE_GIVEN,
) -> None:
    """Trains GADSG; makes the data sets first where they are missing. The same command goes on where it stopped.

    Each setting of the configuration is an option too, such as --training.steps 500; data sets stand in the file only.

    Args:
        config: Settings, TOML.
        workdir: Folder of the run: checkpoints, metrics.jsonl.
        set: Overrides a setting, such as training.steps=500; may be repeated.
        data: Where data sets lie and are made; default: WORKDIR/data.
        seed: Short for --set training.seed=SEED.
        cluster: Where several processes train together.
        settings: Settings in place of those of the file.
    """
    from laegd.config import load_config
    from laegd.training.devices import devices_in_use

    named = (*overrides(settings), *(() if seed is None else (f"training.seed={seed}",)))
    _require_once(set, named)
    join_cluster(cluster)
    loaded = load_config(config, (*set, *named))
    _require_grlo(loaded.learner, (*set, *named))
    result = _train(loaded, workdir, data, cluster)
    best = f"best validation cost ratio {result.best_ratio:.4f} at step {result.best_step}"
    say(f"{workdir}: step {result.step}; {best}; computed on {devices_in_use()}")


def _require_grlo(learner: str, given: tuple[str, ...]) -> None:
    """Raises where a setting of GRLO is given to another learner, which would not heed it."""
    key = next((override.partition("=")[0] for override in given if override.startswith("grlo.")), None)
    if key is not None and learner != "grlo":
        raise ValueError(f"{key}: Expected learner = 'grlo' with it, got {learner!r}. Set that, or leave this out.")


def _require_once(given: tuple[str, ...], named: tuple[str, ...]) -> None:
    """Raises where an option of its own and another option give one setting."""
    keys, others = ([override.partition("=")[0] for override in ones] for ones in (named, given))
    for position, key in enumerate(keys):
        if key in (*others, *keys[:position]):
            raise ValueError(f"{key}: Expected it once, got it by two options. Remove one.")


def pack(
    run: Annotated[Positional[Path], arg(metavar="RUN")],
    out: Path,
    overwrite: Annotated[bool, FlagCreatePairsOff] = False,
) -> None:
    """Writes the best checkpoint of a run as one file to pass on, which stands wherever a run folder may.

    Args:
        run: Run folder.
        out: File, .npz.
        overwrite: Replaces a finished file of that name; an input never.
    """
    from laegd.scenario.outputs import check_outputs
    from laegd.training.model_file import pack as write

    check_outputs({"--out": out}, [run], overwrite)
    write(run, out)
    say(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


def demo(
    out: Path = Path("demo"),
    seed: int = 0,
    train: Annotated[bool, FlagCreatePairsOff] = False,
    overwrite: Annotated[bool, FlagCreatePairsOff] = False,
) -> None:
    """Draws networks, labels them with optima, compares GADSG with other ways, draws a solved network; a minute.

    Args:
        out: Folder for everything it makes.
        seed: Seed of the samples, and of what is trained.
        train: First trains a small network from nothing, in place of the one that ships with laegd; four minutes.
        overwrite: Replaces the results, picture and report of an earlier demo.
    """
    from dataclasses import replace

    from laegd.evaluation.demo import DEMO, TEST

    run_demo(replace(DEMO, training=replace(DEMO.training, seed=seed)) if train else None, TEST, out, seed, overwrite)


def run_demo(
    config: "ExperimentConfig | None", test: "Recipe", out: Path, seed: int = 0, overwrite: bool = False
) -> None:
    """Compares a network on `test` with chance, heuristic and optimum, and draws a plan; all of it below `out`.

    Args:
        config: Of the network to train first; None: the one that ships with laegd.
        test: Data set to compare on.
        out: Folder.
        seed: Of the samples.
        overwrite: Whether results, picture and report of before may be replaced.
    """
    from laegd.evaluation.gadsg import load, random_belief
    from laegd.evaluation.picture import draw_plans, require_matplotlib
    from laegd.evaluation.web.page import write_report
    from laegd.scenario.outputs import check_outputs
    from laegd.solvers.exact import ExactSolver
    from laegd.solvers.mcmf import MCMFSolver
    from laegd.training.loop import ensure_data
    from laegd.training.model_file import DEFAULT

    require_matplotlib()
    results, picture, page = (out / name for name in ("results.json", "plan.png", "report.html"))
    check_outputs({"--out": [picture, page]}, overwrite=overwrite)
    if config is not None:
        _train(config, out / "run", out / "data")
    with progress_bar("test set") as bar:
        dataset = ensure_data(test, out / "data", lambda progress: bar(progress.done, progress.total, "labelling"))
    network = load(DEFAULT if config is None else out / "run", certify=False, seed=seed)
    solvers = [network, random_belief(network.settings), MCMFSolver(), ExactSolver()]
    compare(solvers, dataset, Target(results, overwrite=overwrite))
    instance = dataset.read(0).instances[0]
    plans = [solver.solve([instance])[0] for solver in (ExactSolver(), network.with_settings(certify=True))]
    draw_plans(instance, plans, picture)
    write_report([results], page)
    say(f"picture: {picture}   report: {page}")
