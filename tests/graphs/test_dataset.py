"""Data sets: same recipe, same bytes; damage is named; nothing is made twice."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from laegd.graphs.dataset import BLOCK, Dataset, Recipe, draw_feasible, generate, shard_name
from laegd.problem.feasibility import pack
from laegd.problem.instance import InstanceBatch
from laegd.problem.objective import is_feasible, plan_cost
from laegd.scenario.generator import Scale, ScenarioConfig

SMALL = Recipe("gs2_gu4_au2", BLOCK + 20, seed=11)


def contents(folder):
    """File name -> bytes."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished data set of two shards."""
    folder = tmp_path_factory.mktemp("data") / "set"
    assert generate(SMALL, folder)
    return folder


@pytest.fixture
def copy(made, tmp_path):
    """A copy to damage."""
    for name, data in contents(made).items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def test_labels_are_feasible_plans_with_their_cost_and_bound(made):
    """Stored cost = the objective of the stored plan = its lower bound, for every instance."""
    data = Dataset.open(made).read_all()
    costs = data.instances.costs
    assert len(data) == SMALL.count
    assert is_feasible(costs, data.server, data.share).all()
    np.testing.assert_allclose(plan_cost(costs, data.server, data.share), data.cost, rtol=1e-12)
    np.testing.assert_allclose(data.lower_bound, data.cost, rtol=1e-6)


@pytest.mark.parametrize(
    "first, last", [(0, 3), (BLOCK - 2, BLOCK + 3), (BLOCK + 1, BLOCK + 4), (BLOCK, BLOCK + 20), (5, 5)]
)
def test_a_range_is_the_same_part_of_the_whole(made, first, last):
    """Within a shard, within a later one, across two, and nothing."""
    whole, parts = Dataset.open(made).read_all(), list(Dataset.open(made).read_range(first, last))
    assert sum(map(len, parts)) == last - first
    if parts:
        np.testing.assert_array_equal(np.concatenate([part.cost for part in parts]), whole.cost[first:last])
        np.testing.assert_array_equal(np.concatenate([part.server for part in parts]), whole.server[first:last])


def test_shards_of_many_machines_are_the_unsharded_run_byte_for_byte(made, tmp_path):
    """Parts 2/2 and 1/2, made in this order, give the same files; the manifest comes with the last."""
    assert not generate(SMALL, tmp_path, shard=(2, 2))
    assert not (tmp_path / "manifest.json").exists()
    assert generate(SMALL, tmp_path, shard=(1, 2))
    assert contents(tmp_path) == contents(made)


