"""Checkpoints of a run, kept by Orbax: the last one, to go on from, and the best one, to plan with.

Each step holds three items: `state` (everything the loop needs), `params` (the averaged parameters) and `meta`
(settings, normalisation, data hashes, versions, commit). Nothing in them is code.
"""

import errno
import io
import logging
import math
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from laegd.config import ExperimentConfig
from laegd.graphs.encode import EDGE_COLUMNS, NODE_COLUMNS, GraphBatch, Normalisation
from laegd.scenario.scenario import require
from laegd.training.step import TrainState, create_state

RUN_FORMAT = "laegd-run/1"
FOLDER = "checkpoints"
MAX_REASON = 300  # characters of an error that Orbax reports
ROOM_FOR_METADATA = 1_000_000  # bytes beside the arrays of a checkpoint

logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax reports every file it writes


class Loaded(NamedTuple):
    """A trained network with all it needs to plan."""

    config: ExperimentConfig
    normalisation: Normalisation
    params: Any
    step: int


def source_commit() -> str | None:
    """Returns the commit of the source tree that runs, with a `+` where it was changed; None without a source tree."""
    try:
        command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--dirty=+"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def make_meta(config: ExperimentConfig, normalisation: Normalisation, data: dict[str, str]) -> dict[str, Any]:
    """Returns what stands beside the parameters; `data` maps data sets to their hashes."""
    return {
        "format": RUN_FORMAT,
        "config": config.to_dict(),
        "features": _features(),
        "normalisation": normalisation.to_dict(),
        "data": data,
        "versions": {name: version(name) for name in ("laegd", "jax", "flax", "optax", "orbax-checkpoint", "numpy")},
        "commit": source_commit(),
    }


def _features() -> dict[str, list[str]]:
    return {"node": list(NODE_COLUMNS), "edge": list(EDGE_COLUMNS)}


def _check_meta(meta: dict[str, Any]) -> None:
    """Raises unless this code wrote the run, or code that agrees on its format and on the network's inputs."""
    require(meta.get("format") == RUN_FORMAT, "format", RUN_FORMAT, meta.get("format"), "Use the laegd that wrote it.")
    ours, theirs = _features(), meta.get("features", _features())
    other = {side: sorted(set(ours[side]) ^ set(theirs.get(side, ()))) for side in ours}
    require(theirs == ours, "features", "the columns that this laegd computes", other, "Use the laegd that wrote it.")


