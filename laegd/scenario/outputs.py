"""Where commands write: never over an input or another output, over a finished file only where that is asked for."""

import os
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from laegd.scenario.files import clear_unfinished, require_writable, write_atomically

# What a folder that is an input is read for: data sets and runs. Other files in it, such as results, are no inputs.
_READ_IN_FOLDERS = ("manifest.json", "shard-*.npz", "metrics.jsonl", "checkpoints/**/*")
_FOLDS_CASE = sys.platform in ("darwin", "win32")


def check_outputs(
    outputs: Mapping[str, Path | Sequence[Path]], inputs: Iterable[Path | None] = (), overwrite: bool = False
) -> None:
    """Refuses, before any work is done, places where a command would destroy something or cannot write.

    Also deletes the temporary files that killed commands left there.

    Args:
        outputs: Files to write, by the option that names them.
        inputs: Files and folders that the command reads; None: an option that was left out.
        overwrite: Whether finished files may be replaced. Inputs never are.

    Raises:
        ValueError: A place is an input or another output, by whatever path; or holds a file; or is not writable.
    """
    named = [(option, path) for option, paths in outputs.items() for path in _listed(paths)]
    taken = {key: "is an input" for path in inputs if path is not None for key in _input_keys(path)}
    for option, path in named:
        keys = _keys(path)
        found = next((taken[key] for key in keys if key in taken), None)
        if found is not None:
            raise ValueError(f"{option}: Expected a place of its own, got {path}, which {found}. Name another.")
        taken |= {key: f"{option} writes too" for key in keys}
    for _, path in named:
        require_writable(path)
        clear_unfinished(Path(os.path.realpath(path)).parent)
    if not overwrite:
        for option, path in named:
            require_nothing_there(option, path)


def require_nothing_there(option: str, path: Path) -> None:
    """Raises ValueError where a file with content is in the way of an output."""
    found = _stat(path)
    if found is not None and stat.S_ISREG(found.st_mode) and found.st_size:
        raise ValueError(
            f"{option}: Expected a place for a new file, got {path}, which is there. Name another, or give --overwrite."
        )


def write_output(path: Path, content: bytes) -> None:
    """Writes what a user has named: a link's target, not the link, is written, and into a pipe or device.

    Raises:
        ValueError: It cannot be written.
    """
    found = _stat(path)
    if found is None or stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode):
        write_atomically(Path(os.path.realpath(path)), content)
        return
    try:
        path.write_bytes(content)
    except OSError as error:
        raise ValueError(
            f"{path}: Expected a writable pipe or device, got: {error.strerror}. Choose another."
        ) from error


def _listed(paths: Path | Sequence[Path]) -> Sequence[Path]:
    return [paths] if isinstance(paths, Path) else paths


def _input_keys(path: Path) -> Iterator[object]:
    files = [path] if not path.is_dir() else [file for pattern in _READ_IN_FOLDERS for file in path.glob(pattern)]
    for file in files:
        yield from _keys(file)


def _keys(path: Path) -> list[object]:
    """Returns what tells a file from others: its path without links and, where it is there, its number on the disk."""
    found = _stat(path)
    if found is not None and not stat.S_ISREG(found.st_mode):
        return []  # a device or a pipe, which replaces nothing
    place = os.path.realpath(path)
    keys: list[object] = [place.casefold() if _FOLDS_CASE else place]
    return keys if found is None else [*keys, (found.st_dev, found.st_ino)]


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ValueError(f"{path}: Expected a path that leads to a file, got: {error.strerror}. Correct it.") from error
