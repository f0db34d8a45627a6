"""What stands beside a network's parameters: settings, normalisation, data, versions, commit."""

import json
import subprocess
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.serialization import msgpack_restore, msgpack_serialize

from laegd.config import ExperimentConfig
from laegd.graphs.encode import EDGE_COLUMNS, NODE_COLUMNS, GraphBatch, Normalisation
from laegd.scenario.scenario import require
from laegd.training.step import TrainState, create_state

RUN_FORMAT = "laegd-run/2"  # 1: other names of the attention layer's parameters
_NONE = (None, None)  # shape and type of no array


class Loaded(NamedTuple):
    """A trained network with all it needs to plan."""

    config: ExperimentConfig
    normalisation: Normalisation
    params: Any
    step: int

    def to_bytes(self) -> bytes:
        """Writes it for another process."""
        about = {"config": self.config.to_dict(), "normalisation": self.normalisation.to_dict(), "step": self.step}
        return msgpack_serialize({"about": json.dumps(about), "params": self.params})

    @staticmethod
    def from_bytes(content: bytes) -> "Loaded":
        """Reads what `to_bytes` wrote."""
        values = msgpack_restore(content)
        about = json.loads(str(values["about"]))
        config = ExperimentConfig.from_dict(about["config"])
        return Loaded(config, Normalisation.from_dict(about["normalisation"]), values["params"], about["step"])


def source_commit() -> str | None:
    """Returns the last commit that changed laegd's source, with a `+` where it was changed since.

    A wheel or a source archive carries the commit that it was built from, in a file that `hatch_build.py` puts there.
    None where git does not track that source, as in a package that was installed into somebody else's repository.
    """
    built_from = Path(__file__).parents[1] / "commit.txt"
    if built_from.is_file():
        return built_from.read_text().strip()
    package = str(Path(__file__).parents[1])

    def git(*arguments: str) -> str:
        command = ["git", "-C", package, *arguments, "--", package]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()

    try:
        if not git("ls-files", "--error-unmatch"):
            return None
        commit = git("log", "-1", "--format=%H")
        return None if not commit else commit + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
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


def check_meta(meta: dict[str, Any]) -> None:
    """Raises unless this code wrote the run, or code that agrees on its format and on the network's inputs."""
    require(meta.get("format") == RUN_FORMAT, "format", RUN_FORMAT, meta.get("format"), "Use the laegd that wrote it.")
    ours, theirs = _features(), meta.get("features", _features())
    other = {side: sorted(set(ours[side]) ^ set(theirs.get(side, ()))) for side in ours}
    require(theirs == ours, "features", "the columns that this laegd computes", other, "Use the laegd that wrote it.")


def state_of(config: ExperimentConfig) -> TrainState:
    """Returns the shapes of all that a run with these settings goes on from."""
    widths, mask = (len(NODE_COLUMNS), len(EDGE_COLUMNS)), np.ones((1, 1, 1), dtype=bool)
    node, edge = np.zeros((1, 1, widths[0]), np.float32), np.zeros((1, 1, 1, widths[1]), np.float32)
    return jax.eval_shape(lambda: create_state(config, GraphBatch(node, node, edge, mask)))


def params_of(config: ExperimentConfig) -> Any:
    """Returns the shapes of the configured network's parameters; its layers are alike, so one stands for all."""
    shapes = state_of(replace(config, model=replace(config.model, num_layers=1))).params
    layers = {f"layer_{number}": shapes["encoder"]["layer_0"] for number in range(config.model.num_layers)}
    return shapes | {"encoder": shapes["encoder"] | layers}


def check_arrays(item: str, ours: Any, theirs: Any) -> None:
    """Raises unless arrays, or what is told of them, have the names, shapes and types of ours."""
    expected, told = _described(ours), _described(theirs)
    for name in sorted(expected.keys() | told.keys()):
        (shape, kind), (its_shape, its_kind) = expected.get(name, _NONE), told.get(name, _NONE)
        require(its_shape == shape, f"{item}{name}", f"shape {shape}", its_shape, "The network has changed.")
        require(its_kind == kind, f"{item}{name}", f"type {kind}", its_kind, "The network has changed.")


def _described(tree: Any) -> dict[str, tuple[Any, Any]]:
    """Returns name -> shape and type of every array; a field is named like a key, as in a checkpoint."""
    described = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = "".join(f"[{jax.tree_util.keystr((key,), simple=True)!r}]" for key in path)
        described[name] = (getattr(leaf, "shape", None), str(getattr(leaf, "dtype", None)))
    return described
