"""The training loop: data, steps, validation, checkpoints; goes on where it was interrupted, with the same batches."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from laegd.config import ExperimentConfig
from laegd.decoding.decode import problem_of
from laegd.graphs.dataset import Dataset, Recipe, generate
from laegd.graphs.encode import MOMENTS, Normalisation, edges_per_graph, encode, moments
from laegd.graphs.processes import num_cores
from laegd.scenario.scenario import require, settings_to_dict
from laegd.training.batches import TrainingSet, make_batch
from laegd.training.cache import keep_programs
from laegd.training.cluster import Cluster, gather, held_signals, num_processes, part, rank, share, together, watched
from laegd.training.devices import start_devices
from laegd.training.meta import Loaded, make_meta
from laegd.training.model_file import read_together
from laegd.training.parallel import check_batch_size, check_devices, join, pad_batch, replicate, split
from laegd.training.run_folder import RunFolder
from laegd.training.step import PlanInput, Stream, TrainState, create_state, make_planner, make_train_step

VALIDATION_SEED = 20_240  # of the samples; validation instances have seeds of their own


class Progress(NamedTuple):
    """What the loop reports."""

    stage: str  # "data" or "train"
    done: int
    total: int
    loss: float | None = None
    ratio: float | None = None


Report = Callable[[Progress], None]


class TrainResult(NamedTuple):
    """How a run ended."""

    step: int
    best_step: int
    best_ratio: float
    signal: int = 0
    """Number of the signal that ended it before its last step; 0: none."""

    @property
    def interrupted(self) -> bool:
        """Whether steps are left."""
        return self.signal != 0


def data_folder(root: Path, recipe: Recipe) -> Path:
    """Returns where a recipe's data set lies below the root."""
    return root / f"{recipe.scale}-{recipe.labels}-seed{recipe.seed}-{recipe.count}"


def ensure_data(recipe: Recipe, root: Path, report: Report) -> Dataset:
    """Opens the recipe's data set, made first where it is missing or unfinished; processes share that work."""
    folder = data_folder(root, recipe)

    def make(index: int, parts: int) -> None:
        if not (folder / "manifest.json").exists():
            progress = partial(_report_data, report)
            generate(recipe, folder, (index, parts), workers=num_cores(), progress=progress)

    def complete() -> bytes:
        make(1, 1)
        dataset = Dataset.open(folder)
        if dataset.recipe != recipe:
            raise ValueError(
                f"{folder}: Expected the data set of {recipe}, got {dataset.recipe}. Delete it or use another root."
            )
        return b""

    together(lambda: make(rank() + 1, num_processes()))
    share(complete)
    return together(lambda: Dataset.open(folder))


def _report_data(report: Report, done: int, total: int) -> None:
    report(Progress("data", done, total))


def fit_normalisation(datasets: list[Dataset]) -> Normalisation:
    """Computes the statistics of all sets, of which each process reads its shards."""
    shards = [(dataset, shard) for dataset in datasets for shard in range(len(dataset.manifest.shards))]
    mine = together(lambda: [moments(data.read(shard).instances) for data, shard in shards[part(len(shards))]])
    given = gather(np.array(mine, dtype=np.float64).tobytes())
    return Normalisation.of([*np.frombuffer(b"".join(given)).reshape(-1, *MOMENTS)])


