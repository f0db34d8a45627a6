"""Processes of one job meet at its port; whoever does not belong there disturbs nothing."""

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from laegd.training import meeting
from laegd.training.meeting import meet

PATIENCE_S = 60.0  # what hangs, hangs longer


@pytest.fixture
def place():
    """An address of this machine on which nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()


@pytest.fixture
def pool():
    """Runs processes as threads."""
    with ThreadPoolExecutor(8) as pool:
        yield pool


@pytest.fixture
def join(place, pool):
    """Starts a process that meets the others; rank 0 then listens as the coordinator does."""

    def coordinate(count):
        address = meet(f"{place[0]}:{place[1]}", count, 0, PATIENCE_S)
        return address, socket.create_server(place)

    def start(rank, count=3, patience_s=PATIENCE_S):
        if rank == 0:
            return pool.submit(coordinate, count)
        return pool.submit(meet, f"{place[0]}:{place[1]}", count, rank, patience_s)

    return start


def ends(first, *others):
    """Waits until all have met; the coordinator stays at loopback."""
    address, server = first.result(PATIENCE_S)
    with server:
        assert address == "{}:{}".format(*server.getsockname())
        assert [other.result(PATIENCE_S) for other in others] == [None] * len(others)


def call(place, content):
    """Connects as soon as somebody listens, and says something."""
    caller = meeting._connect(place, float("inf"))
    caller.sendall(content)
    return caller


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_all_wait_for_all(join, order):
    """In whatever order they come."""
    started = {rank: join(rank) for rank in order}
    ends(*(started[rank] for rank in range(3)))


def test_a_process_alone_waits_for_nobody(join):
    ends(join(0, count=1))


@pytest.mark.parametrize("content", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 1000, b"laegd: rank 0 of 3\n"])
def test_strangers_disturb_nothing(join, place, content):
    """Who scans ports, speaks another protocol, or says that he is rank 0."""
    first = join(0)
    call(place, content).close()
    ends(first, join(1), join(2))


def test_a_silent_stranger_is_not_waited_for(join, place, monkeypatch):
    monkeypatch.setattr(meeting, "_HELLO_S", 0.1)
    first = join(0)
    with call(place, b"laegd: ra"):
        ends(first, join(1), join(2))


@pytest.mark.parametrize(("rank", "count"), [(1, 3), (1, 2)], ids=["same rank", "other size"])
def test_a_process_of_another_job_is_refused(join, place, rank, count):
    """By a line that says what to do; the job whose port it is goes on."""
    first = join(0)
    with call(place, meeting._hello(3, 1)) as present:
        with pytest.raises(ValueError, match="has such a process already, or is of another size; give each job a port"):
            join(rank, count).result(PATIENCE_S)
        last = join(2)
        assert present.recv(2) == b"go"
        ends(first, last)


def test_a_process_that_has_left_may_come_again(join, place):
    """As one that was started again by hand."""
    first = join(0)
    call(place, meeting._hello(3, 1)).close()
    ends(first, join(1), join(2))


@pytest.mark.parametrize("greeting", [b"\0\0\x18\4\0\0\0\0\0", b"SSH-2.0\r\n"], ids=["a coordinator", "another"])
def test_a_job_under_way_is_left_alone(join, place, greeting):
    """JAX's coordinator, which speaks first, or another program: the process says so and does not go on."""
    with socket.create_server(place) as server:
        late = join(1)
        with server.accept()[0] as caller:
            caller.sendall(greeting)
            with pytest.raises(ValueError, match="is no job that begins; give each job a port of its own"):
                late.result(PATIENCE_S)


def test_a_first_process_that_is_started_again_is_waited_for(join, place):
    """Rank 0 ends before all have come; rank 1 stays."""
    with socket.create_server(place) as server:
        other = join(1, count=2)
        server.accept()[0].close()
    ends(join(0, count=2), other)


def test_a_second_job_does_not_listen_too(join, place):
    """Rank 0 of another job finds the port in use, also by a coordinator, which lets others listen with it."""
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind(place)
        server.listen()
        with pytest.raises(ValueError, match=r"Address already in use.* give each job its port"):
            join(0).result(PATIENCE_S)


def test_who_does_not_come_is_named(join):
    with pytest.raises(ValueError, match="no process of rank 1, 2 has come in time"):
        meet("127.0.0.1:0", 3, 0, patience_s=0.0)
    with pytest.raises(ValueError, match=r"nobody listens there in time \(Connection refused\)"):
        join(1, patience_s=0.0).result(PATIENCE_S)


def test_waiting_has_an_end(place):
    """Rank 1 is there, rank 2 never comes."""
    with socket.create_server(place), pytest.raises(ValueError, match="not all processes have come in time"):
        meet("{}:{}".format(*place), 3, 1, patience_s=0.2)


@pytest.mark.parametrize(
    ("host", "known_as", "bound"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("localhost", "127.0.0.1", True),
        ("node1", "127.0.1.1", False),
        ("node1", None, False),
        ("192.0.2.1", "192.0.2.1", False),
    ],
    ids=["loopback", "localhost", "own name as loopback", "unknown name", "translated address"],
)
def test_rank_0_listens_where_others_reach_it(monkeypatch, host, known_as, bound):
    """At the address itself; at all where the machine knows itself by loopback alone, or its address is another's."""

    def look_up(name, port, **_):
        if known_as is None:
            raise socket.gaierror("unknown")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (known_as, port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    server, is_own = meeting._listen((host, 0))
    with server:
        assert is_own == bound
        assert server.getsockname()[0] == ("127.0.0.1" if bound else "::" if socket.has_dualstack_ipv6() else "0.0.0.0")
