"""Turns instances into network inputs: the only place where NumPy problems meet graphs.

Source: [1] GADSG, Eqs. 23-27; equation numbers refer to [1]. Costs span four decades, so they enter as logs,
standardised with statistics that are stored with the model. A pair out of coverage is no edge: its features are the
data set's maxima (Eq. 27) under an exists flag of 0, and the mask keeps them from every real output.
Where we differ from [1]: the positional encoding is of the node's place relative to the servers' mean, not of its
index, so that renumbering users renumbers the answer.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import jax
import jraph
import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from laegd.problem.instance import InstanceBatch
from laegd.scenario.units import M_PER_KM

Array = np.ndarray | jax.Array

WAVELENGTHS_KM = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Of the positional encoding: from half a server's reach to the whole of the largest areas."""

NODE_COLUMNS = (
    *("is_hap", "is_gs", "is_au", "is_gu", "log_workload", "log_capacity", "delay_weight"),
    *(f"{wave}_{axis}_{length}km" for length in WAVELENGTHS_KM for axis in "xy" for wave in ("sin", "cos")),
)
EDGE_COLUMNS = (
    *("exists", "log_local_cost", "log_transmit_cost", "log_execute_cost", "log_offload_to_local"),
    *("local_allowed", "min_share", "usable"),
)
EXISTS = EDGE_COLUMNS.index("exists")

_STANDARDISED_NODE = ("log_workload", "log_capacity", "delay_weight")
_STANDARDISED_EDGE = ("log_local_cost", "log_transmit_cost", "log_execute_cost", "log_offload_to_local")
_STANDARDISED: tuple[str, ...] = _STANDARDISED_NODE + _STANDARDISED_EDGE
MOMENTS = (4, len(_STANDARDISED))
"""Shape of the moments of a batch: count, mean, sum of squared deviations, maximum, of each standardised column."""
_POSITIVE_RANGE = (1e-12, 1e15)  # where a log is taken: a cost of 0 or inf stays a finite feature
_SMALLEST_STD = 1e-6  # a column that hardly varies is only centred
LISTED_BELOW = 0.9
"""Share of pairs that are edges from which on arrays over all pairs are the faster form; benchmarks/denoiser.py."""
_ROOMS = 16  # different lengths of an edge list
_LARGEST_FEATURE = 1e3  # standard deviations; farther off is no other news, and float32's squares overflow some day


