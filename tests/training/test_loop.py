"""The loop: resuming, interrupting, refusing; and that it learns."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

import laegd.training.batches as batches
import laegd.training.loop as loop
import laegd.training.step as step_module
from laegd.diffusion.ddim import SamplerConfig
from laegd.graphs.dataset import Recipe
from laegd.training.batches import batch_indices
from laegd.training.checkpoint import Checkpoints
from laegd.training.loop import train
from laegd.training.model_file import pack, read_network
from laegd.training.parallel import check_batch_size


def final_state(workdir, config):
    """Returns all saved arrays of the last checkpoint."""
    checkpoints = Checkpoints(workdir)
    loaded = checkpoints.load("last")
    checkpoints.close()
    return loaded.params


@pytest.fixture
def finished(run, tmp_path):
    """A copy of the small run."""
    return shutil.copytree(run, tmp_path / "finished")


def assert_equal(ours, theirs, **tolerance):
    """Compares trees of arrays."""
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **(tolerance or {"rtol": 0, "atol": 0})), ours, theirs)


def test_interrupted_and_resumed_run_equals_an_undisturbed_one(run, tiny, tmp_path, data_root):
    """Ctrl-C after step 3 ends the next step, which is kept; going on gives the same parameters and metrics."""
    config = tiny()
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])

    def interrupt(progress):
        if progress.stage == "train" and progress.done == 3:
            os.kill(os.getpid(), signal.SIGINT)

    stopped = train(config, tmp_path / "cut", data_root, interrupt)
    assert (stopped.step, stopped.interrupted, stopped.signal) == (4, True, signal.SIGINT)
    resumed = train(config, tmp_path / "cut", data_root)
    assert (last["step"], False) == (resumed.step, resumed.interrupted) == (6, False)
    assert last["ratio"] == resumed.best_ratio
    assert_equal(final_state(run, config), final_state(tmp_path / "cut", config))
    assert (run / "metrics.jsonl").read_text() == (tmp_path / "cut/metrics.jsonl").read_text()


def test_lines_after_the_last_checkpoint_are_written_anew(finished, tiny, data_root):
    """A killed run's metrics beyond its checkpoint, and a half-written line, do not stay."""
    path = finished / "metrics.jsonl"
    before = path.read_text()
    digits, brackets = f'{{"step": {"9" * 400}}}', "[" * 100_000 + "]" * 100_000  # nor what no one can have written
    path.write_text(before + f'{digits}\n{brackets}\n{{"step": 7, "loss": 1.0}}\n{{"step": 8, "lo')
    train(tiny(), finished, data_root)
    assert path.read_text() == before


def test_training_begins_with_the_network_that_is_named(run, tiny, tmp_path, data_root):
    """At a vanishing learning rate it stays that network, with its normalisation; going on does not need the file."""
    origin = read_network(run)
    pack(run, tmp_path / "first.npz")
    idle = {"learning_rate": 1e-12, "weight_decay": 0.0}
    config = tiny(start_from=str(tmp_path / "first.npz"), **idle)
    other_data = replace(config.data, train=(Recipe("gs3_gu5_au3", 40, seed=7, labels="mcmf"),))
    config = replace(config, data=other_data)

    def interrupt(progress):
        if progress.stage == "train" and progress.done == 2:
            (tmp_path / "first.npz").unlink()
            os.kill(os.getpid(), signal.SIGINT)

    assert train(config, tmp_path / "second", data_root, interrupt).interrupted
    assert train(config, tmp_path / "second", data_root).step == 6
    later = read_network(tmp_path / "second", "last")
    assert later.normalisation == origin.normalisation
    assert_equal(later.params, origin.params, rtol=1e-6, atol=1e-9)


def test_network_to_start_from_must_fit(tiny, tmp_path, data_root):
    """Another architecture, or none at all: named, and nothing is trained."""
    with pytest.raises(ValueError, match=r"training.start_from: Expected a network with hidden = 16, got 64\."):
        train(tiny(start_from="default"), tmp_path / "run", data_root)
    with pytest.raises(ValueError, match=r"nothing\.npz: Expected"):
        train(tiny(start_from=str(tmp_path / "nothing.npz")), tmp_path / "run")
    assert not (tmp_path / "run/data").exists()
    assert Checkpoints(tmp_path / "run").last_step() is None


