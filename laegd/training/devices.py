"""JAX's start on the devices of this process: what can go wrong there is told in a line, with a remedy."""

import os
import sys
from functools import cache

from laegd.graphs.processes import num_cores

# Bytes of address space: with less than 2 GB on 2 cores, or 2.5 GB on 16, XLA aborted, or never ended, as it compiled.
_SPACE = 2.2e9
_SPACE_PER_CORE = 0.02e9


@cache
def start_devices() -> None:
    """Starts JAX where it has not been started; to be called before JAX is used otherwise.

    Raises:
        ValueError: There is no device of the platform that JAX_PLATFORMS names, or too little address space, in which
            XLA would abort the process.
    """
    import jax

    require_address_space(_SPACE + _SPACE_PER_CORE * num_cores())
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # the latter from its plugins, without a word
        asked = os.environ.get("JAX_PLATFORMS", "")
        first, _, _ = (str(error) or "no such device").partition(" (set JAX_PLATFORMS")
        reason = " ".join(first.split()).rstrip(".")
        raise ValueError(
            f"JAX_PLATFORMS: Expected a platform with a device here, such as cpu, got {asked!r}: {reason}. "
            "Unset it, or install JAX for that device."
        ) from error


def require_address_space(needed: float) -> None:
    """Raises ValueError where a limit (`ulimit -v`) leaves this process less than that many bytes of address space."""
    if sys.platform != "linux":
        return
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return
    with open("/proc/self/statm") as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    if limit - taken < needed:
        raise ValueError(
            f"memory: Expected {needed / 1e9:.1f} GB of address space left for JAX, got {(limit - taken) / 1e9:.1f} of "
            f"{limit / 1e9:.1f} GB. Raise the limit (ulimit -v), or use a method without network, such as exact."
        )


def devices_in_use() -> str:
    """Names the devices that JAX computes on, such as 1 x cpu."""
    import jax

    devices = jax.local_devices()
    return f"{len(devices)} x {devices[0].device_kind}"
