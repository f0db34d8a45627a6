"""The actor and the critic: symmetries, and probabilities that stay where they may."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from laegd.graphs.encode import GraphBatch, Normalisation, encode
from laegd.models.actor_critic import ActorCritic, allowed_places, log_policy
from laegd.models.denoiser import ModelConfig
from laegd.problem.instance import InstanceBatch
from laegd.scenario.generator import Scale, ScenarioConfig, draw

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}  # float32, sums in another order
FAST_COMPILE = {"xla_backend_optimization_level": 0}
CONFIGS = {
    "attention": ModelConfig(hidden=16, num_layers=2, num_heads=2),
    "convolution": ModelConfig(hidden=16, num_layers=2, encoder="convolution"),
}


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    return InstanceBatch.from_scenarios(draw(ScenarioConfig(), Scale.parse("gs3_gu7_au5"), 10, rng))


@pytest.fixture(scope="module")
def graph(batch):
    return encode(batch, Normalisation.fit([batch]))


@pytest.fixture(params=CONFIGS.values(), ids=CONFIGS.keys())
def model(request):
    return ActorCritic(request.param)


@functools.cache
def compiled(model):
    """Returns the compiled initialisation and network."""
    return tuple(jax.jit(f, compiler_options=FAST_COMPILE) for f in (model.init, model.apply))


def call(model, graph):
    """Returns logits and values with parameters of a fixed seed."""
    init, apply = compiled(model)
    graph = jax.tree.map(jnp.asarray, graph)
    return jax.device_get(apply(init(jax.random.key(0), graph), graph))


def test_policy_lies_on_allowed_places_alone_and_sums_to_one(model, graph, batch):
    """Probability 0, exactly, on servers that cannot be used and on devices that miss the deadline."""
    costs = batch.costs
    allowed = np.asarray(allowed_places(jnp.asarray(costs.local_allowed), jnp.asarray(costs.usable)))
    policy = np.exp(log_policy(jnp.asarray(call(model, graph)[0]), jnp.asarray(allowed)))
    assert not allowed.all()
    assert (policy[~allowed] == 0).all() and (policy[allowed] > 0).all()
    np.testing.assert_allclose(policy.sum(-1), 1.0, rtol=1e-6)
    np.testing.assert_array_equal(allowed[..., :-1], costs.usable)


def test_a_user_that_may_run_nowhere_has_its_own_device_as_its_action():
    """An infeasible instance has a policy too; everyone else's own device follows its deadline."""
    usable = jnp.asarray([[[False, False], [True, False], [True, True]]])
    places = allowed_places(jnp.asarray([[False, False, True]]), usable)
    assert places.tolist() == [[[False, False, True], [True, False, False], [True, True, True]]]
    log_probability = log_policy(jnp.zeros((1, 3, 3)), places)
    np.testing.assert_allclose(jnp.exp(log_probability)[0, 0], [0, 0, 1])
    assert np.isfinite(jax.grad(lambda x: jnp.exp(log_policy(x, places))[0, 1, 0])(jnp.zeros((1, 3, 3)))).all()


def test_permuting_users_permutes_the_actor_and_leaves_the_critic(model, graph):
    """Renumbering users renumbers their logits; the value is the same."""
    order = np.random.default_rng(2).permutation(12)
    other = GraphBatch(
        graph.user_features[:, order], graph.server_features, graph.edge_features[:, order], graph.edge_mask[:, order]
    )
    (logits, value), (permuted, same) = call(model, graph), call(model, other)
    np.testing.assert_allclose(permuted, logits[:, order], **TOLERANCE)
    np.testing.assert_allclose(same, value, **TOLERANCE)


def test_permuting_servers_permutes_the_actor_and_leaves_the_critic(model, graph):
    """Renumbering servers renumbers their logits; one's own device stays the last place."""
    order = np.array([2, 0, 3, 1])
    other = GraphBatch(
        graph.user_features,
        graph.server_features[:, order],
        graph.edge_features[:, :, order],
        graph.edge_mask[:, :, order],
    )
    (logits, value), (permuted, same) = call(model, graph), call(model, other)
    np.testing.assert_allclose(permuted, logits[..., [*order, 4]], **TOLERANCE)
    np.testing.assert_allclose(same, value, **TOLERANCE)


def test_missing_edges_change_neither_actor_nor_critic(model, graph):
    """Whatever a missing edge holds, the logits of real places and the value stay."""
    missing = ~graph.edge_mask[..., None]
    other = graph._replace(edge_features=np.where(missing, np.float32(7.0), graph.edge_features))
    (logits, value), (changed, same) = call(model, graph), call(model, other)
    real = np.concatenate([graph.edge_mask, np.ones((10, 12, 1), bool)], axis=-1)
    np.testing.assert_allclose(changed[real], logits[real], **TOLERANCE)
    np.testing.assert_allclose(same, value, **TOLERANCE)


def test_answers_differ_between_instances(model, graph):
    """Neither head is blind to its input."""
    logits, value = call(model, graph)
    assert logits.std(0).min() > 1e-4 and value.std() > 1e-4
