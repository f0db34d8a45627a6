"""Several processes as one job, under JAX's multi-controller runtime: how they meet, what they exchange, how one ends.

Every process runs the same program on its part of the data. Rank 0 alone reads and writes a run's files and prints;
what the others need of it is shared. A process that waits for the others in vain ends by itself.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np

from laegd.graphs.signals import ENDING
from laegd.scenario.scenario import require
from laegd.training.devices import start_devices
from laegd.training.meeting import meet

EXIT_STUCK = 4
LONGEST_WAIT_S = 1e6
SLURM, AUTO = "slurm", "auto"
NOT_GIVEN = -1
_SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")  # set by srun
_SMALLEST_MESSAGE = 2**10  # bytes; sizes are powers of two, so that few programs are compiled


Result = TypeVar("Result")


@dataclass(frozen=True)
class Cluster:
    """How this process finds the others; tasks of one Slurm step find each other by themselves."""

    coordinator: str = SLURM
    """HOST:PORT on which rank 0 listens, the same for all processes. slurm: the tasks of one srun find each other, and
    elsewhere a process is alone; auto: JAX finds the processes of a Cloud TPU slice."""
    num_processes: int = NOT_GIVEN
    """Number of processes, with --coordinator HOST:PORT; -1: not given."""
    process_id: int = NOT_GIVEN
    """Rank of this process, from 0, with --coordinator HOST:PORT; -1: not given."""
    stuck_after_s: float = 900.0
    """Seconds after which a process that waits for the others ends with code 4; more than any step, validation or
    checkpoint takes, or any 250 instances of an evaluation."""

    def __post_init__(self) -> None:
        count, rank = self.num_processes, self.process_id
        sound, limit = 0 < self.stuck_after_s <= LONGEST_WAIT_S, f"a number above 0, at most {LONGEST_WAIT_S:g}"
        require(sound, "--stuck-after-s", limit, self.stuck_after_s, "Use 900.")
        if self.coordinator in (SLURM, AUTO):
            for option, value in (("--num-processes", count), ("--process-id", rank)):
                require(value == NOT_GIVEN, option, "it beside --coordinator HOST:PORT", value, "Give all three.")
        else:
            host, _, port = self.coordinator.rpartition(":")
            usable = bool(host) and port.isdecimal() and 0 < int(port) < 2**16
            require(usable, "--coordinator", "HOST:PORT, slurm or auto", self.coordinator, "Use host:8476.")
            if NOT_GIVEN in (count, rank):
                raise ValueError(
                    f"--coordinator: Expected --num-processes and --process-id beside it, got {self.coordinator} "
                    "without. Give all three."
                )
            require(count >= 1, "--num-processes", "at least 1", count, "Correct it.")
            require(0 <= rank < count, "--process-id", f"a rank from 0 to {count - 1}", rank, "Count from 0.")


ALONE_OR_SLURM = Cluster()


class ReportedError(ValueError):
    """An error that another rank has met, and reports; it ends this one too."""


def start(cluster: Cluster, environment: Mapping[str, str] = os.environ) -> str | None:
    """Joins the other processes; to be called before JAX is used otherwise.

    Args:
        cluster: Where they are.
        environment: Variables in which a scheduler tells its tasks of each other.

    Returns:
        What was found, for the user; None where this process is alone.
    """
    import jax

    from laegd.training.cache import keep_programs

    keep_programs()
    how: dict[str, Any]
    if cluster.coordinator == AUTO:
        how, found = {}, "found by JAX"
    elif cluster.coordinator != SLURM:
        how = {"num_processes": cluster.num_processes, "process_id": cluster.process_id}
        # Without detection, which inside a Slurm step would keep to one of the GPUs.
        how |= {"coordinator_address": cluster.coordinator, "cluster_detection_method": "deactivate"}
        found = f"coordinator {cluster.coordinator}"
    elif all(name in environment for name in _SLURM) and int(environment["SLURM_NTASKS"]) > 1:
        how, found = {"cluster_detection_method": "slurm"}, f"Slurm job {environment['SLURM_JOB_ID']}"
    else:
        if cluster.stuck_after_s != ALONE_OR_SLURM.stuck_after_s:
            raise ValueError("--stuck-after-s: Expected several processes, got one. Leave that out, or start them.")
        start_devices()
        return None
    # Our own handler, not JAX's, answers SIGTERM; our own watchdog, with a message, is to notice a lost process first.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        if cluster.coordinator not in (AUTO, SLURM):
            address = meet(cluster.coordinator, cluster.num_processes, cluster.process_id)
            how["coordinator_bind_address"] = environment.get("JAX_COORDINATOR_BIND_ADDRESS", address)
        jax.distributed.initialize(**how, heartbeat_timeout_seconds=int(2 * cluster.stuck_after_s) + 60)
        _connect()
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = " ".join(str(error).split()) or f"no device of JAX_PLATFORMS={os.environ.get('JAX_PLATFORMS')}"
        raise ValueError(
            f"--coordinator: Expected to meet all processes by {found}, got: {reason}. Check it."
        ) from error
    kind, count = jax.local_devices()[0].device_kind, jax.local_device_count()
    return f"processes: {jax.process_count()}, each with {count} x {kind} ({found})"


def _connect() -> None:
    """Exchanges something among the same devices as all later exchanges, while all processes have just met.

    Gloo (CPU) makes its connections at the first exchange and waits 30 s for the last process to come; later ones wait
    as long as they must, so that a process may compile, label or read for longer than another.
    """
    import jax

    gather(b"")
    jax.pmap(lambda x: jax.lax.psum(x, "all"), axis_name="all")(np.zeros(jax.local_device_count())).block_until_ready()


def failed_exchange(error: RuntimeError) -> str | None:
    """Returns what to tell the user where an error is the runtime's in a job of several processes, else None."""
    import jax

    if not isinstance(error, jax.errors.JaxRuntimeError) or num_processes() == 1:
        return None
    return (
        f"Expected all {num_processes()} processes to compute and exchange, got: {str(error).partition(chr(10))[0]}. "
        "This one or another is lost, so this one ends. Run the same command again: it goes on from what was kept."
    )


