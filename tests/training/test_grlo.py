"""GRLO's learning: its gradient is the policy gradient, it sees no label, and its runs are runs like any other."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs import TINY_GRLO

from laegd.config import ExperimentConfig, GRLOConfig
from laegd.decoding.decode import problem_of
from laegd.decoding.explore import repaired
from laegd.graphs.dataset import Dataset, Recipe, generate
from laegd.graphs.encode import Normalisation
from laegd.models.actor_critic import ActorCritic, log_policy
from laegd.problem.allocation import optimal_shares
from laegd.problem.objective import plan_cost
from laegd.training.batches import encode_set, pick
from laegd.training.checkpoint import Checkpoints
from laegd.training.grlo import LARGEST_RATIO, act, cost_alone, draw_places, policy_loss, reward_of
from laegd.training.loop import train
from laegd.training.parallel import replicate, split
from laegd.training.step import Stream, create_state, make_train_step, sample_keys


@pytest.fixture
def tiny_grlo():
    """Settings of the small run of GRLO, with changes to its training settings."""
    return lambda **changes: replace(TINY_GRLO, training=replace(TINY_GRLO.training, **changes))


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """A few labelled instances of the small scale."""
    folder = tmp_path_factory.mktemp("labelled") / "data"
    generate(Recipe("gs2_gu4_au2", 16, seed=3), folder)
    return Dataset.open(folder).read_all()


def saved(workdir):
    """Returns the averaged parameters of the last checkpoint."""
    checkpoints = Checkpoints(workdir)
    loaded = checkpoints.load("last")
    checkpoints.close()
    return loaded.params


def assert_equal(ours, theirs, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **(tolerance or {"rtol": 0, "atol": 0})), ours, theirs)


def test_estimated_gradient_is_the_policy_gradient():
    """Two users with three places, one of them forbidden: the mean estimate is the gradient of the exact expectation.

    E[R] is summed over all nine actions. The baseline of 0.7 must not matter, the sum over users is a mean over two.
    """
    allowed = jnp.asarray([[[True, True, True], [True, False, True]]])
    logits = jnp.asarray([[[0.3, -0.2, 0.5], [0.1, 2.0, -0.4]]])
    reward = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3)), jnp.float32)

    def expectation(logits):
        policy = jnp.exp(log_policy(logits, allowed))[0]
        return sum(policy[0, i] * policy[1, j] * reward[i, j] for i, j in itertools.product(range(3), repeat=2))

    def estimate(logits, key):
        log_probability = log_policy(logits, allowed)
        place = draw_places(jax.random.split(key, 2000)[None], jax.lax.stop_gradient(log_probability))
        return policy_loss(log_probability, place, reward[place[..., 0], place[..., 1]] - 0.7).sum()

    keys = jax.random.split(jax.random.key(1), 60)
    estimates = np.asarray(jax.jit(jax.vmap(jax.grad(estimate), (None, 0)))(logits, keys))
    error = estimates.std(0, ddof=1) / np.sqrt(len(keys))
    exact = -np.asarray(jax.grad(expectation)(logits)) / 2
    assert np.abs(exact[0, 0]).min() > 10 * error[0, 0].max()  # a wrong sign or factor would show
    assert (np.abs(estimates.mean(0) - exact) <= 5 * error + 1e-7).all()


def test_reward_is_minus_the_log_of_a_ratio_to_a_lower_bound(labelled):
    """Every user alone costs less than any plan; e times that gives -1; what is infeasible gives the floor."""
    problem = problem_of(labelled.instances.costs)
    alone = np.asarray(cost_alone(problem))
    assert (alone <= labelled.cost * (1 + 1e-6)).all() and (alone > 0).all()
    costs = jnp.stack([cost_alone(problem), np.e * cost_alone(problem), jnp.full(len(alone), jnp.inf)], axis=1)
    wanted = np.broadcast_to([0.0, -1.0, -np.log(LARGEST_RATIO)], (len(alone), 3))
    np.testing.assert_allclose(reward_of(costs, problem), wanted, atol=1e-5)


def first_batch(config, labelled):
    """Returns a state and a batch of the settings' size."""
    encoded = encode_set(labelled, Normalisation.fit([labelled.instances]))
    indices = np.arange(config.training.batch_size) % len(labelled)
    return create_state(config, jax.tree.map(lambda x: x[:1], encoded.graph)), pick(encoded, indices)


