"""A trained network as one file to pass on, and the one that ships with laegd.

An archive of NumPy arrays (npz): the averaged parameters by their paths, and a text that tells settings, normalisation,
data, versions and commit, as beside a checkpoint. Nothing in it is code, and nothing is read before its declared size
is known to be right.
"""

import io
import json
import zipfile
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from laegd.config import ExperimentConfig
from laegd.graphs.encode import Normalisation
from laegd.graphs.shard_file import array_in, text_in
from laegd.scenario.outputs import write_output
from laegd.scenario.scenario import in_short, require
from laegd.training.cluster import share
from laegd.training.devices import start_devices
from laegd.training.meta import RUN_FORMAT, Loaded, check_meta, params_of

if TYPE_CHECKING:
    from laegd.training.checkpoint import Checkpoints

MODEL_FORMAT = "laegd-model/1"
DEFAULT = "default"
"""Name of the network that ships with laegd."""


def default_path() -> Path:
    """Returns the file of the network that ships with laegd."""
    return Path(str(files("laegd") / "shipped" / "default.npz"))


def read_network(run: Path | str, which: str = "best") -> Loaded:
    """Reads a network by its name, from its file or from its run folder.

    Args:
        run: "default", a file that `laegd pack` wrote, or a folder that `laegd train` filled.
        which: "best" (by validation) or "last" checkpoint of a folder.
    """
    if str(run) == DEFAULT:
        return read_model(default_path())
    if Path(run).is_file():
        return read_model(Path(run))
    return _checkpoints(Path(run)).load(which)


def read_together(run: Path | str, which: str = "best") -> Loaded:
    """`read_network` on rank 0, whose network all processes get."""
    return Loaded.from_bytes(share(lambda: read_network(run, which).to_bytes()))


def _checkpoints(run: Path) -> "Checkpoints":
    from laegd.training.checkpoint import Checkpoints  # Orbax, for which whoever reads a file need not wait

    return Checkpoints(run)


def pack(run: Path, out: Path) -> None:
    """Writes the best checkpoint of a run as one file."""
    start_devices()
    checkpoints = _checkpoints(run)
    loaded = checkpoints.load()
    about = checkpoints.read_meta(loaded.step) | {"format": MODEL_FORMAT, "step": loaded.step}
    content = io.BytesIO()
    arrays: dict[str, Any] = {name: np.asarray(leaf) for name, leaf in _named(loaded.params)}
    np.savez(content, about=np.array(json.dumps(about)), **arrays)
    write_output(out, content.getvalue())


def read_model(path: Path) -> Loaded:
    """Reads what `pack` wrote; raises ValueError that names the file and what is wrong with it."""
    try:
        with zipfile.ZipFile(path) as archive:
            about = json.loads(text_in(archive, "about"))
            require(about["format"] == MODEL_FORMAT, "format", MODEL_FORMAT, about["format"], "")
            check_meta(about | {"format": RUN_FORMAT})
            config = ExperimentConfig.from_dict(about["config"])
            normalisation = Normalisation.from_dict(about["normalisation"])
            shapes = params_of(config)
            leaves = [array_in(archive, name, leaf.dtype, leaf.shape) for name, leaf in _named(shapes)]
            for (name, _), leaf in zip(_named(shapes), leaves, strict=True):
                require(bool(np.isfinite(leaf).all()), name, "finite numbers", "nan or inf", "")
            step = about["step"]
            require(type(step) is int and step >= 0, "step", "an integer of at least 0", step, "")
            return Loaded(config, normalisation, jax.tree.unflatten(jax.tree.structure(shapes), leaves), step)
    except Exception as error:  # damage shows as any of BadZipFile, zlib.error, KeyError, ValueError, EOFError, ...
        reason = in_short(str(error).strip(". "))
        raise ValueError(
            f"{path}: Expected a {MODEL_FORMAT} file, got: {reason}. Write it anew with `laegd pack`."
        ) from error


def _named(params: Any) -> list[tuple[str, Any]]:
    """Returns parameters with their paths, such as encoder/layer_0/edge_gate/kernel."""
    paths = jax.tree_util.tree_leaves_with_path(params)
    return [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in paths]
