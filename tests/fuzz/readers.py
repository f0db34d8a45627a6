"""What reads files of others: per kind of file valid ones, and a function that reads one and then works with it."""

import hashlib
import io
import json
import shutil
import tomllib
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from documents import archive_of, override_of, table_of, toml_of
from mutations import dumped
from samples import EXPERIMENT, PEOPLE, SIMULATOR, SITES, result_files, scenario_text, scenarios

from laegd.config import ExperimentConfig, load_config
from laegd.evaluation.web.files import ResultFile, read_files
from laegd.evaluation.web.page import page_of
from laegd.graphs.dataset import Dataset, Labelled, Recipe, generate
from laegd.problem.instance import Instance, Plan, Solver
from laegd.problem.objective import make_plan, violations
from laegd.problem.plan_json import plan_from_json, plan_to_json
from laegd.scenario.generator import Scale, draw
from laegd.scenario.place_tables import read_sites
from laegd.scenario.scenario import Scenario
from laegd.scenario.settings import load_scenario_config
from laegd.scenario.topology import scenario_from_places
from laegd.solvers.exact import ExactSolver
from laegd.solvers.mcmf import MCMFSolver
from laegd.solvers.random_execution import RandomExecution


@dataclass(frozen=True)
class Kind:
    """One kind of file that a user is handed."""

    name: str
    valid: Callable[[Path], Sequence[bytes]]
    """Makes whole files, given an empty folder."""
    read: Callable[[bytes, Path], Any]
    """Reads a file, or raises what the command line turns into a line; the folder is for what it writes."""
    work: Callable[[Any, Path], None]
    """Works with what was read; whatever it raises is a fault."""
    documents: Callable[[Path], Sequence[Any]]
    """Makes the same as JSON values, given an empty folder."""
    write: Callable[[Any], bytes]
    """Makes a file of such a value, however wild."""


# scenario and plan


def read_scenario(content: bytes, folder: Path) -> Instance:
    """Reads the scenario, which reads back the same, and computes its costs."""
    scenario = Scenario.from_json(content)
    assert Scenario.from_json(scenario.to_json()) == scenario
    return Instance.from_scenario(scenario)


def solve(instance: Instance, folder: Path) -> None:
    """Solves the network by chance and, where a number of it says so, by flow and exactly; plans read back."""
    solvers: list[Solver] = [RandomExecution(num_candidates=2)]
    if zlib.crc32(instance.nodes.user_workload_flop.tobytes()) % 8 == 0:
        solvers += [MCMFSolver(num_weights=2), ExactSolver(time_limit_s=1.0)]
    for solver in solvers:
        (plan,) = solver.solve([instance])
        assert plan.feasible == np.isfinite(plan.cost)
        if plan.feasible:
            assert not violations(instance, plan)
            assert plan.lower_bound is None or plan.lower_bound <= plan.cost * (1 + 1e-6)
        back = plan_from_json(instance, plan_to_json(instance, plan))
        assert back.cost == plan.cost and (back.server == plan.server).all()


@cache
def planned() -> tuple[Instance, bytes]:
    """An instance and the file of its optimal plan."""
    instance = Instance.from_scenario(Scenario.from_json(scenario_text()))
    return instance, plan_to_json(instance, ExactSolver().solve([instance])[0])


def plans(folder: Path) -> list[bytes]:
    return [planned()[1]]


def read_plan(content: bytes, folder: Path) -> Plan:
    return plan_from_json(planned()[0], content)


def work_with_plan(plan: Plan, folder: Path) -> None:
    """Says what it violates, and writes and reads it."""
    instance = planned()[0]
    violations(instance, plan)
    assert plan.gap is None or 0 <= plan.gap < np.inf
    again = plan_from_json(instance, plan_to_json(instance, plan))
    assert (again.cost, again.lower_bound, again.method) == (plan.cost, plan.lower_bound, plan.method)


# data sets


RECIPE = Recipe("gs2_gu4_au2", 4, seed=9, labels="mcmf")


@cache
def data_set(folder: Path) -> Path:
    """A data set of four instances; read only."""
    generate(RECIPE, folder / "set")
    return folder / "set"


def _read_data_set(folder: Path) -> Labelled:
    """Opens the data set and reads its shards."""
    data = Dataset.open(folder)
    assert data.digest and data.files_digest and data.manifest.sizes(0)
    labelled = data.read(0)
    assert len(labelled) == data.manifest.shards[0].count
    assert len(data.read_all()) == data.manifest.count
    return labelled


def work_with_labelled(labelled: Labelled, folder: Path) -> None:
    """Exports the last instance, solves it and writes its label as a plan."""
    last = len(labelled) - 1
    solve(read_scenario(labelled.scenarios.scenario(last).to_json(), folder), folder)
    plan = make_plan(labelled.instances[last], labelled.server[last], "label", share=labelled.share[last])
    plan_to_json(labelled.instances[last], plan)


def manifests(folder: Path) -> list[bytes]:
    return [(data_set(folder) / "manifest.json").read_bytes()]


def shard_documents(folder: Path) -> list[Any]:
    """The arrays of a shard as type, shape and numbers, beside what it says of itself."""
    with np.load(data_set(folder) / "shard-00000.npz") as archive:
        arrays = {name: archive[name] for name in archive.files if name != "about"}
        about = json.loads(str(archive["about"]))
    table = {
        name: {"dtype": values.dtype.str, "shape": list(values.shape), "values": values.ravel().tolist()}
        for name, values in arrays.items()
    }
    return [{"about": about, "arrays": table}]


def read_manifest(content: bytes, folder: Path) -> Labelled:
    """Puts the manifest beside a whole shard and reads both."""
    place = _copy_of_set(folder)
    (place / "manifest.json").write_bytes(content)
    return _read_data_set(place)


