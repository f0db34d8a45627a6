"""The gated convolution against its definition, written out in loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from laegd.models.gcn import GatedConvolutionLayer
from laegd.models.wiring import DenseWiring, GraphState

HIDDEN = 4


def make_state(rng: np.random.Generator) -> tuple[GraphState, jax.Array, DenseWiring]:
    """Two graphs of three users and two servers; user 2 of graph 1 has no edge, server 1 of graph 0 none."""
    mask = np.array([[[1, 0], [1, 0], [1, 0]], [[1, 1], [0, 1], [0, 0]]], dtype=bool)
    values = [jnp.asarray(rng.normal(size=shape)) for shape in ((2, 3, HIDDEN), (2, 2, HIDDEN), (2, 3, 2, HIDDEN))]
    return GraphState(*values), jnp.asarray(rng.normal(size=(2, 1, 1, HIDDEN))), DenseWiring(jnp.asarray(mask))


def linear(params: dict, name: str, x: np.ndarray) -> np.ndarray:
    return x @ np.asarray(params[name]["kernel"]) + np.asarray(params[name]["bias"])


def by_definition(params: dict, state: GraphState, time: np.ndarray, mask: np.ndarray, aggregation: str) -> np.ndarray:
    """User states after a layer: h + relu(norm(U h + aggregate_j gate_j * V h_j)), loop by loop."""
    users, servers, edges = (np.asarray(values) for values in state)
    out = np.zeros_like(users)
    for g, u in np.ndindex(users.shape[:2]):
        messages = []
        for s in np.flatnonzero(mask[g, u]):
            edge = (
                linear(params, "from_user", users[g, u])[:HIDDEN]
                + linear(params, "from_server", servers[g, s])[:HIDDEN]
            )
            edge = edge + linear(params, "from_edge", edges[g, u, s])
            edge = edge / np.sqrt((edge**2).mean() + 1e-6) * np.asarray(params["edge_norm"]["scale"])
            edge = edge + linear(params, "time", time[g, 0, 0])
            messages.append(linear(params, "from_server", servers[g, s])[HIDDEN:] / (1 + np.exp(-edge)))
        joined = {"sum": np.sum, "mean": np.mean, "max": np.max}[aggregation](messages, axis=0) if messages else 0.0
        change = linear(params, "user_update", users[g, u]) + joined
        change = (change - change.mean()) / np.sqrt(change.var() + 1e-6)
        change = change * np.asarray(params["user_norm"]["scale"]) + np.asarray(params["user_norm"]["bias"])
        out[g, u] = users[g, u] + np.maximum(change, 0.0)
    return out


@pytest.mark.parametrize("aggregation", ["sum", "mean", "max"])
def test_users_are_updated_by_the_gated_aggregate(aggregation):
    """Every aggregation equals its definition, also for a user without an edge."""
    state, time, wiring = make_state(np.random.default_rng(0))
    layer = GatedConvolutionLayer(aggregation, directed=False)
    params = layer.init(jax.random.key(0), state, time, wiring)
    got = layer.apply(params, state, time, wiring)
    wanted = by_definition(params["params"], state, np.asarray(time), np.asarray(wiring.mask), aggregation)
    np.testing.assert_allclose(got.users, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("directed", [True, False])
def test_published_form_keeps_servers_to_themselves(directed):
    """In the published form a server's state does not depend on its users; with both directions it does."""
    state, time, wiring = make_state(np.random.default_rng(1))
    layer = GatedConvolutionLayer("sum", directed)
    params = layer.init(jax.random.key(0), state, time, wiring)
    other = state._replace(users=state.users + 1.0)
    before, after = (layer.apply(params, given, time, wiring).servers for given in (state, other))
    assert np.array_equal(before, after) == directed
