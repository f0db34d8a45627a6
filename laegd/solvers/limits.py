"""Limits on the time and memory of a search."""

import os
import time
from pathlib import Path
from typing import NamedTuple

_MANY_BYTES = 2**33  # where the system does not say how much memory it has
_CGROUPS = Path("/sys/fs/cgroup")


class Limits(NamedTuple):
    """How long a search may take and how much memory its sets of users may hold."""

    deadline: float = float("inf")  # by time.perf_counter
    memory_bytes: float = float("inf")

    @property
    def time_over(self) -> bool:
        """Tells whether the deadline has passed."""
        return time.perf_counter() > self.deadline


NO_LIMITS = Limits()


def memory_of_machine() -> int:
    """Returns how many bytes of memory the machine has, or the control group that this process runs in."""
    sizes = [_MANY_BYTES]
    if hasattr(os, "sysconf"):  # not on Windows
        sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    return min([*sizes, *_cgroup_limits(_CGROUPS, Path("/proc/self/cgroup"))])


def _cgroup_limits(root: Path, membership: Path) -> list[int]:
    """Reads the limits of a process's control groups, of version 1 and 2, and of all groups around them."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return []
    limits = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        top, name = (root, "memory.max") if not controllers else (root / "memory", "memory.limit_in_bytes")
        group = top / path.lstrip("/")
        for folder in (group, *group.parents):
            try:
                limits.append(int((folder / name).read_text()))
            except (OSError, ValueError):  # no such group in this namespace, or "max"
                pass
            if folder == top:
                break
    return limits