def _copy_of_set(folder: Path) -> Path:
    place = folder / "place"
    if not place.exists():
        shutil.copytree(data_set(folder), place)
    return place


def shards(folder: Path) -> list[bytes]:
    """A shard as it is written, and one that is not compressed, so that damage reaches the arrays."""
    whole = (data_set(folder) / "shard-00000.npz").read_bytes()
    with np.load(io.BytesIO(whole)) as archive:
        plain = io.BytesIO()
        np.savez(plain, **{name: archive[name] for name in archive.files})
    return [whole, plain.getvalue()]


def read_shard(content: bytes, folder: Path) -> Labelled:
    """Reads the shard under a manifest that has its hash, and goes on with it where its data set was interrupted."""
    place = _copy_of_set(folder)
    (place / "shard-00000.npz").write_bytes(content)
    manifest = json.loads((data_set(folder) / "manifest.json").read_bytes())
    manifest["shards"][0]["sha256"] = hashlib.sha256(content).hexdigest()
    (place / "manifest.json").write_text(json.dumps(manifest))
    labelled = _read_data_set(place)
    generate(RECIPE, place)
    return labelled


# settings


def read_experiment(content: bytes, folder: Path) -> ExperimentConfig:
    (folder / "config.toml").write_bytes(content)
    return load_config(folder / "config.toml")


def work_with_experiment(config: ExperimentConfig, folder: Path) -> None:
    """What is accepted reads back, its network can be described and its scenarios drawn."""
    assert ExperimentConfig.from_dict(config.to_dict()) == config and config.method
    for recipe in (*config.data.train, *config.data.validation):
        draw(recipe.scenario, Scale.parse(recipe.scale), 1, np.random.default_rng(0))


def overrides(folder: Path) -> list[bytes]:
    return [b"training.steps=500", b"model.encoder=convolution", b"decode.thresholds=[0.5, 0.1]", b"learner=grlo"]


def override_documents(folder: Path) -> list[Any]:
    return [{"key": "training.steps", "value": 500}, {"key": "decode.thresholds", "value": [0.5, 0.1]}]


def read_override(content: bytes, folder: Path) -> ExperimentConfig:
    """Reads a `--set`; as on a command line, bytes that are no UTF-8 become surrogates."""
    (folder / "config.toml").write_bytes(EXPERIMENT)
    return load_config(folder / "config.toml", [content.decode(errors="surrogateescape")])


def read_scenario_settings(content: bytes, folder: Path) -> Instance:
    """Reads settings of the simulator and draws a network under them."""
    (folder / "scenario.toml").write_bytes(content)
    config = load_scenario_config(folder / "scenario.toml")
    batch = draw(config, Scale.parse("gs2_gu2_au1"), 1, np.random.default_rng(0))
    return read_scenario(batch.scenario(0).to_json(), folder)


# places


def table(text: bytes) -> list[list[str]]:
    return [line.split(",") for line in text.decode().splitlines()]


def read_places(content: bytes, folder: Path) -> list[Instance]:
    """Reads a table as sites and as users, and makes networks of it."""
    (folder / "sites.csv").write_bytes(SITES)
    (folder / "other.csv").write_bytes(content)
    sites, other = read_sites(folder / "sites.csv"), read_sites(folder / "other.csv")
    found = [scenario_from_places(*pair, rng=np.random.default_rng(0)) for pair in ((sites, other), (other, sites))]
    assert all(str(report) for _, report in found)
    return [read_scenario(scenario.to_json(), folder) for scenario, _ in found]


def solve_all(instances: list[Instance], folder: Path) -> None:
    for instance in instances:
        solve(instance, folder)


# results


def read_results(content: bytes, folder: Path) -> list[ResultFile]:
    (folder / "results.json").write_bytes(content)
    return read_files([folder / "results.json"])


def draw_page(files: list[ResultFile], folder: Path) -> None:
    """Draws the page, which holds no script but ours."""
    text = page_of(files, ["results.json"])
    assert text.lower().count("<script") == 1 and text.encode()


def nothing_more(files: list[ResultFile], folder: Path) -> None:
    """Pages take a tenth of a second and more: most files are only read."""


def as_json(valid: Callable[[Path], Sequence[bytes]]) -> Callable[[Path], list[Any]]:
    return lambda folder: [json.loads(content) for content in valid(folder)]


KINDS = {
    kind.name: kind
    for kind in (
        Kind("scenario", scenarios, read_scenario, solve, as_json(scenarios), dumped),
        Kind("plan", plans, read_plan, work_with_plan, as_json(plans), dumped),
        Kind("manifest", manifests, read_manifest, work_with_labelled, as_json(manifests), dumped),
        Kind("shard", shards, read_shard, work_with_labelled, shard_documents, archive_of),
        Kind(
            "settings",
            lambda f: [EXPERIMENT],
            read_experiment,
            work_with_experiment,
            lambda f: [tomllib.loads(EXPERIMENT.decode())],
            toml_of,
        ),
        Kind("override", overrides, read_override, work_with_experiment, override_documents, override_of),
        Kind(
            "scenario settings",
            lambda f: [SIMULATOR],
            read_scenario_settings,
            solve,
            lambda f: [tomllib.loads(SIMULATOR.decode())],
            toml_of,
        ),
        Kind("places", lambda folder: [SITES, PEOPLE], read_places, solve_all, lambda f: [table(SITES)], table_of),
        Kind("results", result_files, read_results, nothing_more, as_json(result_files), dumped),
        Kind("page", result_files, read_results, draw_page, as_json(result_files), dumped),
    )
}
