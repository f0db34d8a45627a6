"""Fixed sizes for the sparse form, so that one compiled program serves graphs of many scales.

A padded tuple holds the real graphs, then one graph with all padding nodes and edges, then empty graphs. Padding has
zeros for features, and its edges join its first node to itself, so no message crosses to a real node. jraph's own
`zero_out_padding` calls a function that JAX has removed; hence the masks and `zero_out` here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import jax
import jax.numpy as jnp
import jraph
import numpy as np
from jaxtyping import Array, Bool, Shaped

from laegd.graphs.encode import graphs_tuple

Values = TypeVar("Values")


@dataclass(frozen=True)
class Budget:
    """Sizes of a padded GraphsTuple; at least one node and one graph more than the real ones."""

    num_nodes: int
    num_edges: int
    num_graphs: int

    def __post_init__(self) -> None:
        for name, least in (("num_nodes", 1), ("num_edges", 0), ("num_graphs", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: Expected at least {least}, got {getattr(self, name)}. Use `budget`.")


def budget(graphs: Sequence[jraph.GraphsTuple], multiple: int = 64) -> Budget:
    """Returns sizes that hold any one of these tuples, nodes and edges rounded up to a multiple."""
    if multiple < 1:
        raise ValueError(f"multiple: Expected at least 1, got {multiple}. Use e.g. 64.")
    nodes = max((int(np.sum(graph.n_node)) for graph in graphs), default=0) + 1
    edges = max((int(np.sum(graph.n_edge)) for graph in graphs), default=0)
    count = max((len(graph.n_node) for graph in graphs), default=0) + 1
    return Budget(-(-nodes // multiple) * multiple, -(-edges // multiple) * multiple, count)


def pad(graph: jraph.GraphsTuple, budget: Budget) -> jraph.GraphsTuple:
    """Fills a NumPy tuple up to the budget; real nodes, edges and graphs stay first, in their order."""
    num_nodes, num_edges, num_graphs = int(np.sum(graph.n_node)), int(np.sum(graph.n_edge)), len(graph.n_node)
    for name, used, spare in (("num_nodes", num_nodes, 1), ("num_edges", num_edges, 0), ("num_graphs", num_graphs, 1)):
        size = getattr(budget, name)
        if used + spare > size:
            raise ValueError(f"{name}: Expected a budget of at least {used + spare}, got {size}. Use `budget`.")
    new_nodes, new_edges = budget.num_nodes - num_nodes, budget.num_edges - num_edges
    empty_graphs = [0] * (budget.num_graphs - num_graphs - 1)
    return graphs_tuple(
        nodes=jax.tree.map(lambda values: pad_rows(values, budget.num_nodes), graph.nodes),
        edges=jax.tree.map(lambda values: pad_rows(values, budget.num_edges), graph.edges),
        senders=pad_rows(np.asarray(graph.senders), budget.num_edges, num_nodes),
        receivers=pad_rows(np.asarray(graph.receivers), budget.num_edges, num_nodes),
        n_node=np.concatenate([graph.n_node, [new_nodes, *empty_graphs]]).astype(np.int32),
        n_edge=np.concatenate([graph.n_edge, [new_edges, *empty_graphs]]).astype(np.int32),
        globals=jax.tree.map(lambda values: pad_rows(values, budget.num_graphs), graph.globals),
    )


def pad_rows(
    values: Shaped[Array | np.ndarray, "row *feat"], size: int, fill: int | float = 0
) -> Shaped[np.ndarray, "padded_row *feat"]:
    """Appends rows of `fill`; for values per edge that travel beside a padded tuple."""
    values = np.asarray(values)
    return np.concatenate([values, np.full((size - len(values), *values.shape[1:]), fill, dtype=values.dtype)])


def unpad(graph: jraph.GraphsTuple) -> jraph.GraphsTuple:
    """Returns the real graphs of a padded tuple, the inverse of `pad`."""
    n_node, n_edge = np.asarray(graph.n_node), np.asarray(graph.n_edge)
    num_graphs = int(_num_real_graphs(n_node))
    num_nodes, num_edges = int(n_node[:num_graphs].sum()), int(n_edge[:num_graphs].sum())
    return graphs_tuple(
        nodes=jax.tree.map(lambda values: np.asarray(values)[:num_nodes], graph.nodes),
        edges=jax.tree.map(lambda values: np.asarray(values)[:num_edges], graph.edges),
        senders=np.asarray(graph.senders)[:num_edges],
        receivers=np.asarray(graph.receivers)[:num_edges],
        n_node=n_node[:num_graphs],
        n_edge=n_edge[:num_graphs],
        globals=jax.tree.map(lambda values: np.asarray(values)[:num_graphs], graph.globals),
    )


def graph_mask(graph: jraph.GraphsTuple) -> Bool[Array, "graph"]:
    """Marks the real graphs of a padded tuple; works under jit."""
    n_node = jnp.asarray(graph.n_node)
    return jnp.arange(len(n_node)) < _num_real_graphs(n_node)


def node_mask(graph: jraph.GraphsTuple) -> Bool[Array, "node"]:
    """Marks the real nodes of a padded tuple; works under jit."""
    num_real = jnp.sum(jnp.where(graph_mask(graph), jnp.asarray(graph.n_node), 0))
    return jnp.arange(jax.tree.leaves(graph.nodes)[0].shape[0]) < num_real


def edge_mask(graph: jraph.GraphsTuple) -> Bool[Array, "edge"]:
    """Marks the real edges of a padded tuple; works under jit."""
    num_real = jnp.sum(jnp.where(graph_mask(graph), jnp.asarray(graph.n_edge), 0))
    return jnp.arange(jax.tree.leaves(graph.senders)[0].shape[0]) < num_real


def zero_out(values: Values, mask: Bool[Array, "row"]) -> Values:
    """Sets the rows that the mask leaves out to 0, in an array or a tree of arrays; works under jit."""

    def zero(array: jax.Array) -> jax.Array:
        return jnp.where(mask.reshape(-1, *[1] * (jnp.ndim(array) - 1)), array, jnp.zeros((), jnp.asarray(array).dtype))

    return jax.tree.map(zero, values)


def _num_real_graphs(n_node: jax.Array | np.ndarray) -> jax.Array:
    """The padding graph is the last one with nodes: `pad` always gives it one at least."""
    return jnp.max(jnp.where(jnp.asarray(n_node) > 0, jnp.arange(len(n_node)), 0))
