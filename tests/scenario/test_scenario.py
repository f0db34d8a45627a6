"""Scenario files: what is written reads back, what is wrong is named."""

import copy
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laegd.scenario.generator import Scale, ScenarioConfig, draw
from laegd.scenario.scenario import Channel, Scenario, Server, User, nodes_of

REFERENCE = sorted((Path(__file__).parents[1] / "data" / "reference").glob("*.json"))

GOOD = {
    "format": "laegd-scenario/1",
    "channel": {
        "carrier_hz": 1e8,
        "bandwidth_hz": 1e7,
        "noise_power_w": 7.96159e-13,
        "reference_gain": 1e-3,
        "excess_loss_los_db": 0.1,
        "excess_loss_nlos_db": 21.0,
        "los_factor_1": 10.0,
        "los_factor_2": 0.6,
    },
    "chip_energy_factor": 1e-26,
    "servers": [
        {
            "id": "hap",
            "type": "HAP",
            "x_m": 0.0,
            "y_m": 0.0,
            "z_m": 20000.0,
            "capacity_flops": 5e9,
            "active_power_w": 30.0,
            "coverage_radius_m": None,
        },
        {
            "id": "gs1",
            "type": "GS",
            "x_m": 100.0,
            "y_m": -50.0,
            "z_m": 0.0,
            "capacity_flops": 1.2e10,
            "active_power_w": 120.0,
            "coverage_radius_m": 900.0,
        },
    ],
    "users": [
        {
            "id": f"u{i}",
            "type": kind,
            "x_m": 310.0,
            "y_m": -80.0,
            "z_m": 200.0,
            "capacity_flops": 3e9,
            "transmit_power_w": 0.15,
            "workload_flop": 4.5e9,
            "task_bits": 4.5e6,
            "delay_weight": 0.5,
            "deadline_s": 2.0,
        }
        for i, kind in ((1, "AU"), (2, "GU"))
    ],
}
MISSING = object()


def changed(path, value):
    """Returns GOOD as JSON with the entry at `path` replaced, or removed."""
    data = copy.deepcopy(GOOD)
    parent = data
    for key in path[:-1]:
        parent = parent[key]
    if value is MISSING:
        del parent[path[-1]]
    else:
        parent[path[-1]] = value
    return json.dumps(data)


def test_a_good_file_is_read_as_it_stands():
    """Every number of the file is in the scenario."""
    scenario = Scenario.from_json(json.dumps(GOOD))
    assert json.loads(scenario.to_json()) == GOOD


def test_text_and_bytes_are_read_alike():
    """A caller may have opened the file either way."""
    assert Scenario.from_json(json.dumps(GOOD)) == Scenario.from_json(json.dumps(GOOD).encode())


@pytest.mark.parametrize("path", REFERENCE, ids=lambda path: path.stem)
def test_reference_scenarios_round_trip_exactly(path):
    """Reading, writing and reading again changes no bit of any number."""
    data = json.loads(path.read_text())["scenario"]
    written = Scenario.from_json(json.dumps(data)).to_json()
    assert json.loads(written) == data
    assert Scenario.from_json(written).to_json() == written


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(min_value=5e-324, allow_infinity=False))
def test_every_float_survives_the_file(any_number, positive_number):
    """Numbers read back to the same float64, also the smallest and the largest."""
    scenario = Scenario.from_json(changed(("users", 0, "x_m"), any_number))
    scenario = msgspec.structs.replace(scenario, chip_energy_factor=positive_number)
    again = Scenario.from_json(scenario.to_json())
    assert again.users[0].x_m == any_number and again.chip_energy_factor == positive_number


@given(st.text(min_size=1, max_size=200).filter(lambda text: text.isprintable()))
def test_ids_may_be_any_text(name):
    """Umlauts, blanks and quotes survive the file."""
    scenario = Scenario.from_json(changed(("servers", 1, "id"), name + "" if name != "hap" else "other"))
    assert Scenario.from_json(scenario.to_json()) == scenario


def test_drawn_networks_round_trip_exactly():
    """What the simulator draws can be written and read; its arrays come back bit by bit."""
    batch = draw(ScenarioConfig(num_haps=2), Scale(3, 4, 2), 3, np.random.default_rng(4))
    for i in range(len(batch)):
        nodes = nodes_of(Scenario.from_json(batch.scenario(i).to_json()))
        for name in nodes._fields:
            np.testing.assert_array_equal(getattr(nodes, name), getattr(batch.nodes, name)[i], err_msg=name)


def test_a_whole_number_is_read_as_a_float():
    """JSON does not tell 2 from 2.0, so a user may write either."""
    assert Scenario.from_json(changed(("users", 0, "deadline_s"), 2)).users[0].deadline_s == 2.0


@pytest.mark.parametrize(("servers", "users"), [([], GOOD["users"]), (GOOD["servers"], []), ([], [])])
def test_networks_without_servers_or_users_are_valid(servers, users):
    """Any number of each type."""
    scenario = Scenario.from_json(json.dumps(GOOD | {"servers": servers, "users": users}))
    nodes = nodes_of(scenario)
    assert nodes.server_xyz_m.shape == (len(servers), 3) and nodes.user_xyz_m.shape == (len(users), 3)


def test_no_radius_means_an_infinite_one():
    """null in the file is inf in the arrays."""
    assert nodes_of(Scenario.from_json(json.dumps(GOOD))).server_radius_m.tolist() == [np.inf, 900.0]


@pytest.mark.parametrize("text", ["", "   \n", b""])
def test_an_empty_file_is_called_empty(text):
    """Not a complaint about JSON syntax."""
    with pytest.raises(ValueError, match="empty file"):
        Scenario.from_json(text)


