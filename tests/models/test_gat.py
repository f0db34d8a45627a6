"""The graph-attention layer against its definition, written out in loops: Eqs. 28 to 34, with the gated sum beside."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_gcn import HIDDEN, linear, make_state

from laegd.models.gat import GraphAttentionLayer

HEADS = 2


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


class Definition:
    """A layer, number by number; roles are "user" and "server"."""

    def __init__(self, params, state, time, mask, gated_sum):
        self.params, self.mask, self.gated_sum = params, mask, gated_sum
        self.users, self.servers, self.edges = (np.asarray(values) for values in state)
        self.time = np.asarray(time)

    def mixed(self, g, u, s):
        """The normalised sum of Eq. 28, of which the gate is the sigmoid."""
        edge = linear(self.params, "user_gate", self.users[g, u]) + linear(
            self.params, "edge_gate", self.edges[g, u, s]
        )
        edge = edge + linear(self.params, "server_gate", self.servers[g, s])
        edge = edge / np.sqrt((edge**2).mean() + 1e-6) * np.asarray(self.params["edge_norm"]["scale"])
        return edge + linear(self.params, "time", self.time[g, 0, 0])

    def score(self, g, u, s):
        """Eqs. 29 and 30: of each head, first those to the user, then those to the server."""
        joined = np.tanh(
            linear(self.params, "user_score", self.users[g, u])
            + linear(self.params, "server_score", self.servers[g, s])
        )
        return (
            joined
            @ np.asarray(self.params["score"]["kernel"])
            * sigmoid(linear(self.params, "score_gate", self.edges[g, u, s]))
        )

    def update(self, role, g, node):
        """Eqs. 31 to 33 for one node."""
        to_user = role == "user"
        own = (self.users if to_user else self.servers)[g, node]
        pairs = [
            (node, s) if to_user else (s, node)
            for s in np.flatnonzero(self.mask[g, node] if to_user else self.mask[g, :, node])
        ]
        heads = slice(0, HEADS) if to_user else slice(HEADS, 2 * HEADS)
        weights = np.array([np.exp(self.score(g, u, s)[heads]) for u, s in pairs]).reshape(len(pairs), HEADS)
        messages = np.array(
            [
                sigmoid(self.mixed(g, u, s))
                * (
                    linear(self.params, "server_value", self.servers[g, s])
                    if to_user
                    else linear(self.params, "user_value", self.users[g, u])
                )
                for u, s in pairs
            ]
        ).reshape(len(pairs), HIDDEN)
        average = np.zeros(HIDDEN)
        for k in range(HIDDEN):
            head = k * HEADS // HIDDEN
            if pairs:
                average[k] = (weights[:, head] * messages[:, k]).sum() / weights[:, head].sum()
        parts = [own, average, *([messages.sum(axis=0)] if self.gated_sum else [])]
        change = linear(self.params, f"{role}_update", np.concatenate(parts))
        norm = self.params[f"{role}_norm"]
        change = (change - change.mean()) / np.sqrt(change.var() + 1e-6)
        return own + np.maximum(change * np.asarray(norm["scale"]) + np.asarray(norm["bias"]), 0.0)


@pytest.mark.parametrize("gated_sum", [True, False])
def test_a_layer_is_its_definition(gated_sum):
    """Users, servers and edges, in both directions, with nodes that have no edge."""
    state, time, wiring = make_state(np.random.default_rng(0))
    layer = GraphAttentionLayer(HEADS, directed=False, gated_sum=gated_sum)
    params = jax.jit(layer.init)(jax.random.key(0), state, time, wiring)
    rng = np.random.default_rng(1)  # not as initialised: there are biases and scales too
    params = jax.tree.map(lambda x: x + jnp.asarray(rng.normal(size=x.shape) * 0.5, x.dtype), params)
    got = jax.jit(layer.apply)(params, state, time, wiring)
    mask = np.asarray(wiring.mask)
    expected = Definition(params["params"], state, time, mask, gated_sum)
    for role, values in (("user", got.users), ("server", got.servers)):
        for g, node in np.ndindex(*values.shape[:2]):
            np.testing.assert_allclose(values[g, node], expected.update(role, g, node), rtol=1e-4, atol=1e-5)
    for g, u, s in np.argwhere(mask):
        edge = np.asarray(state.edges)[g, u, s] + np.maximum(expected.mixed(g, u, s), 0.0)
        np.testing.assert_allclose(got.edges[g, u, s], edge, rtol=1e-4, atol=1e-5)
