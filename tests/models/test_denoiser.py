"""The network: symmetries, masks, and the agreement of its dense and sparse forms."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import pytest

from laegd.graphs.encode import LISTED_BELOW, GraphBatch, Normalisation, edge_values, encode, to_graphs_tuple
from laegd.graphs.padding import Budget, pad, pad_rows
from laegd.models.denoiser import Denoiser, ModelConfig
from laegd.problem.instance import InstanceBatch
from laegd.scenario.generator import Scale, ScenarioConfig, draw

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}  # float32, sums in another order
CONFIGS = {
    "default": ModelConfig(hidden=16, num_layers=2, num_heads=4),
    "directed": ModelConfig(hidden=16, num_layers=2, num_heads=1, directed=True, gated_sum=False),
    "gdsg": ModelConfig(hidden=16, num_layers=2, encoder="convolution", directed=True),
    "gdsg-both-mean": ModelConfig(hidden=16, num_layers=2, encoder="convolution", aggregation="mean"),
    "gdsg-both-max": ModelConfig(hidden=16, num_layers=2, encoder="convolution", aggregation="max"),
}


class Inputs(NamedTuple):
    xt: np.ndarray
    yt: np.ndarray
    t: np.ndarray
    graph: GraphBatch


def make_inputs(scale: str = "gs3_gu7_au5", count: int = 20) -> Inputs:
    batch = InstanceBatch.from_scenarios(draw(ScenarioConfig(), Scale.parse(scale), count, np.random.default_rng(0)))
    graph = encode(batch, Normalisation.fit([batch]))
    rng, shape = np.random.default_rng(1), graph.edge_mask.shape
    return Inputs(
        rng.integers(0, 2, shape).astype(np.float32),
        rng.normal(size=shape).astype(np.float32),
        rng.integers(1, 201, (count, 1, 1)).astype(np.float32),
        graph,
    )


@pytest.fixture(scope="module")
def inputs() -> Inputs:
    return make_inputs()


# Both encoders as they are trained by default; the other forms in the slow tests.
default_first = pytest.mark.parametrize(
    "model",
    [
        pytest.param(config, id=name, marks=() if name in ("default", "gdsg-both-mean") else pytest.mark.slow)
        for name, config in CONFIGS.items()
    ],
    indirect=True,
)


@pytest.fixture(params=CONFIGS.values(), ids=CONFIGS.keys())
def model(request) -> Denoiser:
    return Denoiser(request.param)


@functools.cache
def compiled(model: Denoiser):
    """Returns any parameters and the compiled network; parameters depend neither on form nor on scale."""
    arguments = jax.tree.map(jnp.asarray, tuple(make_inputs("gs2_gu4_au2", 1)))
    shapes, rng = jax.eval_shape(model.init, jax.random.key(0), *arguments), np.random.default_rng(0)
    # the spread of weights from the number of inputs on, as an initialisation has it; vectors are scales and offsets

    def values(leaf):
        spread = leaf.shape[0] ** -0.5 if leaf.ndim > 1 else 0.3
        return jnp.asarray(rng.normal(size=leaf.shape) * spread, leaf.dtype) + (leaf.ndim == 1) * 0.7

    return jax.tree.map(values, shapes), jax.jit(model.apply)


@functools.cache
def compiled_gradient(model: Denoiser):
    """Returns a compiled squared norm of all outputs, with its gradients in parameters and noisy shares."""

    def loss(params, yt, xt, t, graph):
        logits, eps = model.apply(params, xt, yt, t, graph)
        return jnp.sum(logits**2) + jnp.sum(eps**2)

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))


def call(model: Denoiser, xt, yt, t, graph):
    """Returns logits and noise in one array [..., 3]."""
    params, apply = compiled(model)
    logits, eps = apply(params, *jax.tree.map(jnp.asarray, (xt, yt, t, graph)))
    return np.concatenate([logits, eps[..., None]], axis=-1)


def sparse_arguments(inputs: Inputs) -> tuple:
    plan = (edge_values(inputs.graph, values) for values in (inputs.xt, inputs.yt))
    return *plan, inputs.t[:, 0, 0], to_graphs_tuple(inputs.graph)


def padded_values(values: Sequence[np.ndarray], size: Budget) -> tuple[np.ndarray, ...]:
    """Noisy bits and shares per edge and time per graph, filled up with anything."""
    xt, yt, t = values
    return pad_rows(xt, size.num_edges, 3.0), pad_rows(yt, size.num_edges, 3.0), pad_rows(t, size.num_graphs, 3.0)


def test_missing_edges_answer_zero(model, inputs):
    """Two logits and one noise per edge, 0 where there is no edge."""
    out = call(model, *inputs)
    assert out.shape == (20, 12, 4, 3)
    assert np.all(out[~inputs.graph.edge_mask] == 0)
    assert np.all(out[inputs.graph.edge_mask] != 0)


def test_permuting_users_permutes_the_output(model, inputs):
    """Renumbering users renumbers the answer and changes nothing else."""
    order = np.random.default_rng(2).permutation(12)
    graph = inputs.graph
    permuted = GraphBatch(
        graph.user_features[:, order], graph.server_features, graph.edge_features[:, order], graph.edge_mask[:, order]
    )
    one = call(model, *inputs)
    other = call(model, inputs.xt[:, order], inputs.yt[:, order], inputs.t, permuted)
    np.testing.assert_allclose(other, one[:, order], **TOLERANCE)


def test_permuting_servers_permutes_the_output(model, inputs):
    """Renumbering servers renumbers the answer and changes nothing else."""
    order = np.random.default_rng(3).permutation(4)
    graph = inputs.graph
    permuted = GraphBatch(
        graph.user_features,
        graph.server_features[:, order],
        graph.edge_features[:, :, order],
        graph.edge_mask[:, :, order],
    )
    one = call(model, *inputs)
    other = call(model, inputs.xt[:, :, order], inputs.yt[:, :, order], inputs.t, permuted)
    np.testing.assert_allclose(other, one[:, :, order], **TOLERANCE)


def test_what_missing_edges_hold_changes_no_real_output(model, inputs):
    """Features, bits and shares of missing edges are masked out."""
    rng, mask = np.random.default_rng(4), inputs.graph.edge_mask
    features = inputs.graph.edge_features
    other = Inputs(
        np.where(mask, inputs.xt, 1 - inputs.xt),
        np.where(mask, inputs.yt, rng.normal(size=mask.shape) * 50).astype(np.float32),
        inputs.t,
        inputs.graph._replace(
            edge_features=np.where(mask[..., None], features, 50 * rng.normal(size=features.shape)).astype(np.float32)
        ),
    )
    assert not np.all(mask)
    np.testing.assert_array_equal(call(model, *inputs), call(model, *other))


def test_more_padded_users_and_servers_change_no_real_output(model, inputs):
    """Dense graphs may be filled up with nodes that have no edges."""
    graph, users, servers = inputs.graph, (0, 3), (0, 2)

    def fill(values: np.ndarray, *widths: tuple[int, int], value: float = 0.0) -> np.ndarray:
        pads = ((0, 0), *widths, *[(0, 0)] * (values.ndim - 1 - len(widths)))
        return np.pad(values, pads, constant_values=value)

    padded = Inputs(
        fill(inputs.xt, users, servers, value=1.0),
        fill(inputs.yt, users, servers, value=3.0),
        inputs.t,
        GraphBatch(
            fill(graph.user_features, users, value=2.0),
            fill(graph.server_features, servers, value=2.0),
            fill(graph.edge_features, users, servers, value=2.0),
            fill(graph.edge_mask, users, servers, value=False),
        ),
    )
    np.testing.assert_allclose(call(model, *padded)[:, :12, :4], call(model, *inputs), **TOLERANCE)


def test_dense_equals_sparse_with_the_same_parameters(model, inputs):
    """One set of parameters serves both forms."""
    dense = call(model, *inputs)
    np.testing.assert_allclose(call(model, *sparse_arguments(inputs)), edge_values(inputs.graph, dense), **TOLERANCE)


@pytest.mark.slow
def test_compiled_equals_uncompiled(inputs):
    """Tracing changes nothing."""
    model = Denoiser(ModelConfig(hidden=16, num_layers=1))
    for arguments in (tuple(inputs), sparse_arguments(inputs)):
        logits, eps = model.apply(compiled(model)[0], *jax.tree.map(jnp.asarray, arguments))
        np.testing.assert_allclose(call(model, *arguments), np.concatenate([logits, eps[..., None]], -1), **TOLERANCE)


@pytest.mark.slow
def test_reading_grows_with_the_layers_and_no_faster(inputs):
    """Each layer more, of a gradient too, reads as much memory more as the layer before it did."""

    def read(num_layers):
        model = Denoiser(ModelConfig(hidden=8, num_layers=num_layers))
        list_of_edges = inputs.graph._replace(room=np.zeros((20, 48), dtype=bool))  # of 48 pairs
        arguments = jax.tree.map(jnp.asarray, inputs._replace(graph=list_of_edges))
        params = jax.eval_shape(model.init, jax.random.key(0), *arguments)
        gradient = jax.grad(lambda *values: sum(jnp.sum(out) for out in model.apply(*values)))
        return jax.jit(gradient).lower(params, *arguments).compile().cost_analysis()["bytes accessed"]

    two, four, six = map(read, (2, 4, 6))
    assert six - four == pytest.approx(four - two, rel=0.01)


def test_sparse_initialises_the_same_parameters(inputs):
    """A model may be set up in either form."""
    model = Denoiser(CONFIGS["default"])
    arguments = jax.tree.map(jnp.asarray, sparse_arguments(inputs))
    dense = jax.jit(model.init)(jax.random.key(0), *jax.tree.map(jnp.asarray, tuple(make_inputs("gs2_gu4_au2", 1))))
    jax.tree.map(np.testing.assert_array_equal, dense, jax.jit(model.init)(jax.random.key(0), *arguments))


@default_first
@pytest.mark.parametrize("spare", [0, 200])
def test_a_list_of_edges_gives_what_all_pairs_give(model, inputs, spare):
    """Both forms of a batch of one scale are one function, however long the list is; gradients too."""
    graph = inputs.graph
    room = -(-int(graph.edge_mask.sum()) // len(graph.edge_mask)) + spare
    listed = graph._replace(room=np.zeros((len(graph.edge_mask), room), dtype=bool))
    dense = call(model, *inputs)
    np.testing.assert_allclose(call(model, *inputs._replace(graph=listed)), dense, **TOLERANCE)
    if spare:
        return  # the gradient is compiled for one length alone
    params = compiled(model)[0]
    one, other = (
        compiled_gradient(model)(params, *jax.tree.map(jnp.asarray, (inputs.yt, inputs.xt, inputs.t, form)))
        for form in (graph, listed)
    )
    for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-4 * np.abs(left).max())


def test_a_list_has_room_for_all_edges_and_is_left_where_nearly_all_pairs_are_edges(inputs):
    """The length is at least what is asked for, in a few steps; None above a share of all pairs."""
    lengths = {number: inputs.graph.with_room(number).room for number in range(49)}
    listed = {number: room.shape[1] for number, room in lengths.items() if room is not None}
    assert all(number <= length <= max(number, 1) + 2 for number, length in listed.items())
    assert len(set(listed.values())) <= 16
    assert max(listed.values()) <= LISTED_BELOW * 48
    assert all(lengths[number] is None for number in range(44, 49))


@default_first
def test_padding_of_the_sparse_form_changes_no_real_output(model, inputs):
    """Any budget gives the same real outputs, and 0 on padding edges."""
    *values, graph = sparse_arguments(inputs)
    num_edges = len(graph.senders)
    plain = call(model, *values, graph)
    for size in (Budget(321, num_edges, 21), Budget(400, num_edges + 100, 30)):
        padded = call(model, *padded_values(values, size), pad(graph, size))
        np.testing.assert_allclose(padded[:num_edges], plain, **TOLERANCE)
        assert np.all(padded[num_edges:] == 0)


def test_graphs_of_several_scales_do_not_touch_in_one_tuple(model):
    """Each graph of a mixed tuple answers as it does alone."""
    parts = [sparse_arguments(make_inputs(scale, 2)) for scale in ("gs2_gu4_au2", "gs3_gu7_au5")]
    size = Budget(64, 128, 5)

    def padded_call(*values, graph):
        return call(model, *padded_values(values, size), pad(graph, size))[: len(graph.senders)]

    values = [np.concatenate(column) for column in zip(*(part[:3] for part in parts), strict=True)]
    mixed = padded_call(*values, graph=jraph.batch_np([part[3] for part in parts]))
    alone = np.concatenate([padded_call(*part[:3], graph=part[3]) for part in parts])
    np.testing.assert_allclose(mixed, alone, **TOLERANCE)


def test_one_time_for_all_broadcasts(inputs):
    """A time of shape [1, 1, 1] or [1] is that time on every edge."""
    model = Denoiser(CONFIGS["default"])
    same = inputs._replace(t=np.full((20, 1, 1), 7.0, dtype=np.float32))
    full = call(model, *same)
    np.testing.assert_allclose(call(model, *same._replace(t=np.full((1, 1, 1), 7))), full, **TOLERANCE)
    xt, yt, _, graph = sparse_arguments(same)
    one = call(model, xt, yt, np.full(1, 7), graph)
    np.testing.assert_allclose(one, edge_values(same.graph, full), **TOLERANCE)


@pytest.mark.parametrize("noised", ["xt", "yt"])
def test_noisy_bits_and_shares_change_the_answer(inputs, noised):
    """The network sees both of what it is to clean."""
    model = Denoiser(CONFIGS["default"])
    other = inputs._replace(**{noised: 1.0 - getattr(inputs, noised)})
    assert np.abs(call(model, *inputs) - call(model, *other))[inputs.graph.edge_mask].max() > 1e-3


def test_time_changes_the_answer(inputs):
    """The network sees how noisy its input is."""
    model = Denoiser(CONFIGS["default"])
    early, late = (call(model, *inputs._replace(t=np.full((20, 1, 1), t, np.float32))) for t in (1, 200))
    assert np.abs(early - late)[inputs.graph.edge_mask].max() > 1e-3


@pytest.mark.parametrize(("directed", "listens"), [(True, False), (False, True)])
def test_servers_pass_on_their_users_only_in_both_directions(inputs, directed, listens):
    """One layer, user B changed: user A's edges notice exactly if servers listen to users."""
    model = Denoiser(ModelConfig(hidden=16, num_layers=1, directed=directed))
    changed = inputs.graph.user_features.copy()
    changed[:, 0] += 1.0
    difference = np.abs(
        call(model, *inputs) - call(model, *inputs._replace(graph=inputs.graph._replace(user_features=changed)))
    )
    assert difference[:, 0].max() > 1e-3
    assert (difference[:, 1:].max() > 1e-4) == listens
    assert listens or difference[:, 1:].max() == 0