class GraphBatch(NamedTuple):
    """Graphs of one scale in the dense form; the leading axis is the instance."""

    user_features: Float[Array, "batch user node_feat"]
    server_features: Float[Array, "batch server node_feat"]
    edge_features: Float[Array, "batch user server edge_feat"]
    edge_mask: Bool[Array, "batch user server"]  # True = real: the server covers the user
    room: Bool[Array, "batch edge"] | None = None
    """Holds nothing: its size is the length of the list of all edges that a network works on; None: on every pair."""

    @property
    def num_edges(self) -> Int[Array, "batch"]:
        """Real edges of each graph."""
        return self.edge_mask.sum(axis=(1, 2))

    def with_room(self, num_edges: int) -> "GraphBatch":
        """Asks for a list of at most this many edges per graph, on average over any part that is computed apart.

        The number is rounded up to a few, so that few programs are compiled; where nearly every pair is an edge, the
        list is not worth it.
        """
        batch, users, servers = self.edge_mask.shape
        step = max(-(-users * servers // _ROOMS), 1)
        room = max(-(-num_edges // step), 1) * step
        if room > LISTED_BELOW * users * servers:
            return self._replace(room=None)
        return self._replace(room=np.zeros((batch, room), dtype=bool))


@dataclass(frozen=True)
class Normalisation:
    """Statistics of a data set, per column of `NODE_COLUMNS` and `EDGE_COLUMNS`; flags and waves keep mean 0, std 1."""

    node_mean: tuple[float, ...]
    node_std: tuple[float, ...]
    edge_mean: tuple[float, ...]
    edge_std: tuple[float, ...]
    edge_padding: tuple[float, ...]
    """What a missing edge holds before standardisation: the maximum of each cost, 0 elsewhere; Eq. 27."""

    def __post_init__(self) -> None:
        for name, values in asdict(self).items():
            columns = NODE_COLUMNS if name.startswith("node") else EDGE_COLUMNS
            if len(values) != len(columns) or not np.all(np.isfinite(values)):
                raise ValueError(f"{name}: Expected {len(columns)} finite numbers, got {values!r}. Fit it anew.")
            if name.endswith("std") and min(values) <= 0:
                raise ValueError(f"{name}: Expected numbers above 0, got {values!r}. Fit it anew.")

    @staticmethod
    def fit(batches: Sequence[InstanceBatch]) -> "Normalisation":
        """Computes mean, standard deviation and maximum over the real nodes and edges of all batches."""
        return Normalisation.of([moments(batch) for batch in batches])

    @staticmethod
    def of(parts: Sequence[Float[np.ndarray, "moment column"]]) -> "Normalisation":
        """Computes the same from the `moments` of each batch; the order of batches changes rounding alone."""
        count, mean, square = np.zeros((3, len(_STANDARDISED)))
        largest = np.full(len(_STANDARDISED), -np.inf)
        for count_b, mean_b, square_b, largest_b in parts:
            both = np.maximum(count + count_b, 1.0)
            square = square + square_b + (mean_b - mean) ** 2 * count * count_b / both
            mean = mean + (mean_b - mean) * count_b / both
            count, largest = count + count_b, np.maximum(largest, largest_b)
        spread = np.sqrt(square / np.maximum(count, 1.0))
        means, largests = (dict(zip(_STANDARDISED, values.tolist(), strict=True)) for values in (mean, largest))
        stds = dict(zip(_STANDARDISED, np.where(spread > _SMALLEST_STD, spread, 1.0).tolist(), strict=True))
        padding = [largests[name] if name in _STANDARDISED_EDGE else 0.0 for name in EDGE_COLUMNS]
        return Normalisation(
            node_mean=tuple(means.get(name, 0.0) for name in NODE_COLUMNS),
            node_std=tuple(stds.get(name, 1.0) for name in NODE_COLUMNS),
            edge_mean=tuple(means.get(name, 0.0) for name in EDGE_COLUMNS),
            edge_std=tuple(stds.get(name, 1.0) for name in EDGE_COLUMNS),
            edge_padding=tuple(value if np.isfinite(value) else 0.0 for value in padding),
        )

    def to_dict(self) -> dict[str, list[float]]:
        """Returns plain lists of numbers for JSON."""
        return {name: list(values) for name, values in asdict(self).items()}

    @staticmethod
    def from_dict(values: Mapping[str, Sequence[float]]) -> "Normalisation":
        """Reads what `to_dict` wrote."""
        return Normalisation(**{name: tuple(map(float, column)) for name, column in values.items()})


def moments(batch: InstanceBatch) -> Float[np.ndarray, "moment column"]:
    """Returns count, mean, sum of squared deviations and maximum of each standardised column, over what is real."""
    raw = _raw_features(batch)

    def column(name: str) -> np.ndarray:
        if name in _STANDARDISED_EDGE:
            return np.asarray(raw.edge_features[..., EDGE_COLUMNS.index(name)][raw.edge_mask])
        sides = [raw.user_features]
        if name == "log_capacity":  # the one that servers have too
            sides.append(raw.server_features)
        return np.concatenate([side[..., NODE_COLUMNS.index(name)].ravel() for side in sides])

    found = np.zeros(MOMENTS)
    for k, name in enumerate(_STANDARDISED):
        values = column(name)
        mean = values.mean() if values.size else 0.0
        found[:, k] = values.size, mean, ((values - mean) ** 2).sum(), values.max(initial=-np.inf)
    return found


def encode(batch: InstanceBatch, normalisation: Normalisation) -> GraphBatch:
    """Returns the standardised features of every instance as float32 NumPy arrays; Eqs. 26-27."""
    raw = _raw_features(batch)
    node_mean, node_std = np.array(normalisation.node_mean), np.array(normalisation.node_std)
    edge_mean, edge_std = np.array(normalisation.edge_mean), np.array(normalisation.edge_std)
    server_features = (raw.server_features - node_mean) / node_std
    # A server has no task: what describes one is 0, the mean of the users.
    server_features[..., [NODE_COLUMNS.index("log_workload"), NODE_COLUMNS.index("delay_weight")]] = 0.0
    edge_features = np.where(raw.edge_mask[..., None], raw.edge_features, np.array(normalisation.edge_padding))
    return GraphBatch(
        user_features=_single((raw.user_features - node_mean) / node_std),
        server_features=_single(server_features),
        edge_features=_single((edge_features - edge_mean) / edge_std),
        edge_mask=raw.edge_mask,
    )


def to_graphs_tuple(graph: GraphBatch) -> jraph.GraphsTuple:
    """Returns the sparse form in NumPy: one graph per instance, users before servers, real edges only.

    Edges run server -> user (senders are servers, receivers users), ordered by instance, then user, then server. The
    opposite direction has no edges of its own: a layer swaps the roles. Tuples of several scales join by
    `jraph.batch_np`.
    """
    batch, num_users, num_servers = graph.edge_mask.shape
    first_node = np.arange(batch) * (num_users + num_servers)
    nodes = np.concatenate([graph.user_features, graph.server_features], axis=1)
    instance, user, server = np.nonzero(graph.edge_mask)
    return graphs_tuple(
        nodes=nodes.reshape(batch * (num_users + num_servers), len(NODE_COLUMNS)),
        edges=edge_values(graph, graph.edge_features),
        senders=(first_node[instance] + num_users + server).astype(np.int32),
        receivers=(first_node[instance] + user).astype(np.int32),
        n_node=np.full(batch, num_users + num_servers, dtype=np.int32),
        n_edge=np.asarray(graph.num_edges).astype(np.int32),
        globals=None,
    )


def graphs_tuple(**fields: Any) -> jraph.GraphsTuple:
    """Returns a GraphsTuple of NumPy arrays; jraph's annotations admit JAX arrays only, jraph itself takes both."""
    return jraph.GraphsTuple(**fields)


def edge_values(graph: GraphBatch, dense: Shaped[Array, "batch user server *feat"]) -> Shaped[np.ndarray, "edge *feat"]:
    """Returns the values of real edges, in the order of `to_graphs_tuple`."""
    return np.asarray(dense)[np.asarray(graph.edge_mask)]


def edges_per_graph(num_edges: Int[np.ndarray, "batch"], num_parts: int) -> int:
    """Returns the mean number of edges per graph, rounded up, in the part of the batch that has most."""
    return math.ceil(num_edges.reshape(num_parts, -1).mean(axis=1).max())


def scatter(
    graph: GraphBatch, values: Shaped[Array, "edge *feat"], fill: int | float = 0.0
) -> Shaped[np.ndarray, "batch user server *feat"]:
    """Puts values of real edges back into the dense form, the inverse of `edge_values`; missing edges hold `fill`."""
    mask, values = np.asarray(graph.edge_mask), np.asarray(values)
    dense = np.full((*mask.shape, *values.shape[1:]), fill, dtype=values.dtype)
    dense[mask] = values
    return dense


def _single(features: Array) -> np.ndarray:
    return np.clip(np.asarray(features), -_LARGEST_FEATURE, _LARGEST_FEATURE).astype(np.float32)


def _log(values: np.ndarray) -> np.ndarray:
    return np.log(np.clip(values, *_POSITIVE_RANGE))


def _raw_features(batch: InstanceBatch) -> GraphBatch:
    """Returns the features in float64 before padding and standardisation; missing edges hold anything finite."""
    nodes, costs = batch.nodes, batch.costs
    covered = costs.covered
    count, num_users, num_servers = covered.shape
    user_waves, server_waves = _position_waves(nodes.user_xyz_m[..., :2], nodes.server_xyz_m[..., :2])
    none_user, none_server = np.zeros((count, num_users)), np.zeros((count, num_servers))
    user_columns = [
        *(none_user, none_user, nodes.user_is_aerial, ~nodes.user_is_aerial),
        *(_log(nodes.user_workload_flop), _log(nodes.user_capacity_flops), nodes.user_delay_weight),
    ]
    server_columns = [
        *(nodes.server_is_hap, ~nodes.server_is_hap, none_server, none_server),
        *(none_server, _log(nodes.server_capacity_flops), none_server),
    ]
    local_cost = np.broadcast_to(costs.local_cost[..., None], covered.shape)
    edge_columns = [
        *(covered, _log(local_cost), _log(costs.transmit_cost), _log(costs.execute_cost)),
        # How much cheaper the server would be if the user had it alone: small where offloading pays.
        _log(costs.transmit_cost + costs.execute_cost) - _log(local_cost),
        *(np.broadcast_to(costs.local_allowed[..., None], covered.shape), costs.min_share, costs.usable),
    ]
    return GraphBatch(
        user_features=np.concatenate([np.stack(user_columns, axis=-1).astype(np.float64), user_waves], axis=-1),
        server_features=np.concatenate([np.stack(server_columns, axis=-1).astype(np.float64), server_waves], axis=-1),
        edge_features=np.stack(edge_columns, axis=-1).astype(np.float64),
        edge_mask=covered,
    )


def _position_waves(user_xy_m: np.ndarray, server_xy_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns sine and cosine of the place relative to the servers' mean (the users', where there is no server)."""
    anchors = server_xy_m if server_xy_m.shape[-2] else user_xy_m
    centre = anchors.mean(axis=-2, keepdims=True) if anchors.shape[-2] else np.zeros(())

    def waves(xy_m: np.ndarray) -> np.ndarray:
        length_m = M_PER_KM * np.array(WAVELENGTHS_KM)
        phase = 2.0 * np.pi * (xy_m - centre)[..., None, :] / length_m[:, None]  # [batch, node, wavelength, 2]
        pairs = np.stack([np.sin(phase), np.cos(phase)], axis=-1)
        return pairs.reshape(*xy_m.shape[:-1], 4 * len(length_m))

    return waves(user_xy_m), waves(server_xy_m)
