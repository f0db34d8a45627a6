"""Shards of data sets: what they are made from, how one is labelled, and its file.

Instances are labelled in blocks of at most `BLOCK`. Drawn ones come block k from the random stream (seed, k), so any
machine can make any block: the networks are the same to the last bit, labels to rounding (on one kind of processor, to
the last bit too). A block is one shard file and tells what it is.
"""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from laegd.graphs.shard_file import DATASET_FORMAT, Sizes, read_about, read_arrays, read_bytes
from laegd.problem.instance import InstanceBatch, Plan
from laegd.problem.networks import draw_feasible
from laegd.scenario.generator import Scale, ScenarioConfig
from laegd.scenario.scenario import Nodes, ScenarioBatch, require, require_pairs, settings_to_dict
from laegd.solvers.exact import ExactSolver

BLOCK = 250  # instances a shard: a few seconds of labelling, a few hundred kilobytes
MAX_COUNT = 100_000_000  # instances of a data set
MAX_PAIRS = 20_000  # of a user and a server in one network; a block's arrays over them take 40 MB each
MAX_BLOCK_PAIRS = BLOCK * MAX_PAIRS
MAX_SEED = 2**63 - 1

LabelMethod = Literal["exact", "mcmf", "none"]


@runtime_checkable
class Source(Protocol):
    """Where the networks of a data set come from."""

    @property
    def labels(self) -> LabelMethod:
        """How they are labelled."""
        ...

    @property
    def num_blocks(self) -> int:
        """Number of shards."""
        ...

    def sizes(self, block: int) -> Sizes:
        """Numbers of what a shard holds."""
        ...

    def identity(self, block: int) -> dict[str, Any]:
        """Returns what a shard depends on."""
        ...

    def networks(self, block: int) -> tuple[ScenarioBatch, int]:
        """Returns a shard's networks, and how many were drawn again because they had no feasible plan."""
        ...

    def settings(self) -> Any:
        """Returns what all networks were made from, as JSON values; the hash of the networks begins with it."""
        ...

    def manifest(self, shards: Sequence[tuple[int, str]], networks: str) -> dict[str, Any]:
        """Returns the manifest without versions: of each shard's redrawn instances and SHA-256, and the networks'."""
        ...


@dataclass(frozen=True)
class Recipe:
    """What a drawn data set is made from; the same recipe gives the same networks."""

    scale: str
    count: int
    seed: int
    labels: LabelMethod = "exact"
    scenario: ScenarioConfig = field(default_factory=ScenarioConfig)

    def __post_init__(self) -> None:
        _, num_users, num_servers = self.sizes(0)
        require_pairs("scale, num_haps", num_users, num_servers, MAX_PAIRS)
        require(self.count >= 1, "count", "at least 1 instance", self.count, "Use 2000.")
        require(self.count <= MAX_COUNT, "count", f"at most {MAX_COUNT:,} instances", self.count, "Use 2000.")
        require(self.seed >= 0, "seed", "a seed of at least 0", self.seed, "Use 0.")
        require(self.seed <= MAX_SEED, "seed", f"a seed of at most {MAX_SEED}", self.seed, "Use 0.")

    @property
    def num_blocks(self) -> int:
        """Number of shards."""
        return -(-self.count // BLOCK)

    def block_count(self, block: int) -> int:
        """Number of instances in a shard."""
        return min(BLOCK, self.count - block * BLOCK)

    def sizes(self, block: int) -> Sizes:
        """Numbers of what a shard holds."""
        scale = Scale.parse(self.scale)
        num_servers = scale.num_ground_servers + self.scenario.num_haps
        return Sizes(self.block_count(block), scale.num_users, num_servers)

    def identity(self, block: int) -> dict[str, Any]:
        """Returns what a whole block depends on beside its number: everything but the count."""
        return {key: value for key, value in self.settings().items() if key != "count"}

    def networks(self, block: int) -> tuple[ScenarioBatch, int]:
        """Draws a block's networks; returns them and the number of redrawn ones."""
        rng = np.random.default_rng([self.seed, block])
        # A whole block is drawn even where fewer are asked for: a longer data set begins with the shorter one.
        scenarios, redrawn = draw_feasible(self.scenario, Scale.parse(self.scale), BLOCK, rng)
        return scenarios[: self.block_count(block)], redrawn

    def settings(self) -> dict[str, Any]:
        """Returns the recipe as JSON values."""
        return settings_to_dict(self)

    def manifest(self, shards: Sequence[tuple[int, str]], networks: str) -> dict[str, Any]:
        """Returns the manifest of a drawn data set without versions."""
        settings = self.settings()
        return {
            "format": DATASET_FORMAT,
            **{key: settings[key] for key in ("scale", "count", "seed", "labels")},
            "redrawn": sum(redrawn for redrawn, _ in shards),
            "networks": networks,
            "scenario": settings["scenario"],
            "shards": [
                {"file": shard_name(block), "count": self.block_count(block), "redrawn": redrawn, "sha256": sha256}
                for block, (redrawn, sha256) in enumerate(shards)
            ],
        }


def _label(method: LabelMethod, instances: InstanceBatch) -> list[Plan] | None:
    if method == "none":
        return None
    if method == "exact":
        return ExactSolver().solve(instances)
    from laegd.solvers.mcmf import MCMFSolver

    return MCMFSolver().solve(instances)


def make_block(source: Source, block: int) -> bytes:
    """Labels one shard's networks and returns its file's bytes (npz)."""
    scenarios, redrawn = source.networks(block)
    plans = _label(source.labels, InstanceBatch.from_scenarios(scenarios))
    users = scenarios.nodes.user_is_aerial.shape
    nan = np.full(len(scenarios), np.nan)
    labels = {
        "server": np.stack([plan.server for plan in plans]).astype(np.int16) if plans else np.full(users, -1, np.int16),
        "share": np.stack([plan.share for plan in plans]) if plans else np.zeros(users),
        "cost": np.array([plan.cost for plan in plans]) if plans else nan,
        "lower_bound": np.array([np.nan if p.lower_bound is None else p.lower_bound for p in plans]) if plans else nan,
    }
    about = {"format": DATASET_FORMAT, "recipe": source.identity(block), "block": block, "redrawn": redrawn}
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer, about=np.array(json.dumps(about, sort_keys=True)), **scenarios.nodes._asdict(), **labels
    )
    return buffer.getvalue()


def shard_name(block: int) -> str:
    """File name of a block."""
    return f"shard-{block:05d}.npz"


def check_shard(path: Path, source: Source, block: int) -> tuple[int, Nodes]:
    """Checks that a shard is whole and of this source; returns its number of redrawn instances, and its networks."""
    content, identity = read_bytes(path), source.identity(block)
    about = read_about(path, content)
    require(
        about.recipe == identity and about.block == block,
        str(path),
        f"a shard of the same {', '.join(identity)}",
        {key: value for key, value in about.recipe.items() if value != identity.get(key)},
        "Choose another folder, or delete this one.",
    )
    arrays = read_arrays(path, content, source.sizes(block))
    return about.redrawn, Nodes(*(arrays[name] for name in Nodes._fields))