def rank() -> int:
    """Returns the number of this process, from 0."""
    import jax

    return jax.process_index()


def num_processes() -> int:
    """Returns how many processes share the job."""
    import jax

    return jax.process_count()


def part(size: int) -> slice:
    """Returns this process's part of a sequence: neighbours, as evenly as can be."""
    return slice(size * rank() // num_processes(), size * (rank() + 1) // num_processes())


def share(read: Callable[[], bytes | None]) -> bytes:
    """Returns on every rank what `read` returns on rank 0, where alone it is called; nothing is empty.

    Raises:
        Exception: on rank 0 what `read` raised; ReportedError on the others.
    """
    if num_processes() == 1:
        return read() or b""
    content, failed = b"", None
    if rank() == 0:
        try:
            content = b"+" + (read() or b"")
        except Exception as error:
            content, failed = b"-" + _told(error), error
    content = gather(content)[0]
    if failed is not None:
        raise failed
    if content[:1] == b"-":
        raise ReportedError(content[1:].decode())
    return content[1:]


def together(work: Callable[[], Result]) -> Result:
    """Returns what `work` returns; where it raises on any rank, all ranks end.

    Raises:
        Exception: what `work` raised here; ReportedError where it did on another rank, which reports it.
    """
    if num_processes() == 1:
        return work()
    try:
        result, failed = work(), None
    except Exception as error:
        result, failed = None, error
    told = [said.decode() for said in gather(b"" if failed is None else _told(failed) or b"?") if said]
    if failed is not None:
        raise failed
    if told:
        raise ReportedError(told[0])
    return cast(Result, result)


def _told(error: Exception) -> bytes:
    """Returns an error's message for the other ranks; a path in it need not be UTF-8."""
    return str(error).encode(errors="backslashreplace")


def gather(content: bytes) -> list[bytes]:
    """Returns what every rank has given, by rank, on every rank; waits for all."""
    if num_processes() == 1:
        return [content]
    from jax.experimental.multihost_utils import process_allgather

    sizes = np.asarray(process_allgather(np.int32(len(content))))
    padded = np.zeros(max(_SMALLEST_MESSAGE, 1 << int(sizes.max() - 1).bit_length()), np.uint8)
    padded[: len(content)] = np.frombuffer(content, np.uint8)
    rows = np.asarray(process_allgather(padded))
    return [row[:size].tobytes() for row, size in zip(rows, sizes, strict=True)]


@contextmanager
def held_signals() -> Iterator[Callable[[], int]]:
    """Turns a signal that asks to end into its number, so that a step is never cut; a second one acts at once.

    Those are Ctrl-C, a scheduler's SIGTERM and a closed terminal's SIGHUP, but for one that is ignored, as under nohup.
    """
    caught: list[int] = []

    def handle(number: int, frame: Any) -> None:
        if caught and callable(before := previous[signal.Signals(number)]):
            before(number, frame)
        caught.append(number)

    if threading.current_thread() is not threading.main_thread():  # whoever runs us there handles signals
        yield lambda: 0
        return
    previous = {number: handler for number in ENDING if (handler := signal.getsignal(number)) != signal.SIG_IGN}
    for number in previous:
        signal.signal(number, handle)
    try:
        yield lambda: caught[0] if caught else 0
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def answered_together() -> Iterator[Callable[[], None]]:
    """Yields settle(), which all processes call together: where any was asked to end, all answer that, there.

    A process that is alone answers a signal at once.
    """
    if num_processes() == 1:
        yield lambda: None
        return
    agreed = 0

    def settle() -> None:
        nonlocal agreed
        agreed = max(given[0] for given in gather(bytes([caught()])))
        if agreed:
            raise _Agreed

    with suppress(_Agreed), held_signals() as caught:
        yield settle
    if agreed:
        signal.raise_signal(agreed)


class _Agreed(Exception):
    """Leads out of the block in which signals are held."""


@contextmanager
def watched(limit_s: float) -> Iterator[Callable[[], None]]:
    """Yields beat(), to be called after each exchange; where it is not for too long, the process ends with code 4.

    A process that waits for one that is stuck or lost would wait for ever. One that is alone waits for nobody and is
    not watched.
    """
    last, done, out = time.monotonic(), threading.Event(), sys.stderr

    def beat() -> None:
        nonlocal last
        last = time.monotonic()

    def watch() -> None:
        while not done.wait(min(1.0, limit_s / 4)):
            if time.monotonic() - last > limit_s:
                message = (
                    f"laegd: rank {rank()}: Expected all {num_processes()} processes to go on within {limit_s:g} s, "
                    "got no answer: one is stuck or lost, so this one ends. Run the same command again: it goes on "
                    "from what was kept; give more --stuck-after-s where that was too short."
                )
                print(message, file=out, flush=True)
                os._exit(EXIT_STUCK)

    if num_processes() > 1:
        threading.Thread(target=watch, daemon=True).start()
    try:
        yield beat
    finally:
        done.set()
