"""Files that are either whole or absent: written under a temporary name, then renamed."""

import os
import tempfile
from pathlib import Path


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file so that a reader, or a crash, never meets half of it.

    Raises:
        ValueError: The folder cannot be written or the disk is full; nothing is left behind.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
        reason = error.strerror or error
        raise ValueError(
            f"{path}: Expected a writable folder with room, got: {reason}. Free space or choose another."
        ) from error
    except BaseException:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
        raise


def require_writable(path: Path) -> None:
    """Raises ValueError, before any work is done, where a file cannot be written; makes nothing."""
    folder = path.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if path.is_dir():
        found = "a folder of that name"
    elif not folder.is_dir():
        found = f"{folder}, which is a file"
    elif not os.access(folder, os.W_OK):
        found = f"{folder}, which is read-only"
    else:
        return
    raise ValueError(f"{path}: Expected a file in a writable folder, got {found}. Choose another.")
