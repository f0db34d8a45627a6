"""Which instances make the batch of a step, and the part of a data set that one process holds for that.

A set is cut into as many lanes of neighbours as a batch has places; a place draws from its own lane, in a new order per
epoch. So no instance comes twice in an epoch, batches depend on seed and step alone, however many devices and processes
share the work, and a process reads only the shards of its places' lanes.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Int

from laegd.config import TrainingConfig
from laegd.decoding.decode import Problem, problem_of
from laegd.graphs.dataset import Dataset, Labelled
from laegd.graphs.encode import GraphBatch, Normalisation, edges_per_graph, encode
from laegd.training.cluster import gather, part
from laegd.training.step import TrainBatch, labels_to_edges

_SPREADS = 6.0  # standard deviations of the mean; beyond them lies one batch in a thousand million


class EncodedSet(NamedTuple):
    """A training set, or the part that a process holds, as the network reads it; NumPy arrays."""

    graph: GraphBatch
    problem: Problem
    offload: np.ndarray  # [instance, user, server]
    share: np.ndarray  # [instance, user, server]


def encode_set(data: Labelled, normalisation: Normalisation) -> EncodedSet:
    """Encodes a labelled set."""
    num_servers = data.instances.costs.covered.shape[-1]
    problem = problem_of(data.instances.costs)
    labels = labels_to_edges(data.server, data.share, num_servers)
    return EncodedSet(encode(data.instances, normalisation), problem, *labels)


class Lanes(NamedTuple):
    """A set cut into one lane per place of a batch; a set smaller than a batch is repeated until it is not."""

    size: int
    """Instances of the set."""
    start: Int[np.ndarray, "lane+1"]
    """First instance of each lane, and the end of the last one."""

    @staticmethod
    def cut(size: int, batch_size: int) -> "Lanes":
        """Cuts a set; lanes differ in length by one at most."""
        repeated = size * -(-batch_size // size)
        return Lanes(size, np.arange(batch_size + 1) * repeated // batch_size)

    def held(self, places: slice) -> slice:
        """Returns the instances from which some places of the batch draw."""
        if self.start[-1] > self.size:
            return slice(0, self.size)
        return slice(int(self.start[places.start]), int(self.start[places.stop]))


@lru_cache(maxsize=16)
def _orders(lengths: tuple[int, ...], seed: int, which: int, epoch: int) -> Int[np.ndarray, "lane visit"]:
    """Returns a random order of each lane; those past a shorter lane's end come last."""
    drawn = np.random.default_rng([seed, which, epoch]).random((len(lengths), max(lengths)))
    drawn[np.arange(max(lengths)) >= np.array(lengths)[:, None]] = np.inf
    return drawn.argsort(axis=1)


def batch_indices(config: TrainingConfig, sizes: list[int], step: int) -> tuple[int, Int[np.ndarray, "batch"]]:
    """Returns which set and which of its instances make a step's batch: a function of seed and step alone.

    Sets take turns. What a lane has beyond the shortest one is left out of an epoch, another instance each time.
    """
    which, visit = step % len(sizes), step // len(sizes)
    lanes = Lanes.cut(sizes[which], config.batch_size)
    lengths = tuple(np.diff(lanes.start).tolist())
    epoch, position = divmod(visit, min(lengths))
    order = _orders(lengths, config.seed, which, epoch)
    return which, (lanes.start[:-1] + order[:, position]) % lanes.size


class TrainingSet(NamedTuple):
    """What one process holds of a data set."""

    size: int
    """Instances of the whole set."""
    first: int
    """Number of the first instance that is held."""
    encoded: EncodedSet
    num_edges: Int[np.ndarray, "instance"] | None = None
    """Of every instance of the whole set; None: graphs are not listed, see `GraphBatch.with_room`."""
    room: int = 0
    """Edges per graph that the part of a batch on one device hardly ever exceeds, so that one program serves all."""

    @staticmethod
    def read(dataset: Dataset, batch_size: int, normalisation: Normalisation) -> "TrainingSet":
        """Reads the shards that this process needs."""
        held = Lanes.cut(len(dataset), batch_size).held(part(batch_size))
        parts = [encode_set(data, normalisation) for data in dataset.read_range(held.start, held.stop)]
        return TrainingSet(len(dataset), held.start, jax.tree.map(lambda *x: np.concatenate(x), *parts))

    def listed(self, batch_size: int) -> "TrainingSet":
        """Returns the set with the number of edges of every instance, which all processes call together to learn."""
        own = np.asarray(self.encoded.graph.num_edges, dtype=np.int64)
        given = b"".join(gather(own.tobytes())) if len(own) < self.size else own.tobytes()
        num_edges = np.frombuffer(given, dtype=np.int64)
        spread = num_edges.std() / math.sqrt(batch_size / jax.device_count())
        room = math.ceil(min(num_edges.mean() + _SPREADS * spread, num_edges.max()))
        return self._replace(num_edges=num_edges, room=room)


def pick(encoded: EncodedSet, indices: Int[np.ndarray, "batch"], first_place: int = 0) -> TrainBatch:
    """Picks instances as the places of a batch, from the first one on."""
    picked = jax.tree.map(lambda x: x[indices], encoded)
    position = np.arange(first_place, first_place + len(indices), dtype=np.int32)
    return TrainBatch(*picked, position=position, signal=np.zeros_like(position))


def make_batch(config: TrainingConfig, sets: list[TrainingSet], step: int) -> TrainBatch:
    """Picks this process's part of a step's batch."""
    which, indices = batch_indices(config, [one.size for one in sets], step)
    places, chosen = part(config.batch_size), sets[which]
    batch = pick(chosen.encoded, indices[places] - chosen.first, places.start)
    if chosen.num_edges is None:
        return batch
    # The same list length on all devices, of all processes: they run one program.
    needed = edges_per_graph(chosen.num_edges[indices], jax.device_count())
    return batch._replace(graph=batch.graph.with_room(max(chosen.room, needed)))
