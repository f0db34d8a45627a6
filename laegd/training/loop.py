"""The training loop: data, steps, validation, checkpoints; goes on where it was interrupted, with the same batches."""

import json
import math
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Int

from laegd.config import ExperimentConfig, TrainingConfig
from laegd.decoding.decode import Problem, problem_of
from laegd.graphs.dataset import Dataset, Labelled, Recipe, generate
from laegd.graphs.encode import GraphBatch, Normalisation, encode
from laegd.scenario.files import write_atomically
from laegd.training.checkpoint import Checkpoints, make_meta
from laegd.training.parallel import check_batch_size, join, pad_batch, replicate, split
from laegd.training.step import (
    PlanInput,
    TrainBatch,
    create_state,
    labels_to_edges,
    make_planner,
    make_train_step,
)

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
    interrupted: bool


class EncodedSet(NamedTuple):
    """A training set as the network reads it; NumPy arrays with a leading axis, instance."""

    graph: GraphBatch
    problem: Problem
    offload: np.ndarray
    share: np.ndarray


def data_folder(root: Path, recipe: Recipe) -> Path:
    """Returns where a recipe's data set lies below the root."""
    return root / f"{recipe.scale}-{recipe.labels}-seed{recipe.seed}-{recipe.count}"


def ensure_data(recipe: Recipe, root: Path, report: Report) -> Dataset:
    """Opens the recipe's data set, made first where it is missing or unfinished."""
    folder = data_folder(root, recipe)
    if not (folder / "manifest.json").exists():
        generate(
            recipe,
            folder,
            workers=os.cpu_count() or 1,
            progress=lambda done, total: report(Progress("data", done, total)),
        )
    dataset = Dataset.open(folder)
    if dataset.recipe != recipe:
        raise ValueError(
            f"{folder}: Expected the data set of {recipe}, got {dataset.recipe}. Delete it or use another root."
        )
    return dataset


def encode_set(data: Labelled, normalisation: Normalisation) -> EncodedSet:
    """Encodes a labelled set."""
    num_servers = data.instances.costs.covered.shape[-1]
    problem = jax.device_get(problem_of(data.instances.costs))
    labels = labels_to_edges(data.server, data.share, num_servers)
    return EncodedSet(encode(data.instances, normalisation), problem, *labels)


