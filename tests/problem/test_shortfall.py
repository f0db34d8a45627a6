"""Causes of infeasibility against plain formulas: which users, what each lacks, in which words."""

import independent
import numpy as np
import pytest
import wild

from laegd.problem.instance import Instance
from laegd.problem.shortfall import shortfalls
from laegd.scenario.generator import Scale, ScenarioConfig, draw
from laegd.scenario.scenario import Channel


def told(scenario):
    """Causes with their users, and all words."""
    found = shortfalls(Instance.from_scenario(scenario))
    return [(one.cause, *one.users) for one in found], "; ".join(map(str, found))


SERVERS = [wild.server(0, "GS"), wild.server(1, "GS", x_m=5000.0)]
FAR, LATE, LARGE, FINE = (
    wild.user(0, x_m=3000.0, capacity_flops=1e9),  # 2,000 m from s1; 4 s at home, 2 s allowed
    wild.user(1, deadline_s=1e-3),  # 4e9 FLOP take 1/3 s on 1.2e10 FLOP/s
    wild.user(2, task_bits=1e12, capacity_flops=1e9),  # 1.4e8 bit/s carry it in hours
    wild.user(3),
)


def test_every_user_is_named_once_with_its_own_cause():
    """Three users lack three things; the one that is in time at home is not named; numbers come with their unit."""
    causes, words = told(wild.network(SERVERS, [FAR, LATE, LARGE, FINE]))
    assert causes == [("reach", "u0"), ("rate", "u2"), ("deadline", "u1")]
    rate = independent.rate_bps(Channel(), SERVERS[0], LARGE)
    assert f"u2 at {rate:.4g} bit/s take {1e12 / rate:.4g} s, its deadline_s is 2; check bandwidth_hz (Hz)" in words
    assert "u0 is 2000 m from s1, which reaches 900 m; bring a server in reach, or raise coverage_radius_m" in words
    at_best = 4e9 / 1.2e10 + 4e6 / independent.rate_bps(Channel(), SERVERS[0], LATE)
    assert f"u1 takes {at_best:.4g} s at best, its deadline_s is 0.001; raise it" in words
    assert words.count("u1") == 2 and "u3" not in words


def test_a_link_and_a_server_that_are_in_time_one_by_one_only_miss_the_deadline():
    """0.33 s of computing and 0.3 s of transmission, 0.5 s allowed: neither is the cause alone."""
    bits = 0.3 * independent.rate_bps(Channel(), SERVERS[0], wild.user(0))
    assert told(wild.network(SERVERS, [wild.user(0, task_bits=bits, deadline_s=0.5)]))[0] == [("deadline", "u0")]


def test_users_that_fit_alone_but_not_together_lack_capacity():
    """14e9 FLOP in 2 s need over 14/24 of a server: three of two at s0; those at s1 have it to themselves."""
    heavy = {"workload_flop": 14e9, "capacity_flops": 1e9}
    users = [*(wild.user(u, **heavy) for u in range(3)), wild.user(3, x_m=5000.0, **heavy)]
    scenario = wild.network(SERVERS, users)
    causes, words = told(scenario)
    assert causes == [("capacity", "u0", "u1", "u2")]
    needed = sum(floor for floor, _ in independent.floors(scenario)[:3])
    assert f"they need {needed:.3g} servers at least, and depend on 1 (s0); raise deadline_s or capacity_flops" in words


def test_two_crowds_and_a_lonely_user_are_told_apart():
    """Each server has three users for whom it is too small, and one is out of reach of both."""
    heavy = {"workload_flop": 14e9, "capacity_flops": 1e9}
    users = [wild.user(u, x_m=5000.0 * (u % 2), **heavy) for u in range(6)] + [wild.user(6, x_m=3e4, **heavy)]
    causes, _ = told(wild.network(SERVERS, users))
    assert causes[0] == ("reach", "u6")
    assert sorted(causes[1:]) == [("capacity", "u0", "u2", "u4"), ("capacity", "u1", "u3", "u5")]


