"""Data sets of networks of one's own: each comes back by its name, labelled, and what cannot be used is named."""

import json
import re
from dataclasses import replace

import independent
import msgspec
import numpy as np
import pytest

from laegd.graphs import shards
from laegd.graphs.dataset import Collection, Dataset, Recipe, generate
from laegd.problem.instance import Instance
from laegd.problem.networks import draw
from laegd.scenario.generator import Scale, ScenarioConfig
from laegd.scenario.scenario import nodes_of
from laegd.solvers.exact import ExactSolver


def drawn(scale, count, seed, **settings):
    batch = draw(ScenarioConfig(**settings), Scale.parse(scale), count, np.random.default_rng(seed))
    return [batch.scenario(i) for i in range(count)]


@pytest.fixture(scope="module")
def own():
    """Two scales, two platforms and another channel, mixed."""
    small, large = drawn("gs2_gu4_au2", 3, 0), drawn("gs3_gu5_au3", 2, 1)
    high = drawn("gs2_gu4_au2", 1, 2, num_haps=2)[0]
    narrow = msgspec.structs.replace(small[2], channel=msgspec.structs.replace(small[2].channel, bandwidth_hz=5e6))
    return {"a": small[0], "b": large[0], "c": high, "d": narrow, "e": small[1], "f": large[1]}


@pytest.fixture(scope="module")
def made(own, tmp_path_factory):
    return Dataset.from_scenarios(own, tmp_path_factory.mktemp("data") / "own")


def test_every_network_comes_back_by_its_name_with_the_optimum(own, made):
    """Networks to the last bit, and the cost that the exact solver finds for the scenario by itself."""
    found = {}
    for part in made.read_range(0, len(made)):
        for i in range(len(part)):
            name = made.name(len(found))
            found[name] = part.scenarios.scenario(i)
            for ours, theirs in zip(nodes_of(found[name]), nodes_of(own[name]), strict=True):
                np.testing.assert_array_equal(ours, theirs)
            assert found[name].channel == own[name].channel
            (plan,) = ExactSolver().solve([Instance.from_scenario(own[name])])
            assert part.cost[i] == pytest.approx(plan.cost, rel=1e-9)
            if len(own[name].users) == 6:  # few enough for every assignment
                assert part.cost[i] == pytest.approx(independent.optimum(own[name], 0.0), rel=1e-9)
    assert sorted(found) == sorted(own)
    assert [entry.names for entry in made.manifest.shards] == [("a", "e"), ("b", "f"), ("c",), ("d",)]
    assert [entry.num_haps for entry in made.manifest.shards] == [1, 1, 2, 1]
    assert made.manifest.scale == "mixed scales" and made.recipe is None


def test_networks_of_one_kind_read_as_one_batch_and_others_do_not(own, made, tmp_path):
    alike = Dataset.from_scenarios([own["a"], own["e"]], tmp_path / "alike", labels="none")
    assert len(alike.read_all()) == 2 and alike.manifest.scale == "gs2_gu4_au2"
    assert [alike.name(0), alike.name(1)] == ["0", "1"]
    with pytest.raises(ValueError, match="Expected networks of one size, channel and chip, got '4 kinds'"):
        made.read_all()


def test_the_digest_names_the_networks_alone(own, made, tmp_path):
    """The same under other names and without labels, another where one number differs."""
    renamed = {f"{name}!": scenario for name, scenario in own.items()}
    assert Dataset.from_scenarios(renamed, tmp_path / "1", labels="none").digest == made.digest
    moved = msgspec.structs.replace(own["a"].users[0], x_m=own["a"].users[0].x_m + 1e-9)
    other = own | {"a": msgspec.structs.replace(own["a"], users=(moved, *own["a"].users[1:]))}
    assert Dataset.from_scenarios(other, tmp_path / "2", labels="none").digest != made.digest


def test_work_goes_on_and_is_shared_and_never_mixed(own, made, tmp_path, monkeypatch):
    """Parts, processes and a second call give the same bytes; shards of other networks are refused."""
    source = Collection.of(own)
    assert not generate(source, tmp_path / "parts", shard=(2, 2))
    assert generate(source, tmp_path / "parts", shard=(1, 2), workers=2)
    for path in made.folder.iterdir():
        assert (tmp_path / "parts" / path.name).read_bytes() == path.read_bytes()
    monkeypatch.setattr(shards, "ExactSolver", None)  # nothing is solved again
    assert generate(source, tmp_path / "parts")
    with pytest.raises(ValueError, match="Expected a shard of the same labels, networks"):
        generate(Collection.of({"a": own["c"]}), tmp_path / "parts")
    with pytest.raises(ValueError, match="Expected a shard of the same scale, seed, labels, scenario"):
        generate(Recipe("gs2_gu4_au2", 2, seed=0), tmp_path / "parts")


def test_long_lists_and_large_networks_take_several_shards(own, monkeypatch):
    """No shard has more instances, or pairs, than one of a drawn data set may have."""
    many = {str(i): own["a"] for i in range(shards.BLOCK + 1)}
    assert list(map(len, Collection.of(many).blocks)) == [shards.BLOCK, 1]
    monkeypatch.setattr("laegd.graphs.collection.MAX_BLOCK_PAIRS", 2 * 6 * 3)
    assert list(map(len, Collection.of({str(i): own["a"] for i in range(5)}).blocks)) == [2, 2, 1]


