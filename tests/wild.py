"""Networks at the edges of what a scenario may hold: extreme numbers, exact ties, servers that are exactly full."""

import math

import hypothesis.strategies as st
import independent

from laegd.scenario.scenario import Channel, Scenario, Server, User

DECADES = {
    "workload_flop": (-3, 12),
    "capacity_flops": (3, 11),
    "task_bits": (-3, 10),
    "transmit_power_w": (-9, 3),
}
USUAL = {"workload_flop": 4e9, "capacity_flops": 3e9, "task_bits": 4e6, "transmit_power_w": 0.2}
SPREAD = (0.5, 0.8, 1.0, 1.3, 2.0)
DEADLINES = (*("ample", "roomy", "tight") * 5, *("home exactly", "just missed at home", "server exactly") * 2, "nobody")


def server(index: int, kind: str, x_m: float = 0.0, capacity: float = 1.2e10, power: float = 120.0, radius=900.0):
    """A server; a HAP covers everyone."""
    z_m, radius = (20_000.0, None) if kind == "HAP" else (0.0, radius)
    return Server(f"s{index}", kind, x_m, 0.0, z_m, capacity, power, radius)


def user(index: int, kind: str = "GU", x_m: float = 100.0, weight: float = 0.5, deadline_s: float = 2.0, **numbers):
    """A user."""
    z_m = 200.0 if kind == "AU" else 0.0
    return User(f"u{index}", kind, x_m, 0.0, z_m, delay_weight=weight, deadline_s=deadline_s, **(USUAL | numbers))


def network(servers, users, chip_energy_factor: float = 1e-26, **channel: float) -> Scenario:
    """A scenario of these."""
    return Scenario(
        channel=Channel(**channel), chip_energy_factor=chip_energy_factor, servers=tuple(servers), users=tuple(users)
    )


def decades(low: int, high: int):
    """Numbers whose logarithm is spread evenly."""
    return st.integers(10 * low, 10 * high).map(lambda tenths: 10.0 ** (tenths / 10))


@st.composite
def servers_of(draw, count: int, wild: bool):
    """Servers of both kinds, at most three of them HAPs; some out of everyone's reach."""
    servers = []
    for s in range(count):
        few_haps = sum(one.type == "HAP" for one in servers) < 3
        kind = draw(st.sampled_from(("GS", "HAP") if few_haps else ("GS",)))
        x_m = draw(st.sampled_from((0.0, 300.0, 800.0, 1e5)))
        numbers = (draw(decades(3, 12)), draw(decades(-6, 6))) if wild else (1.2e10, 120.0)
        servers.append(server(s, kind, x_m, *numbers))
    return servers


@st.composite
def scenarios(draw, num_users=(1, 6), num_servers=(0, 3)):
    """Networks of every kind: usual ones at any scale, equal users, users of different scales, and any numbers."""
    spread = draw(st.sampled_from(("one scale", "equal", "scales", "wild")))
    wild = spread == "wild"
    servers = draw(servers_of(draw(st.integers(*num_servers)), wild))
    chip, scale = draw(decades(-35, -15)) if wild else 1e-26, draw(decades(-12, 9))
    users: list[User] = []
    for u in range(draw(st.integers(*num_users))):
        if spread == "equal" and users:
            users.append(changed(users[0], id=f"u{u}"))
            continue
        if wild:
            numbers = {field: draw(decades(*ends)) for field, ends in DECADES.items()}
        else:
            scale = draw(decades(-12, 9)) if spread == "scales" else scale
            numbers = {field: draw(st.sampled_from(SPREAD)) * value for field, value in USUAL.items()}
            numbers |= {field: numbers[field] * scale for field in ("workload_flop", "task_bits")}
        kind, x_m = draw(st.sampled_from(("GU", "AU"))), draw(st.sampled_from((0.0, 100.0, 500.0, 3e4)))
        one = user(u, kind, x_m, draw(st.sampled_from((0.0, 0.3, 0.5, 0.7, 1.0))), **numbers)
        users.append(with_deadline(draw, network(servers, [one], chip), one))
    return network(servers, users, chip)


def with_deadline(draw, alone: Scenario, one: User) -> User:
    """Gives a user a deadline that it meets in a way that matters."""
    home_s = independent.local_delay_s(one)
    edges = [independent.link(alone, server, one) for server in alone.servers]
    away_s = [edge.transmit_s + edge.execute_s for edge in edges if edge is not None] or [home_s]
    fastest_s = min(away_s)
    choice = draw(st.sampled_from(DEADLINES))
    deadline_s = {
        "home exactly": home_s,
        "just missed at home": math.nextafter(home_s, 0.0),
        "server exactly": draw(st.sampled_from(away_s)),
        "tight": draw(st.sampled_from((1.1, 1.5, 3.0))) * fastest_s,
        "roomy": draw(st.sampled_from((5.0, 10.0, 50.0))) * fastest_s,
        "ample": 1e3 * max(home_s, *away_s),
        "nobody": 0.5 * min(home_s, fastest_s),
    }[choice]
    return changed(one, deadline_s=deadline_s)


def changed(one: User, **changes) -> User:
    """A copy with other numbers."""
    return User(**({field: getattr(one, field) for field in User.__struct_fields__} | changes))


def full_server(count: int, ulps: int = 0, servers: int = 1) -> Scenario:
    """Equal users that must offload and need 1 / count of a server each, give or take some ulp of the deadline."""
    one = user(0, capacity_flops=1.0)
    edge = independent.link(network([server(0, "GS")], [one]), server(0, "GS"), one)
    assert edge is not None
    deadline_s = edge.transmit_s + count * edge.execute_s
    for _ in range(abs(ulps)):
        deadline_s = math.nextafter(deadline_s, math.copysign(math.inf, ulps))
    users = [changed(one, id=f"u{u}", deadline_s=deadline_s) for u in range(count * servers)]
    return network([server(s, "GS") for s in range(servers)], users)