def test_networks_without_servers_or_with_dead_links_are_explained():
    """No server: add one. 300 dB of loss: no bit ever arrives."""
    late = wild.user(0, capacity_flops=1e9)
    assert "there is no server; add one" in told(wild.network([], [late]))[1]
    causes, words = told(
        wild.network([wild.server(0, "HAP")], [late], excess_loss_los_db=300.0, excess_loss_nlos_db=300.0)
    )
    assert causes == [("rate", "u0")] and "0 bit/s never arrive" in words


def test_many_names_are_cut():
    """Ten are shown, all are counted."""
    found = shortfalls(Instance.from_scenario(wild.network([], [wild.user(u, capacity_flops=1e9) for u in range(25)])))
    assert len(found[0].users) == 25 and str(found[0]).startswith("u0, u1, u2, u3, u4, u5, u6, u7, u8, u9 and 15 more ")


def expected_cause(scenario, user) -> str | None:
    """What a user lacks alone, by formula."""
    if independent.local_delay_s(user) <= user.deadline_s:
        return None
    servers = [server for server in scenario.servers if independent.covers(server, user)]
    if not servers:
        return "reach"
    computes = [server for server in servers if user.workload_flop / server.capacity_flops <= user.deadline_s]
    links = [independent.link(scenario, server, user) for server in servers]
    if any(link is not None and link.floor(user.deadline_s) <= 1 for link in links):
        return None
    sends = [user.task_bits / independent.rate_bps(scenario.channel, s, user) <= user.deadline_s for s in computes]
    return "rate" if computes and not any(sends) else "deadline"


@pytest.mark.parametrize("seed", range(6))
def test_causes_are_those_of_the_formulas_on_random_networks(seed):
    """Deadlines, sizes and places over decades: causes agree; who lacks capacity lacks nothing alone."""
    rng = np.random.default_rng(seed)
    drawn = draw(ScenarioConfig(), Scale.parse("gs2_gu6_au4"), 1, rng).scenario(0)
    users = [
        wild.changed(
            user,
            x_m=float(rng.normal(0, 1500)),
            capacity_flops=1e9,
            deadline_s=float(10 ** rng.uniform(-1.5, 1.0)),
            task_bits=float(10 ** rng.uniform(5, 9.5)),
        )
        for user in drawn.users
    ]
    servers = [server for server in drawn.servers if server.type == "GS" or seed % 2]
    scenario = wild.network(servers, users)
    found = shortfalls(Instance.from_scenario(scenario))
    alone = {name: one.cause for one in found if one.cause != "capacity" for name in one.users}
    assert alone == {user.id: cause for user in users if (cause := expected_cause(scenario, user)) is not None}
    crowd = [int(name[1:]) for one in found if one.cause == "capacity" for name in one.users]
    rest = [u for u in range(len(users)) if users[u].id not in alone]
    assert set(crowd) <= set(rest) and bool(crowd) != independent.can_serve(scenario, rest)
    assert not crowd or not independent.can_serve(scenario, crowd)
    assert independent.can_serve(scenario, sorted(set(rest) - set(crowd)))


def test_a_bandwidth_in_the_wrong_unit_is_a_matter_of_rate():
    """10 Hz in place of 10 MHz: users that must offload lack rate, and rate alone."""
    drawn = draw(ScenarioConfig(), Scale.parse("gs3_gu7_au5"), 1, np.random.default_rng(0)).scenario(0)
    users = [wild.changed(user, capacity_flops=2e9) for user in drawn.users]
    scenario = wild.network(drawn.servers, users, bandwidth_hz=10.0)
    late = [user.id for user in users if user.workload_flop / user.capacity_flops > user.deadline_s]
    causes, words = told(scenario)
    assert late and causes == [("rate", *late)] and "bandwidth_hz (Hz)" in words
