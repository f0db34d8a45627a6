"""Scenarios from columns: the same as from objects, and every bad column is named."""

import numpy as np
import pytest

from laegd.scenario.generator import Scale, ScenarioConfig, draw
from laegd.scenario.scenario import Channel, Scenario, Server, User

COLUMNS = {
    "server_xyz_m": [[0, 0, 20_000], [-400, 0, 20]],
    "server_is_hap": [True, False],
    "server_capacity_flops": [5e9, 1.2e10],
    "server_active_power_w": 120,
    "server_radius_m": [np.inf, 900],
    "user_xyz_m": np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 200.0]], dtype=np.float32),
    "user_is_aerial": [0, 0, 1],
    "user_capacity_flops": 3e9,
    "user_transmit_power_w": 0.2,
    "user_workload_flop": (5e9, 3e9, 6e9),
    "user_task_bits": [5_000_000, 3_000_000, 6_000_000],
    "user_deadline_s": 2,
}


def test_columns_are_what_objects_are():
    """One value stands for all; whole numbers become floats; infinite reach becomes None."""
    servers = (
        Server("hap", "HAP", 0.0, 0.0, 20_000.0, capacity_flops=5e9, active_power_w=120.0, coverage_radius_m=None),
        Server("gs1", "GS", -400.0, 0.0, 20.0, capacity_flops=1.2e10, active_power_w=120.0, coverage_radius_m=900.0),
    )
    rows = [("u0", "GU", 1.0, 2.0, 3.0), ("u1", "GU", 4.0, 5.0, 6.0), ("u2", "AU", 7.0, 8.0, 200.0)]
    tasks = [(5e9, 5e6), (3e9, 3e6), (6e9, 6e6)]
    users = tuple(User(*row, 3e9, 0.2, *task, 0.5, 2.0) for row, task in zip(rows, tasks, strict=True))
    expected = Scenario(channel=Channel(), chip_energy_factor=1e-26, servers=servers, users=users)
    built = Scenario.from_arrays(**COLUMNS)
    assert built == expected
    assert built.to_json() == expected.to_json()
    assert Scenario.from_json(built.to_json()) == expected


def test_names_and_radio_can_be_given():
    """Ids, channel and chip are taken over."""
    channel = Channel(bandwidth_hz=2e7)
    built = Scenario.from_arrays(
        **COLUMNS, server_ids=["a", "b"], user_ids=["x", "y", "z"], channel=channel, chip_energy_factor=2e-26
    )
    assert [server.id for server in built.servers] == ["a", "b"]
    assert [user.id for user in built.users] == ["x", "y", "z"]
    assert (built.channel, built.chip_energy_factor) == (channel, 2e-26)


def test_a_network_may_be_empty():
    """No servers and no users is a scenario, as in JSON."""
    nothing = {"server_xyz_m": np.zeros((0, 3)), "user_xyz_m": np.zeros((0, 3))}
    built = Scenario.from_arrays(**{**COLUMNS, **{name: 1.0 for name in COLUMNS}, **nothing})
    assert built.servers == built.users == ()


def test_arrays_of_a_drawn_network_give_it_back():
    """The columns that the simulator draws are the arguments' names."""
    batch = draw(ScenarioConfig(num_haps=2), Scale.parse("gs3_gu2_au1"), 2, np.random.default_rng(0))
    columns = {name: values[1] for name, values in batch.nodes._asdict().items()}
    assert Scenario.from_arrays(**columns) == batch.scenario(1)
    assert [server.id for server in batch.scenario(1).servers] == ["hap0", "hap1", "gs1", "gs2", "gs3"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"user_task_bits": [1, 2]}, r"user_task_bits: Expected one value, or 3, one for each user, got \(2,\)"),
        ({"user_task_bits": [[1, 2, 3]]}, r"user_task_bits: Expected one value, or 3, .* got \(1, 3\)"),
        ({"user_task_bits": [1, -2, 3]}, r"users\[1\].task_bits: Expected a finite number above 0, got -2.0"),
        ({"user_task_bits": [1, np.nan, 3]}, r"users\[1\].task_bits: Expected a finite number above 0, got nan"),
        ({"user_delay_weight": 1.5}, r"users\[0\].delay_weight: Expected a number from 0 to 1, got 1.5"),
        ({"user_deadline_s": "soon"}, r"user_deadline_s: Expected an array of numbers, got: .*'soon'"),
        ({"user_xyz_m": [1, 2, 3]}, r"user_xyz_m: Expected an array of shape \[user, 3\], got \(3,\)"),
        ({"server_xyz_m": [[1, 2]]}, r"server_xyz_m: Expected an array of shape \[server, 3\], got \(1, 2\)"),
        ({"server_xyz_m": [[1, 2, 3], [1]]}, r"server_xyz_m: Expected an array of numbers, got: .*inhomogeneous"),
        ({"server_is_hap": [2, 0]}, r"server_is_hap: Expected True or False, got \[2, 0\]"),
        ({"server_radius_m": [-np.inf, 1]}, r"servers\[0\].coverage_radius_m: Expected a finite number above 0"),
        ({"server_ids": ["a"]}, r"server_ids: Expected 2 names, one for each server, got 1"),
        ({"user_ids": ["a", "b", "a"]}, r"users\[2\].id: Expected unique ids, got 'a'"),
        ({"user_ids": ["a", "", "c"]}, r"users\[1\].id: Expected a name of 1 to 200 characters, got ''"),
    ],
)
def test_bad_columns_are_named(changed, message):
    """The message names column or row, rule and value."""
    with pytest.raises(ValueError, match=message):
        Scenario.from_arrays(**{**COLUMNS, **changed})


@pytest.mark.parametrize(
    ("kind", "place", "value", "message"),
    [
        (Server, 0, 7, r"id: Expected a name of 1 to 200 characters, got 7"),
        (Server, 1, "gs", r"type: Expected 'HAP' or 'GS', got 'gs'"),
        (Server, 2, "3", r"x_m: Expected a finite number, got '3'"),
        (User, 1, "GS", r"type: Expected 'AU' or 'GU', got 'GS'"),
        (User, 9, None, r"delay_weight: Expected a number from 0 to 1, got None"),
    ],
)
def test_objects_are_checked_where_code_builds_them(kind, place, value, message):
    """Types too, which reading JSON checks by itself."""
    row = ["a", "GS", 0.0, 0.0, 20.0, 1e10, 100.0, None] if kind is Server else ["a", "GU", 0.0, 0.0, 2.0, *[1.0] * 6]
    kind(*row)
    row[place] = value
    with pytest.raises(ValueError, match=message):
        kind(*row)


def test_numbers_of_numpy_are_written():
    """An element of an array is a number like any other."""
    server = Server("a", "GS", np.float32(0.5), np.float64(1.0), 2, np.int64(10**10), 100.0, None)
    scenario = Scenario(channel=Channel(), chip_energy_factor=np.float64(1e-26), servers=(server,), users=())
    (read,) = Scenario.from_json(scenario.to_json()).servers
    assert (read.x_m, read.y_m, read.z_m, read.capacity_flops) == (0.5, 1.0, 2.0, 1e10)