@default_first
@pytest.mark.parametrize("isolated", ["user", "server", "all"])
@pytest.mark.parametrize("form", ["dense", "sparse"])
def test_nodes_without_edges_keep_values_and_gradients_finite(model, inputs, isolated, form):
    """A user or server with no real edge divides by nothing."""
    mask = inputs.graph.edge_mask.copy()
    mask[{"user": np.s_[:, 0], "server": np.s_[:, :, 0], "all": np.s_[:]}[isolated]] = False
    alone = inputs._replace(graph=inputs.graph._replace(edge_mask=mask))
    xt, yt, t, graph = alone
    if form == "sparse":
        *values, graph = sparse_arguments(alone)
        size = Budget(321, 960, 21)  # one size, so one program, for all cases
        xt, yt, t = padded_values(values, size)
        graph = pad(graph, size)
    value, gradients = compiled_gradient(model)(compiled(model)[0], *jax.tree.map(jnp.asarray, (yt, xt, t, graph)))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((value, gradients)))
    assert (float(value) > 0) == (isolated != "all")


@default_first
@pytest.mark.parametrize("scale", ["gs2_gu0_au0", "gs0_gu3_au2"])
def test_networks_without_users_or_ground_servers_pass(model, scale):
    """No users give no edges; the HAP alone is one server."""
    inputs = make_inputs(scale, 2)
    out = call(model, *inputs)
    assert out.shape == (*inputs.xt.shape, 3)
    assert np.all(np.isfinite(out))
    np.testing.assert_allclose(call(model, *sparse_arguments(inputs)), edge_values(inputs.graph, out), **TOLERANCE)


