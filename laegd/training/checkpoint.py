"""Checkpoints of a run, kept by Orbax: the last two, to go on from, and the best one, to plan with.

Each step holds three items: `state` (everything the loop needs), `params` (the averaged parameters) and `meta`
(settings, normalisation, data hashes, versions, commit). Nothing in them is code. Beside a step stands the SHA-256 of
its files, so that damage is noticed before anything is read. With several processes, rank 0 alone uses this module.
"""

import errno
import hashlib
import io
import json
import logging
import math
import os
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager, redirect_stderr
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers
from orbax.checkpoint.options import MultiprocessingOptions

from laegd.config import ExperimentConfig
from laegd.graphs.encode import Normalisation
from laegd.scenario.files import write_atomically
from laegd.scenario.scenario import require
from laegd.training.meta import RUN_FORMAT, Loaded, check_arrays, check_meta, params_of, state_of
from laegd.training.step import TrainState

FOLDER = "checkpoints"
DAMAGED = "damaged"  # folder of steps that a run could not go on from
MAX_REASON = 300  # characters of an error that Orbax reports
ROOM_FOR_METADATA = 1_000_000  # bytes beside the arrays of a checkpoint

_DAMAGE = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
_NO_FILE = (FileNotFoundError, NotADirectoryError, IsADirectoryError)  # other errors of a disk may pass

logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax reports every file it writes


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


def _digest(step: Path) -> str:
    """Returns the SHA-256 of names and contents of all files of a step."""
    digest = hashlib.sha256()
    for path in sorted(path for path in step.rglob("*") if path.is_file()):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(step)}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def _seal(step: Path) -> Path:
    """Returns where the digest of a step stands."""
    return step.with_suffix(".sha256")


class UnfitError(ValueError):
    """A step that cannot be read, or is not what this version writes; its message says why."""


