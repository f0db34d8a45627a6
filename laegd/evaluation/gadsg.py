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
from functools import cached_property, reduce
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from laegd.decoding.decode import DecodeConfig, Decoded, problem_of
from laegd.decoding.explore import Actions
from laegd.diffusion.ddim import SamplerConfig
from laegd.diffusion.schedules import stride
from laegd.evaluation.bounds import Certify, certified, require_certify
from laegd.evaluation.calls import Called, Planning, Shapes, cheaper, concatenated
from laegd.evaluation.trained_range import tell_untrained
from laegd.graphs.encode import Normalisation, encode
from laegd.problem.allocation import exact_shares, optimal_shares
from laegd.problem.feasibility import conflict, pack
from laegd.problem.instance import LOCAL, Instance, InstanceBatch, Plan, Progress
from laegd.problem.objective import infeasible_plan, is_feasible, make_plan, plan_cost
from laegd.scenario.scenario import require
from laegd.solvers.local_search import improve
from laegd.training.cache import keep_programs
from laegd.training.devices import start_devices
from laegd.training.meta import Loaded
from laegd.training.model_file import DEFAULT, read_together
from laegd.training.parallel import Tree, cut, forget_programs_near_limit, join, replicate, side_by_side
from laegd.training.step import Belief, PlanInput, Stream, make_decoder, make_planner, make_random_sampler

_COMPILED: set[tuple] = set()  # programs and shapes that have run in this process

_NUMBERS = 2**31 - 1  # bits of a digest that name a stream: two instances that share one lose nothing

MAX_SAMPLES = 100_000


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
    """Seed of the samples; together with an instance's digest it names the random stream of its samples."""
    certify: Certify | bool = "none"
    """Adds a lower bound to each plan, hence its certified gap; that time is not part of the plan's seconds. "quick":
    for at most 10 s and ten times the planning; "full" or True: without a limit; "none" or False: not at all."""

    def __post_init__(self) -> None:
        require(self.num_samples >= 1, "num_samples", "at least 1", self.num_samples, "Use 8.")
        require(self.num_samples <= MAX_SAMPLES, "num_samples", f"at most {MAX_SAMPLES:,}", self.num_samples, "Use 8.")
        require(0 <= self.seed < 2**32, "seed", "a seed from 0 to 2^32 - 1", self.seed, "Use 0.")
        require_certify(self.certify)


