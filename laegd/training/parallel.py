"""Everything about devices: how many there are, how a batch is split over them, and `jax.pmap` itself.

Each process splits its part of a batch over its own devices, and lets a CPU work at several parts at a time.
Parameters stay unstacked (in_axes=None, out_axes=None); batches gain a leading axis, device. Random numbers have one
key per example, so a result does not depend on how many devices share the work.
"""

from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from laegd.graphs.processes import num_cores
from laegd.training.programs import kept

AXIS = "device"

MAPS_ALLOWED, MAPS_HELD = Path("/proc/sys/vm/max_map_count"), Path("/proc/self/maps")

# Operations in the order that holds least memory, not in the one that lets most of them run at a time.
_BESIDE_OTHERS = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}

Item, Result, Tree = TypeVar("Item"), TypeVar("Result"), TypeVar("Tree")


def check_devices() -> None:
    """Raises unless all processes have as many devices as this one."""
    all_devices, own, count = jax.device_count(), jax.local_device_count(), jax.process_count()
    if all_devices != own * count:
        raise ValueError(
            f"devices: Expected {own} on each of {count} processes, as on this one, got {all_devices} in all. "
            "Start processes with equal numbers of devices."
        )


def check_batch_size(batch_size: int, num_devices: int) -> None:
    """Raises unless the batch splits evenly over the devices of all processes."""
    if batch_size % num_devices:
        lower = batch_size // num_devices * num_devices
        sizes = f"{lower} or {lower + num_devices}" if lower else str(num_devices)
        raise ValueError(
            f"training.batch_size: Expected a batch divisible by {num_devices} devices, got {batch_size}. Use {sizes}."
        )


def split(tree: Tree, num_devices: int) -> Tree:
    """Reshapes leading axes [batch] to [device, batch / devices]."""
    return jax.tree.map(lambda x: np.reshape(x, (num_devices, -1, *np.shape(x)[1:])), tree)


def join(tree: Any) -> Any:
    """Fetches an output of `over_devices` and joins [device, batch] to [batch]."""
    return jax.tree.map(lambda x: np.reshape(x, (-1, *np.shape(x)[2:])), jax.device_get(tree))


def pad_batch(tree: Tree, size: int) -> Tree:
    """Repeats the first example until the batch has the size, so that one compiled program serves every batch."""

    def pad(x: np.ndarray) -> np.ndarray:
        return np.concatenate([x, np.repeat(x[:1], size - len(x), axis=0)]) if len(x) < size else x

    return jax.tree.map(pad, tree)


def cut(tree: Tree, size: int) -> list[Tree]:
    """Cuts leading axes [batch] into parts of `size`, the last one padded, each split over this process's devices."""
    count, num_devices = len(jax.tree.leaves(tree)[0]), jax.local_device_count()
    parts = [jax.tree.map(itemgetter(slice(first, first + size)), tree) for first in range(0, count, size)]
    return [split(pad_batch(part, size), num_devices) for part in parts]


def on_cpu() -> bool:
    """Tells whether this process has no accelerator."""
    return jax.local_devices()[0].platform == "cpu"


def num_lanes() -> int:
    """Returns how many programs should run at a time: one, but on a CPU as many as keep its cores busy.

    A program on a CPU leaves cores idle wherever an operation is small.
    """
    return max(num_cores() // jax.local_device_count(), 1) if on_cpu() else 1


def side_by_side(work: Callable[[Item], Result], items: Sequence[Item], lanes: int) -> list[Result]:
    """Maps `work`, which waits for its program's end, over items, as many at a time as there are lanes."""
    if min(lanes, len(items)) <= 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(lanes) as pool:
        return list(pool.map(work, items))


def replicate(tree: Tree) -> Tree:
    """Places values on all local devices as `over_devices` returns them, so that its first call compiles for all."""
    mesh = jax.sharding.Mesh(np.array(jax.local_devices()), (AXIS,))
    return jax.device_put(tree, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))


def over_devices(
    function: Callable[..., Any], *, reduced: bool, settings: Hashable | None = None
) -> Callable[..., Any]:
    """Maps function(replicated, batch) over devices.

    Args:
        function: Takes replicated values and its part of the batch.
        reduced: True: over the devices of all processes, which call it together; results are equal on all (after a
            `sum_over_devices`) and returned once. False: over this process's devices; results stay split.
        settings: All that the function depends on, where results stay split; None: unknown.
    """
    if reduced:
        return jax.pmap(function, axis_name=AXIS, in_axes=(None, 0), out_axes=None)
    mesh = jax.sharding.Mesh(np.array(jax.local_devices()), (AXIS,))
    whole, parted = jax.sharding.PartitionSpec(), jax.sharding.PartitionSpec(AXIS)

    def on_device(values: Tree, batch: Tree) -> Tree:
        return jax.tree.map(lambda x: x[None], function(values, jax.tree.map(itemgetter(0), batch)))

    # What `jax.pmap` does, but that it takes no options for the compiler.
    mapped = jax.shard_map(on_device, mesh=mesh, in_specs=(whole, parted), out_specs=parted, check_vma=False)
    alone = kept(mapped, settings)
    beside_others = kept(mapped, settings, compiler_options=_BESIDE_OTHERS if on_cpu() else None)

    def run(values: Tree, batch: Tree) -> Tree:
        per_device = np.shape(jax.tree.leaves(batch)[0])[1]
        return (beside_others if per_device > 1 else alone)(values, batch)

    return run


def sum_over_devices(tree: Tree) -> Tree:
    """Returns sums over the devices of all processes, once a step, inside of `over_devices`.

    Processes on CPUs exchange all of it as one array. Of several, a device would go on with the next where the first
    has failed since a process was lost; another, still at the first, would then get one of the wrong size, at which
    Gloo aborts, or wait for ever.
    """
    if jax.process_count() == 1 or not on_cpu():
        return jax.lax.psum(tree, AXIS)
    flat, unravel = ravel_pytree(tree)
    return unravel(jax.lax.psum(flat, AXIS))


def forget_programs_near_limit() -> bool:
    """Forgets all compiled programs where this process holds half of the memory maps that Linux allows it.

    A CPU's programs for one scale hold 400 to 1,000, and at the limit (vm.max_map_count, mostly 65,530) XLA
    crashes. What is forgotten is compiled again, or read from JAX's cache, when it is next called.

    Returns:
        Whether programs were forgotten.
    """
    try:
        allowed, held = int(MAPS_ALLOWED.read_text()), MAPS_HELD.read_bytes().count(b"\n")
    except OSError:  # another system, without the limit
        return False
    if held < allowed / 2:
        return False
    jax.clear_caches()
    return True


def example_keys(key: Array, numbers: Array) -> Array:
    """Returns one key per example [batch 2], a function of the key and the example's number alone."""
    return jax.vmap(lambda number: jax.random.fold_in(key, number))(numbers)
