"""Encoding: values, padding, invariances, and the order of edges."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from laegd.graphs.encode import (
    EDGE_COLUMNS,
    NODE_COLUMNS,
    WAVELENGTHS_KM,
    GraphBatch,
    Normalisation,
    edge_values,
    encode,
    scatter,
    to_graphs_tuple,
)
from laegd.problem.instance import InstanceBatch
from laegd.scenario.generator import Scale, ScenarioConfig, draw

CONTINUOUS = [name for name in EDGE_COLUMNS if name.startswith("log_")]


@pytest.fixture(scope="module")
def instances() -> InstanceBatch:
    scale = Scale.parse("gs3_gu7_au5")
    return InstanceBatch.from_scenarios(draw(ScenarioConfig(), scale, 20, np.random.default_rng(0)))


@pytest.fixture(scope="module")
def normalisation(instances: InstanceBatch) -> Normalisation:
    return Normalisation.fit([instances])


@pytest.fixture(scope="module")
def graph(instances: InstanceBatch, normalisation: Normalisation) -> GraphBatch:
    return encode(instances, normalisation)


def edge_column(graph: GraphBatch, name: str) -> np.ndarray:
    return np.asarray(graph.edge_features)[..., EDGE_COLUMNS.index(name)]


def draw_batch(scale: str, count: int, seed: int, config: ScenarioConfig | None = None) -> InstanceBatch:
    scenarios = draw(config or ScenarioConfig(), Scale.parse(scale), count, np.random.default_rng(seed))
    return InstanceBatch.from_scenarios(scenarios)


def test_features_have_named_columns_and_are_float32(graph):
    """Every array has as many columns as names, in float32, and the mask is the coverage."""
    assert graph.user_features.shape == (20, 12, len(NODE_COLUMNS))
    assert graph.server_features.shape == (20, 4, len(NODE_COLUMNS))
    assert graph.edge_features.shape == (20, 12, 4, len(EDGE_COLUMNS))
    assert all(values.dtype == np.float32 for values in graph[:3])
    assert len(set(NODE_COLUMNS)) == len(NODE_COLUMNS)


def test_mask_is_coverage_also_where_the_deadline_cannot_be_met(normalisation):
    """A covered pair is an edge of the graph even if no task may be offloaded on it."""
    instances = draw_batch("gs3_gu7_au5", 5, 0, ScenarioConfig(deadline_s=0.5))
    graph = encode(instances, normalisation)
    assert np.array_equal(graph.edge_mask, instances.costs.covered)
    assert np.array_equal(edge_column(graph, "exists"), instances.costs.covered)
    assert np.array_equal(edge_column(graph, "usable"), instances.costs.usable)
    assert np.any(instances.costs.covered & ~instances.costs.usable)


def test_real_entries_of_costs_have_mean_0_and_std_1(graph):
    """Standardisation is over real edges: their mean is 0 and their standard deviation 1."""
    for name in CONTINUOUS:
        real = edge_column(graph, name)[graph.edge_mask].astype(np.float64)
        assert real.mean() == pytest.approx(0, abs=1e-5)
        assert real.std() == pytest.approx(1, abs=1e-5)


def test_costs_are_recovered_from_features(graph, instances, normalisation):
    """exp(feature * std + mean) is the cost: nothing but scale was changed."""
    for name, cost in (("log_transmit_cost", "transmit_cost"), ("log_execute_cost", "execute_cost")):
        k = EDGE_COLUMNS.index(name)
        values = np.exp(edge_column(graph, name) * normalisation.edge_std[k] + normalisation.edge_mean[k])
        expected = getattr(instances.costs, cost)
        assert values[graph.edge_mask] == pytest.approx(expected[graph.edge_mask], rel=1e-4)


def test_missing_edges_hold_the_data_sets_maxima(graph):
    """Eq. 27: flag 0, each cost at its largest real value, lambda and mu 0."""
    missing = ~graph.edge_mask
    for name in CONTINUOUS:
        values = edge_column(graph, name)
        assert np.all(values[missing] == values[graph.edge_mask].max())
    for name in ("exists", "local_allowed", "min_share", "usable"):
        assert np.all(edge_column(graph, name)[missing] == 0)


def test_servers_have_no_features_of_tasks(graph):
    """What only users have is 0 for servers, also after normalisation, and differs among users."""
    for name in ("log_workload", "delay_weight"):
        column = NODE_COLUMNS.index(name)
        assert np.all(graph.server_features[..., column] == 0) and np.ptp(graph.user_features[..., column]) > 0


def test_type_is_one_hot(graph, instances):
    """HAP, GS, AU and GU have one column each."""
    assert np.array_equal(graph.server_features[..., 0] == 1, instances.nodes.server_is_hap)
    assert np.array_equal(graph.user_features[..., 2] == 1, instances.nodes.user_is_aerial)
    assert np.all(graph.server_features[..., :4].sum(-1) == 1)
    assert np.all(graph.user_features[..., :4].sum(-1) == 1)


def test_position_encoding_tells_the_place_relative_to_the_servers(graph, instances):
    """The angle of the 16 km wave, times 16 km / 2 pi, is the offset from the servers' mean position."""
    sin_x = NODE_COLUMNS.index("sin_x_16.0km")
    assert WAVELENGTHS_KM[-1] == 16.0
    angle = np.arctan2(graph.user_features[..., sin_x], graph.user_features[..., sin_x + 1])
    centre = instances.nodes.server_xyz_m[..., 0].mean(axis=1, keepdims=True)
    assert 16e3 * angle / (2 * np.pi) == pytest.approx(instances.nodes.user_xyz_m[..., 0] - centre, abs=0.1)
    assert NODE_COLUMNS[sin_x + 1] == "cos_x_16.0km"


