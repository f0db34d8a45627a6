"""Files made to harm: they claim sizes that no memory holds, point outside their folder, or carry code."""

import io
import json
import pickle
import re
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from guard import limited, time_limit  # noqa: F401
from readers import RECIPE, data_set, planned
from samples import EXPERIMENT, SITES, scenario_text

import laegd
from laegd.config import load_config
from laegd.evaluation.web.files import read_files
from laegd.graphs.dataset import Dataset, Recipe, generate
from laegd.graphs.shard_file import Sizes, read_about, read_arrays
from laegd.problem.instance import Instance
from laegd.problem.plan_json import plan_from_json
from laegd.scenario.place_tables import read_sites
from laegd.scenario.scenario import Scenario
from laegd.scenario.settings import load_scenario_config
from laegd.solvers.exact import ExactSolver
from laegd.solvers.mcmf import MCMFSolver


@pytest.fixture(scope="module")
def whole_set(tmp_path_factory):
    return data_set(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def copy(whole_set, tmp_path):
    """A data set to damage."""
    return Path(shutil.copytree(whole_set, tmp_path / "outer" / "set"))


pytestmark = pytest.mark.usefixtures("limited")


# sizes


def change_manifest(folder, change):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def replace_member(path, name, content, packing=zipfile.ZIP_DEFLATED):
    """Puts other bytes in the place of one array of a shard."""
    with zipfile.ZipFile(path) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    with zipfile.ZipFile(path, "w", packing) as archive:
        for member, old in members.items():
            archive.writestr(member, content if member == f"{name}.npy" else old)


def read_shard(path):
    """Reads a shard without asking the manifest whether it is the right one."""
    content = path.read_bytes()
    return read_about(path, content), read_arrays(path, content, Sizes(4, 6, 3))


def header(shape, dtype):
    """The head of an array file, without an array."""
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": dtype, "fortran_order": False, "shape": shape})
    return content.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("user_workload_flop", header((10**12, 6), "<f8")),
        ("user_workload_flop", header((4, 10**12), "<f8")),
        ("cost", header((4,), "<U1000000000")),
        ("server_is_hap", header((4, 3), "<f8") + bytes(96)),
        ("share", header((4, 6), "<f8") + bytes(100_000_000)),  # a hundred megabytes behind the array
        ("about", header((), "<U500000000")),
        ("about", header((10**9,), "<U100")),
        ("about", header((), "<U2000000000")),
    ],
)
def test_a_shard_that_claims_other_arrays_is_refused_unread(copy, name, content):
    """By the reader, and where its data set was interrupted."""
    replace_member(copy / "shard-00000.npz", name, content)
    for act in (Dataset.open(copy).read_all, lambda: generate(RECIPE, copy)):
        with pytest.raises(ValueError, match=r"shard-00000\.npz: Expected (a whole shard, got damage|SHA-256)"):
            act()


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("name", ["about", "cost"])
def test_a_shard_that_unpacks_to_any_size_is_refused_unread(copy, name, packing):
    """Python unpacks these ways of packing whole: a kilobyte is gigabytes."""
    path = copy / "shard-00000.npz"
    replace_member(path, name, bytes(20_000_000), packing)
    with pytest.raises(ValueError, match=r"shard-00000\.npz: .*(about|cost): Expected stored or deflated"):
        read_shard(path)