@dataclass(frozen=True)
class GADSG:
    """A trained network as a `Solver`; `loaded=None` is the random-belief ablation, with the same decoding."""

    loaded: Loaded | None
    settings: PlanConfig = field(default_factory=PlanConfig)
    name: str = "gadsg"

    def __post_init__(self) -> None:
        if self.loaded is None:
            return
        if self._acts:
            optimal = self.settings.decode.allocation == "optimal"
            require(optimal, "decode.allocation", "'optimal' for grlo", "model", "Its actor has no shares.")
        else:
            stride(self.loaded.config.diffusion.num_steps, self.settings.sampler.num_steps)

    def with_settings(self, **changes: object) -> "GADSG":
        """Returns the same network with other plan settings, such as `num_samples=32`."""
        return replace(self, settings=replace(self.settings, **changes))  # pyright: ignore[reportArgumentType]

    def solve(self, instances: Sequence[Instance], progress: Progress | None = None) -> list[Plan]:
        """Plans instances of any scales; those of one scale share batches.

        Warns, once, of a network with numbers outside of what the model was trained on.
        """
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
            self._tell_untrained(batch)
            program, size, order = self._planning.shapes(batch)
            self._compile(batch.take(order[: program.size]), program)
            for first in range(0, len(order), size):
                part = order[first : first + size]
                for i, plan in zip(part, self._solve_batch(batch.take(part), program), strict=True):
                    if progress is not None and self.settings.certify not in ("none", False):
                        progress(len(plans), len(instances), "certifying")
                    plans[positions[i]] = certified(batch[int(i)], plan, self.settings.certify)
                if progress is not None:
                    progress(len(plans), len(instances), "")
        return [plans[position] for position in range(len(instances))]

    @cached_property
    def _params(self) -> Tree:
        """The network's parameters on all devices, put there once and not by every call."""
        return self.loaded and replicate(self.loaded.params)

    def takes(self, instance: Instance) -> bool:
        """Tells whether an instance's arrays fit in a gigabyte; `solve` refuses others."""
        return self._planning.takes(instance.costs)

    @property
    def _planning(self) -> Planning:
        settings = self.settings
        return Planning(
            hidden=self.loaded.config.model.hidden if self.loaded else 1,
            lists_edges=self._lists_edges,
            candidates=1 if self._acts else settings.sampler.num_beliefs * len(settings.decode.thresholds),
            num_samples=settings.num_samples,
            together=self._acts,
        )

    @property
    def _acts(self) -> bool:
        """Tells whether the network is an actor, asked once for the starts of all its explorations."""
        return self.loaded is not None and self.loaded.config.learner == "grlo"

    @property
    def _lists_edges(self) -> bool:
        """Tells whether the network works on the edges alone, not on all pairs."""
        return self.loaded is not None and not self._acts

    def _tell_untrained(self, batch: InstanceBatch) -> None:
        if self.loaded is not None and not self._told:
            self._told.update(tell_untrained(self.name, self.loaded.config.data.train, batch))

    @cached_property
    def _told(self) -> set[str]:
        """What was warned of."""
        return set()

    def _compile(self, batch: InstanceBatch, program: Shapes) -> None:
        """Runs programs of a new shape once, so that the seconds of plans are those of planning, not of compiling."""
        key = (*self._programs(program), program)
        if key not in _COMPILED and 0 not in batch.costs.covered.shape:
            if forget_programs_near_limit():
                _COMPILED.clear()
            self._decode(batch, program)
            _COMPILED.add(key)

    def _solve_batch(self, batch: InstanceBatch, program: Shapes) -> list[Plan]:
        start = time.perf_counter()
        if 0 in batch.costs.covered.shape:  # no users or no servers: nothing to sample
            belief = np.zeros(batch.costs.covered.shape)
            server = np.full(belief.shape[:2], LOCAL)
            decoded = _Decoded(server, np.zeros(server.shape), np.zeros(len(batch), bool), belief, 0.0, 0.0)
        else:
            decoded = self._polished(batch, self._decode(batch, program), program)
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
            plans.append(plan)
        return plans

    def _decode(self, batch: InstanceBatch, program: Shapes) -> "_Decoded":
        """Samples and decodes on the devices, then makes the shares exact in float64."""
        settings = self.settings
        normalisation = self.loaded.normalisation if self.loaded else Normalisation.fit([])
        numbers = np.array([one.digest & _NUMBERS for one in batch], dtype=np.int32)
        inputs = PlanInput(encode(batch, normalisation), problem_of(batch.costs), numbers)
        if self._lists_edges:
            inputs = inputs._replace(graph=inputs.graph.with_room(program.num_edges))
        parts = cut(inputs, program.size)
        # What is left of the samples for the last call is filled up with samples of the one before.
        most = settings.num_samples - program.num_samples
        groups = [
            self._call(parts, program, min(first, most))
            for first in range(0, settings.num_samples, program.num_samples)
        ]
        best = reduce(cheaper, [group.best for group in groups])
        count = len(batch)
        server, feasible = best.server[:count].astype(np.int64), best.feasible[:count]
        if settings.decode.allocation == "optimal":
            share = optimal_shares(batch.costs, server)
        else:
            share = exact_shares(batch.costs, server, best.share[:count].astype(np.float64))
        means = [group.mean[:count] for group in groups if group.mean is not None]
        mean = np.asarray(np.mean(means or [np.zeros(batch.costs.covered.shape)], axis=0, dtype=np.float64))
        model_seconds, decode_seconds = (sum(times) for times in zip(*(group.seconds for group in groups), strict=True))
        return _Decoded(server, share, feasible, mean, model_seconds, decode_seconds)

    def _call(self, parts: list[PlanInput], program: Shapes, first: int) -> Called:
        """Draws samples from the given one on, as many as go into a call, and decodes them."""
        draw, decode = self._programs(program)
        per_sample = self.settings.sampler.num_beliefs if self.loaded is None else 1  # chance draws each belief anew
        stream = Stream(np.uint32(self.settings.seed), np.uint32(first * per_sample))
        replicated = stream if self.loaded is None else (self._params, stream)
        start = time.perf_counter()
        beliefs = side_by_side(lambda part: jax.block_until_ready(draw(replicated, part)), parts, program.lanes)
        drawn = time.perf_counter()
        found = [(belief, part.problem) for belief, part in zip(beliefs, parts, strict=True)]
        best = concatenated(side_by_side(lambda pair: join(decode(None, pair)), found, program.lanes))
        seconds = (drawn - start, time.perf_counter() - drawn)
        if best.feasible.all():
            return Called(best, None, seconds)
        return Called(best, concatenated([join(belief.offload).mean(1) for belief in beliefs]), seconds)

    def _polished(self, batch: InstanceBatch, decoded: "_Decoded", program: Shapes) -> "_Decoded":
        """Searches locally on the host where instances are large."""
        rounds = self.settings.decode.polish_rounds
        if not (program.large and rounds):
            return decoded
        begin, server = time.perf_counter(), decoded.server.copy()
        for i in np.flatnonzero(decoded.feasible & is_feasible(batch.costs, decoded.server, decoded.share)):
            server[i] = improve(batch[int(i)].costs, server[i], max_changes=rounds)
        spent = decoded.decode_seconds + time.perf_counter() - begin
        return decoded._replace(server=server, share=optimal_shares(batch.costs, server), decode_seconds=spent)

    def _programs(self, program: Shapes) -> tuple[Callable[..., Belief | Actions], Callable[..., Decoded]]:
        """Returns the sampler and the decoder; the same settings give the same, compiled, functions."""
        settings = self.settings
        if program.large:
            settings = replace(settings, decode=replace(settings.decode, polish_rounds=0))
        if self.loaded is None:
            return make_random_sampler(program.num_samples * settings.sampler.num_beliefs), make_decoder(
                settings.decode
            )
        return make_planner(self.loaded.config, settings.sampler, settings.decode, program.num_samples)

    def _search(self, instance: Instance, belief: Float[np.ndarray, "user server"]) -> Plan:
        """Places the users that must offload by complete search, the others locally."""
        server = pack(instance.costs, np.nan_to_num(belief))  # what a network says, however broken, is a preference
        if server is None:
            names = tuple(instance.user_ids[u] for u in conflict(instance.costs))
            return infeasible_plan(instance, self.name, names)
        return make_plan(instance, server, self.name)


