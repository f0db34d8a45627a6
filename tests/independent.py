"""The problem once more, in plain Python from its formulas: shares no arithmetic with the package that it checks.

Equation numbers are those of the GADSG paper. Numbers are compared with TOLERANCE, far above rounding.
"""

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache

from laegd.scenario.scenario import Channel, Scenario, Server, User

TOLERANCE = 1e-9
SPEED_OF_LIGHT_M_S = 299_792_458.0
LEAST_RATE_BPS = 1e-12


@dataclass(frozen=True)
class Link:
    """A user at a server that it has to itself."""

    transmit_s: float
    transmit_cost: float
    execute_s: float
    execute_cost: float

    def floor(self, deadline_s: float) -> float:
        """The share that just meets the deadline; inf where none does."""
        slack_s = deadline_s - self.transmit_s
        return self.execute_s / slack_s if slack_s > 0 else math.inf


def gain(channel: Channel, server: Server, user: User) -> float:
    """Eqs. 1-11."""
    horizontal_m = math.hypot(user.x_m - server.x_m, user.y_m - server.y_m)
    height_m = abs(user.z_m - server.z_m)
    distance_m = max(1.0, math.sqrt(horizontal_m**2 + height_m**2))
    if server.type == "GS" and user.type == "GU":
        return channel.reference_gain / distance_m**2
    if server.type == "HAP" and user.type == "AU":
        loss_db = 32.45 + 20 * math.log10(channel.carrier_hz / 1e6) + 20 * math.log10(distance_m / 1e3)
    else:
        angle = math.degrees(math.atan2(height_m, horizontal_m))
        exponent = -channel.los_factor_2 * (angle - channel.los_factor_1)
        sight = 1 / (1 + channel.los_factor_1 * math.exp(exponent)) if exponent < 700 else 0.0
        loss_db = 20 * math.log10(4 * math.pi * channel.carrier_hz * distance_m / SPEED_OF_LIGHT_M_S)
        loss_db += sight * channel.excess_loss_los_db + (1 - sight) * channel.excess_loss_nlos_db
    return 10 ** (-loss_db / 10)


def rate_bps(channel: Channel, server: Server, user: User) -> float:
    """Eq. 12; log1p, as an SNR of 1e-20 still carries something."""
    snr = user.transmit_power_w * gain(channel, server, user) / channel.noise_power_w
    return channel.bandwidth_hz * math.log1p(snr) / math.log(2)


def covers(server: Server, user: User) -> bool:
    distance_m = math.hypot(user.x_m - server.x_m, user.y_m - server.y_m)
    return server.coverage_radius_m is None or distance_m <= server.coverage_radius_m


def weighted(user: User, delay_s: float, energy_j: float) -> float:
    """Eqs. 15, 18, 21; a weight of 0 silences even an endless delay."""
    w = user.delay_weight
    return (w * delay_s if w > 0 else 0.0) + ((1 - w) * energy_j if w < 1 else 0.0)


def local_delay_s(user: User) -> float:
    """Eq. 13."""
    return user.workload_flop / user.capacity_flops


def local_cost(scenario: Scenario, user: User) -> float:
    """Eqs. 13-15."""
    delay_s = local_delay_s(user)
    return weighted(user, delay_s, scenario.chip_energy_factor * user.capacity_flops**3 * delay_s)


def link(scenario: Scenario, server: Server, user: User) -> Link | None:
    """Eqs. 16-21; None out of coverage, or where the radio needs ages for a bit."""
    rate = rate_bps(scenario.channel, server, user)
    if not covers(server, user) or rate < LEAST_RATE_BPS:
        return None
    transmit_s, execute_s = user.task_bits / rate, user.workload_flop / server.capacity_flops
    transmit_cost = weighted(user, transmit_s, user.transmit_power_w * transmit_s)
    return Link(transmit_s, transmit_cost, execute_s, weighted(user, execute_s, server.active_power_w * execute_s))


