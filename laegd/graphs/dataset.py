"""Labelled data sets: a folder of shards (`laegd.graphs.shards`) and a manifest, written when all shards are there."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
from jaxtyping import Float, Int

from laegd.graphs.processes import spread
from laegd.graphs.shard_file import read_arrays, read_bytes
from laegd.graphs.shards import (
    BLOCK,
    DATASET_FORMAT,
    LabelMethod,
    Recipe,
    check_shard,
    draw_feasible,
    make_block,
    shard_name,
)
from laegd.problem.instance import InstanceBatch
from laegd.scenario.files import clear_unfinished, read_file, require_writable, write_atomically
from laegd.scenario.generator import ScenarioConfig
from laegd.scenario.scenario import Nodes, ScenarioBatch, decode_json, require, settings_to_dict

__all__ = ["BLOCK", "Dataset", "Labelled", "Recipe", "draw_feasible", "generate", "shard_name"]


@dataclass(frozen=True)
class Labelled:
    """Instances with their labels."""

    scenarios: ScenarioBatch
    instances: InstanceBatch
    server: Int[np.ndarray, "instance user"]  # index of the server, -1 local
    share: Float[np.ndarray, "instance user"]
    cost: Float[np.ndarray, "instance"]  # nan without labels
    lower_bound: Float[np.ndarray, "instance"]  # nan where the label method proves none

    def __len__(self) -> int:
        return len(self.cost)

    def __getitem__(self, index: slice) -> "Labelled":
        labels = (self.server[index], self.share[index], self.cost[index], self.lower_bound[index])
        return Labelled(self.scenarios[index], self.instances[index], *labels)


def generate(
    recipe: Recipe,
    folder: Path,
    shard: tuple[int, int] = (1, 1),
    workers: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> bool:
    """Makes the data set, or part i of n of it; continues where an earlier run stopped.

    Args:
        recipe: What to make.
        folder: Where; shards of the same recipe are kept, of another one refused.
        shard: (i, n), 1 <= i <= n: make every n-th block, beginning with the i-th.
        workers: Processes; 1 works in this one.
        progress: Called with the instances done and asked for.

    Returns:
        Whether the data set is complete, that is, whether the manifest is written.
    """
    index, parts = shard
    require(1 <= index <= parts, "shard", "i/n with 1 <= i <= n", f"{index}/{parts}", "Count from 1.")
    require(workers >= 1, "workers", "at least 1 process", workers, "Use one per core.")
    _require_own_folder(folder)
    clear_unfinished(folder)
    blocks = list(range(index - 1, recipe.num_blocks, parts))
    total = sum(recipe.block_count(block) for block in blocks)
    present = [block for block in blocks if (folder / shard_name(block)).exists()]
    for block in present:
        check_shard(folder / shard_name(block), recipe, block)
    done = sum(recipe.block_count(block) for block in present)
    progress(done, total)
    for block, content in _make_blocks(recipe, [block for block in blocks if block not in set(present)], workers):
        write_atomically(folder / shard_name(block), content)
        done += recipe.block_count(block)
        progress(done, total)
    if not all((folder / shard_name(block)).exists() for block in range(recipe.num_blocks)):
        return False
    _write_manifest(recipe, folder)
    return True


def _require_own_folder(folder: Path) -> None:
    """Raises ValueError where the folder is not writable, or holds a manifest that is not of a data set."""
    path = folder / "manifest.json"
    require_writable(path)
    if path.is_file():
        with open(path, "rb") as file:
            ours = b'"laegd-dataset/' in file.read(64)
        if not ours:
            raise ValueError(f"{path}: Expected the manifest of a data set, got another file. Choose another folder.")


def _make_blocks(recipe: Recipe, blocks: Sequence[int], workers: int) -> Iterator[tuple[int, bytes]]:
    if workers == 1 or len(blocks) < 2:
        yield from ((block, make_block(recipe, block)) for block in blocks)
    else:
        yield from spread(partial(make_block, recipe), blocks, workers)


def _write_manifest(recipe: Recipe, folder: Path) -> None:
    settings, shards = settings_to_dict(recipe), []
    networks = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for block in range(recipe.num_blocks):
        path = folder / shard_name(block)
        redrawn, nodes = check_shard(path, recipe, block)
        for values in nodes:
            networks.update(values.tobytes())
        digest = hashlib.sha256(read_bytes(path)).hexdigest()
        shards.append({"file": path.name, "count": recipe.block_count(block), "redrawn": redrawn, "sha256": digest})
    manifest = {
        "format": DATASET_FORMAT,
        **{key: settings[key] for key in ("scale", "count", "seed", "labels")},
        "redrawn": sum(entry["redrawn"] for entry in shards),
        "networks": networks.hexdigest(),
        "scenario": settings["scenario"],
        "versions": {name: version(name) for name in ("laegd", "numpy", "scipy", "highspy", "networkx")},
        "shards": shards,
    }
    write_atomically(folder / "manifest.json", json.dumps(manifest, indent=1).encode() + b"\n")


Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class ShardEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A shard as the manifest names it."""

    file: str
    count: int
    redrawn: int
    sha256: Sha256


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`manifest.json`."""

    format: Literal["laegd-dataset/1"]
    scale: str
    count: int
    seed: int
    labels: LabelMethod
    redrawn: int
    """Instances without a feasible plan that were drawn again, in whole blocks."""
    networks: Sha256
    """SHA-256 of the recipe and the networks drawn; unlike those of the shards it is the same on every machine."""
    scenario: ScenarioConfig
    versions: dict[str, str]
    shards: tuple[ShardEntry, ...]


def _check_manifest(manifest: Manifest) -> None:
    """Raises unless the shards are such as `generate` makes."""
    count = sum(entry.count for entry in manifest.shards)
    if count != manifest.count:
        raise ValueError(f"Expected count = {count}, as the shards have, got {manifest.count}. Generate it again.")
    Recipe(manifest.scale, manifest.count, manifest.seed, manifest.labels, manifest.scenario)
    for block, entry in enumerate(manifest.shards):
        sound = entry.file == shard_name(block) and 1 <= entry.count <= BLOCK
        expected = f"file {shard_name(block)} and a count from 1 to {BLOCK}"
        require(sound, f"shards[{block}]", expected, (entry.file, entry.count), "Generate it again.")


@dataclass(frozen=True)
class Dataset:
    """A data set on disk; shards are read, and checked against their hashes, when asked for."""

    folder: Path
    manifest: Manifest

    @property
    def digest(self) -> str:
        """First 16 hexadecimal digits of the hash of its recipe and networks: names the data in results."""
        return self.manifest.networks[:16]

    @property
    def files_digest(self) -> str:
        """First 16 hexadecimal digits of the hash of the shards' hashes: tells labels apart to the last bit."""
        return hashlib.sha256("".join(entry.sha256 for entry in self.manifest.shards).encode()).hexdigest()[:16]

    @staticmethod
    def open(folder: Path) -> "Dataset":
        """Opens a data set; raises ValueError where the folder holds none or its manifest is bad."""
        path = folder / "manifest.json"
        text = read_file(path, "a finished data set", "Make it with `laegd generate`, all shards.")
        try:
            manifest = decode_json(text, Manifest, f"a {DATASET_FORMAT} manifest", "Generate it again.")
            _check_manifest(manifest)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        return Dataset(folder, manifest)

    def __len__(self) -> int:
        return self.manifest.count

    @property
    def recipe(self) -> Recipe:
        """What the data set was made from."""
        m = self.manifest
        return Recipe(m.scale, m.count, m.seed, m.labels, m.scenario)

    def read(self, shard: int) -> Labelled:
        """Reads one shard; raises ValueError that names it where it is missing, damaged or altered."""
        entry = self.manifest.shards[shard]
        path = self.folder / entry.file
        content = read_bytes(path)
        arrays = read_arrays(path, content, self.recipe.sizes(shard)._replace(instances=entry.count))
        digest = hashlib.sha256(content).hexdigest()
        require(
            digest == entry.sha256,
            str(path),
            f"SHA-256 {entry.sha256}",
            digest,
            "It was altered: delete it and generate again.",
        )
        return self._labelled(arrays)

    def read_range(self, first: int, last: int) -> Iterator[Labelled]:
        """Reads the instances from `first` until before `last`, a shard at a time, and no other shard."""
        begin = 0
        for shard, entry in enumerate(self.manifest.shards):
            low, high = max(first - begin, 0), min(last - begin, entry.count)
            if low < high:
                yield self.read(shard)[low:high]
            begin += entry.count

    def read_all(self) -> Labelled:
        """Reads all shards into one batch."""
        parts = [self.read(shard) for shard in range(len(self.manifest.shards))]

        def join(values: Sequence[np.ndarray]) -> np.ndarray:
            return np.concatenate(values)

        nodes = Nodes(*map(join, zip(*(part.scenarios.nodes for part in parts), strict=True)))
        scenarios = ScenarioBatch(parts[0].scenarios.channel, parts[0].scenarios.chip_energy_factor, nodes)
        columns = {
            name: join([getattr(part, name) for part in parts]) for name in ("server", "share", "cost", "lower_bound")
        }
        return Labelled(scenarios, InstanceBatch.from_scenarios(scenarios), **columns)

    def _labelled(self, arrays: dict[str, np.ndarray]) -> Labelled:
        settings = self.manifest.scenario
        nodes = Nodes(**{name: arrays[name] for name in Nodes._fields})
        scenarios = ScenarioBatch(settings.channel, settings.chip_energy_factor, nodes)
        return Labelled(
            scenarios,
            InstanceBatch.from_scenarios(scenarios),
            arrays["server"].astype(np.int64),
            arrays["share"],
            arrays["cost"],
            arrays["lower_bound"],
        )