def test_workers_do_not_change_the_bytes(tmp_path):
    """Two processes give what one gives."""
    recipe = Recipe("gs2_gu4_au2", 2 * BLOCK, seed=3, labels="none")
    generate(recipe, tmp_path / "one", workers=1)
    generate(recipe, tmp_path / "two", workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


OLD_PROCESSOR = "X86_V3 X86_V4 AVX512_ICL AVX512_SPR AVX2 FMA3 AVX512F"  # none of it; NumPy passes over unknown names


def test_digest_is_the_same_on_an_older_processor(made, tmp_path):
    """Other vector instructions round labels otherwise, so that files may differ; networks and digest do not."""
    command = (sys.executable, "-m", "laegd.cli", "generate", "--scale", SMALL.scale, "--count", str(SMALL.count))
    command = (*command, "--seed", str(SMALL.seed), "--out", str(tmp_path / "set"))
    subprocess.run(command, check=True, env={**os.environ, "NPY_DISABLE_CPU_FEATURES": OLD_PROCESSOR})
    new, old = Dataset.open(made), Dataset.open(tmp_path / "set")
    assert old.digest == new.digest
    np.testing.assert_allclose(old.read_all().cost, new.read_all().cost, rtol=1e-12)


@pytest.mark.parametrize("other", [{"seed": 12}, {"labels": "none"}, {"scenario": ScenarioConfig(deadline_s=1.9)}])
def test_digest_differs_with_the_recipe(tmp_path, other):
    """Another seed, other labels, another setting: other data."""
    recipe = replace(SMALL, count=5, **other)
    generate(recipe, tmp_path / "other")
    generate(replace(SMALL, count=5), tmp_path / "same")
    assert Dataset.open(tmp_path / "other").digest != Dataset.open(tmp_path / "same").digest


def test_interrupted_run_makes_only_what_is_missing(copy, made):
    """A shard that is there is not made again, one that is not is made as it was."""
    (copy / shard_name(1)).unlink()
    (copy / "manifest.json").unlink()
    kept = (copy / shard_name(0)).stat().st_mtime_ns
    assert generate(SMALL, copy)
    assert (copy / shard_name(0)).stat().st_mtime_ns == kept
    assert contents(copy) == contents(made)


def test_longer_data_set_begins_with_the_shorter(made, tmp_path):
    """Count does not change an instance."""
    generate(Recipe("gs2_gu4_au2", 30, seed=11), tmp_path)
    short, long = Dataset.open(tmp_path).read_all(), Dataset.open(made).read_all()
    np.testing.assert_array_equal(short.scenarios.nodes.user_xyz_m, long.scenarios.nodes.user_xyz_m[:30])
    np.testing.assert_array_equal(short.cost, long.cost[:30])


def test_mcmf_labels_are_no_better_than_exact_ones(made, tmp_path):
    """The same instances, labelled by the heuristic, cost at least the optimum."""
    generate(Recipe("gs2_gu4_au2", 30, seed=11, labels="mcmf"), tmp_path)
    heuristic, exact = Dataset.open(tmp_path).read_all(), Dataset.open(made).read_all()
    assert (heuristic.cost >= exact.cost[:30] * (1 - 1e-9)).all()
    assert np.isnan(heuristic.lower_bound).all()


def test_infeasible_networks_are_drawn_again_and_counted():
    """With a deadline that many cannot meet, what is kept has a plan, and redraws are reported."""
    config = ScenarioConfig(deadline_s=1.2)
    batch, redrawn = draw_feasible(config, Scale.parse("gs2_gu4_au2"), 40, np.random.default_rng(0))
    assert redrawn > 0
    assert all(pack(instance.costs) is not None for instance in InstanceBatch.from_scenarios(batch))


def test_hopeless_settings_are_an_error():
    """A deadline of a millisecond ends in an error, not in a loop."""
    with pytest.raises(ValueError, match=r"scenario: Expected settings under which .* Raise deadline_s"):
        draw_feasible(ScenarioConfig(deadline_s=1e-3), Scale.parse("gs2_gu4_au2"), 3, np.random.default_rng(0))


@pytest.mark.parametrize("at", [0.02, 0.3, 0.7, 0.98])
def test_flipped_byte_is_noticed(copy, at):
    """One changed byte anywhere: the shard is named and refused."""
    path = copy / shard_name(1)
    data = bytearray(path.read_bytes())
    data[int(at * len(data))] ^= 0x5A
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"shard-00001\.npz: Expected"):
        Dataset.open(copy).read_all()


@pytest.mark.parametrize("length", [0, 100, 5000])
def test_truncated_shard_is_noticed_by_reader_and_generator(copy, length):
    """Half a file is refused by both, by name."""
    path = copy / shard_name(0)
    path.write_bytes(path.read_bytes()[:length])
    for act in (Dataset.open(copy).read_all, lambda: generate(SMALL, copy)):
        with pytest.raises(ValueError, match=r"shard-00000\.npz: Expected a whole shard"):
            act()


def test_missing_shard_is_named(copy):
    """The error says which, and what to do."""
    (copy / shard_name(0)).unlink()
    with pytest.raises(ValueError, match=r"shard-00000\.npz: Expected a shard, got no file. Run the same"):
        Dataset.open(copy).read(0)


def test_folder_of_another_recipe_is_refused(copy):
    """Another seed, scale or setting does not mix in."""
    for recipe in (Recipe("gs2_gu4_au2", 270, 12), Recipe("gs2_gu4_au2", 270, 11, "mcmf")):
        with pytest.raises(ValueError, match="Expected a shard of the same scale, seed, labels, scenario"):
            generate(recipe, copy)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda m: m | {"format": "laegd-dataset/9"}, "laegd-dataset/9"),
        (lambda m: m | {"count": "many"}, r"Expected `int`, got `str` - at `\$.count`"),
        (lambda m: m | {"more": 1}, "unknown field `more`"),
    ],
)
def test_bad_manifest_is_named(copy, change, message):
    """Format, types and keys are checked."""
    path = copy / "manifest.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(ValueError, match=message):
        Dataset.open(copy)


def test_folder_without_a_manifest_is_named(tmp_path):
    """An unfinished data set says how to finish it."""
    with pytest.raises(ValueError, match=r"manifest\.json: Expected a finished data set, .*laegd generate"):
        Dataset.open(tmp_path)


@pytest.mark.parametrize("shard", [(0, 2), (3, 2), (1, 0)])
def test_bad_shard_is_named(tmp_path, shard):
    """Parts count from 1 to n."""
    with pytest.raises(ValueError, match="shard: Expected i/n with 1 <= i <= n"):
        generate(SMALL, tmp_path, shard=shard)