def test_gated_sum_counts_neighbours_and_the_average_does_not(inputs):
    """A server with every user doubled: attention alone cannot tell, the gated sum can."""
    double = lambda values: np.concatenate([values, values], axis=1)  # noqa: E731
    graph = inputs.graph._replace(
        user_features=double(inputs.graph.user_features),
        edge_features=double(inputs.graph.edge_features),
        edge_mask=double(inputs.graph.edge_mask),
    )
    doubled = Inputs(double(inputs.xt), double(inputs.yt), inputs.t, graph)
    for gated_sum in (False, True):
        model = Denoiser(ModelConfig(hidden=16, num_layers=2, gated_sum=gated_sum))
        difference = np.abs(call(model, *doubled)[:, :12] - call(model, *inputs)).max()
        assert (difference > 1e-3) == gated_sum
        assert gated_sum or difference < 1e-4


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"hidden": 0}, "hidden"),
        ({"num_layers": -1}, "num_layers"),
        ({"num_heads": 0}, "num_heads"),
        ({"hidden": 10, "num_heads": 4}, "hidden"),
        ({"hidden": 9, "num_heads": 3}, "hidden"),
    ],
)
def test_bad_settings_are_refused_with_their_field(settings, field):
    """Sizes are positive, and every head has its equal part."""
    with pytest.raises(ValueError, match=f"^{field}: Expected"):
        ModelConfig(**settings)
