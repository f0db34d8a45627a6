"""Files that are either whole or absent, written under a temporary name, then renamed; and locks between jobs."""

import errno
import os
import re
import secrets
import socket
import stat
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LONGEST_WRITE_S = 3600.0  # since a temporary file was last written to, after which no job is still at it
_TEMPORARY = re.compile(r"\..+\.([0-9a-f]{8})-([0-9]{1,10})-[0-9a-f]{8}\.tmp", re.DOTALL)  # machine and process
MAX_BYTES = 10**9  # of a file that is read whole; a network of a million users takes half of that
_BINARY = getattr(os, "O_BINARY", 0)  # on Windows
_AT_ONCE = getattr(os, "O_NONBLOCK", 0)  # a pipe is opened without waiting for who writes it
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)  # of some network file systems
# No link is followed, no pipe waited for; Windows knows neither flag, but would translate line ends.
_OPEN_FLAGS = getattr(os, "O_NOFOLLOW", 0) | _AT_ONCE | _BINARY


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file so that a reader, or a crash, never meets half of it.

    A link of that name is replaced, not followed. A new file has the permissions that the umask leaves, and one that is
    replaced keeps its own.

    Raises:
        ValueError: The folder cannot be written or the disk is full; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{_host()}-{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o666), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileNotFoundError):
            there = path.lstat()
            if stat.S_ISREG(there.st_mode):
                temporary.chmod(stat.S_IMODE(there.st_mode))
        os.replace(temporary, path)
    except OSError as error:
        _delete(temporary)
        reason = error.strerror or error
        raise ValueError(
            f"{path}: Expected a writable folder with room, got: {reason}. Free space or choose another."
        ) from error
    except BaseException:
        _delete(temporary)
        raise


def clear_unfinished(folder: Path) -> None:
    """Deletes the temporary files that killed jobs left in a folder; those of jobs at work stay."""
    with suppress(OSError):  # no such folder, or none of ours to clean
        for temporary in [Path(entry.path) for entry in os.scandir(folder) if entry.name.endswith(".tmp")]:
            found = _TEMPORARY.fullmatch(temporary.name)
            if found and _is_abandoned(temporary, *found.groups()):
                _delete(temporary)


def _is_abandoned(temporary: Path, host: str, process: str) -> bool:
    """Tells whether the process has ended that writes the file; of other machines only its age is known."""
    try:
        if time.time() - temporary.stat().st_mtime > LONGEST_WRITE_S:
            return True
        if host != _host() or os.name == "nt":  # os.kill ends a process there
            return False
        os.kill(int(process), 0)
    except (FileNotFoundError, ProcessLookupError):
        return True
    except (OSError, OverflowError):
        return False
    return False


def _host() -> str:
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"


def _delete(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def require_writable(path: Path) -> None:
    """Raises ValueError, before any work is done, where a file cannot be written; makes nothing."""
    folder = Path(os.path.realpath(path)).parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if path.is_dir():
        found = "a folder of that name"
    elif path.exists() and not path.is_file():
        if os.access(path, os.W_OK):
            return
        found = "a pipe or a device that is read-only"
    elif not folder.is_dir():
        found = f"{folder}, which is a file"
    elif not os.access(folder, os.W_OK):
        found = f"{folder}, which is read-only"
    else:
        return
    raise ValueError(f"{path}: Expected a file in a writable folder, got {found}. Choose another.")


def read_file(path: Path, expected: str, remedy: str, max_bytes: int = MAX_BYTES) -> bytes:
    """Returns what a regular file holds; waits for no pipe, and fills memory from no device.

    Args:
        path: Anyone's file.
        expected: What it should be, for the error.
        remedy: What a user can do, for the error.
        max_bytes: Largest size.

    Raises:
        ValueError: It cannot be read, is no regular file, or is larger.
    """
    reason = f"more than {max_bytes / 1e6:g} MB"
    try:
        with open(os.open(path, os.O_RDONLY | _BINARY | _AT_ONCE), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                reason = "a pipe or a device"
            elif found.st_size <= max_bytes:
                content = file.read(found.st_size + 1)  # Python takes that much memory at once
                if len(content) > found.st_size:  # it grows, or is one of those of /proc
                    content += file.read(max_bytes + 1 - len(content))
                if len(content) <= max_bytes:
                    return content
    except OSError as error:
        reason = error.strerror
        raise ValueError(f"{path}: Expected {expected}, got: {reason}. {remedy}") from error
    raise ValueError(f"{path}: Expected {expected}, got: {reason}. {remedy}")


def open_own(path: Path) -> int:
    """Opens a file to read it and to write at its end, made where it is missing.

    Raises:
        ValueError: It is a link, which in a stranger's folder can lead to any file of ours, or no regular file.
    """
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | _OPEN_FLAGS, 0o644)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise ValueError(f"{path}: Expected a file of its own, got a link to another. Delete the link.") from error
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise ValueError(f"{path}: Expected a file, got a pipe or a device. Delete it.")
    return file


@contextmanager
def locked(path: Path, remedy: str) -> Iterator[None]:
    """Keeps other jobs out while the block runs; a job that dies, however, lets go of its lock.

    Where a network file system knows no locks, nobody is kept out.

    Args:
        path: Lock file; made, and deleted at the end.
        remedy: What a user can do while another job holds it.

    Raises:
        ValueError: Another job holds it; it is named. Or the folder is not writable, or the lock no file of its own.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _take(path)
    except BlockingIOError as error:
        holder = ""
        with suppress(OSError):  # it may have ended just now
            with path.open(errors="replace") as content:
                content.seek(1)  # Windows lets nobody read the byte that is locked, the first
                holder = content.read().strip()
        raise ValueError(
            f"{path.parent}: Expected no other job at work there, got {holder or 'another job'}. {remedy}"
        ) from error
    except OSError as error:
        raise ValueError(
            f"{path.parent}: Expected a writable folder, got: {error.strerror}. Choose another."
        ) from error
    try:
        with suppress(OSError):
            os.truncate(file, 0)
            os.write(file, f"\nprocess {os.getpid()} of {socket.gethostname()}\n".encode())
        yield
    finally:
        with suppress(PermissionError):  # Windows deletes no open file; one that stays locks nobody out
            path.unlink(missing_ok=True)
        os.close(file)


def _take(path: Path) -> int:
    """Returns the locked file; one that was deleted between opening and locking is no lock."""
    from filelock import lock_descriptor  # slow to import

    while True:
        file = open_own(path)
        try:
            if not lock_descriptor(file, blocking=False):
                raise BlockingIOError
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                os.close(file)
                raise
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file), path.stat()):
                return file
        os.close(file)
