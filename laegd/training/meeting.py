"""How the processes of a job meet at its port before JAX's coordinator listens there.

The coordinator takes whoever connects for one of its own: a process of another job makes it abort all processes, in a
way that no program can answer (what jaxlib 0.10 calls in such a case cannot be Python). So rank 0 answers first, lets
go of the port when all have come, and leaves it to the coordinator. A process that finds the coordinator of a job under
way, or any other program, ends with a message and disturbs nothing.
"""

import errno
import ipaddress
import socket
import time
from contextlib import ExitStack, suppress

PATIENCE_S = 300.0  # as long as JAX waits
_HELLO_S = 5.0  # for a line from one who has connected
_PAUSE_S = 0.05  # between attempts to connect
_GO, _NO = b"go", b"no"


def meet(address: str, count: int, rank: int, patience_s: float = PATIENCE_S) -> str | None:
    """Waits until all processes of a job are there.

    Args:
        address: HOST:PORT at which rank 0 listens.
        count: Number of processes.
        rank: Of this process.
        patience_s: Seconds to wait.

    Returns:
        The address at which rank 0 is to have the coordinator listen; None: at all of the machine's.

    Raises:
        ValueError: The port is not this job's, or a process has not come.
    """
    host, _, port = address.rpartition(":")
    place, end = (host.strip("[]"), int(port)), time.monotonic() + patience_s
    if rank > 0:
        _announce(place, count, rank, end)
        return None
    server, is_own = _listen(place)
    with server:
        _await_all(server, count, end)
    return address if is_own else None


def _listen(place: tuple[str, int]) -> tuple[socket.socket, bool]:
    """Listens at the address itself, where it is one of this machine's by which others reach it, else at all.

    Many machines know their own name as a loopback address.
    """
    try:
        found = socket.getaddrinfo(*place, type=socket.SOCK_STREAM)
    except OSError:  # a name that is not known here yet
        found = []
    named = not (place[0] == "localhost" or _is_address(place[0]))
    is_own = bool(found) and not (named and any(_is_loopback(str(entry[4][0])) for entry in found))
    dual = socket.has_dualstack_ipv6()
    everywhere = {"family": socket.AF_INET6 if dual else socket.AF_INET, "dualstack_ipv6": dual}
    try:
        if is_own:
            try:
                return socket.create_server(place, family=found[0][0]), True
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL:  # which is one that is translated on the way to this machine
                    raise
        return socket.create_server(("", place[1]), **everywhere), False
    except OSError as error:
        raise ValueError(f"{error.strerror}, by another job or program perhaps; give each job its port") from error


def _is_address(host: str) -> bool:
    with suppress(ValueError):
        ipaddress.ip_address(host)
        return True
    return False


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _await_all(server: socket.socket, count: int, end: float) -> None:
    """Answers at the port until every rank is there, then tells all to go on."""
    present: dict[int, socket.socket] = {}
    with ExitStack() as stack:
        while len(present) < count - 1:
            try:
                server.settimeout(max(end - time.monotonic(), 0.001))
                caller = stack.enter_context(server.accept()[0])
            except TimeoutError:
                missing = sorted({*range(1, count)} - {*present})
                raise ValueError(f"no process of rank {', '.join(map(str, missing))} has come in time") from None
            rank = _rank_of(caller, count)
            if rank is None or (rank in present and not _has_left(present[rank])):
                with suppress(OSError):
                    caller.sendall(_NO)
                caller.close()
            else:
                present[rank] = caller
        server.close()  # the coordinator listens there next
        for caller in present.values():
            with suppress(OSError):  # one who has left is missed by the coordinator
                caller.sendall(_GO)


def _hello(count: int, rank: int) -> bytes:
    return f"laegd: rank {rank} of {count}\n".encode()


def _rank_of(caller: socket.socket, count: int) -> int | None:
    """Returns the rank by which one of the job's processes announces itself; None for anybody else."""
    caller.settimeout(_HELLO_S)
    with suppress(OSError), caller.makefile("rb") as lines:
        line = lines.readline(64)
        return next((rank for rank in range(1, count) if line == _hello(count, rank)), None)
    return None


def _has_left(caller: socket.socket) -> bool:
    caller.setblocking(False)
    try:
        return not caller.recv(1)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _announce(place: tuple[str, int], count: int, rank: int, end: float) -> None:
    """Tells rank 0 that this process is there, and waits until all are and the coordinator listens."""
    answer = b""
    while not answer:
        with _connect(place, end) as caller, suppress(ConnectionError):
            caller.settimeout(max(end - time.monotonic(), 0.001))
            caller.sendall(_hello(count, rank))
            try:
                answer = caller.recv(len(_GO))  # nothing where rank 0 ends meanwhile: it may be started again
            except TimeoutError:
                raise ValueError("not all processes have come in time") from None
    if answer != _GO:
        what = "has such a process already, or is of another size" if answer == _NO else "is no job that begins"
        raise ValueError(f"what listens there {what}; give each job a port of its own")
    _connect(place, time.monotonic() + PATIENCE_S).close()


def _connect(place: tuple[str, int], end: float) -> socket.socket:
    """Connects, as soon as somebody listens."""
    while True:
        try:
            return socket.create_connection(place, timeout=_HELLO_S)
        except OSError as error:
            if time.monotonic() > end:
                raise ValueError(f"nobody listens there in time ({error.strerror or error})") from error
            time.sleep(_PAUSE_S)
