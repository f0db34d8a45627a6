"""What a run keeps in its folder: checkpoints, `metrics.jsonl` and, while it works, a lock; all of it by rank 0."""

import json
import math
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

from flax.serialization import from_bytes, to_bytes

from laegd.config import ExperimentConfig
from laegd.graphs.encode import Normalisation
from laegd.scenario.files import clear_unfinished, locked, open_own, write_atomically
from laegd.training.checkpoint import Checkpoints
from laegd.training.cluster import share
from laegd.training.step import TrainState


def _differences(ours: Any, theirs: Any, path: str = "") -> list[str]:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        keys = sorted(set(ours) | set(theirs))
        return [d for key in keys for d in _differences(ours.get(key), theirs.get(key), f"{path}.{key}".lstrip("."))]
    return [] if ours == theirs else [f"{path} = {theirs!r} there, {ours!r} here"]


class RunFolder:
    """A run folder to train in. Every rank calls the same methods; rank 0 reads and writes, the others learn of it."""

    def __init__(self, workdir: Path, config: ExperimentConfig, stack: ExitStack) -> None:
        """Use `RunFolder.opened`."""
        self.workdir, self.config, self._stack = workdir, config, stack
        self._checkpoints: Checkpoints | None = None  # of rank 0
        meta = json.loads(share(self._open))
        self.last_step: int | None = meta["step"]
        """Step to go on from; None at the beginning."""
        self.normalisation = Normalisation.from_dict(meta["normalisation"]) if meta["normalisation"] else None
        """Of the run to go on with."""

    @staticmethod
    @contextmanager
    def opened(workdir: Path, config: ExperimentConfig) -> Iterator["RunFolder"]:
        """Opens the folder, made where it is missing, for this job alone.

        Raises:
            ValueError: Another job works there, or it is not writable, or it holds a run with other settings.
        """
        with ExitStack() as stack:
            yield RunFolder(workdir, config, stack)

    def _open(self) -> bytes:
        remedy = "Wait until it ends, end it, or name another --workdir."
        self._stack.enter_context(locked(self.workdir / "lock", remedy))
        self._checkpoints = Checkpoints.create(self.workdir)
        self._stack.callback(self._checkpoints.close)
        last = self._checkpoints.last_step()
        normalisation = None
        if last is not None:
            config, fitted = self._checkpoints.about(last)
            self._require_same_settings(config)
            normalisation = fitted.to_dict()
        self._metrics = self.workdir / "metrics.jsonl"
        clear_unfinished(self.workdir)
        _keep_metrics_until(self._metrics, last)
        self._log = self._stack.enter_context(os.fdopen(open_own(self._metrics), "ab", buffering=0))
        return json.dumps({"step": last, "normalisation": normalisation}).encode()

    def _require_same_settings(self, config: ExperimentConfig) -> None:
        # Settings that are younger than the run have their defaults there.
        different = _differences(self.config.to_dict(), config.to_dict())
        if different:
            what = "another architecture" if different[0].startswith("model") else "other settings"
            raise ValueError(
                f"{self.workdir}: Expected a checkpoint of the same settings, got one of {what}: "
                f"{'; '.join(different)}. Name another --workdir, or go on with the old settings."
            )

    @property
    def _files(self) -> Checkpoints:
        assert self._checkpoints is not None, "asked for on rank 0 alone"
        return self._checkpoints

    def restore(self, state: TrainState) -> TrainState:
        """Returns the state to go on from; `state`, that of the beginning, gives its structure."""
        if self.last_step is None:
            return state
        return cast(TrainState, from_bytes(state, share(lambda: to_bytes(self._files.restore(state)))))

    def save(self, state: TrainState, meta: dict[str, Any], ratio: float) -> None:
        """Saves a step; all ranks end where that fails."""
        share(lambda: self._files.save(state, meta, ratio))

    def write(self, line: dict[str, Any]) -> None:
        """Adds a line of metrics.

        Raises:
            FloatingPointError: Its loss is not finite; names the steps and the last good checkpoint.
            ValueError: No room.
        """

        def write() -> bytes:
            self._require_finite(line)
            try:
                self._log.write(json.dumps(line).encode() + b"\n")
            except OSError as error:
                raise ValueError(
                    f"{self._metrics}: Expected room for a line, got: {error.strerror}. Free space and run again: "
                    "it goes on from the last checkpoint."
                ) from error
            return b""

        share(write)

    def _require_finite(self, line: dict[str, Any]) -> None:
        if not math.isfinite(line["loss"]):
            raise FloatingPointError(
                f"training.loss: Expected a finite loss, got {line['loss']} between steps "
                f"{line['step'] - self.config.training.log_every} and {line['step']}. Lower training.learning_rate; "
                f"the last good checkpoint is step {self._files.last_step()}."
            )

    def best(self) -> tuple[int | None, float]:
        """Returns the step with the lowest validation ratio, and that ratio."""

        def best() -> bytes:
            step = self._files.best_step()
            return json.dumps((step, self._files.ratio_of(step))).encode()

        step, ratio = json.loads(share(best))
        return step, ratio


def _keep_metrics_until(path: Path, step: int | None) -> None:
    """Drops lines that an interrupted run wrote after its last checkpoint: they will be written again.

    Raises:
        ValueError: There is no checkpoint yet, and the lines are not of a run.
    """
    with os.fdopen(open_own(path), errors="replace") as file:
        text = file.read()
    lines = text.splitlines()
    if step is None and "\n" in text and math.isinf(_step_of(lines[0])):  # the only line may be torn
        raise ValueError(f"{path}: Expected the metrics of a run, got another file. Name another --workdir.")
    write_atomically(path, "".join(line + "\n" for line in lines if _step_of(line) <= (step or 0)).encode())


def _step_of(line: str) -> float:
    """Returns the step of a line of metrics; inf where a crash has torn it, or where it is none of ours."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return math.inf
