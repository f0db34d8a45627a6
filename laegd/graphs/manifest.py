"""What a data set says of itself: `manifest.json`, of networks that were drawn, and of networks of one's own."""

from collections.abc import Sequence
from typing import Annotated

import msgspec

from laegd.graphs.shard_file import DATASET_FORMAT, Sizes
from laegd.graphs.shards import BLOCK, MAX_BLOCK_PAIRS, LabelMethod, Recipe, shard_name
from laegd.scenario.generator import Scale, ScenarioConfig
from laegd.scenario.scenario import Channel, require, require_positive

OWN_FORMAT = "laegd-dataset/2"
MIXED = "mixed scales"

Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class _Shard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    file: str
    count: int
    sha256: Sha256


class ShardEntry(_Shard, frozen=True, kw_only=True):
    """A shard of drawn networks as the manifest names it."""

    redrawn: int


class _Common(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What both kinds tell."""

    scale: str
    """Of all networks; `mixed scales` where they have several."""
    count: int
    labels: LabelMethod
    networks: Sha256
    """SHA-256 of the networks and what they were made from; unlike those of the shards the same on every machine."""
    versions: dict[str, str]


class Manifest(_Common, frozen=True, kw_only=True, tag_field="format", tag=DATASET_FORMAT):
    """Of a drawn data set."""

    seed: int
    redrawn: int
    """Instances without a feasible plan that were drawn again, in whole blocks."""
    scenario: ScenarioConfig
    shards: tuple[ShardEntry, ...]

    @property
    def recipe(self) -> Recipe:
        """What the data set was made from."""
        return Recipe(self.scale, self.count, self.seed, self.labels, self.scenario)

    def sizes(self, shard: int) -> Sizes:
        """Numbers of what a shard holds."""
        return self.recipe.sizes(shard)._replace(instances=self.shards[shard].count)

    def physics(self, shard: int) -> tuple[Channel, float]:
        """Channel and chip energy factor of a shard's networks."""
        return self.scenario.channel, self.scenario.chip_energy_factor

    def check(self) -> None:
        """Raises unless the shards are such as `generate` makes."""
        _check_count(self)
        self.recipe  # noqa: B018  # raises where a setting is bad
        _check_files(self.shards)


class OwnShardEntry(_Shard, frozen=True, kw_only=True):
    """A shard of networks of one's own: they have scale, number of HAPs, channel and chip in common."""

    scale: str
    num_haps: int
    channel: Channel
    chip_energy_factor: float
    names: tuple[str, ...]
    """What the networks were called, in order: files, or lines of a list."""


class OwnManifest(_Common, frozen=True, kw_only=True, tag_field="format", tag=OWN_FORMAT):
    """Of networks of one's own."""

    shards: tuple[OwnShardEntry, ...]

    @property
    def seed(self) -> None:
        """Nothing was drawn."""

    def sizes(self, shard: int) -> Sizes:
        """Numbers of what a shard holds."""
        return sizes_of(self.shards[shard])

    def physics(self, shard: int) -> tuple[Channel, float]:
        """Channel and chip energy factor of a shard's networks."""
        return self.shards[shard].channel, self.shards[shard].chip_energy_factor

    def check(self) -> None:
        """Raises unless the shards are such as `generate` makes."""
        _check_count(self)
        _check_files(self.shards)
        for block, entry in enumerate(self.shards):
            field, remedy = f"shards[{block}]", "Generate it again."
            named = len(entry.names)
            require(named == entry.count, f"{field}.names", f"{entry.count} names", named, remedy)
            require(entry.num_haps >= 0, f"{field}.num_haps", "at least 0", entry.num_haps, remedy)
            require_positive(f"{field}.chip_energy_factor", entry.chip_energy_factor)
            count, users, servers = sizes_of(entry)
            pairs = count * users * servers
            require(pairs <= MAX_BLOCK_PAIRS, field, f"at most {MAX_BLOCK_PAIRS:,} pairs", pairs, remedy)
        found = common_scale(self.shards)
        require(self.scale == found, "scale", found, self.scale, "Generate it again.")


def sizes_of(entry: OwnShardEntry) -> Sizes:
    """Returns numbers of what a shard holds."""
    scale = Scale.parse(entry.scale)
    return Sizes(entry.count, scale.num_users, scale.num_ground_servers + entry.num_haps)


def common_scale(entries: Sequence[OwnShardEntry]) -> str:
    """Returns the scale of all shards."""
    scales = {entry.scale for entry in entries}
    return scales.pop() if len(scales) == 1 else MIXED


def _check_count(manifest: Manifest | OwnManifest) -> None:
    count = sum(entry.count for entry in manifest.shards)
    if count != manifest.count:
        raise ValueError(f"Expected count = {count}, as the shards have, got {manifest.count}. Generate it again.")


def _check_files(shards: Sequence[ShardEntry] | Sequence[OwnShardEntry]) -> None:
    for block, entry in enumerate(shards):
        sound = entry.file == shard_name(block) and 1 <= entry.count <= BLOCK
        expected = f"file {shard_name(block)} and a count from 1 to {BLOCK}"
        require(sound, f"shards[{block}]", expected, (entry.file, entry.count), "Generate it again.")