class _Decoded(NamedTuple):
    server: Int[np.ndarray, "instance user"]
    share: Float[np.ndarray, "instance user"]
    feasible: Bool[np.ndarray, "instance"]
    belief: Float[np.ndarray, "instance user server"]  # mean over samples, steps and copies
    model_seconds: float
    decode_seconds: float


def load(run: Path | str = DEFAULT, which: str = "best", **settings: object) -> GADSG:
    """Loads a trained network as a solver whose plans carry certified gaps.

    Compiled programs are kept for later processes, all that JAX compiles in this one: see `keep_programs`.

    Args:
        run: "default", the network that ships with laegd; a file that `laegd pack` wrote; or a folder that `laegd
            train` filled.
        which: "best" (by validation) or "last" checkpoint of a folder.
        settings: Fields of `PlanConfig`, such as num_samples=32; sampler and decoding are the run's unless given.
    """
    keep_programs()
    start_devices()
    loaded = read_together(run, which)
    defaults = PlanConfig(sampler=loaded.config.sampler, decode=loaded.config.decode, certify="quick")
    plan_config = replace(defaults, **settings)  # pyright: ignore[reportArgumentType]
    return GADSG(loaded, plan_config, loaded.config.method)


def random_belief(settings: PlanConfig) -> GADSG:
    """Returns the ablation: the same decoding of uniform random beliefs; the difference is what the network adds."""
    keep_programs()
    start_devices()
    return GADSG(None, settings, name="random-belief")
