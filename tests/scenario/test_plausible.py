"""Warnings of odd values: mistaken units are seen, what networks have is not."""

import re

import numpy as np
import pytest
import wild

from laegd.scenario.generator import Scale, ScenarioConfig, draw
from laegd.scenario.plausible import odd_values


def odd(scenario) -> dict[str, str]:
    return dict(odd_values(scenario))


@pytest.mark.parametrize(
    ("numbers", "field", "words"),
    [
        (
            {"transmit_power_w": 23.0},
            "user.transmit_power_w",
            "transmit_power_w of u1 is 23; .* 0.0001 to 10 .W, not dBm",
        ),
        ({"task_bits": 4.5}, "user.task_bits", "task_bits of u1 is 4.5; .*bits"),
        ({"workload_flop": 4.5}, "user.workload_flop", "is 4.5; .*FLOP"),
        ({"capacity_flops": 3.0}, "user.capacity_flops", "is 3; .*FLOP/s"),
        ({"deadline_s": 2e9}, "user.deadline_s", r"is 2e\+09; .*\(s\)"),
    ],
)
def test_mistaken_units_of_users_are_told_with_the_unit(numbers, field, words):
    """dBm for W, Mbit for bits, GFLOP for FLOP, GHz for FLOP/s, ns for s."""
    found = odd(wild.network([wild.server(0, "GS")], [wild.user(0), wild.user(1, **numbers)]))
    assert list(found) == [field]
    assert re.search(words, found[field])


def test_mistaken_units_of_a_channel_and_of_servers_are_told():
    """10 and 100 Hz for 10 and 100 MHz; km for m; 12 GFLOP/s as 12. Equal oddities are one entry."""
    servers = [wild.server(s, "GS", radius=0.9, capacity=12.0) for s in range(3)]
    found = odd(wild.network(servers, [wild.user(0)], bandwidth_hz=10.0, carrier_hz=100.0))
    assert list(found) == [
        *("channel.carrier_hz", "channel.bandwidth_hz", "server.capacity_flops", "server.coverage_radius_m")
    ]
    assert "bandwidth_hz of channel is 10; usual are 10000 to 1e+11 (Hz)" in found["channel.bandwidth_hz"]
    assert "capacity_flops of s0 and 2 more is 12;" in found["server.capacity_flops"]


def test_ordinary_networks_are_not_odd():
    """Those of the simulator, with a HAP that reaches everyone; and one without anything in it."""
    drawn = draw(ScenarioConfig(), Scale.parse("gs3_gu7_au5"), 5, np.random.default_rng(0))
    assert not any(odd(drawn.scenario(i)) for i in range(5))
    assert odd(wild.network([], [])) == {}