def test_labels_never_reach_the_learner(tiny_grlo, labelled):
    """Two batches that differ in their labels alone give the same parameters, bit for bit."""
    state, batch = first_batch(tiny_grlo(), labelled)
    step = make_train_step(tiny_grlo())
    ours, metrics, _ = step(replicate(state), split(batch, jax.local_device_count()))
    spoilt = batch._replace(offload=1 - batch.offload, share=np.full_like(batch.share, np.nan))
    theirs, _, _ = step(replicate(state), split(spoilt, jax.local_device_count()))
    assert_equal(jax.device_get(ours.params), jax.device_get(theirs.params))
    assert metrics._fields == ("loss", "policy", "imitation", "value", "entropy", "reward", "gradient_norm")
    assert all(np.isfinite(metrics)) and metrics.gradient_norm > 0


def test_interrupted_and_resumed_run_equals_an_undisturbed_one(grlo_run, tiny_grlo, tmp_path, data_root):
    """Told to end after step 3, ended after step 4 and gone on with: the same parameters and metrics, bit for bit."""
    lines = (grlo_run / "metrics.jsonl").read_text()
    last = json.loads(lines.splitlines()[-1])

    def interrupt(progress):
        if progress.stage == "train" and progress.done == 3:
            os.kill(os.getpid(), signal.SIGINT)

    stopped = train(tiny_grlo(), tmp_path / "cut", data_root, interrupt)
    assert (stopped.step, stopped.interrupted) == (4, True)
    resumed = train(tiny_grlo(), tmp_path / "cut", data_root)
    assert (resumed.step, resumed.best_ratio) == (last["step"], last["ratio"]) == (6, last["ratio"])
    assert last["ratio"] < np.inf
    assert_equal(saved(grlo_run), saved(tmp_path / "cut"))
    assert lines == (tmp_path / "cut/metrics.jsonl").read_text()
    assert {"reward", "entropy", "value"} <= set(last)
    with pytest.raises(ValueError, match=r"other settings: learner = 'grlo' there, 'diffusion' here"):
        train(replace(tiny_grlo(), learner="diffusion"), tmp_path / "cut", data_root)


def test_a_run_older_than_a_setting_has_its_default(grlo_run, tiny_grlo, tmp_path, data_root):
    """Without the key in its checkpoint a run loads and goes on; with another value it is refused."""
    workdir = shutil.copytree(grlo_run, tmp_path / "run")
    (meta,) = workdir.glob("checkpoints/[0-9]*/meta/metadata")
    values = json.loads(meta.read_text())
    del values["config"]["grlo"]
    meta.write_text(json.dumps(values))
    next(workdir.glob("checkpoints/*.sha256")).unlink()  # that version wrote none
    checkpoints = Checkpoints(workdir)
    assert checkpoints.load().config == tiny_grlo()
    checkpoints.close()
    assert train(tiny_grlo(), workdir, data_root).step == 6
    other = replace(tiny_grlo(), grlo=GRLOConfig(num_actions=3))
    with pytest.raises(ValueError, match=r"other settings: grlo\.num_actions = 8 there, 3 here"):
        train(other, workdir, data_root)