def test_networks_without_a_plan_are_named_with_the_cause(own, tmp_path):
    hopeless = msgspec.structs.replace(own["a"].users[1], deadline_s=1e-3)
    bad = msgspec.structs.replace(own["a"], users=(own["a"].users[0], hopeless, *own["a"].users[2:]))
    with pytest.raises(ValueError, match=r"got 1 without one\. bad\.json: u1 cannot be served \(deadline\)"):
        Dataset.from_scenarios({"good.json": own["a"], "bad.json": bad}, tmp_path / "data")
    with pytest.raises(ValueError, match="scenarios: Expected at least one, got 0"):
        Dataset.from_scenarios([], tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_haps": -1}, r"shards\[0\]\.num_haps: Expected at least 0, got -1"),
        ({"num_haps": 10**8}, r"shards\[0\]: Expected at most 5,000,000 pairs"),
        ({"names": ["a"]}, r"shards\[0\]\.names: Expected 2 names, got 1"),
        ({"chip_energy_factor": 0.0}, r"shards\[0\]\.chip_energy_factor: Expected a finite number above 0"),
        ({"scale": "gs9_gu4_au2"}, r"Expected .* of shape \(2, 10\)"),
        ({"count": 251, "names": ["a"] * 251}, r"Expected count = 255"),
        ({"more": 1}, "unknown field `more`"),
    ],
)
def test_a_manifest_that_was_altered_is_refused(made, tmp_path, change, message):
    for path in made.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["shards"][0] |= change
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=message):
        Dataset.open(tmp_path).read(0)


def test_own_networks_are_evaluated_and_shown(own, tmp_path, cli, monkeypatch):
    """From a folder and from a list: results name no seed, the sweep names the folder, the report shows both."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "city").mkdir()
    for name, scenario in own.items():
        (tmp_path / f"city/{name}.json").write_bytes(scenario.to_json())
    lines = [msgspec.json.format(scenario.to_json(), indent=-1) for scenario in own.values()]
    (tmp_path / "list.jsonl").write_bytes(b"\n".join(lines))
    assert cli("generate", "--scenarios", "city", "--out", "data", "--workers", "1")[0] == 0
    assert cli("generate", "--scenarios", "list.jsonl", "--out", "again", "--workers", "1")[0] == 0
    assert Dataset.open(tmp_path / "data").digest == Dataset.open(tmp_path / "again").digest
    assert Dataset.open(tmp_path / "again").name(0) == "line 1"
    code, out, err = cli("evaluate", "--data", "data", "--methods", "ao,exact", "--out", "r.json")
    assert (code, err) == (0, "") and "6 instances of mixed scales, of one's own" in out
    data = json.loads((tmp_path / "r.json").read_text())["data"]
    assert (data["scale"], data["seed"], data["count"]) == ("mixed scales", None, 6)
    assert cli("report", "r.json", "--out", "r.html")[0] == 0
    assert "6 networks of mixed scales, of one" in (tmp_path / "r.html").read_text()
    assert cli("export", "data", "--index", "2", "--out", "b.json")[1:] == (
        "b.json: instance 2 of mixed scales, b.json\n",
        "",
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--scenarios", "city", "--out", "city"), "--out: Expected a folder of its own, got city"),
        (("--scenarios", "city", "--out", "o", "--count", "3"), "--count: Expected nothing beside --scenarios, got 3"),
        (("--scenarios", "city", "--out", "o", "--seed", "3"), "--seed: Expected nothing beside --scenarios, got 3"),
        (("--scenarios", "none", "--out", "o"), "none: Expected a readable scenario file, got: No such file"),
        (("--out", "o"), "--scale: Expected a value, or --scenarios, got neither"),
        (("--scale", "gs1_gu1_au1", "--out", "o"), "--count: Expected a value, or --scenarios, got neither"),
        (("--scenarios", "city", "--out", "o"), "city: 2 of 3 scenarios cannot be used: x.json: Expected .* y.json: "),
    ],
)
def test_bad_input_is_one_line(own, tmp_path, cli, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "city").mkdir()
    for name, content in {"a": own["a"].to_json(), "x": b"{", "y": b"[]"}.items():
        (tmp_path / f"city/{name}.json").write_bytes(content)
    code, out, err = cli("generate", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert re.search(message, err)
    assert not (tmp_path / "o").exists() and len(list((tmp_path / "city").iterdir())) == 3


def test_evaluate_names_the_command_for_a_folder_of_scenarios(own, tmp_path, cli):
    (tmp_path / "a.json").write_bytes(own["a"].to_json())
    code, _, err = cli("evaluate", "--data", tmp_path, "--methods", "re", "--out", tmp_path / "r.json")
    assert code == 2 and f"Label scenarios with `laegd generate --scenarios {tmp_path} --out DATA`." in err


def test_a_drawn_set_where_a_training_expects_its_own_is_refused_as_such(tiny, made, tmp_path):
    """Networks of one's own under the name of a drawn set are not trained on."""
    from laegd.training.loop import data_folder, ensure_data

    recipe = replace(tiny().data.train[0], count=2)
    made.folder.rename(folder := data_folder(made.folder.parent, recipe))
    with pytest.raises(ValueError, match="Expected the data set of Recipe"):
        ensure_data(recipe, made.folder.parent, lambda progress: None)
    folder.rename(made.folder)
