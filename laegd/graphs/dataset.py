"""Labelled data sets: a folder of shards (`laegd.graphs.shards`) and a manifest, written when all shards are there."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from laegd.graphs.collection import Collection
from laegd.graphs.manifest import Manifest, OwnManifest
from laegd.graphs.processes import spread
from laegd.graphs.shard_file import DATASET_FORMAT, read_arrays, read_bytes
from laegd.graphs.shards import BLOCK, LabelMethod, Recipe, Source, check_shard, draw_feasible, make_block, shard_name
from laegd.problem.instance import InstanceBatch
from laegd.scenario.files import clear_unfinished, read_file, require_writable, write_atomically
from laegd.scenario.scenario import Nodes, Scenario, ScenarioBatch, decode_json, require

__all__ = ["BLOCK", "Collection", "Dataset", "Labelled", "Recipe", "Source", "draw_feasible", "generate", "shard_name"]


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
    source: Source,
    folder: Path,
    shard: tuple[int, int] = (1, 1),
    workers: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> bool:
    """Makes the data set, or part i of n of it; continues where an earlier run stopped.

    Args:
        source: What to draw, or networks of one's own.
        folder: Where; shards of the same source are kept, of another one refused.
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
    blocks = list(range(index - 1, source.num_blocks, parts))
    total = sum(source.sizes(block).instances for block in blocks)
    present = [block for block in blocks if (folder / shard_name(block)).exists()]
    for block in present:
        check_shard(folder / shard_name(block), source, block)
    done = sum(source.sizes(block).instances for block in present)
    progress(done, total)
    for block, content in _make_blocks(source, [block for block in blocks if block not in set(present)], workers):
        write_atomically(folder / shard_name(block), content)
        done += source.sizes(block).instances
        progress(done, total)
    if not all((folder / shard_name(block)).exists() for block in range(source.num_blocks)):
        return False
    _write_manifest(source, folder)
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


def _make_blocks(source: Source, blocks: Sequence[int], workers: int) -> Iterator[tuple[int, bytes]]:
    if workers == 1 or len(blocks) < 2:
        yield from ((block, make_block(source, block)) for block in blocks)
    else:
        yield from spread(partial(make_block, source), blocks, workers)


def _write_manifest(source: Source, folder: Path) -> None:
    shards, networks = [], hashlib.sha256(json.dumps(source.settings(), sort_keys=True).encode())
    for block in range(source.num_blocks):
        path = folder / shard_name(block)
        redrawn, nodes = check_shard(path, source, block)
        for values in nodes:
            networks.update(values.tobytes())
        shards.append((redrawn, hashlib.sha256(read_bytes(path)).hexdigest()))
    manifest = source.manifest(shards, networks.hexdigest())
    versions = {name: version(name) for name in ("laegd", "numpy", "scipy", "highspy", "networkx")}
    manifest |= {"versions": versions, "shards": manifest.pop("shards")}  # the longest comes last
    write_atomically(folder / "manifest.json", json.dumps(manifest, indent=1).encode() + b"\n")


