"""A trained network as a solver, and the same solver with chance in the network's place.

The network is a denoiser of any form, or GRLO's actor: they differ in the two programs that make plans of instances.
Samples, decoding and local search run batched on all devices in float32; the chosen assignments are priced and
checked on the host in float64. Instances so large that a device would spend its time on changes far from the last one
are searched locally on the host. Where no sample of an instance decodes to a feasible plan, a complete search places
the users that must offload, or proves that no plan exists.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from laegd.decoding.decode import DecodeConfig, Decoded, problem_of
from laegd.decoding.explore import Actions
from laegd.diffusion.ddim import SamplerConfig
from laegd.diffusion.schedules import stride
from laegd.graphs.encode import Normalisation, edges_per_graph, encode
from laegd.problem.allocation import optimal_shares
from laegd.problem.feasibility import conflict, pack
from laegd.problem.instance import LOCAL, Costs, Instance, InstanceBatch, Plan
from laegd.problem.objective import infeasible_plan, is_feasible, make_plan, plan_cost
from laegd.scenario.scenario import require
from laegd.solvers.exact import lower_bound
from laegd.solvers.local_search import improve
from laegd.training.meta import Loaded
from laegd.training.model_file import DEFAULT, read_together
from laegd.training.parallel import (
    Tree,
    cut,
    forget_programs_near_limit,
    join,
    num_lanes,
    on_cpu,
    replicate,
    side_by_side,
)
from laegd.training.step import Belief, PlanInput, make_decoder, make_planner, make_random_sampler

_COMPILED: set[tuple] = set()  # programs and shapes that have run in this process

MAX_SAMPLES = 100_000
LARGEST_POLISH = 2**22  # users x users x servers of an instance; local search of larger ones runs on the host
MAX_BELIEFS = 2**30  # numbers that an instance's candidates are made of, 4 GB
EDGES_PER_BATCH = 2**16  # samples x edges per accelerator, or per core of a CPU: tens of megabytes
HIDDEN_PER_CALL = 7 * 2**15  # samples x edges x hidden width that a core computes at a time: what its cache holds


@dataclass(frozen=True)
class PlanConfig:
    """How many samples are drawn, and how they become plans."""

    num_samples: int = 8
    """Samples N per instance, or starts of exploration; the best one is kept."""
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    """The reverse process."""
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    """From samples to plans."""
    seed: int = 0
    """Seed of the samples; instance i of a call draws from the stream (seed, i)."""
    certify: bool = False
    """Adds a lower bound to each plan, hence its certified gap; that time is not part of the plan's seconds."""

    def __post_init__(self) -> None:
        require(self.num_samples >= 1, "num_samples", "at least 1", self.num_samples, "Use 8.")
        require(self.num_samples <= MAX_SAMPLES, "num_samples", f"at most {MAX_SAMPLES:,}", self.num_samples, "Use 8.")
        require(0 <= self.seed < 2**32, "seed", "a seed from 0 to 2^32 - 1", self.seed, "Use 0.")


