"""Reads the file of a shard, which anyone may have made: an archive of NumPy arrays (npz).

A few kilobytes can claim, and unpacked fill, any memory, so no array is read before its declared type and shape are
those that the data set's scale asks for. Objects are never unpickled.
"""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec
import numpy as np

from laegd.scenario.files import read_file
from laegd.scenario.scenario import Nodes, in_short, require

DATASET_FORMAT = "laegd-dataset/1"  # of a shard, and of the manifest of drawn networks
MAX_ABOUT = 100_000  # characters in which a shard tells what it is
LABELS = ("server", "share", "cost", "lower_bound")
MAX_SHARE = 1.0 + 1e-6
Read = TypeVar("Read")


class About(msgspec.Struct, frozen=True):
    """What a shard says of itself."""

    format: Literal["laegd-dataset/1"]
    recipe: dict[str, Any]
    block: int
    redrawn: int


class Sizes(NamedTuple):
    """Numbers of what a shard holds."""

    instances: int
    users: int
    servers: int


def read_bytes(path: Path) -> bytes:
    """Returns the file of a shard; raises ValueError where there is none."""
    if not path.exists():
        raise ValueError(f"{path}: Expected a shard, got no file. Run the same `laegd generate` again.")
    return read_file(path, "a shard", "Delete it and generate again.")


def read_about(path: Path, content: bytes) -> About:
    """Returns what a shard says of itself; raises ValueError that names a damaged file."""

    def read(archive: zipfile.ZipFile) -> About:
        return msgspec.json.decode(text_in(archive, "about"), type=About)

    return _whole(path, content, read)


def read_arrays(path: Path, content: bytes, sizes: Sizes) -> dict[str, np.ndarray]:
    """Returns networks and labels of a shard; raises ValueError that names a damaged file."""

    def read(archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
        arrays = {name: array_in(archive, name, *kind) for name, kind in _layout(sizes).items()}
        for name in LABELS:
            _check_label(name, arrays[name], sizes)
        return arrays

    return _whole(path, content, read)


def _whole(path: Path, content: bytes, read: Callable[[zipfile.ZipFile], Read]) -> Read:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return read(archive)
    except Exception as error:  # damage shows as any of BadZipFile, zlib.error, struct.error, ValueError, EOFError, ...
        reason = in_short(str(error).strip(". "))
        raise ValueError(
            f"{path}: Expected a whole shard, got damage: {reason}. Delete it and generate again."
        ) from error


def _layout(sizes: Sizes) -> dict[str, tuple[Any, tuple[int, ...]]]:
    """Returns type and shape of every array."""
    count, users, servers = sizes
    layout: dict[str, tuple[Any, tuple[int, ...]]] = {}
    for name in Nodes._fields:
        shape = (count, users if name.startswith("user_") else servers)
        layout[name] = (np.bool_ if "_is_" in name else np.float64, (*shape, 3) if name.endswith("_xyz_m") else shape)
    labels = {"server": (np.int16, (count, users)), "share": (np.float64, (count, users))}
    return layout | labels | {name: (np.float64, (count,)) for name in ("cost", "lower_bound")}


def text_in(archive: zipfile.ZipFile, name: str) -> str:
    """Returns a text of a bounded size."""
    with _member(archive, name) as file:
        shape, dtype = _header(file)
    require(dtype.kind == "U" and dtype.itemsize <= 4 * MAX_ABOUT, name, "a text", dtype.str, "")
    return str(array_in(archive, name, dtype, shape))


def array_in(archive: zipfile.ZipFile, name: str, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Returns an array, which is read only where it says that it has this type and shape."""
    with _member(archive, name) as file:
        found_shape, found = _header(file)
    expected, got = (f"{kind.str} of shape {axes}" for kind, axes in ((np.dtype(dtype), shape), (found, found_shape)))
    require(got == expected, name, expected, got, "")
    with _member(archive, name) as file:
        values = np.lib.format.read_array(file, allow_pickle=False)
        require(not file.read(1), name, "nothing behind the array", "more", "")
    return values


def _member(archive: zipfile.ZipFile, name: str) -> Any:
    """Opens an array, unless it is packed in a way that `zipfile` unpacks whole, whatever its size."""
    packed = archive.getinfo(f"{name}.npy").compress_type
    require(packed in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED), name, "stored or deflated", f"method {packed}", "")
    return archive.open(f"{name}.npy")


def _header(file: Any) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(file)
    require(version == (1, 0), "npy", "version 1.0, whose header is small", version, "")
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    return shape, dtype


def _check_label(name: str, values: np.ndarray, sizes: Sizes) -> None:
    """Raises where a number is none that a label can have; those of networks are checked when costs are computed."""
    low, high = (-1, sizes.servers - 1) if name == "server" else (0.0, MAX_SHARE if name == "share" else np.inf)
    values = values[~np.isnan(values)] if name in ("cost", "lower_bound") else values
    outside = values[~((low <= values) & (values <= high))]
    require(not len(outside), name, f"numbers from {low:g} to {high:g}", outside[:3].tolist(), "")