@pytest.mark.parametrize("name", ["about", "cost"])
def test_a_shard_with_an_endless_header_is_refused_unread(copy, name):
    """NumPy reads headers of version 2.0 before it looks at them, up to four gigabytes."""
    path = copy / "shard-00000.npz"
    replace_member(path, name, b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(1000))
    with pytest.raises(ValueError, match=r"shard-00000\.npz: .*npy: Expected version 1\.0"):
        read_shard(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(count=10**18), "count = 4, as the shards have, got 1000000000000000000"),
        (lambda m: m["shards"][0].update(count=10**18), "count = 1000000000000000000, as the shards have, got 4"),
        (lambda m: (m.update(count=10**18), m["shards"][0].update(count=10**18)), "at most 100,000,000 instances"),
        (lambda m: (m.update(count=-4), m["shards"][0].update(count=-4)), "at least 1 instance, got -4"),
        (lambda m: m["shards"].append({**m["shards"][0], "count": 0}), r"shards\[1\]: Expected file shard-"),
        (lambda m: m.update(scale="gs100000_gu100000_au5"), "scale: Expected at most 1,000,000 pairs"),
        (lambda m: m.update(scale="gs1_gu999999_au0"), "scale, num_haps: Expected at most 20,000 pairs"),
        (lambda m: m["scenario"].update(num_haps=10**9), "num_haps: Expected at most 1000, got 1000000000"),
        (lambda m: m.update(seed=10**400), "seed: Expected a seed of at most"),
        (lambda m: m["shards"][0].update(sha256="9" * 5000), "Expected `str` matching regex"),
    ],
)
def test_a_manifest_that_claims_what_no_machine_makes_is_refused(copy, change, message):
    change_manifest(copy, change)
    with pytest.raises(ValueError, match=rf"manifest\.json: .*{message}"):
        Dataset.open(copy)


@pytest.mark.parametrize(
    "scale", ["gs100000_gu100000_au5", "gs999999999_gu1_au1", "gs\uff13_gu7_au5", "gs" + "9" * 5000]
)
def test_a_scale_that_no_memory_holds_is_refused(scale):
    """Digits of other scripts are none."""
    with pytest.raises(ValueError, match="scale: Expected"):
        Recipe(scale, 1, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[model]\nhidden = 1000000000\nnum_heads = 1", "hidden: Expected at most 100,000,000"),
        ("[model]\nhidden = 100000", "hidden, num_layers: Expected num_layers x hidden"),
        ("[model]\nnum_layers = 1000000", "hidden, num_layers: Expected num_layers x hidden"),
        ("[model]\nhidden = 2\nnum_heads = 1\nnum_layers = 1000000", "num_layers: Expected at most 100, got 1000000"),
        (f"[model]\nnum_heads = 1{'0' * 400}", "num_heads: Expected at most"),
        ("[diffusion]\nnum_steps = 1000000000", "diffusion.num_steps: Expected at most 100,000 steps"),
        ("[sampler]\nnum_steps = 1000000000", "sampler.num_steps: Expected at most 1,000 steps"),
        ("[decode]\npolish_rounds = 1000000000", "polish_rounds: Expected at most"),
        ("[sampler]\nnoisy_copies = 1000000000", "sampler.noisy_copies: Expected 0 to 100"),
        (f"[decode]\nthresholds = [{'0.5, ' * 1000}]", "thresholds: Expected at most 100"),
        ("[training]\nbatch_size = 1000000000", "training.batch_size: Expected at most 100,000"),
        ("[training]\nvalidation_samples = 1000000000", "training.validation_samples: Expected at most 100,000"),
        ("[training]\nweight_decay = inf", "training.weight_decay: Expected"),
        ("[grlo]\nnum_actions = 1000000000", "grlo.num_actions: Expected at most 100,000"),
        ('[[data.train]]\nscale = "gs9_gu9_au9"\ncount = 1000000000000\nseed = 1', "count: Expected at most"),
        (f"a = {'[' * 5000}", "Expected TOML, got brackets in one another"),
        (f"{'a.' * 15_000}a = 1", "Expected at most 16,000 characters"),
        (f"a = {'9' * 5000}", "Expected TOML, got: Exceeds the limit"),
    ],
)
def test_settings_that_no_machine_can_run_are_refused(tmp_path, text, message):
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_config(tmp_path / "c.toml")


@pytest.mark.parametrize("value", ["[" * 5000, "9" * 5000, "\ud800", "\udcff"])
def test_an_override_that_is_no_toml_is_refused(tmp_path, value):
    (tmp_path / "c.toml").write_bytes(EXPERIMENT)
    with pytest.raises(ValueError, match=r"learner: Expected one of diffusion, grlo, got"):
        load_config(tmp_path / "c.toml", [f"learner={value}"])