@dataclass(frozen=True)
class GADSG:
    """A trained network as a `Solver`; `loaded=None` is the random-belief ablation, with the same decoding."""

    loaded: Loaded | None
    settings: PlanConfig = field(default_factory=PlanConfig)
    name: str = "gadsg"

    def __post_init__(self) -> None:
        if self.loaded is None:
            return
        if self.loaded.config.learner == "grlo":
            optimal = self.settings.decode.allocation == "optimal"
            require(optimal, "decode.allocation", "'optimal' for grlo", "model", "Its actor has no shares.")
        else:
            stride(self.loaded.config.diffusion.num_steps, self.settings.sampler.num_steps)

    def with_settings(self, **changes: object) -> "GADSG":
        """Returns the same network with other plan settings, such as `num_samples=32`."""
        return replace(self, settings=replace(self.settings, **changes))  # pyright: ignore[reportArgumentType]

    def solve(self, instances: Sequence[Instance]) -> list[Plan]:
        """Plans instances of any scales; those of one scale share batches."""
        by_shape: dict[tuple[int, int], list[int]] = defaultdict(list)
        if isinstance(instances, InstanceBatch):
            by_shape[instances.costs.covered.shape[1:]] = list(range(len(instances)))
        else:
            for position, instance in enumerate(instances):
                by_shape[instance.num_users, instance.num_servers].append(position)
        plans: dict[int, Plan] = {}
        for positions in by_shape.values():
            one_scale = instances if len(by_shape) == 1 else [instances[position] for position in positions]
            if not positions:
                continue
            batch = InstanceBatch.stack(one_scale)
            program, size, order = self._sizes(batch)
            self._compile(batch.take(order[: program.size]), program)
            for first in range(0, len(order), size):
                part = order[first : first + size]
                numbers = np.array([positions[i] for i in part], dtype=np.int32)
                found = self._solve_batch(batch.take(part), numbers, program)
                plans.update(zip(numbers.tolist(), found, strict=True))
        return [plans[position] for position in range(len(instances))]

    @cached_property
    def _params(self) -> Tree:
        """The network's parameters on all devices, put there once and not by every call."""
        return self.loaded and replicate(self.loaded.params)

    @property
    def _lists_edges(self) -> bool:
        """Tells whether the network works on the edges alone, not on all pairs."""
        return self.loaded is not None and self.loaded.config.learner == "diffusion"

    def _sizes(self, batch: InstanceBatch) -> tuple["_Shapes", int, Int[np.ndarray, "instance"]]:
        """Returns the shapes of a call of the compiled programs, how many instances make a batch, and their order.

        A call takes a power of two instances per device, so that few programs are ever compiled.
        """
        num_devices, lanes = jax.local_device_count(), num_lanes()
        covered, settings = batch.costs.covered, self.settings
        beliefs = settings.sampler.num_beliefs * len(settings.decode.thresholds) * covered[0].size  # of a sample
        most = f"at most {MAX_BELIEFS // max(beliefs, 1)} for networks of this size"
        require(settings.num_samples * beliefs <= MAX_BELIEFS, "num_samples", most, settings.num_samples, "Use fewer.")
        num_edges = covered.sum(axis=(1, 2))
        edges = num_edges.mean() if self._lists_edges else covered[0].size
        edges = max(edges, 1.0) * settings.num_samples  # of an instance
        hidden = self.loaded.config.model.hidden if self.loaded else 1
        largest = min(EDGES_PER_BATCH, HIDDEN_PER_CALL / hidden) if on_cpu() else EDGES_PER_BATCH
        fair = -(-len(batch) // (num_devices * lanes))
        per_device = min(2 ** int(np.log2(max(largest / edges, 1.0))), 2 ** int(np.ceil(np.log2(fair))))
        size, calls = per_device * num_devices, int(EDGES_PER_BATCH / (edges * per_device))
        lanes = lanes if calls else 1  # a large call keeps a CPU busy by itself, and needs its memory
        order = dealt(num_edges, per_device)
        program = _Shapes(size, covered.shape[1:], _edges_at_most(num_edges[order], size), lanes)
        return program, size * lanes * max(calls, 1), order

    def _compile(self, batch: InstanceBatch, program: "_Shapes") -> None:
        """Runs programs of a new shape once, so that the seconds of plans are those of planning, not of compiling."""
        key = (*self._programs(program), program)
        if key not in _COMPILED and 0 not in batch.costs.covered.shape:
            if forget_programs_near_limit():
                _COMPILED.clear()
            self._decode(batch, np.zeros(len(batch), dtype=np.int32), program)
            _COMPILED.add(key)

    def _solve_batch(
        self, batch: InstanceBatch, numbers: Int[np.ndarray, "instance"], program: "_Shapes"
    ) -> list[Plan]:
        start = time.perf_counter()
        if 0 in batch.costs.covered.shape:  # no users or no servers: nothing to sample
            belief = np.zeros(batch.costs.covered.shape)
            server = np.full(belief.shape[:2], LOCAL)
            decoded = _Decoded(server, np.zeros(server.shape), np.zeros(len(batch), bool), belief, 0.0, 0.0)
        else:
            decoded = self._polished(batch, self._decode(batch, numbers, program), program)
        feasible = decoded.feasible & is_feasible(batch.costs, decoded.server, decoded.share)
        cost = plan_cost(batch.costs, decoded.server, decoded.share)
        times = {
            "seconds": (time.perf_counter() - start) / len(batch),
            "model_seconds": decoded.model_seconds / len(batch),
            "decode_seconds": decoded.decode_seconds / len(batch),
        }
        plans = []
        for i, instance in enumerate(batch):
            if feasible[i]:
                plan = replace(Plan(self.name, decoded.server[i], decoded.share[i], float(cost[i]), True), **times)
            else:
                begin = time.perf_counter()
                plan = self._search(instance, decoded.belief[i])
                searched = time.perf_counter() - begin
                plan = replace(plan, **times | {"seconds": times["seconds"] + searched})
            if self.settings.certify and plan.feasible:
                plan = replace(plan, lower_bound=min(lower_bound(instance), plan.cost))
            plans.append(plan)
        return plans

    def _decode(self, batch: InstanceBatch, numbers: Int[np.ndarray, "instance"], program: "_Shapes") -> "_Decoded":
        """Samples and decodes on the devices, then makes the shares exact in float64."""
        settings = self.settings
        normalisation = self.loaded.normalisation if self.loaded else Normalisation.fit([])
        inputs = PlanInput(encode(batch, normalisation), jax.device_get(problem_of(batch.costs)), numbers)
        if self._lists_edges:
            inputs = inputs._replace(graph=inputs.graph.with_room(program.num_edges))
        parts = cut(inputs, program.size)
        draw, decode = self._programs(program)
        seed = np.uint32(settings.seed)
        replicated = seed if self.loaded is None else (self._params, seed)
        start = time.perf_counter()
        beliefs = side_by_side(lambda part: jax.block_until_ready(draw(replicated, part)), parts, program.lanes)
        drawn = time.perf_counter()
        found = [(belief, part.problem) for belief, part in zip(beliefs, parts, strict=True)]
        best = _concatenated(side_by_side(lambda pair: join(decode(None, pair)), found, program.lanes))
        decoded = time.perf_counter()
        count = len(batch)
        server, feasible = best.server[:count].astype(np.int64), best.feasible[:count]
        if settings.decode.allocation == "optimal":
            share = optimal_shares(batch.costs, server)
        else:
            share = exact_shares(batch.costs, server, best.share[:count].astype(np.float64))
        if feasible.all():
            mean = np.zeros(batch.costs.covered.shape)
        else:
            mean = _concatenated([join(belief.offload).mean(1) for belief in beliefs])[:count]
        return _Decoded(server, share, feasible, mean.astype(np.float64), drawn - start, decoded - drawn)

    def _polished(self, batch: InstanceBatch, decoded: "_Decoded", program: "_Shapes") -> "_Decoded":
        """Searches locally on the host where instances are large."""
        rounds = self.settings.decode.polish_rounds
        if not (program.large and rounds):
            return decoded
        begin, server = time.perf_counter(), decoded.server.copy()
        for i in np.flatnonzero(decoded.feasible & is_feasible(batch.costs, decoded.server, decoded.share)):
            server[i] = improve(batch[int(i)].costs, server[i], max_changes=rounds)
        spent = decoded.decode_seconds + time.perf_counter() - begin
        return decoded._replace(server=server, share=optimal_shares(batch.costs, server), decode_seconds=spent)

    def _programs(self, program: "_Shapes") -> tuple[Callable[..., Belief | Actions], Callable[..., Decoded]]:
        """Returns the sampler and the decoder; the same settings give the same, compiled, functions."""
        settings = self.settings
        if program.large:
            settings = replace(settings, decode=replace(settings.decode, polish_rounds=0))
        if self.loaded is None:
            return make_random_sampler(settings.num_samples * settings.sampler.num_beliefs), make_decoder(
                settings.decode
            )
        return make_planner(self.loaded.config, settings.sampler, settings.decode, settings.num_samples)

    def _search(self, instance: Instance, belief: Float[np.ndarray, "user server"]) -> Plan:
        """Places the users that must offload by complete search, the others locally."""
        server = pack(instance.costs, np.nan_to_num(belief))  # what a network says, however broken, is a preference
        if server is None:
            names = tuple(instance.user_ids[u] for u in conflict(instance.costs))
            return infeasible_plan(instance, self.name, names)
        return make_plan(instance, server, self.name)


class _Shapes(NamedTuple):
    """What compiled programs depend on beside their settings, and how many of their calls run at a time."""

    size: int
    """Instances per call, over all devices."""
    pairs: tuple[int, ...]
    """Users and servers."""
    num_edges: int
    """Edges per instance, the mean of any part of a batch that is computed apart at most."""
    lanes: int
    """Calls at a time."""

    @property
    def large(self) -> bool:
        """Tells whether local search runs on the host."""
        return self.pairs[0] ** 2 * self.pairs[1] > LARGEST_POLISH


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


def _concatenated(parts: Sequence[Tree]) -> Tree:
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)


