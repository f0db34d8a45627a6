"""Networks of one's own as a data set: grouped, so that those of a shard have one size, channel and chip."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from laegd.graphs.manifest import OWN_FORMAT, OwnShardEntry, common_scale
from laegd.graphs.shard_file import Sizes
from laegd.graphs.shards import BLOCK, MAX_BLOCK_PAIRS, LabelMethod, shard_name
from laegd.problem.instance import Instance
from laegd.problem.shortfall import shortfalls
from laegd.scenario.generator import Scale
from laegd.scenario.scenario import Nodes, Scenario, ScenarioBatch, in_short, nodes_of, require

_NAMED = 5  # networks in an error


@dataclass(frozen=True)
class Collection:
    """Networks of one's own, a tuple per shard of pairs of a name and a network."""

    blocks: tuple[tuple[tuple[str, Scenario], ...], ...]
    labels: LabelMethod = "exact"

    @staticmethod
    def of(scenarios: Mapping[str, Scenario], labels: LabelMethod = "exact") -> "Collection":
        """Groups networks, by name, into shards.

        Raises:
            ValueError: There are none, or some have no feasible plan.
        """
        require(len(scenarios) > 0, "scenarios", "at least one", 0, "Name a folder of them.")
        groups: dict[Any, list[tuple[str, Scenario]]] = {}
        for name, scenario in scenarios.items():
            types = tuple(item.type for item in (*scenario.servers, *scenario.users))
            kind = (len(scenario.servers), types, scenario.channel, scenario.chip_energy_factor)
            groups.setdefault(kind, []).append((name, scenario))
        _require_plans(scenarios)
        blocks = []
        for group in groups.values():
            one = group[0][1]
            pairs = max(len(one.servers) * len(one.users), 1)
            size = max(min(BLOCK, MAX_BLOCK_PAIRS // pairs), 1)
            blocks += [tuple(group[first : first + size]) for first in range(0, len(group), size)]
        return Collection(tuple(blocks), labels)

    @property
    def num_blocks(self) -> int:
        """Number of shards."""
        return len(self.blocks)

    def sizes(self, block: int) -> Sizes:
        """Numbers of what a shard holds."""
        _, one = self.blocks[block][0]
        return Sizes(len(self.blocks[block]), len(one.users), len(one.servers))

    def identity(self, block: int) -> dict[str, Any]:
        """Returns what a shard depends on: the labels, and the hash of its networks."""
        return {"labels": self.labels, "networks": self._digest(block)}

    def networks(self, block: int) -> tuple[ScenarioBatch, int]:
        """Returns a shard's networks; none was drawn, so none again."""
        named = self.blocks[block]
        _, one = named[0]
        nodes = Nodes(*map(np.stack, zip(*(nodes_of(scenario) for _, scenario in named), strict=True)))
        return ScenarioBatch(one.channel, one.chip_energy_factor, nodes), 0

    def settings(self) -> list[Any]:
        """Returns channel and chip energy factor of each shard, as JSON values."""
        ones = [named[0][1] for named in self.blocks]
        return [[msgspec.to_builtins(one.channel), one.chip_energy_factor] for one in ones]

    def manifest(self, shards: Sequence[tuple[int, str]], networks: str) -> dict[str, Any]:
        """Returns the manifest of networks of one's own without versions."""
        entries = [self._entry(block, sha256) for block, (_, sha256) in enumerate(shards)]
        return {
            "format": OWN_FORMAT,
            "scale": common_scale(entries),
            "count": sum(entry.count for entry in entries),
            "labels": self.labels,
            "networks": networks,
            "shards": msgspec.to_builtins(entries),
        }

    def _entry(self, block: int, sha256: str) -> OwnShardEntry:
        names, scenarios = zip(*self.blocks[block], strict=True)
        one = scenarios[0]
        num_haps = sum(server.type == "HAP" for server in one.servers)
        num_aerial = sum(user.type == "AU" for user in one.users)
        return OwnShardEntry(
            file=shard_name(block),
            count=len(names),
            scale=str(Scale(len(one.servers) - num_haps, len(one.users) - num_aerial, num_aerial)),
            num_haps=num_haps,
            channel=one.channel,
            chip_energy_factor=one.chip_energy_factor,
            names=names,
            sha256=sha256,
        )

    def _digest(self, block: int) -> str:
        scenarios, _ = self.networks(block)
        physics = (msgspec.to_builtins(scenarios.channel), scenarios.chip_energy_factor)
        digest = hashlib.sha256(msgspec.json.encode(physics, order="sorted"))
        for values in scenarios.nodes:
            digest.update(values.tobytes())
        return digest.hexdigest()


def _require_plans(scenarios: Mapping[str, Scenario]) -> None:
    """Raises where networks are proved to have no plan: there is nothing to compare with."""
    lacking = {}
    for name, scenario in scenarios.items():
        if found := shortfalls(Instance.from_scenario(scenario)):
            lacking[name] = found
    told = [f"{in_short(name)}: {'; '.join(map(str, found))}" for name, found in list(lacking.items())[:_NAMED]]
    more = len(lacking) - len(told)
    if told:
        raise ValueError(
            f"scenarios: Expected networks that have a feasible plan, got {len(lacking)} without one. "
            + " | ".join(told)
            + (f" | and {more} more." if more > 0 else ".")
            + " Mend them, or take them out."
        )
