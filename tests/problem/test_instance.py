"""Costs against an independent program, and by hand."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laegd.problem.instance import LOCAL, Instance, InstanceBatch, Plan
from laegd.scenario.channel import links
from laegd.scenario.generator import Scale, ScenarioConfig, draw
from laegd.scenario.scenario import Channel, Scenario, Server, User

REFERENCE = sorted((Path(__file__).parents[1] / "data" / "reference").glob("*.json"))
EDGE_FIELDS = {
    "transmit_s": "transmit_delay_s",
    "J_tr": "transmit_cost",
    "J_exe": "execute_cost",
    "mu": "min_share",
}


def reference(path):
    data = json.loads(path.read_text())
    return Scenario.from_json(json.dumps(data["scenario"])), data


def by_edge(instance, edges, field):
    """Returns a reference column as a [user, server] array, NaN where it has no edge."""
    table = np.full((instance.num_users, instance.num_servers), np.nan)
    for edge in edges:
        table[instance.user_ids.index(edge["user"]), instance.server_ids.index(edge["server"])] = edge[field]
    return table


def test_the_reference_cases_are_there():
    """The tests below would pass on an empty folder."""
    assert len(REFERENCE) == 11


@pytest.mark.parametrize("path", REFERENCE, ids=lambda path: path.stem)
def test_edges_are_those_of_the_reference(path):
    """The same pairs are within coverage."""
    scenario, data = reference(path)
    instance = Instance.from_scenario(scenario)
    np.testing.assert_array_equal(instance.costs.covered, np.isfinite(by_edge(instance, data["edges"], "gain")))


@pytest.mark.parametrize("path", REFERENCE, ids=lambda path: path.stem)
def test_gain_and_rate_agree_with_the_reference(path):
    """Eqs. 1-12, to nine digits on every edge."""
    scenario, data = reference(path)
    instance = Instance.from_scenario(scenario)
    radio, covered = links(scenario.channel, instance.nodes), instance.costs.covered
    for field in ("gain", "rate_bps"):
        expected = by_edge(instance, data["edges"], field)[covered]
        np.testing.assert_allclose(getattr(radio, field)[covered], expected, rtol=1e-9, err_msg=field)


@pytest.mark.parametrize("path", REFERENCE, ids=lambda path: path.stem)
@pytest.mark.parametrize("field", EDGE_FIELDS)
def test_edge_costs_agree_with_the_reference(path, field):
    """Eqs. 16-22, to nine digits on every edge."""
    scenario, data = reference(path)
    instance = Instance.from_scenario(scenario)
    covered = instance.costs.covered
    actual = getattr(instance.costs, EDGE_FIELDS[field])[covered]
    np.testing.assert_allclose(actual, by_edge(instance, data["edges"], field)[covered], rtol=1e-9)


@pytest.mark.parametrize("path", REFERENCE, ids=lambda path: path.stem)
def test_local_costs_agree_with_the_reference(path):
    """Eqs. 13-15 and lambda, for every user."""
    scenario, data = reference(path)
    instance = Instance.from_scenario(scenario)
    assert tuple(row["user"] for row in data["local"]) == instance.user_ids
    columns = {name: np.array([row[name] for row in data["local"]]) for name in ("delay_s", "energy_j", "J_loc")}
    np.testing.assert_allclose(instance.costs.local_delay_s, columns["delay_s"], rtol=1e-9)
    np.testing.assert_allclose(instance.costs.local_energy_j, columns["energy_j"], rtol=1e-9)
    np.testing.assert_allclose(instance.costs.local_cost, columns["J_loc"], rtol=1e-9)
    assert instance.costs.local_allowed.tolist() == [row["meets_deadline"] for row in data["local"]]


def by_hand(**changes):
    """Returns the instance of one user and one ground server 100 m away whose link carries 10 Mbit/s.

    The noise equals the received power, 0.2 W x 1e-3 / 100^2 = 2e-8 W, so the SNR is 1 and the rate the bandwidth.
    """
    server = {"radius": None, "capacity": 1e10} | {k: changes.pop(k) for k in ("radius", "capacity") if k in changes}
    task = {"capacity_flops": 2e9, "workload_flop": 4e9, "task_bits": 4e6, "delay_weight": 0.25, "deadline_s": 2.0}
    user = User(id="u", type="GU", x_m=100.0, y_m=0.0, z_m=0.0, transmit_power_w=0.2, **(task | changes))
    scenario = Scenario(
        channel=Channel(noise_power_w=2e-8),
        chip_energy_factor=1e-26,
        servers=(Server("s", "GS", 0.0, 0.0, 0.0, server["capacity"], 100.0, server["radius"]),),
        users=(user,),
    )
    return Instance.from_scenario(scenario)


def test_costs_of_one_user_and_one_server_by_hand():
    """4 GFLOP at 2 GFLOP/s at home, or 4 Mbit at 10 Mbit/s and then 10 GFLOP/s at 100 W."""
    costs = by_hand().costs
    expected = {
        "local_delay_s": 2.0,  # 4e9 / 2e9
        "local_energy_j": 160.0,  # 1e-26 x (2e9)^3 x 2 s = 80 W x 2 s
        "local_cost": 120.5,  # 0.25 x 2 + 0.75 x 160
        "transmit_delay_s": 0.4,  # 4e6 / 1e7
        "transmit_energy_j": 0.08,  # 0.2 W x 0.4 s
        "transmit_cost": 0.16,  # 0.25 x 0.4 + 0.75 x 0.08
        "execute_delay_s": 0.4,  # 4e9 / 1e10
        "execute_energy_j": 40.0,  # 100 W x 0.4 s
        "execute_cost": 30.1,  # 0.25 x 0.4 + 0.75 x 40
        "min_share": 0.25,  # 0.4 s of work in the 2 - 0.4 = 1.6 s that are left
    }
    for name, value in expected.items():
        assert getattr(costs, name).item() == pytest.approx(value, rel=1e-12), name
    assert costs.usable.item()


@pytest.mark.parametrize(("deadline_s", "allowed"), [(2.0, True), (1.999, False), (2.001, True)])
def test_a_local_run_is_allowed_where_it_meets_the_deadline(deadline_s, allowed):
    """It takes 4e9 / 2e9 = 2 s; just in time counts."""
    assert by_hand(deadline_s=deadline_s).costs.local_allowed.item() is allowed


@pytest.mark.parametrize(("deadline_s", "floor"), [(0.79, 0.0), (0.9, 0.8), (1.2, 0.5)])
def test_floor_is_the_share_that_just_meets_the_deadline(deadline_s, floor):
    """0.4 s on the air and 0.4 s of work: 0.4 / (tau - 0.4), and 0 marks that even the whole server is too slow."""
    costs = by_hand(deadline_s=deadline_s).costs
    assert costs.min_share.item() == pytest.approx(floor, rel=1e-12, abs=0)
    assert costs.usable.item() is (floor > 0)


def test_a_link_slower_than_the_deadline_is_marked_and_not_negative():
    """tau - T_tr < 0 must not give a negative share."""
    costs = by_hand(deadline_s=0.3).costs
    assert costs.covered.item() and costs.min_share.item() == 0.0 and not costs.usable.item()


def test_pairs_out_of_coverage_hold_zero_and_cannot_be_used():
    """100 m away from a server that reaches 99 m."""
    costs = by_hand(radius=99.0).costs
    assert not costs.covered.item() and not costs.usable.item()
    for name in ("transmit_delay_s", "transmit_cost", "execute_delay_s", "execute_cost", "min_share"):
        assert getattr(costs, name).item() == 0.0, name


def test_a_task_that_meets_the_deadline_at_its_floor_does_so_exactly():
    """T_tr + T_exe / mu = tau on every usable edge of a random network."""
    instance = drawn(0, 3)[0]
    costs = instance.costs
    with np.errstate(divide="ignore", invalid="ignore"):
        delay_s = costs.transmit_delay_s + costs.execute_delay_s / costs.min_share
    deadline_s = np.broadcast_to(instance.nodes.user_deadline_s[:, None], delay_s.shape)
    np.testing.assert_allclose(delay_s[costs.usable], deadline_s[costs.usable], rtol=1e-12)


def drawn(seed, count):
    return InstanceBatch.from_scenarios(draw(ScenarioConfig(), Scale(3, 5, 3), count, np.random.default_rng(seed)))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.permutations(range(8)))
def test_renumbering_users_renumbers_their_costs(seed, order):
    """No cost knows the index of its user."""
    scenario = draw(ScenarioConfig(), Scale(3, 5, 3), 1, np.random.default_rng(seed)).scenario(0)
    renumbered = msgspec.structs.replace(scenario, users=tuple(scenario.users[i] for i in order))
    before, after = Instance.from_scenario(scenario), Instance.from_scenario(renumbered)
    for name in before.costs._fields:
        np.testing.assert_array_equal(getattr(after.costs, name), getattr(before.costs, name)[list(order)])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.floats(1.01, 10.0))
def test_a_later_deadline_only_helps(seed, factor):
    """More local runs are allowed, no usable edge is lost, no floor rises."""
    batch = draw(ScenarioConfig(), Scale(3, 5, 3), 1, np.random.default_rng(seed))
    nodes = batch.nodes._replace(user_deadline_s=batch.nodes.user_deadline_s * factor)
    tight = InstanceBatch.from_scenarios(batch)[0].costs
    loose = InstanceBatch.from_scenarios(type(batch)(batch.channel, batch.chip_energy_factor, nodes))[0].costs
    assert (loose.local_allowed >= tight.local_allowed).all() and (loose.usable >= tight.usable).all()
    assert (loose.min_share[tight.usable] <= tight.min_share[tight.usable]).all()


def test_a_batch_holds_the_same_costs_as_its_networks_one_by_one():
    """Through scenario files, stacking, slicing and taking."""
    scenarios = draw(ScenarioConfig(), Scale(3, 5, 3), 4, np.random.default_rng(3))
    batch = InstanceBatch.from_scenarios(scenarios)
    alone = [Instance.from_scenario(scenarios.scenario(i)) for i in range(4)]
    stacked = InstanceBatch.stack(alone)
    assert InstanceBatch.stack(batch) is batch and len(stacked) == 4
    for name in batch.costs._fields:
        np.testing.assert_array_equal(getattr(stacked.costs, name), getattr(batch.costs, name), err_msg=name)
        np.testing.assert_array_equal(getattr(batch[1:3][1].costs, name), getattr(alone[2].costs, name))
        np.testing.assert_array_equal(
            getattr(batch.take(np.array([3, 0]))[1].costs, name), getattr(alone[0].costs, name)
        )
    assert batch[2].server_ids == ("hap", "gs1", "gs2", "gs3") and batch[2].user_ids == alone[2].user_ids


@pytest.mark.parametrize(("servers", "users"), [(0, 2), (3, 0), (0, 0)])
def test_instances_without_servers_or_users_have_empty_costs(servers, users):
    """Empty axes stay empty."""
    scenario = draw(ScenarioConfig(), Scale(2, 2, 0), 1, np.random.default_rng(0)).scenario(0)
    small = msgspec.structs.replace(scenario, servers=scenario.servers[:servers], users=scenario.users[:users])
    instance = Instance.from_scenario(small)
    assert (instance.num_users, instance.num_servers) == (users, servers)
    assert instance.costs.min_share.shape == (users, servers)


@pytest.mark.parametrize(
    ("cost", "lower_bound", "feasible", "gap"),
    [
        (100.0, 99.0, True, 0.01),
        (100.0, 100.0, True, 0.0),
        (100.0, 100.0 + 1e-9, True, 0.0),  # a bound that rounding lifted above the cost
        (100.0, None, True, None),
        (np.inf, 99.0, False, None),
        (0.0, 0.0, True, 0.0),
    ],
)
def test_gap_is_relative_to_the_cost_and_never_negative(cost, lower_bound, feasible, gap):
    """(cost - bound) / cost, where both are known."""
    plan = Plan("m", np.array([LOCAL]), np.array([0.0]), cost, feasible, lower_bound=lower_bound)
    assert plan.gap == (None if gap is None else pytest.approx(gap, rel=1e-12))