def batch_indices(config: TrainingConfig, sizes: list[int], step: int) -> tuple[int, Int[np.ndarray, "batch"]]:
    """Returns which set and which of its instances make a step's batch: a function of seed and step alone.

    Sets take turns; each runs through a new permutation per epoch, whose remainder below a batch is left out.
    """
    which, visit = step % len(sizes), step // len(sizes)
    size = sizes[which]
    per_epoch = max(size // config.batch_size, 1)
    epoch, position = divmod(visit, per_epoch)
    order = np.random.default_rng([config.seed, which, epoch]).permutation(size)
    # A set smaller than a batch is repeated.
    return which, np.take(order, np.arange(config.batch_size) + position * config.batch_size, mode="wrap")


def make_batch(encoded: EncodedSet, indices: Int[np.ndarray, "batch"]) -> TrainBatch:
    """Picks a batch out of a set."""
    picked = jax.tree.map(lambda x: x[indices], encoded)
    return TrainBatch(*picked, position=np.arange(len(indices), dtype=np.int32))


def make_validation(
    config: ExperimentConfig, sets: list[Labelled], normalisation: Normalisation
) -> Callable[[Any], tuple[float, float]]:
    """Returns params -> (mean cost ratio to the labels over feasible plans, infeasible share)."""
    num_devices = jax.local_device_count()
    draw, decode = make_planner(config, config.sampler, config.decode, config.training.validation_samples)
    inputs = []
    for data in sets:
        numbers = np.arange(len(data), dtype=np.int32)
        one = PlanInput(encode(data.instances, normalisation), problem_of(data.instances.costs), numbers)
        padded = pad_batch(jax.device_get(one), -(-len(data) // num_devices) * num_devices)
        inputs.append((split(padded, num_devices), data.cost))

    def validate(params: Any) -> tuple[float, float]:
        ratios = []
        for batch, reference in inputs:
            belief = draw((params, np.uint32(VALIDATION_SEED)), batch)
            cost = join(decode(None, (belief, batch.problem))).cost[: len(reference)]
            ratios.append(cost / reference)
        ratio = np.concatenate(ratios)
        feasible = np.isfinite(ratio)
        return float(ratio[feasible].mean()) if feasible.any() else math.inf, float(1 - feasible.mean())

    return validate


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Turns Ctrl-C or a scheduler's SIGTERM into a flag, so that a step is never cut; a second one acts at once."""
    caught: list[int] = []

    def handle(number: int, frame: Any) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    if threading.current_thread() is not threading.main_thread():  # whoever runs us there handles signals
        yield lambda: False
        return
    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(caught)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _differences(ours: Any, theirs: Any, path: str = "") -> list[str]:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        keys = sorted(set(ours) | set(theirs))
        return [d for key in keys for d in _differences(ours.get(key), theirs.get(key), f"{path}.{key}".lstrip("."))]
    return [] if ours == theirs else [f"{path} = {theirs!r} there, {ours!r} here"]


def _require_same_settings(checkpoints: Checkpoints, config: ExperimentConfig, workdir: Path) -> None:
    """Raises where the folder holds a run with other settings."""
    last = checkpoints.last_step()
    if last is None:
        return
    # Settings that are younger than the run have their defaults there.
    theirs = ExperimentConfig.from_dict(checkpoints.read_meta(last)["config"])
    different = _differences(config.to_dict(), theirs.to_dict())
    if different:
        what = "another architecture" if different[0].startswith("model") else "other settings"
        raise ValueError(
            f"{workdir}: Expected a checkpoint of the same settings, got one of {what}: {'; '.join(different)}. "
            "Name another --workdir, or go on with the old settings."
        )


def _keep_metrics_until(path: Path, step: int) -> None:
    """Drops lines that an interrupted run wrote after its last checkpoint: they will be written again."""
    if path.exists():
        lines = path.read_text().splitlines()
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
        write_atomically(path, "".join(line + "\n" for line in kept).encode())


def _write_line(log: FileIO, line: dict[str, Any]) -> None:
    try:
        log.write(json.dumps(line).encode() + b"\n")
    except OSError as error:
        raise ValueError(
            f"{log.name}: Expected room for a line, got: {error.strerror}. Free space and run again: "
            "it goes on from the last checkpoint."
        ) from error


def train(
    config: ExperimentConfig, workdir: Path, data_root: Path | None = None, report: Report = lambda progress: None
) -> TrainResult:
    """Trains a run, or goes on with it; checkpoints and `metrics.jsonl` go into the folder.

    Args:
        config: All settings.
        workdir: The run's folder.
        data_root: Where data sets lie and are made; default: `data` in the run's folder.
        report: Called after every logged step.

    Raises:
        ValueError: Bad settings, another run's folder, damaged data, no room.
        FloatingPointError: The loss is not finite; names the steps and the last good checkpoint.
    """
    num_devices = jax.local_device_count()
    settings = config.training
    check_batch_size(settings.batch_size, num_devices)
    checkpoints = Checkpoints(workdir, create=True)
    _require_same_settings(checkpoints, config, workdir)
    root = data_root or workdir / "data"
    datasets = [ensure_data(recipe, root, report) for recipe in config.data.train]
    validation = [ensure_data(recipe, root, report) for recipe in config.data.validation]
    labelled = [dataset.read_all() for dataset in datasets]
    normalisation = Normalisation.fit([data.instances for data in labelled])
    sets = [encode_set(data, normalisation) for data in labelled]
    sizes = [len(data) for data in labelled]
    validate = make_validation(config, [dataset.read_all() for dataset in validation], normalisation)
    meta = make_meta(config, normalisation, {d.folder.name: d.digest for d in (*datasets, *validation)})

    state = create_state(config, jax.tree.map(lambda x: x[:1], sets[0].graph))
    state = replicate(checkpoints.restore(state) if checkpoints.last_step() is not None else state)
    step_fn = make_train_step(config)
    metrics_path = workdir / "metrics.jsonl"
    _keep_metrics_until(metrics_path, int(state.step))
    step, ratio, saved = int(state.step), None, int(state.step)
    with _interruptible() as interrupted, open(metrics_path, "ab", buffering=0) as log:
        while step < settings.steps and not interrupted():
            which, indices = batch_indices(settings, sizes, step)
            state, metrics = step_fn(state, split(make_batch(sets[which], indices), num_devices))
            step += 1
            line: dict[str, Any] = {"step": step}
            if step % settings.log_every == 0 or step == settings.steps or step % settings.validate_every == 0:
                line |= {name: float(value) for name, value in jax.device_get(metrics)._asdict().items()}
                if not math.isfinite(line["loss"]):
                    raise FloatingPointError(
                        f"training.loss: Expected a finite loss, got {line['loss']} between steps "
                        f"{step - settings.log_every} and {step}. Lower training.learning_rate; "
                        f"the last good checkpoint is step {checkpoints.last_step()}."
                    )
            if step % settings.validate_every == 0 or step == settings.steps:
                ratio, infeasible = validate(state.ema_params)
                line |= {"ratio": ratio, "infeasible": infeasible}
                checkpoints.save(state, meta, ratio)
                saved = step
            if len(line) > 1:
                _write_line(log, line)
                report(Progress("train", step, settings.steps, line["loss"], ratio))
        stopped = interrupted() and step < settings.steps
        if stopped and saved != step:
            # Not validated: an infinite ratio keeps it from ever being the best.
            checkpoints.save(state, meta, math.inf)
    best = checkpoints.best_step()
    result = TrainResult(step, best if best is not None else step, checkpoints.ratio_of(best), stopped)
    checkpoints.close()
    return result