def test_methods_are_named_by_their_settings():
    """One name per kind of run; without the younger keys a run is GADSG's."""
    kinds = {
        "gadsg": {},
        "gadsg-directed": {"model": {"directed": True}},
        "gdsg": {"model": {"encoder": "convolution", "directed": True}},
        "gdsg-both": {"model": {"encoder": "convolution"}},
        "grlo": {"learner": "grlo"},
    }
    for name, values in kinds.items():
        assert ExperimentConfig.from_dict(values).method == name


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"learner": "dqn"}, "learner: Expected one of diffusion, grlo, got 'dqn'"),
        ({"grlo": {"num_actions": 0}}, "grlo.num_actions: Expected at least 1, got 0"),
        ({"grlo": {"entropy_weight": -1.0}}, "grlo.entropy_weight: Expected a finite number, at least 0, got -1.0"),
        ({"grlo": {"value_weight": float("nan")}}, "grlo.value_weight: Expected a finite number"),
        ({"grlo": {"actions": 3}}, "grlo.actions: Expected one of num_actions, policy_weight"),
        (
            {"learner": "grlo", "decode": {"allocation": "model"}},
            "decode.allocation: Expected 'optimal' with learner 'grlo', got 'model'",
        ),
    ],
)
def test_bad_settings_are_named(values, message):
    """The error names setting, value and remedy."""
    with pytest.raises(ValueError, match=message):
        ExperimentConfig.from_dict(values)


LEARNING = {"policy gradient": GRLOConfig(imitation_weight=0.0, num_actions=16), "all": GRLOConfig(num_actions=16)}


@pytest.mark.slow
@pytest.mark.parametrize("settings", LEARNING.values(), ids=LEARNING.keys())
def test_the_actor_learns_one_instance_by_heart(tiny_grlo, labelled, settings):
    """Its likeliest action, without any exploration, becomes the certified optimum, or all but that from rewards alone.

    Before training it is far from it.
    """
    config = replace(tiny_grlo(steps=300, batch_size=16, learning_rate=3e-3), grlo=settings)
    config = replace(config, model=replace(config.model, num_layers=2))
    encoded = encode_set(labelled, Normalisation.fit([labelled.instances]))
    state, batch = create_state(config, encoded.graph), pick(encoded, np.zeros(16, dtype=np.int32))
    step, num_devices = make_train_step(config), jax.local_device_count()

    def ratio(params):
        one = jax.tree.map(lambda x: jnp.asarray(x[:1]), (batch.graph, batch.problem))
        keys = sample_keys(Stream(jnp.uint32(0)), jnp.zeros(1, jnp.int32), 1)
        actions = act(ActorCritic(config.model), params, keys, *one)
        server = np.asarray(repaired(actions.offload, one[1])).T[0].astype(np.int64)  # [cand user]
        costs = labelled.instances[:1].costs
        return float(plan_cost(costs, server, optimal_shares(costs, server))[0] / labelled.cost[0])

    before, state = ratio(state.params), replicate(state)
    for _ in range(config.training.steps):
        state, metrics, _ = step(state, split(batch, num_devices))
    after = ratio(jax.device_get(state.params))
    assert before > 1.1
    assert after == pytest.approx(1.0, rel=1e-9 if settings.imitation_weight else 0.02)
    assert float(metrics.value) < 0.02  # the critic knows the reward of the one instance


RUN = """
import sys
from dataclasses import replace
from pathlib import Path
sys.path.insert(0, sys.argv[3])
import jax
from runs import TINY
from laegd.training.loop import train
assert jax.local_device_count() == int(sys.argv[4])
train(replace(TINY, learner="grlo"), Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_two_devices_train_like_one(tmp_path, data_root):
    """The same six steps on one and on two devices end in the same parameters to rounding."""
    for devices in (1, 2):
        arguments = [tmp_path / str(devices), data_root, Path(__file__).parents[1], devices]
        environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)}
        subprocess.run([sys.executable, "-c", RUN, *map(str, arguments)], env=environment, check=True)
    assert_equal(saved(tmp_path / "1"), saved(tmp_path / "2"), rtol=1e-4, atol=1e-5)
