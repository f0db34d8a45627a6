"""One training step: means over the batch, and the average of the parameters."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from runs import TINY

from laegd.decoding.candidates import problem_of
from laegd.graphs.encode import Normalisation, encode
from laegd.problem.instance import InstanceBatch
from laegd.problem.networks import draw
from laegd.scenario.generator import Scale, ScenarioConfig
from laegd.training.step import TrainBatch, create_state, make_train_step


@pytest.fixture(scope="module")
def batch():
    """Four graphs with any labels, for one device."""
    instances = InstanceBatch.from_scenarios(
        draw(ScenarioConfig(), Scale.parse("gs2_gu4_au2"), 4, np.random.default_rng(0))
    )
    graph = encode(instances, Normalisation.fit([instances]))
    offload = (np.random.default_rng(1).random(graph.edge_mask.shape) < 0.3) & graph.edge_mask
    share = np.where(offload, 0.4, 0.0).astype(np.float32)
    position = np.arange(4, dtype=np.int32)
    problem = problem_of(instances.costs)
    return TrainBatch(graph, problem, offload.astype(np.float32), share, position, np.zeros(4, dtype=np.int32))


def on_one_device(batch, times=1):
    return jax.tree.map(lambda x: np.concatenate([x] * times)[None], batch)


def leaves(tree):
    return [np.asarray(leaf, dtype=np.float64) for leaf in jax.tree.leaves(tree)]


def test_the_first_average_is_a_tenth_of_the_old_and_nine_tenths_of_the_new(batch):
    """The average starts short: after step n it keeps (1 + n) / (10 + n), at most `ema_decay`, of what it was."""
    state = create_state(TINY, batch.graph)
    old = leaves(state.params)  # before the step, which takes the state's memory
    later, _, _ = make_train_step(TINY)(state, on_one_device(batch))
    first = leaves(later.ema_params), leaves(later.params)
    for before, average, after in zip(old, *first, strict=True):
        np.testing.assert_allclose(average, 0.1 * before + 0.9 * after, rtol=1e-5, atol=1e-7)
    last, _, _ = make_train_step(TINY)(later, on_one_device(batch))
    for before, average, after in zip(first[0], leaves(last.ema_params), leaves(last.params), strict=True):
        np.testing.assert_allclose(average, 2 / 11 * before + 9 / 11 * after, rtol=1e-5, atol=1e-7)


def test_a_batch_of_the_same_twice_is_the_batch(batch):
    """Loss and gradient are means: the same graphs and noise twice give the same numbers."""
    config = replace(TINY, training=replace(TINY.training, clip_norm=1e9))
    found = []
    for times in (1, 2):
        _, metrics, _ = make_train_step(config)(create_state(config, batch.graph), on_one_device(batch, times))
        found.append([float(np.ravel(value)[0]) for value in metrics])
    assert found[0] == pytest.approx(found[1], rel=1e-4) and found[0][-1] > 0