@pytest.mark.parametrize(
    "text",
    [
        "area_km2_per_ground_server = 1e300",
        "num_haps = 1000000000",
        "flop_per_bit = 1e-39",
        "[channel]\nbandwidth_hz = 1e300",
    ],
)
def test_settings_of_the_simulator_out_of_range_are_refused(tmp_path, text):
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(ValueError, match=r"Expected (a number from|at most)"):
        load_scenario_config(tmp_path / "s.toml")


@pytest.mark.parametrize(
    ("place", "value", "field"),
    [
        (("users", 1, "workload_flop"), 1e308, r"users\[1\]\.workload_flop"),
        (("users", 0, "y_m"), -1e300, r"users\[0\]\.y_m"),
        (("servers", 1, "coverage_radius_m"), 1e-300, r"servers\[1\]\.coverage_radius_m"),
        (("channel", "excess_loss_nlos_db"), 1e4, r"channel\.excess_loss_nlos_db"),
        (("chip_energy_factor",), 1e300, "chip_energy_factor"),
    ],
)
def test_a_network_whose_costs_would_overflow_is_refused(place, value, field):
    """The file itself may hold any finite number; what cannot be computed is named."""
    document = json.loads(scenario_text())
    inner = document
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    scenario = Scenario.from_json(json.dumps(document))
    with pytest.raises(ValueError, match=rf"^{field}: Expected a number from .* to compute with, got"):
        Instance.from_scenario(scenario)


def test_a_scenario_with_more_pairs_than_memory_holds_is_refused():
    document = json.loads(scenario_text())
    document["users"] = [{**document["users"][0], "id": f"u{i}"} for i in range(2000)]
    document["servers"] = [{**document["servers"][0], "id": f"s{i}"} for i in range(1000)]
    with pytest.raises(ValueError, match="users, servers: Expected at most 1,000,000 pairs of a user and a server"):
        Scenario.from_json(json.dumps(document))


@pytest.mark.slow
def test_the_largest_network_is_bounded_in_time_and_memory():
    """A million edges: its certificate keeps to its limits, and a flow is refused."""
    document = json.loads(scenario_text())
    user, server = document["users"][0], document["servers"][1] | {"coverage_radius_m": 1e5}
    document["users"] = [{**user, "id": f"u{i}", "x_m": float(i)} for i in range(1000)]
    document["servers"] = [{**server, "id": f"s{i}", "y_m": float(i)} for i in range(1000)]
    instance = Instance.from_scenario(Scenario.from_json(json.dumps(document)))
    with time_limit(60):
        bound = ExactSolver(time_limit_s=10.0).lower_bound(instance)
    assert 0 < bound < np.inf
    with pytest.raises(ValueError, match=r"^users, servers: Expected at most .* edges of a flow"):
        MCMFSolver().solve([instance])


# texts


DEEP = b'{"format": "laegd-results/1", "results": ' + b'[{"a": ' * 100_000
NO_TEXT = [b'{"\xff": 1}', b'{"format": "\xed\xa0\x80"}', b'{"format": "\\ud800"}', DEEP, b"[" * 1_000_000]


@pytest.mark.parametrize("content", NO_TEXT, ids=range(len(NO_TEXT)))
def test_json_that_is_no_text_or_endless_nesting_is_refused(content, copy, tmp_path):
    """By every reader, in a line."""
    (tmp_path / "results.json").write_bytes(content)
    (copy / "manifest.json").write_bytes(content)
    for read in (
        lambda: Scenario.from_json(content),
        lambda: plan_from_json(planned()[0], content),
        lambda: read_files([tmp_path / "results.json"]),
        lambda: Dataset.open(copy),
    ):
        with pytest.raises(ValueError, match=r"Expected .*, got: ") as caught:
            read()
        assert len(str(caught.value)) < 1000 and "\n" not in str(caught.value)


def test_what_an_error_quotes_is_short_and_moves_no_cursor():
    """A key of a megabyte, and one that would clear a terminal."""
    for key in ("k" * 1_000_000, "\x1b[2J\r\n"):
        with pytest.raises(ValueError, match="unknown field") as caught:
            Scenario.from_json(json.dumps({key: 1}))
        assert len(str(caught.value)) < 1000 and str(caught.value).isprintable()