def faults(scenario: Scenario, plan) -> list[str]:
    """Every constraint that a plan breaks; deadlines as delays, not as shares."""
    found, used = [], [0.0] * len(scenario.servers)
    for user, place, share in zip(scenario.users, plan.server.tolist(), plan.share.tolist(), strict=True):
        if place == -1:
            if share != 0 or not local_delay_s(user) <= user.deadline_s * (1 + TOLERANCE):
                found.append(f"{user.id} at home with share {share}: {local_delay_s(user)} of {user.deadline_s} s")
            continue
        edge = link(scenario, scenario.servers[place], user)
        if edge is None or not 0 < share <= 1 + TOLERANCE:
            found.append(f"{user.id} at {place}: no link, or share {share}")
        elif not edge.transmit_s + edge.execute_s / share <= user.deadline_s * (1 + TOLERANCE):
            found.append(f"{user.id} at {place}: {edge.transmit_s + edge.execute_s / share} of {user.deadline_s} s")
        used[place] += share
    return found + [f"server {s} hands out {total!r}" for s, total in enumerate(used) if not total <= 1 + TOLERANCE]


def cost(scenario: Scenario, plan) -> float:
    """The objective, local cost once per user."""
    terms = []
    for user, place, share in zip(scenario.users, plan.server.tolist(), plan.share.tolist(), strict=True):
        if place == -1:
            terms.append(local_cost(scenario, user))
        else:
            edge = link(scenario, scenario.servers[place], user)
            assert edge is not None
            terms.append(edge.transmit_cost + edge.execute_cost / share)
    return math.fsum(terms)


@lru_cache(maxsize=64)
def floors(scenario: Scenario) -> list[list[float]]:
    """Per user and server the least share, inf where none serves."""
    edges = [[link(scenario, server, user) for server in scenario.servers] for user in scenario.users]
    return [
        [math.inf if edge is None else edge.floor(user.deadline_s) for edge in row]
        for user, row in zip(scenario.users, edges, strict=True)
    ]


def can_serve(scenario: Scenario, users: list[int], spare: float = TOLERANCE) -> bool:
    """Tells by trying every placement whether these users can be served at once.

    `spare` is what deadlines and servers may be overdrawn by, relative; a negative one asks for a clear answer.
    """
    floor = floors(scenario)
    must = [u for u in users if not local_delay_s(scenario.users[u]) <= scenario.users[u].deadline_s * (1 + spare)]

    def place(rank: int, room: tuple[float, ...]) -> bool:
        if rank == len(must):
            return True
        need = floor[must[rank]]
        return any(
            place(rank + 1, (*room[:s], room[s] - need[s], *room[s + 1 :]))
            for s in range(len(room))
            if need[s] <= room[s]
        )

    return place(0, (1 + spare,) * len(scenario.servers))


def execution_cost(edges: list[Link], least: list[float], spare: float) -> float:
    """Least cost of one server's users, by bisection for the shares that use it up; inf where they do not fit."""
    if sum(least) > 1 + spare:
        return math.inf
    root = [math.sqrt(edge.execute_cost) for edge in edges]

    def shares(log_theta: float) -> list[float]:
        return [max(mu, math.exp(log_theta) * r) for mu, r in zip(least, root, strict=True)]

    low, high = -200.0, 200.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(shares(middle)) <= 1 else (low, middle)
    return sum(edge.execute_cost / share for edge, share in zip(edges, shares(low), strict=True))


@lru_cache(maxsize=64)
def optimum(scenario: Scenario, spare: float) -> float:
    """The least cost of any plan, over every assignment of every user; inf where there is none.

    `spare` as in `can_serve`; where the answers for a positive and a negative one differ, rounding decides.
    """
    floor, best = floors(scenario), math.inf
    users, servers = scenario.users, scenario.servers
    edges = [[link(scenario, server, user) for server in servers] for user in users]
    home = [
        local_cost(scenario, user) if local_delay_s(user) <= user.deadline_s * (1 + spare) else math.inf
        for user in users
    ]
    places = [
        [-1] * math.isfinite(home[u]) + [s for s in range(len(servers)) if floor[u][s] <= 1 + spare]
        for u in range(len(users))
    ]
    on_server: dict[tuple, float] = {}
    for chosen in itertools.product(*places):
        total = sum(home[u] for u, s in enumerate(chosen) if s == -1)
        for s in set(chosen) - {-1}:
            members = tuple(u for u, place in enumerate(chosen) if place == s)
            if (s, members) not in on_server:
                some = [edges[u][s] for u in members]
                fixed = sum(edge.transmit_cost for edge in some)
                on_server[s, members] = fixed + execution_cost(some, [floor[u][s] for u in members], spare)
            total += on_server[s, members]
        best = min(best, total)
    return best
