"""The folder in which programs outlive a process: which one, when it is safe to use, and how damage in it heals.

What lies there is run: JAX loads machine code from it. So a folder is used only where nobody but this user, and whoever
administers the machine, can write into it or put another in its place.
"""

import functools
import os
import platform
import stat
import warnings
import zlib
from contextlib import suppress
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache

from laegd.scenario.files import clear_unfinished

MIN_COMPILE_S = 0.1
"""Seconds of compiling from which on JAX keeps a program in laegd's own folder; its own limit is 1."""

_LOOKED = "looked"  # file whose time is that of the last look for damage
_ZSTD = b"\x28\xb5\x2f\xfd"  # how JAX's entries begin where the package zstandard is there; elsewhere it uses zlib


def keep_programs() -> Path | None:
    """Has programs kept from one process to the next, and returns where; to be called before JAX compiles.

    The user's choice, by JAX_COMPILATION_CACHE_DIR or `jax.config`, stands; without one they lie in the user's cache
    folder. A folder that others can write is not used: JAX's cache is then switched off, with one warning.

    Returns:
        The folder; None where there is none, or none on this machine.
    """
    settings = jax.config.values
    chosen, used = settings["jax_compilation_cache_dir"], settings["jax_enable_compilation_cache"]
    if not used or chosen == "" or "://" in (chosen or ""):
        return None
    folder = _checked(chosen)
    if folder is None:
        jax.config.update("jax_enable_compilation_cache", False)
        compilation_cache.reset_cache()
    elif str(folder) != chosen:
        jax.config.update("jax_compilation_cache_dir", str(folder))
        if chosen is None and "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
            jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_COMPILE_S)
        compilation_cache.reset_cache()
    return folder


def read_own(path: Path) -> bytes | None:
    """Returns what a file of the folder holds; None where it is no regular file, or cannot be read."""
    flags = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
    with suppress(OSError), os.fdopen(os.open(path, os.O_RDONLY | flags), "rb") as file:
        return file.read() if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else None
    return None


def default_folder() -> Path:
    """Returns the user's own, by kind of processor: machines that cannot run each other's programs may share it."""
    from platformdirs import user_cache_path

    kind = platform.machine()
    with suppress(OSError):
        flags = next((line for line in open("/proc/cpuinfo") if line.startswith(("flags", "Features"))), "")
        kind += f"-{zlib.crc32(flags.encode()):08x}"
    return user_cache_path("laegd", appauthor=False) / "programs" / kind


@functools.cache
def _checked(chosen: str | None) -> Path | None:
    """Makes a folder where it is missing, without links on the way to it; None, with a warning, where it is unsafe."""
    folder = default_folder() if chosen is None else Path(chosen).absolute()
    try:
        for missing in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
            missing.mkdir(mode=0o700, exist_ok=True)
        folder = folder.resolve(strict=True)
        found = _weakness(folder)
        if found is None:
            clear_unfinished(folder)
            _discard_damaged(folder)
            return folder
    except OSError as error:
        found = f"{error.filename or folder}: {error.strerror or error}"
    warnings.warn(
        f"compile cache: Expected a folder that only you can write, got {found}. Programs are compiled at every start; "
        "name another folder by JAX_COMPILATION_CACHE_DIR.",
        stacklevel=3,
    )
    return None


def _weakness(folder: Path) -> str | None:
    """Returns how others can put a file into a folder, or another folder in its place; None where they cannot."""
    if not hasattr(os, "geteuid"):  # Windows, where the user's folders are the user's by their access lists
        return None
    # Whoever owns the root folder rules the machine; in a container without privileges that need not be user 0.
    user, ruler = os.geteuid(), os.stat("/").st_uid
    for path in (folder, *folder.parents):
        status = path.stat()
        if status.st_uid != user and (path == folder or status.st_uid != ruler):
            return f"{path}, which belongs to user {status.st_uid}"
        if status.st_mode & stat.S_ISVTX and path != folder:  # as /tmp: others cannot rename what is the user's
            continue
        by_group = status.st_mode & stat.S_IWGRP and (path == folder or _shared(status))
        if by_group or status.st_mode & stat.S_IWOTH:
            return f"{path}, which others can write, mode {stat.S_IMODE(status.st_mode):04o}"
    return None


def _shared(status: os.stat_result) -> bool:
    """Tells whether a folder's group has members beside this user; many systems give each user a group alone."""
    import grp
    import pwd

    try:
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(status.st_gid)
    except KeyError:
        return True
    return (group.gr_gid, group.gr_name) != (user.pw_gid, user.pw_name) or bool({*group.gr_mem} - {user.pw_name})


def _discard_damaged(folder: Path) -> None:
    """Deletes what others have left in a folder, and JAX's damaged entries.

    A full disk or a crash damages entries, since JAX writes without an intermediate file; it neither uses nor replaces
    such an entry. Only what was written since the last look is read.
    """
    look = folder / _LOOKED
    last = look.stat().st_mtime_ns if look.exists() else None
    look.touch()
    own = look.stat().st_uid
    for entry in folder.iterdir():
        with suppress(OSError):  # another process may have deleted it just now
            status, is_jax = entry.lstat(), entry.name.endswith("-cache")
            sound = stat.S_ISREG(status.st_mode) and status.st_size > 0 and status.st_uid == own
            if is_jax and sound and last is not None and status.st_mtime_ns >= last:
                sound = _whole(entry)
            if not sound and (is_jax or entry.suffix == ".traced"):
                entry.unlink()


def _whole(entry: Path) -> bool:
    """Tells whether an entry can be unpacked; what is packed by zstd the standard library cannot check."""
    content = read_own(entry)
    if content is None or content.startswith(_ZSTD):
        return content is not None
    try:
        return bool(zlib.decompress(content))
    except zlib.error:
        return False
