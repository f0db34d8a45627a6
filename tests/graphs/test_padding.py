"""Padding of sparse graphs: an identity, and masks that know what is real."""

import jax
import jraph
import numpy as np
import pytest

from laegd.graphs.padding import Budget, budget, edge_mask, graph_mask, node_mask, pad, pad_rows, unpad, zero_out


def random_graphs(rng: np.random.Generator) -> jraph.GraphsTuple:
    """Draws 1 to 4 graphs, some of them without edges or without nodes."""
    n_node = rng.integers(0, 6, rng.integers(1, 5))
    n_edge = np.where(n_node > 0, rng.integers(0, 9, len(n_node)), 0)
    first = np.repeat(np.cumsum(n_node) - n_node, n_edge)
    ends = [first + rng.integers(0, np.repeat(np.maximum(n_node, 1), n_edge)) for _ in range(2)]
    return jraph.GraphsTuple(
        nodes=rng.normal(size=(n_node.sum(), 3)).astype(np.float32),
        edges={"one": rng.normal(size=(n_edge.sum(), 2)), "two": rng.integers(0, 9, n_edge.sum())},
        senders=ends[0].astype(np.int32),
        receivers=ends[1].astype(np.int32),
        n_node=n_node.astype(np.int32),
        n_edge=n_edge.astype(np.int32),
        globals=rng.normal(size=(len(n_node), 1)),
    )


@pytest.mark.parametrize("seed", range(100))
def test_unpad_inverts_pad(seed):
    """Every array of every graph comes back unchanged."""
    rng = np.random.default_rng(seed)
    graph = random_graphs(rng)
    size = budget([graph], multiple=int(rng.integers(1, 9)))
    padded = pad(graph, size)
    assert len(padded.nodes) == size.num_nodes == padded.n_node.sum()
    assert len(padded.senders) == size.num_edges == padded.n_edge.sum()
    assert len(padded.n_node) == size.num_graphs
    back = unpad(padded)
    assert jax.tree.structure(back) == jax.tree.structure(graph)
    for one, other in zip(jax.tree.leaves(graph), jax.tree.leaves(back), strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype


@pytest.mark.parametrize("seed", range(10))
def test_masks_mark_what_was_there_before_padding(seed):
    """Under jit too, the masks are True on the real rows, which come first."""
    graph = random_graphs(np.random.default_rng(seed))
    padded = pad(graph, Budget(64, 64, 9))
    sizes = (len(graph.n_node), len(graph.nodes), len(graph.senders))
    for function, real in zip((graph_mask, node_mask, edge_mask), sizes, strict=True):
        for form in (function, jax.jit(function)):
            mask = np.asarray(form(padded))
            np.testing.assert_array_equal(mask, np.arange(len(mask)) < real)


def test_padding_edges_touch_padding_nodes_only():
    """No padding edge starts or ends at a real node."""
    graph = random_graphs(np.random.default_rng(5))
    padded = pad(graph, Budget(64, 64, 9))
    for ends in (padded.senders, padded.receivers):
        assert np.all(ends[len(graph.senders) :] >= len(graph.nodes))


def test_zero_out_clears_the_masked_rows_and_keeps_the_others():
    """Rows of a tree of arrays are zero exactly where the mask is False."""
    mask = np.array([True, False, True])
    tree = {"a": np.ones((3, 2)), "b": np.array([4, 5, 6])}
    cleared = jax.jit(zero_out)(tree, jax.numpy.asarray(mask))
    np.testing.assert_array_equal(cleared["a"], [[1, 1], [0, 0], [1, 1]])
    np.testing.assert_array_equal(cleared["b"], [4, 0, 6])


def test_pad_rows_appends_the_fill():
    """Values per edge are extended to the budget."""
    np.testing.assert_array_equal(pad_rows(np.array([1, 2]), 4, 9), [1, 2, 9, 9])


def test_budget_holds_the_largest_of_all_graphs():
    """7 nodes and one for padding round up to 8; 5 edges to 8; 2 graphs and one for padding are 3."""
    sizes = [(np.array([3, 4]), np.array([2, 3])), (np.array([6]), np.array([1]))]
    graphs = [random_graphs(np.random.default_rng(0))._replace(n_node=nodes, n_edge=edges) for nodes, edges in sizes]
    assert budget(graphs, multiple=8) == Budget(8, 8, 3)


@pytest.mark.parametrize(
    ("field", "size"),
    [("num_nodes", Budget(7, 64, 9)), ("num_edges", Budget(64, 4, 9)), ("num_graphs", Budget(64, 64, 2))],
)
def test_too_small_a_budget_is_refused_with_its_field(field, size):
    """7 nodes need 8, 5 edges need 5, and 2 graphs need 3."""
    ends = np.zeros(5, dtype=np.int32)
    graph = jraph.GraphsTuple(
        nodes=np.zeros((7, 1)),
        edges=np.zeros((5, 1)),
        senders=ends,
        receivers=ends,
        n_node=np.array([3, 4]),
        n_edge=np.array([2, 3]),
        globals=None,
    )
    with pytest.raises(ValueError, match=field):
        pad(graph, size)


def test_impossible_settings_are_refused():
    """A budget without nodes or a multiple of 0 is an error."""
    with pytest.raises(ValueError, match="num_nodes"):
        Budget(0, 0, 1)
    with pytest.raises(ValueError, match="multiple"):
        budget([], multiple=0)