@pytest.mark.parametrize("length", [1, 20, 300, -2])
def test_a_truncated_file_is_refused(length):
    """A half-written file is no scenario."""
    with pytest.raises(ValueError, match="Expected a laegd-scenario/1 scenario"):
        Scenario.from_json(json.dumps(GOOD)[:length])


@pytest.mark.parametrize("text", ["[]", "null", "3", '"scenario"', "x,y\n1,2", "{}", b"\xff\xfe\x00", "{} {}"])
def test_something_else_than_a_scenario_is_refused(text):
    """Another JSON value, another format, bytes that are no text."""
    with pytest.raises(ValueError, match="Expected a laegd-scenario/1 scenario"):
        Scenario.from_json(text)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        # format
        (("format",), "laegd-scenario/2", "format"),
        (("format",), "laegd-plan/1", "format"),
        (("format",), 1, "format"),
        # unknown keys, at every level
        (("deadline",), 2.0, "deadline"),
        (("channel", "carrier_ghz"), 0.1, "carrier_ghz"),
        (("servers", 0, "power_w"), 1.0, r"power_w.*servers\[.+\]"),
        (("users", 1, "speed_m_s"), 1.0, r"speed_m_s.*users\[.+\]"),
        # missing keys
        (("channel",), MISSING, "channel"),
        (("servers",), MISSING, "servers"),
        (("users",), MISSING, "users"),
        (("chip_energy_factor",), MISSING, "chip_energy_factor"),
        (("servers", 1, "coverage_radius_m"), MISSING, "coverage_radius_m"),
        (("users", 0, "deadline_s"), MISSING, "deadline_s"),
        # wrong types
        (("channel",), [], "channel"),
        (("channel", "carrier_hz"), "100 MHz", "carrier_hz"),
        (("servers",), {}, "servers"),
        (("servers", 0), None, r"servers\[.+\]"),
        (("servers", 0, "id"), 7, r"servers\[.+\]\.id"),
        (("servers", 0, "type"), "LEO", "type"),
        (("servers", 0, "x_m"), None, "x_m"),
        (("servers", 0, "capacity_flops"), "5e9", "capacity_flops"),
        (("servers", 0, "capacity_flops"), True, "capacity_flops"),
        (("users", 0, "type"), "GS", "type"),
        (("users", 0, "workload_flop"), [4.5e9], "workload_flop"),
        # out of range
        (("servers", 0, "id"), "", "id"),
        (("users", 0, "id"), "x" * 201, "id"),
        (("chip_energy_factor",), -1e-26, "chip_energy_factor"),
        (("channel", "bandwidth_hz"), 0, "bandwidth_hz"),
        (("channel", "noise_power_w"), -1.0, "noise_power_w"),
        (("channel", "excess_loss_nlos_db"), -0.1, "excess_loss_nlos_db"),
        (("servers", 1, "capacity_flops"), 0.0, "capacity_flops"),
        (("servers", 1, "active_power_w"), -5.0, "active_power_w"),
        (("servers", 1, "coverage_radius_m"), -900.0, "coverage_radius_m"),
        (("users", 0, "capacity_flops"), -3e9, "capacity_flops"),
        (("users", 0, "transmit_power_w"), 0.0, "transmit_power_w"),
        (("users", 0, "workload_flop"), 0.0, "workload_flop"),
        (("users", 0, "task_bits"), -1.0, "task_bits"),
        (("users", 0, "deadline_s"), 0.0, "deadline_s"),
        (("users", 0, "delay_weight"), 1.01, "delay_weight"),
        (("users", 0, "delay_weight"), -0.01, "delay_weight"),
        # ids that occur twice
        (("users", 1, "id"), "u1", r"users\[1\]\.id"),
        (("servers", 1, "id"), "hap", r"servers\[1\]\.id"),
    ],
)
def test_a_bad_field_is_named(path, value, says):
    """One line, with the name of the field where the file is wrong."""
    with pytest.raises(ValueError, match=says) as error:
        Scenario.from_json(changed(path, value))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("field", ["x_m", "workload_flop", "delay_weight"])
def test_a_number_that_is_not_finite_is_refused(field, number):
    """In the words of Python's json module, and as a literal beyond float64."""
    text = changed(("users", 0, field), "NUMBER").replace('"NUMBER"', number)
    with pytest.raises(ValueError, match="Expected a laegd-scenario/1 scenario"):
        Scenario.from_json(text)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    "field", ["x_m", "y_m", "z_m", "capacity_flops", "workload_flop", "delay_weight", "deadline_s"]
)
def test_a_user_built_in_python_is_checked_as_well(field, value):
    """The rules hold for everyone who builds a scenario, not only for files."""
    with pytest.raises(ValueError, match=f"^{field}: Expected"):
        User(**(GOOD["users"][0] | {field: value}))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
@pytest.mark.parametrize("field", ["capacity_flops", "active_power_w", "coverage_radius_m"])
def test_a_server_built_in_python_is_checked_as_well(field, value):
    """As above, for servers."""
    with pytest.raises(ValueError, match=f"^{field}: Expected"):
        Server(**(GOOD["servers"][1] | {field: value}))


@pytest.mark.parametrize("field", list(GOOD["channel"]))
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_a_channel_built_in_python_is_checked_as_well(field, value):
    """As above, for the channel."""
    with pytest.raises(ValueError, match=f"^{field}: Expected"):
        Channel(**{field: value})


def test_a_scenario_cannot_be_changed_in_place():
    """What was checked once stays right."""
    scenario = Scenario.from_json(json.dumps(GOOD))
    with pytest.raises(AttributeError):
        scenario.users[0].deadline_s = -1.0