def _check_params(config: ExperimentConfig, params: Any) -> None:
    """Raises unless the parameters are those of the configured network."""
    widths, mask = (len(NODE_COLUMNS), len(EDGE_COLUMNS)), np.ones((1, 1, 1), dtype=bool)
    node, edge = np.zeros((1, 1, widths[0]), np.float32), np.zeros((1, 1, 1, widths[1]), np.float32)
    wanted = jax.eval_shape(lambda: create_state(config, GraphBatch(node, node, edge, mask)).params)
    ours, theirs = (
        {jax.tree_util.keystr(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
        for tree in (wanted, params)
    )
    for name in sorted(set(ours) | set(theirs)):
        shape = theirs.get(name)
        require(shape == ours.get(name), f"params{name}", f"shape {ours.get(name)}", shape, "The network has changed.")


def _line(error: Exception) -> str:
    """Returns the error in one line without a full stop; of a long one the beginning and the end, where causes are."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
    text = text.rstrip(".")
    return text if len(text) <= MAX_REASON else f"{text[: MAX_REASON // 2]} ... {text[-MAX_REASON // 2 :]}"


def _require_room(folder: Path, tree: Any) -> None:
    """Raises before anything is written where a checkpoint would not fit on the disk."""
    needed = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(tree)) + ROOM_FOR_METADATA
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def _only_exceptions() -> Iterator[None]:
    """Keeps Orbax's threads from printing hundreds of lines where one exception says it all."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with redirect_stderr(io.StringIO()):
            try:
                yield
            except BaseException:
                time.sleep(0.5)  # the other threads of the array store fail a moment later
                raise
    finally:
        logger.setLevel(level)


def _ratio(metrics: dict[str, float]) -> float:
    return metrics["ratio"]


class Checkpoints:
    """The checkpoints of one run folder."""

    def __init__(self, workdir: Path, create: bool = False) -> None:
        """Opens the folder; raises ValueError where there is none, or where it cannot be made."""
        self.folder = (workdir / FOLDER).absolute()
        if not create and not self.folder.is_dir():
            raise ValueError(
                f"{workdir}: Expected a run folder with {FOLDER}/, got none. Train one with `laegd train`."
            )
        policies = checkpoint_managers.AnyPreservationPolicy(
            [checkpoint_managers.LatestN(1), checkpoint_managers.BestN(get_metric_fn=_ratio, reverse=True, n=1)]
        )
        options = ocp.CheckpointManagerOptions(
            best_fn=_ratio,
            best_mode="min",
            preservation_policy=policies,
            create=create,
            cleanup_tmp_directories=create,
            enable_async_checkpointing=False,
        )
        try:
            self._manager = ocp.CheckpointManager(self.folder, options=options, item_names=("state", "params", "meta"))
        except OSError as error:
            raise ValueError(
                f"{workdir}: Expected a writable run folder, got: {error.strerror}. Choose another."
            ) from error

    def save(self, state: TrainState, meta: dict[str, Any], ratio: float) -> None:
        """Saves a step; its metric is the validation's mean cost ratio. A step already saved is left as it is."""
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        state = jax.device_get(state)
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            params=ocp.args.StandardSave(state.ema_params),
            meta=ocp.args.JsonSave(meta),
        )
        try:
            _require_room(self.folder, (state, state.ema_params))
            with _only_exceptions():
                self._manager.save(step, args=items, metrics={"ratio": ratio}, force=True)
                self._manager.wait_until_finished()
        except (OSError, ValueError) as error:  # Orbax's array store says ValueError where the disk is full
            last = self.last_step()
            raise ValueError(
                f"{self.folder}: Expected room for a checkpoint, got: {_line(error)}. Free space and run again: "
                f"it goes on from {'step ' + str(last) if last not in (None, step) else 'the beginning'}."
            ) from error

    def last_step(self) -> int | None:
        """Returns the newest saved step."""
        return self._manager.latest_step()

    def best_step(self) -> int | None:
        """Returns the saved step with the lowest validation ratio."""
        return self._manager.best_step()

    def ratio_of(self, step: int | None) -> float:
        """Returns the validation ratio of a saved step; inf where it was not validated."""
        metrics = self._manager.metrics(step) if step is not None else None
        return metrics["ratio"] if metrics else math.inf

    def read_meta(self, step: int) -> dict[str, Any]:
        """Reads what stands beside the parameters."""
        return self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]

    def restore(self, target: TrainState) -> TrainState:
        """Restores the newest state; `target` gives its structure."""
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, target)
        items = ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
        step = self.last_step()
        try:
            return self._manager.restore(step, args=items)["state"]
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise ValueError(
                f"{self.folder}/{step}: Expected a whole {RUN_FORMAT} checkpoint of this network, got: {_line(error)}. "
                "Name another --workdir, or delete that step."
            ) from error

    def load(self, which: str = "best") -> Loaded:
        """Loads the averaged parameters of the best or the last step, with settings and normalisation."""
        step = self.best_step() if which == "best" else self.last_step()
        if step is None:
            step = self.last_step()
        if step is None:
            raise ValueError(f"{self.folder}: Expected a checkpoint, got none. Train longer, or name another run.")
        try:
            meta = self.read_meta(step)
            _check_meta(meta)
            config = ExperimentConfig.from_dict(meta["config"])
            normalisation = Normalisation.from_dict(meta["normalisation"])
            items = ocp.args.Composite(params=ocp.args.StandardRestore())
            params = self._manager.restore(step, args=items)["params"]
            _check_params(config, params)
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            raise ValueError(
                f"{self.folder}/{step}: Expected a {RUN_FORMAT} checkpoint, got: {_line(error)}. "
                "Train it anew, or name another run."
            ) from error
        return Loaded(config, normalisation, params, step)

    def close(self) -> None:
        """Waits for what is under way."""
        self._manager.close()