TWO_DEVICES = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
import jax
from runs import TINY
from laegd.training.loop import train
assert jax.local_device_count() == 2
train(TINY, Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_two_devices_train_like_one(run, tmp_path, data_root):
    """The same six steps on one and on two devices end in the same parameters to 1e-5."""
    arguments = [tmp_path / "two", data_root, Path(__file__).parents[1]]
    command = [sys.executable, "-c", TWO_DEVICES, *map(str, arguments)]
    subprocess.run(command, env=os.environ | {"JAX_NUM_CPU_DEVICES": "2"}, check=True)
    folders = run, tmp_path / "two"
    one, two = (final_state(folder, None) for folder in folders)
    assert_equal(one, two, rtol=1e-4, atol=1e-5)
    losses = [
        [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()] for folder in folders
    ]
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_step_is_traced_once_per_scale(tiny, tmp_path, data_root, monkeypatch):
    """Six steps over two scales trace the loss twice."""
    traced = []
    step_module.make_train_step.cache_clear()

    def counted(*arguments):
        traced.append(1)
        return joint_loss(*arguments)

    joint_loss = step_module.joint_loss
    monkeypatch.setattr(step_module, "joint_loss", counted)
    train(tiny(), tmp_path, data_root)
    assert len(traced) == 2
    step_module.make_train_step.cache_clear()  # what counts is of this test alone


@pytest.mark.parametrize("learner", ["diffusion", "grlo"])
def test_processes_exchange_one_array_a_step(tiny, tmp_path, data_root, monkeypatch, learner):
    """Gradients, sums and signals travel as one: who lost another process must not go on to the next array."""

    class Lowered(Exception):
        pass

    def make(config):
        step = step_module.make_train_step.__wrapped__(config)

        def lower(*given):
            with monkeypatch.context() as patch:
                patch.setattr("jax.process_count", lambda: 2)
                text = step.lower(*given).as_text()
            raise Lowered(text)

        return lower

    monkeypatch.setattr(loop, "make_train_step", make)
    with pytest.raises(Lowered) as end:
        train(replace(tiny(), learner=learner), tmp_path, data_root)
    assert end.value.args[0].count("all_reduce") == 1


def test_non_finite_loss_stops_the_run_and_names_the_steps(tiny, tmp_path, data_root, monkeypatch):
    """A loss of nan is not saved; the error names the last good checkpoint."""
    poisoned = batches.encode_set

    def with_nan(data, normalisation):
        encoded = poisoned(data, normalisation)
        return encoded._replace(share=np.full_like(encoded.share, np.nan))

    monkeypatch.setattr(batches, "encode_set", with_nan)
    with pytest.raises(
        FloatingPointError, match=r"got nan between steps 0 and 1\. .*last good checkpoint is step None"
    ):
        train(tiny(), tmp_path / "new", data_root)
    assert not list((tmp_path / "new/checkpoints").glob("[0-9]*"))


def test_run_of_another_architecture_is_refused(finished, tiny, data_root):
    """The error names what differs; the folder is left as it was."""
    before = (finished / "metrics.jsonl").read_bytes()
    config = replace(tiny(), model=replace(tiny().model, hidden=32))
    with pytest.raises(
        ValueError, match=r"another architecture: model.hidden = 16 there, 32 here. Name another --workdir"
    ):
        train(config, finished, data_root)
    with pytest.raises(ValueError, match=r"other settings: training.seed = 0 there, 5 here"):
        train(tiny(seed=5), finished, data_root)
    assert (finished / "metrics.jsonl").read_bytes() == before


def test_last_and_best_checkpoints_are_kept(validated_run, tiny, tmp_path, data_root):
    """Of three validations the last two steps stay, and the best; each with its digest."""
    shutil.copytree(validated_run, tmp_path, dirs_exist_ok=True)
    result = train(tiny(validate_every=2), tmp_path, data_root)
    kept = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert kept == {f"{step}{end}" for step in (4, 6, result.best_step) for end in ("", ".sha256")}
    ratios = {
        line["step"]: line["ratio"]
        for line in map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
        if "ratio" in line
    }
    assert result.best_ratio == min(ratios.values()) == ratios[result.best_step]


def test_batches_are_permutations_of_each_epoch(tiny):
    """Within an epoch no instance comes twice; epochs differ; sets take turns."""
    settings = tiny(batch_size=10).training
    sizes = [40, 30]
    first = [batch_indices(settings, sizes, step) for step in range(0, 8, 2)]
    assert sorted(np.concatenate([indices for _, indices in first])) == list(range(40))
    assert [which for which, _ in (batch_indices(settings, sizes, step) for step in range(4))] == [0, 1, 0, 1]
    second = np.concatenate([batch_indices(settings, sizes, step)[1] for step in range(8, 16, 2)])
    assert sorted(second) == list(range(40)) and not np.array_equal(second, np.concatenate([i for _, i in first]))


@pytest.mark.parametrize("batch, devices, remedy", [(100, 8, "Use 96 or 104"), (3, 4, "Use 4"), (7, 2, "Use 6 or 8")])
def test_batch_that_does_not_split_over_devices_is_refused(batch, devices, remedy):
    """The error offers the next sizes that do."""
    message = f"Expected a batch divisible by {devices} devices, got {batch}. {remedy}"
    with pytest.raises(ValueError, match=message):
        check_batch_size(batch, devices)
    check_batch_size(devices * 3, devices)


@pytest.mark.slow
def test_one_instance_is_learnt_by_heart(tiny, tmp_path):
    """Trained on a single instance, every sample decodes to its certified optimum."""
    from laegd.evaluation.gadsg import load
    from laegd.graphs.dataset import Dataset, Recipe

    recipe = Recipe("gs2_gu4_au2", 1, seed=1)
    config = tiny(steps=400, batch_size=32, learning_rate=3e-3, validate_every=400, log_every=400)
    config = replace(
        config, data=replace(config.data, train=(recipe,)), model=replace(config.model, hidden=32, num_layers=2)
    )
    config = replace(config, sampler=SamplerConfig())
    train(config, tmp_path / "run", tmp_path / "data")
    data = Dataset.open(loop.data_folder(tmp_path / "data", recipe)).read_all()
    network = load(tmp_path / "run", num_samples=1)
    for seed in range(5):
        (plan,) = network.with_settings(seed=seed).solve(data.instances)
        assert plan.cost == pytest.approx(float(data.cost[0]), rel=1e-9)