def make_validation(
    config: ExperimentConfig, datasets: list[Dataset], normalisation: Normalisation
) -> Callable[[Any], tuple[float, float]]:
    """Returns params -> (mean cost ratio to the labels over feasible plans, infeasible share); processes share it."""
    num_devices = jax.local_device_count()
    draw, decode = make_planner(config, config.sampler, config.decode, config.training.validation_samples)
    inputs = []
    for dataset in datasets:
        mine = part(len(dataset))
        first = mine.start
        for data in dataset.read_range(mine.start, mine.stop):
            numbers = np.arange(first, first + len(data), dtype=np.int32)
            one = PlanInput(encode(data.instances, normalisation), problem_of(data.instances.costs), numbers)
            padded = pad_batch(jax.device_get(one), -(-len(data) // num_devices) * num_devices)
            room = edges_per_graph(np.asarray(padded.graph.num_edges), num_devices)
            padded = padded._replace(graph=padded.graph.with_room(room))
            inputs.append((split(padded, num_devices), data.cost))
            first += len(data)

    def validate(params: Any) -> tuple[float, float]:
        ratios = [np.zeros(0)]
        for batch, reference in inputs:
            belief = draw((params, Stream(np.uint32(VALIDATION_SEED))), batch)
            ratios.append(join(decode(None, (belief, batch.problem))).cost[: len(reference)] / reference)
        ratio = np.concatenate([np.frombuffer(given) for given in gather(np.concatenate(ratios).tobytes())])
        feasible = np.isfinite(ratio)
        return float(ratio[feasible].mean()) if feasible.any() else math.inf, float(1 - feasible.mean())

    return validate


def train(
    config: ExperimentConfig,
    workdir: Path,
    data_root: Path | None = None,
    report: Report = lambda progress: None,
    stuck_after_s: float = Cluster.stuck_after_s,
) -> TrainResult:
    """Trains a run, or goes on with it; checkpoints and `metrics.jsonl` go into the folder.

    Several processes call this together; they share data, steps and validation, and rank 0 keeps the files.

    Args:
        config: All settings.
        workdir: The run's folder.
        data_root: Where data sets lie and are made; default: `data` in the run's folder.
        report: Called after every logged step.
        stuck_after_s: Where a step of several processes takes longer, this one ends with a message.

    Raises:
        ValueError: Bad settings, no such network to start from, another run's folder, another job in it, damaged data,
            no room.
        FloatingPointError: The loss is not finite; names the steps and the last good checkpoint.
    """
    keep_programs()
    start_devices()
    check_devices()
    check_batch_size(config.training.batch_size, jax.device_count())
    with RunFolder.opened(workdir, config) as folder:
        origin = _network_to_start_from(config) if folder.last_step is None else None
        root = data_root or workdir / "data"
        datasets = [ensure_data(recipe, root, report) for recipe in config.data.train]
        validation = [ensure_data(recipe, root, report) for recipe in config.data.validation]
        with watched(stuck_after_s) as beat:
            normalisation = (origin or folder).normalisation or fit_normalisation(datasets)
            size = config.training.batch_size
            sets = together(lambda: [TrainingSet.read(dataset, size, normalisation) for dataset in datasets])
            if config.learner == "diffusion":
                sets = [one.listed(size) for one in sets]
            beat()
            validate = together(lambda: make_validation(config, validation, normalisation))
            meta = make_meta(config, normalisation, {d.folder.name: d.digest for d in (*datasets, *validation)})
            state = create_state(config, jax.tree.map(lambda x: x[:1], sets[0].encoded.graph))
            if origin is not None:
                state = state.replace(params=origin.params, ema_params=origin.params)
            state = folder.restore(state)
            with held_signals() as caught:
                return _run(_Loop(config, folder, sets, validate, meta, report, beat, caught), replicate(state))


def _network_to_start_from(config: ExperimentConfig) -> Loaded | None:
    """Reads the network that a new run begins with."""
    source = config.training.start_from
    if source is None:
        return None
    loaded = read_together(source)
    ours, theirs = ({"learner": one.learner, **settings_to_dict(one.model)} for one in (config, loaded.config))
    for name, value in ours.items():
        expected = f"a network with {name} = {value!r}"
        require(theirs[name] == value, "training.start_from", expected, theirs[name], "Give both the same settings.")
    return loaded


class _Loop(NamedTuple):
    """What the steps of a run need beside its state."""

    config: ExperimentConfig
    folder: RunFolder
    sets: list[TrainingSet]
    validate: Callable[[Any], tuple[float, float]]
    meta: dict[str, Any]
    report: Report
    beat: Callable[[], None]
    caught: Callable[[], int]


def _run(run: _Loop, state: TrainState) -> TrainResult:
    """Takes the steps that are left, or as many as there are until a signal comes to any process."""
    settings, num_devices = run.config.training, jax.local_device_count()
    step_fn = make_train_step(run.config)
    step = saved = run.folder.last_step or 0
    stopped, ratio = 0, None
    batch = make_batch(settings, run.sets, step)
    while step < settings.steps and not stopped:
        told = batch._replace(signal=np.full_like(batch.signal, run.caught()))
        state, metrics, agreed = step_fn(state, split(told, num_devices))
        step += 1
        batch = make_batch(settings, run.sets, step)  # while the devices compute
        stopped = int(jax.device_get(agreed))
        run.beat()
        validated = step % settings.validate_every == 0 or step == settings.steps
        if step % settings.log_every == 0 or validated:
            line = {"step": step} | {name: float(x) for name, x in jax.device_get(metrics)._asdict().items()}
            if validated:
                ratio, infeasible = run.validate(state.ema_params)
                run.beat()
                line |= {"ratio": ratio, "infeasible": infeasible}
            run.folder.write(line)  # before the checkpoint: a crash between the two makes both anew
            if validated:
                run.folder.save(state, run.meta, line["ratio"])
                saved = step
            run.report(Progress("train", step, settings.steps, line["loss"], ratio))
            run.beat()
    if saved != step:
        # Not validated: an infinite ratio keeps it from ever being the best.
        run.folder.save(state, run.meta, math.inf)
    best, best_ratio = run.folder.best()
    return TrainResult(step, best if best is not None else step, best_ratio, stopped if step < settings.steps else 0)