@dataclass(frozen=True)
class Dataset:
    """A data set on disk; shards are read, and checked against their hashes, when asked for."""

    folder: Path
    manifest: Manifest | OwnManifest

    @property
    def digest(self) -> str:
        """First 16 hexadecimal digits of the hash of its recipe and networks: names the data in results."""
        return self.manifest.networks[:16]

    @property
    def files_digest(self) -> str:
        """First 16 hexadecimal digits of the hash of the shards' hashes: tells labels apart to the last bit."""
        return hashlib.sha256("".join(entry.sha256 for entry in self.manifest.shards).encode()).hexdigest()[:16]

    @staticmethod
    def from_scenarios(
        scenarios: Mapping[str, Scenario] | Sequence[Scenario],
        folder: Path,
        labels: LabelMethod = "exact",
        workers: int = 1,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> "Dataset":
        """Labels networks of one's own and writes them as a data set; continues where an earlier call stopped.

        Networks of one size, channel and chip stand together, in the order in which they come.

        Args:
            scenarios: By name, or in a list, where their names are their numbers; ids are not kept.
            folder: Where; shards of the same networks are kept, of others refused.
            labels: Certified optimum, the paper's heuristic, or no labels.
            workers: Processes; 1 works in this one.
            progress: Called with the instances done and their number.

        Raises:
            ValueError: There are no networks, some have no feasible plan, or the folder is of another data set.

        Example:
            >>> data = laegd.Dataset.from_scenarios(scenarios, Path("data/city"))
        """
        named = scenarios if isinstance(scenarios, Mapping) else {str(i): one for i, one in enumerate(scenarios)}
        generate(Collection.of(named, labels), folder, workers=workers, progress=progress)
        return Dataset.open(folder)

    @staticmethod
    def open(folder: Path) -> "Dataset":
        """Opens a data set; raises ValueError where the folder holds none or its manifest is bad."""
        path = folder / "manifest.json"
        remedy = "Make it with `laegd generate`, all shards."
        if not path.exists() and any(folder.glob("*.json")):
            remedy = f"Label scenarios with `laegd generate --scenarios {folder} --out DATA`."
        text = read_file(path, "a finished data set", remedy)
        try:
            expected, kinds = f"a {DATASET_FORMAT} manifest", Manifest | OwnManifest
            manifest: Manifest | OwnManifest = decode_json(text, kinds, expected, "Generate it again.")
            manifest.check()
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        return Dataset(folder, manifest)

    def __len__(self) -> int:
        return self.manifest.count

    @property
    def recipe(self) -> Recipe | None:
        """What the data set was drawn from; None for networks of one's own."""
        return self.manifest.recipe if isinstance(self.manifest, Manifest) else None

    def name(self, index: int) -> str:
        """Returns what an instance is called: a network of one's own by its name, a drawn one by its number."""
        if isinstance(self.manifest, Manifest):
            return str(index)
        return [name for entry in self.manifest.shards for name in entry.names][index]

    def read(self, shard: int) -> Labelled:
        """Reads one shard; raises ValueError that names it where it is missing, damaged or altered."""
        entry = self.manifest.shards[shard]
        path = self.folder / entry.file
        content = read_bytes(path)
        arrays = read_arrays(path, content, self.manifest.sizes(shard))
        digest = hashlib.sha256(content).hexdigest()
        require(
            digest == entry.sha256,
            str(path),
            f"SHA-256 {entry.sha256}",
            digest,
            "It was altered: delete it and generate again.",
        )
        return self._labelled(shard, arrays)

    def read_range(self, first: int, last: int) -> Iterator[Labelled]:
        """Reads the instances from `first` until before `last`, a shard at a time, and no other shard."""
        begin = 0
        for shard, entry in enumerate(self.manifest.shards):
            low, high = max(first - begin, 0), min(last - begin, entry.count)
            if low < high:
                yield self.read(shard)[low:high]
            begin += entry.count

    def read_all(self) -> Labelled:
        """Reads all shards into one batch; raises ValueError where they differ in size, channel or chip."""
        kinds = {(*self.manifest.sizes(i)[1:], *self.manifest.physics(i)) for i in range(len(self.manifest.shards))}
        require(
            len(kinds) == 1,
            str(self.folder),
            "networks of one size, channel and chip",
            f"{len(kinds)} kinds",
            "Read them shard by shard.",
        )
        parts = [self.read(shard) for shard in range(len(self.manifest.shards))]

        def join(values: Sequence[np.ndarray]) -> np.ndarray:
            return np.concatenate(values)

        nodes = Nodes(*map(join, zip(*(part.scenarios.nodes for part in parts), strict=True)))
        scenarios = ScenarioBatch(parts[0].scenarios.channel, parts[0].scenarios.chip_energy_factor, nodes)
        columns = {
            name: join([getattr(part, name) for part in parts]) for name in ("server", "share", "cost", "lower_bound")
        }
        return Labelled(scenarios, InstanceBatch.from_scenarios(scenarios), **columns)

    def _labelled(self, shard: int, arrays: dict[str, np.ndarray]) -> Labelled:
        scenarios = ScenarioBatch(
            *self.manifest.physics(shard), Nodes(**{name: arrays[name] for name in Nodes._fields})
        )
        return Labelled(
            scenarios,
            InstanceBatch.from_scenarios(scenarios),
            arrays["server"].astype(np.int64),
            arrays["share"],
            arrays["cost"],
            arrays["lower_bound"],
        )