class Checkpoints:
    """The checkpoints of one run folder, without those that are damaged."""

    def __init__(self, workdir: Path) -> None:
        """Opens the folder and checks its files; raises ValueError where there is none."""
        self.folder = (workdir / FOLDER).absolute()
        if not self.folder.is_dir():
            raise ValueError(
                f"{workdir}: Expected a run folder with {FOLDER}/, got none. Train one with `laegd train`."
            )
        self._alone = MultiprocessingOptions(primary_host=0, active_processes={0} if jax.process_count() > 1 else None)
        self.ratios: dict[int, float] = {}
        """Validation ratio of each whole step, in order; inf where it was not validated."""
        self.damaged: list[int] = []
        last: Exception | None = None
        for step in sorted(int(path.name) for path in self.folder.iterdir() if path.name.isdecimal()):
            try:
                self.ratios[step] = self._checked(step)
            except (*_DAMAGE, *_NO_FILE) as error:
                self.damaged.append(step)
                last = error
        if self.damaged and not self.ratios:
            if isinstance(last, UnfitError):  # it may be of another version, which is no damage
                raise last
            raise ValueError(
                f"{self.folder}: Expected a whole checkpoint, got damage in every one: {self.damaged}. "
                "Restore them from a copy, or name another run."
            )

    @staticmethod
    def create(workdir: Path) -> "Checkpoints":
        """Opens a run folder to train in; puts damaged steps aside, says so, and clears what a crash has left."""
        folder = (workdir / FOLDER).absolute()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            checkpoints = Checkpoints(workdir)
            for step in checkpoints.damaged:
                aside = workdir / DAMAGED / f"{step}-{time.time_ns()}"
                aside.parent.mkdir(exist_ok=True)
                (folder / str(step)).rename(aside)
                _seal(folder / str(step)).unlink(missing_ok=True)
                checkpoints._warn(step, checkpoints.last_step(), f" It was moved to {aside}.")
            checkpoints.damaged.clear()
            for step in checkpoints.ratios:
                if not _seal(folder / str(step)).exists():  # a crash came between the step and its digest
                    checkpoints._write_seal(step)
            assert checkpoints._manager is not None
        except OSError as error:
            raise ValueError(
                f"{workdir}: Expected a writable run folder, got: {_line(error)}. Choose another."
            ) from error
        return checkpoints

    def _warn(self, step: int, instead: int | None, more: str = "") -> None:
        message = (
            f"{self.folder / str(step)}: Expected a whole checkpoint, got damage: its files are not what was saved. "
            f"Step {instead}, the one before it, is used.{more}"
        )
        warnings.warn(message, RuntimeWarning, stacklevel=2)

    def _write_seal(self, step: int) -> None:
        write_atomically(_seal(self.folder / str(step)), _digest(self.folder / str(step)).encode() + b"\n")

    def _checked(self, step: int) -> float:
        """Returns the validation ratio of a step; raises where its files are not what was saved."""
        folder = self.folder / str(step)
        if _seal(folder).exists():
            require(_seal(folder).read_text().strip() == _digest(folder), str(step), "what was saved", "damage", "")
        else:  # a crash came before it, or an older version wrote the step
            self._require_whole(step)
        return float(json.loads((folder / "metrics" / "metrics").read_text())["ratio"])

    def _require_whole(self, step: int) -> None:
        """Raises unless all of a step can be read and its averaged parameters, which it holds twice, agree."""
        config, _ = self.about(step)
        params = self._read_arrays(step, "params", params_of(config))
        state = self._read_arrays(step, "state", state_of(config))
        same = jax.tree.all(jax.tree.map(np.array_equal, params, state.ema_params))
        require(same, f"{self.folder}/{step}", "the same parameters in params and state", "others", "")

    @cached_property
    def _manager(self) -> ocp.CheckpointManager:
        """What saves and clears away; it must not meet a damaged step."""
        policies = checkpoint_managers.AnyPreservationPolicy(
            [checkpoint_managers.LatestN(2), checkpoint_managers.BestN(get_metric_fn=_ratio, reverse=True, n=1)]
        )
        options = ocp.CheckpointManagerOptions(
            best_fn=_ratio,
            best_mode="min",
            preservation_policy=policies,
            create=False,
            cleanup_tmp_directories=True,
            enable_async_checkpointing=False,
            multiprocessing_options=self._alone,
        )
        return ocp.CheckpointManager(self.folder, options=options, item_names=("state", "params", "meta"))

    def save(self, state: TrainState, meta: dict[str, Any], ratio: float) -> None:
        """Saves a step; its metric is the validation's mean cost ratio. A step already saved is left as it is.

        Raises:
            FloatingPointError: A parameter is not finite.
            ValueError: No room; what was saved before is still there.
        """
        step = int(state.step)
        if step in self.ratios:
            return
        state = jax.device_get(state)
        self._require_finite(state)
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            params=ocp.args.StandardSave(state.ema_params),
            meta=ocp.args.JsonSave(meta),
        )
        try:
            _require_room(self.folder, (state, state.ema_params))
            _seal(self.folder / str(step)).unlink(missing_ok=True)  # of a damaged step of that number
            with _only_exceptions():
                self._manager.save(step, args=items, metrics={"ratio": ratio}, force=True)
                self._manager.wait_until_finished()
        except (OSError, ValueError) as error:  # Orbax's array store says ValueError where the disk is full
            raise ValueError(
                f"{self.folder}: Expected room for a checkpoint, got: {_line(error)}. Free space and run again: "
                f"it goes on from {self._from_where()}."
            ) from error
        self._write_seal(step)
        kept = set(self._manager.all_steps())
        for gone in set(self.ratios) - kept:
            _seal(self.folder / str(gone)).unlink(missing_ok=True)
        self.ratios = {one: old for one, old in [*self.ratios.items(), (step, ratio)] if one in kept}

    def _from_where(self) -> str:
        return "the beginning" if self.last_step() is None else f"step {self.last_step()}"

    def _require_finite(self, state: TrainState) -> None:
        for path, leaf in jax.tree_util.tree_leaves_with_path(state):
            if not np.all(np.isfinite(leaf)):
                raise FloatingPointError(
                    f"training.loss: Expected finite parameters, got nan or inf in {jax.tree_util.keystr(path)} "
                    f"at step {int(state.step)}; that step is not saved. Lower training.learning_rate; the last good "
                    f"checkpoint is step {self.last_step()}."
                )

    def last_step(self) -> int | None:
        """Returns the newest whole step."""
        return max(self.ratios, default=None)

    def best_step(self) -> int | None:
        """Returns the whole step with the lowest validation ratio."""
        return min(self.ratios, key=lambda step: (self.ratios[step], -step), default=None)

    def ratio_of(self, step: int | None) -> float:
        """Returns the validation ratio of a saved step; inf where it was not validated."""
        return math.inf if step is None else self.ratios[step]

    def _read(self, step: int, **items: Any) -> Any:
        """Reads items of a step."""
        alone: dict[str, Any] = {"multiprocessing_options": self._alone}
        handlers = {
            "state": ocp.StandardCheckpointHandler(**alone),
            "params": ocp.StandardCheckpointHandler(**alone),
            "meta": ocp.JsonCheckpointHandler(**alone),
        }
        handler = ocp.CompositeCheckpointHandler(composite_options=ocp.CompositeOptions(**alone), **handlers)
        with ocp.Checkpointer(handler, **alone) as reader, _only_exceptions():
            return reader.restore(self.folder / str(step), args=ocp.args.Composite(**items))

    @contextmanager
    def _refused(self, step: int) -> Iterator[None]:
        """Turns what damage raises into one line."""
        try:
            yield
        except (*_DAMAGE, OSError) as error:
            raise UnfitError(
                f"{self.folder}/{step}: Expected a {RUN_FORMAT} checkpoint, got: {_line(error)}. "
                "Train it anew, or name another run."
            ) from error

    def _read_arrays(self, step: int, item: str, expected: Any) -> Any:
        """Reads an item of arrays like those expected; first what they claim to be, since that can be of any size."""
        folder: Any = self.folder / str(step) / item
        with self._refused(step):
            with closing(ocp.StandardCheckpointHandler(multiprocessing_options=self._alone)) as handler:
                with _only_exceptions():
                    told = handler.metadata(folder).tree
            check_arrays(item, expected, told)
            for leaf in jax.tree.leaves(told):  # a chunk is read as a whole
                chunk = leaf.storage.chunk_shape
                require(math.prod(chunk) <= math.prod(leaf.shape), item, "chunks no larger than an array", chunk, "")
            return self._read(step, **{item: ocp.args.StandardRestore(expected)})[item]

    def read_meta(self, step: int) -> dict[str, Any]:
        """Reads what stands beside the parameters."""
        return self._read(step, meta=ocp.args.JsonRestore())["meta"]

    def about(self, step: int) -> tuple[ExperimentConfig, Normalisation]:
        """Reads settings and normalisation of a step; raises ValueError where another version wrote them."""
        with self._refused(step):
            meta = self.read_meta(step)
            check_meta(meta)
            return ExperimentConfig.from_dict(meta["config"]), Normalisation.from_dict(meta["normalisation"])

    def restore(self, target: TrainState) -> TrainState:
        """Restores the newest state; `target` gives its structure."""
        step = self.last_step()
        assert step is not None
        return self._read_arrays(step, "state", target)

    def load(self, which: str = "best") -> Loaded:
        """Loads the averaged parameters of the best or the last step, with settings and normalisation."""
        step = self.best_step() if which == "best" else self.last_step()
        if step is None:
            raise ValueError(f"{self.folder}: Expected a checkpoint, got none. Train longer, or name another run.")
        for damaged in self.damaged:
            self._warn(damaged, step)
        config, normalisation = self.about(step)
        return Loaded(config, normalisation, self._read_arrays(step, "params", params_of(config)), step)

    def close(self) -> None:
        """Waits for what is under way."""
        if "_manager" in self.__dict__:
            self._manager.close()