def test_shifting_the_whole_network_changes_nothing(normalisation):
    """Only relative places count."""
    scenarios = draw(ScenarioConfig(), Scale.parse("gs3_gu7_au5"), 5, np.random.default_rng(1))
    shift = np.array([7000.0, -300.0, 0.0])
    moved = scenarios.nodes._replace(
        user_xyz_m=scenarios.nodes.user_xyz_m + shift, server_xyz_m=scenarios.nodes.server_xyz_m + shift
    )
    here = encode(InstanceBatch.from_scenarios(scenarios), normalisation)
    there = encode(InstanceBatch.from_scenarios(dataclasses.replace(scenarios, nodes=moved)), normalisation)
    for one, other in zip(jax.tree.leaves(here), jax.tree.leaves(there), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_renumbering_users_renumbers_features(normalisation):
    """The encoding carries no index: permuted users give permuted rows."""
    scenarios = draw(ScenarioConfig(), Scale.parse("gs3_gu7_au5"), 5, np.random.default_rng(2))
    order = np.random.default_rng(3).permutation(12)
    nodes = scenarios.nodes
    permuted = nodes._replace(**{n: getattr(nodes, n)[:, order] for n in nodes._fields if n.startswith("user_")})
    one = encode(InstanceBatch.from_scenarios(scenarios), normalisation)
    other = encode(InstanceBatch.from_scenarios(dataclasses.replace(scenarios, nodes=permuted)), normalisation)
    np.testing.assert_array_equal(one.user_features[:, order], other.user_features)
    np.testing.assert_array_equal(one.server_features, other.server_features)
    np.testing.assert_array_equal(one.edge_features[:, order], other.edge_features)


def test_normalisation_survives_json_exactly(normalisation):
    """Written to JSON and read back, every number is the same float64."""
    assert Normalisation.from_dict(json.loads(json.dumps(normalisation.to_dict()))) == normalisation


def test_normalisation_does_not_depend_on_how_the_data_are_split(instances, normalisation):
    """Two halves have the statistics of the whole."""
    halves = Normalisation.fit([instances[:7], instances[7:]])
    for name, values in normalisation.to_dict().items():
        assert halves.to_dict()[name] == pytest.approx(values, rel=1e-12)


@pytest.mark.parametrize(
    "change",
    [
        {"node_mean": (0.0,)},
        {"edge_std": (0.0,) * len(EDGE_COLUMNS)},
        {"node_std": (float("nan"),) * len(NODE_COLUMNS)},
    ],
)
def test_bad_normalisation_is_refused_with_its_field(normalisation, change):
    """A wrong length, a zero spread and a NaN are named."""
    with pytest.raises(ValueError, match=next(iter(change))):
        dataclasses.replace(normalisation, **change)


@pytest.mark.parametrize("value", [0.0, 1e-300, 1e300, np.inf])
def test_extreme_costs_stay_finite(instances, normalisation, value):
    """Zero, tiny, huge and infinite costs give finite features and statistics."""
    costs = instances.costs._replace(transmit_cost=np.full_like(instances.costs.transmit_cost, value))
    extreme = dataclasses.replace(instances, costs=costs)
    for statistics in (normalisation, Normalisation.fit([extreme])):
        assert all(np.all(np.isfinite(values)) for values in jax.tree.leaves(encode(extreme, statistics)))


@pytest.mark.parametrize("scale", ["gs2_gu0_au0", "gs0_gu3_au2"])
def test_networks_without_users_or_ground_servers_are_encoded(scale, normalisation):
    """No users, or the HAP alone, is a graph like any other; statistics of no edges are 0 and 1."""
    batch = draw_batch(scale, 2, 0)
    graph = encode(batch, Normalisation.fit([batch]))
    assert all(np.all(np.isfinite(values)) for values in jax.tree.leaves(graph))
    assert (
        to_graphs_tuple(encode(batch, normalisation)).n_node.tolist()
        == [graph.edge_mask.shape[1] + graph.edge_mask.shape[2]] * 2
    )


def test_networks_without_servers_are_encoded():
    """Without any server there are no edges and nothing to divide by."""
    graph = encode(batch := draw_batch("gs0_gu3_au2", 2, 0, ScenarioConfig(num_haps=0)), Normalisation.fit([batch]))
    assert graph.edge_features.shape == (2, 5, 0, len(EDGE_COLUMNS))
    assert np.all(np.isfinite(graph.user_features))


def test_graphs_tuple_lists_real_edges_by_instance_user_server(graph):
    """Each edge's ends and features are those of the dense entry at its place in the order."""
    sparse = to_graphs_tuple(graph)
    expected = [(b, u, s) for b in range(20) for u in range(12) for s in range(4) if graph.edge_mask[b, u, s]]
    assert len(sparse.senders) == len(expected) == sparse.n_edge.sum()
    assert sparse.n_node.tolist() == [16] * 20
    for k, (b, u, s) in enumerate(expected):
        assert sparse.receivers[k] == 16 * b + u
        assert sparse.senders[k] == 16 * b + 12 + s
        np.testing.assert_array_equal(sparse.edges[k], graph.edge_features[b, u, s])
        np.testing.assert_array_equal(sparse.nodes[sparse.receivers[k]], graph.user_features[b, u])
        np.testing.assert_array_equal(sparse.nodes[sparse.senders[k]], graph.server_features[b, s])


def test_scatter_inverts_edge_values(graph):
    """Real entries come back to their places, missing ones hold the fill."""
    for shape in ((20, 12, 4), (20, 12, 4, 3)):
        dense = np.random.default_rng(4).normal(size=shape)
        back = scatter(graph, edge_values(graph, dense), fill=-7.0)
        np.testing.assert_array_equal(back[graph.edge_mask], dense[graph.edge_mask])
        assert np.all(back[~graph.edge_mask] == -7.0)