@pytest.mark.parametrize("cell", ["a" * 200_000, '"' + "a" * 200_000])
def test_a_table_with_an_endless_cell_is_refused(tmp_path, cell):
    (tmp_path / "a.csv").write_bytes(cell.encode() + b"," + SITES)
    with pytest.raises(ValueError, match=r"a\.csv, row 1: Expected CSV, got: field larger than"):
        read_sites(tmp_path / "a.csv")


def test_a_table_of_endless_rows_is_refused(tmp_path):
    """Most of them empty."""
    (tmp_path / "a.csv").write_bytes(SITES + b"\n" * 1_000_000)
    with pytest.raises(ValueError, match=r"a\.csv: Expected at most 1,000,000 rows"):
        read_sites(tmp_path / "a.csv")


def test_names_of_a_plan_are_looked_up_not_searched():
    """Comparisons grow with the number of users, not with its square: for 20,000 that was 17 s."""
    compared = 0

    class Name(str):
        __hash__ = str.__hash__

        def __eq__(self, other):
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

    names = [f"u{i}" for i in range(500)]
    scenario, plan = json.loads(scenario_text()), json.loads(planned()[1])
    scenario["users"] = [{**scenario["users"][0], "id": name} for name in names]
    plan |= {"cost": None, "feasible": False, "unserved": names}
    plan["users"] = [{**plan["users"][0], "id": name, "server": None} for name in names]
    instance = Instance.from_scenario(Scenario.from_json(json.dumps(scenario)))
    instance = replace(instance, user_ids=tuple(map(Name, names)))
    assert len(plan_from_json(instance, json.dumps(plan)).unserved) == len(names)
    assert 0 < compared < 20 * len(names)


# places and code


@pytest.mark.parametrize(
    "name",
    ["../../stolen.npz", "/etc/passwd", "a/../../../stolen.npz", "shard-00000.npz\0", "..", "", "\x1b[2J", "SHARD.npz"],
)
def test_a_shard_outside_the_data_set_is_never_opened(copy, name):
    """Not even where a whole shard lies there; only the names that `generate` gives are read."""
    shutil.copy(copy / "shard-00000.npz", copy.parents[1] / "stolen.npz")
    change_manifest(copy, lambda m: m["shards"][0].update(file=name))
    before = sorted(copy.parents[1].rglob("*"))
    with pytest.raises(ValueError, match=r"manifest\.json: shards\[0\]: Expected file shard-"):
        Dataset.open(copy)
    assert sorted(copy.parents[1].rglob("*")) == before


class Bomb:
    """Makes a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["about", "cost", "server", "user_is_aerial"])
def test_a_shard_with_pickled_objects_is_refused_and_runs_nothing(copy, tmp_path, name):
    bomb, content = tmp_path / "exploded", io.BytesIO()
    np.lib.format.write_array(content, np.array([Bomb(bomb)] * 4, dtype=object), allow_pickle=True)
    pickle.loads(pickle.dumps(Bomb(bomb)))
    assert bomb.exists()  # it would go off
    bomb.unlink()
    replace_member(copy / "shard-00000.npz", name, content.getvalue())
    for act in (Dataset.open(copy).read_all, lambda: generate(RECIPE, copy)):
        with pytest.raises(ValueError, match=r"shard-00000\.npz: Expected (a whole shard|SHA-256)"):
            act()
    (copy / "shard-00000.npz").write_bytes(pickle.dumps(Bomb(bomb)))
    with pytest.raises(ValueError, match=r"shard-00000\.npz: Expected a whole shard"):
        Dataset.open(copy).read_all()
    assert not bomb.exists()


def test_nothing_in_the_package_unpickles_or_evaluates():
    """Every array is read with allow_pickle=False."""
    for path in Path(laegd.__file__).parent.rglob("*.py"):
        text = path.read_text()
        assert not re.search(
            r"\bpickle\b.*load|\beval\(|\bexec\(|allow_pickle=True|import marshal|import shelve", text
        ), path
        assert text.count("np.load(") == text.count("np.load(path, allow_pickle=False)"), path