class _Decoded(NamedTuple):
    server: Int[np.ndarray, "instance user"]
    share: Float[np.ndarray, "instance user"]
    feasible: Bool[np.ndarray, "instance"]
    belief: Float[np.ndarray, "instance user server"]  # mean over samples, steps and copies
    model_seconds: float
    decode_seconds: float


def exact_shares(
    costs: Costs, server: Int[np.ndarray, "instance user"], share: Float[np.ndarray, "instance user"]
) -> Float[np.ndarray, "instance user"]:
    """Makes shares that are feasible in float32 feasible in float64: what lies above the floors is scaled down."""
    num_servers = costs.covered.shape[-1]
    taken = server[..., None] == np.arange(num_servers)  # [instance, user, server]
    floor = (taken * costs.min_share).sum(-1)
    extra = np.where(server == LOCAL, 0.0, np.maximum(share - floor, 0.0))
    room = np.maximum(1.0 - (taken * costs.min_share).sum(1), 0.0)  # [instance, server]
    wanted = (taken * extra[..., None]).sum(1)
    scale = np.minimum(1.0, room / np.where(wanted > 0, wanted, 1.0))
    return np.where(server == LOCAL, 0.0, floor + extra * (taken * scale[:, None]).sum(-1))


def load(run: Path | str = DEFAULT, which: str = "best", **settings: object) -> GADSG:
    """Loads a trained network as a solver whose plans carry certified gaps.

    Args:
        run: "default", the network that ships with laegd; a file that `laegd pack` wrote; or a folder that `laegd
            train` filled.
        which: "best" (by validation) or "last" checkpoint of a folder.
        settings: Fields of `PlanConfig`, such as num_samples=32; sampler and decoding are the run's unless given.
    """
    loaded = read_together(run, which)
    defaults = PlanConfig(sampler=loaded.config.sampler, decode=loaded.config.decode, certify=True)
    plan_config = replace(defaults, **settings)  # pyright: ignore[reportArgumentType]
    return GADSG(loaded, plan_config, loaded.config.method)


def random_belief(settings: PlanConfig) -> GADSG:
    """Returns the ablation: the same decoding of uniform random beliefs; the difference is what the network adds."""
    return GADSG(None, settings, name="random-belief")
