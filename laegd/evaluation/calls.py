"""How many instances and samples share a call of the compiled programs, and which instances are too large for one.

A call's arrays stay within a gigabyte, and within what a core's cache holds where there are many instances; few shapes
of calls are ever compiled.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from laegd.graphs.encode import edges_per_graph
from laegd.problem.instance import Costs, InstanceBatch
from laegd.scenario.scenario import require
from laegd.training.parallel import Tree, cut, num_lanes, on_cpu

LARGEST_POLISH = 2**22  # users x users x servers of an instance; local search of larger ones runs on the host
MAX_HIDDEN = 2**23  # samples x edges x hidden width of an instance in one call, which takes a gigabyte
MAX_BELIEFS = 3 * 2**22  # numbers that the candidates of an instance in one call are made of
EDGES_PER_BATCH = 2**16  # samples x edges per accelerator, or per core of a CPU: tens of megabytes
HIDDEN_PER_CALL = 7 * 2**15  # samples x edges x hidden width that a core computes at a time: what its cache holds


class Shapes(NamedTuple):
    """What compiled programs depend on beside their settings, and how many of their calls run at a time."""

    size: int
    """Instances per call, over all devices."""
    pairs: tuple[int, ...]
    """Users and servers."""
    num_edges: int
    """Edges per instance, the mean of any part of a batch that is computed apart at most."""
    lanes: int
    """Calls at a time."""
    num_samples: int
    """Samples of an instance per call."""

    @property
    def large(self) -> bool:
        """Tells whether local search runs on the host."""
        return self.pairs[0] ** 2 * self.pairs[1] > LARGEST_POLISH


class Called(NamedTuple):
    """What calls of the compiled programs found for a batch, with some of its samples."""

    best: Any
    """`Decoded`, of NumPy arrays."""
    mean: Float[np.ndarray, "instance user server"] | None
    """Belief, mean over samples, steps and copies; None where every instance has a plan."""
    seconds: tuple[float, float]
    """Of the network and of decoding."""


class Planning(NamedTuple):
    """What of a network and its settings decides how large its calls are."""

    hidden: int
    """Width of the network; 1 for chance, which has nothing hidden."""
    lists_edges: bool
    """Whether it works on the edges alone, not on all pairs."""
    candidates: int
    """Candidates of one sample."""
    num_samples: int
    together: bool
    """Whether all samples need one call: an actor is asked once, and one of its starts is the likeliest."""

    def takes(self, costs: Costs) -> bool:
        """Tells whether the arrays of an instance fit in a gigabyte."""
        return self._edges(costs) * self.hidden <= MAX_HIDDEN and self._least * _pairs(costs) <= MAX_BELIEFS

    @property
    def _least(self) -> int:
        """Candidates of an instance in its smallest possible call."""
        return self.candidates * (self.num_samples if self.together else 1)

    def _edges(self, costs: Costs) -> int:
        """Returns the largest number of edges that are listed for one of the instances, at least 1."""
        return max(int(costs.covered.sum(axis=(-1, -2)).max()), 1) if self.lists_edges else _pairs(costs)

    def samples_per_call(self, costs: Costs) -> int:
        """Returns how many samples of an instance are drawn in one call; raises ValueError where not one fits."""
        edges, pairs = self._edges(costs), _pairs(costs)
        most_edges, most_candidates = MAX_HIDDEN // self.hidden, MAX_BELIEFS // pairs
        kind = "pairs in reach" if self.lists_edges else "pairs of a user and a server"
        expected = f"at most {most_edges:,} {kind} for a network of width {self.hidden}"
        require(edges <= most_edges, "users, servers", expected, edges, "Use the method exact with a time limit.")
        expected = f"at most {most_candidates} candidates at a time for networks of this size"
        remedy = "Use fewer samples." if self.together else "Use fewer steps, copies or thresholds."
        require(self._least <= most_candidates, "sampler, decode", expected, self._least, remedy)
        if self.together:
            return self.num_samples
        calls = -(-self.num_samples // min(most_edges // edges, most_candidates // self.candidates))
        return -(-self.num_samples // calls)  # all calls alike

    def shapes(self, batch: InstanceBatch) -> tuple[Shapes, int, Int[np.ndarray, "instance"]]:
        """Returns the shapes of a call of the compiled programs, how many instances make a batch, and their order.

        A call takes a power of two instances per device, so that few programs are ever compiled.
        """
        num_devices, lanes = jax.local_device_count(), num_lanes()
        covered = batch.costs.covered
        num_edges = covered.sum(axis=(1, 2))
        num_samples = self.samples_per_call(batch.costs)
        edges = num_edges.mean() if self.lists_edges else covered[0].size
        edges = max(edges, 1.0) * num_samples  # of an instance
        largest = min(EDGES_PER_BATCH, HIDDEN_PER_CALL / self.hidden) if on_cpu() else EDGES_PER_BATCH
        fair = -(-len(batch) // (num_devices * lanes))
        per_device = min(2 ** int(np.log2(max(largest / edges, 1.0))), 2 ** int(np.ceil(np.log2(fair))))
        size, calls = per_device * num_devices, int(EDGES_PER_BATCH / (edges * per_device))
        lanes = lanes if calls else 1  # a large call keeps a CPU busy by itself, and needs its memory
        order = dealt(num_edges, per_device)
        shapes = Shapes(size, covered.shape[1:], _edges_at_most(num_edges[order], size), lanes, num_samples)
        return shapes, size * lanes * max(calls, 1), order


def concatenated(parts: Sequence[Tree]) -> Tree:
    """Joins parts of a batch."""
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)


def cheaper(one: Any, other: Any) -> Any:
    """Returns the cheaper plan of each instance; `Decoded`, of NumPy arrays."""
    better = other.cost < one.cost
    return jax.tree.map(lambda x, y: np.where(better.reshape(-1, *[1] * (x.ndim - 1)), y, x), one, other)


def _pairs(costs: Costs) -> int:
    """Returns the number of pairs of a user and a server of an instance, at least 1."""
    return max(costs.covered.shape[-1] * costs.covered.shape[-2], 1)


def dealt(num_edges: Int[np.ndarray, "instance"], hand: int) -> Int[np.ndarray, "instance"]:
    """Returns an order whose every `hand` instances have about as many edges together; the last ones may be fewer."""
    order = np.argsort(num_edges, kind="stable")
    rest = len(order) % hand
    rows = order[rest:].reshape(hand, -1)
    rows[1::2] = rows[1::2, ::-1]
    return np.concatenate([rows.T.ravel(), order[:rest]])


def _edges_at_most(num_edges: Int[np.ndarray, "instance"], size: int) -> int:
    """Returns the largest mean number of edges per instance that a device meets when a batch is cut and padded."""
    parts = np.concatenate(cut(num_edges, size))  # [part and device, instance]
    return edges_per_graph(parts.ravel(), len(parts))
