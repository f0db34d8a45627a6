"""The sampler and the loss with an oracle in the network's place."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from laegd.diffusion.ddim import BELIEF_NOISE, SamplerConfig, sample, with_noisy_copies
from laegd.diffusion.gaussian import to_signal
from laegd.diffusion.loss import joint_loss
from laegd.diffusion.schedules import DiffusionConfig, make_schedule

SCHEDULE = make_schedule(DiffusionConfig(200))
X0 = (jax.random.uniform(jax.random.PRNGKey(5), (6, 4, 3)) < 0.3).astype(jnp.float32)
SHARE = X0 * jax.random.uniform(jax.random.PRNGKey(6), X0.shape)


def oracle(xt, yt, t, graph):
    """Knows the clean plan: certain logits, and the very noise that leads from it to y_t."""
    alpha_bar = jnp.asarray(SCHEDULE.alpha_bar)[t]
    x0, share = graph
    logits = 40.0 * jnp.stack([1 - x0, x0], axis=-1)
    return logits, (yt - jnp.sqrt(alpha_bar) * to_signal(share)) / jnp.sqrt(1 - alpha_bar)


@pytest.mark.parametrize("steps", [1, 2, 5, 20, 200])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_sampler_with_an_oracle_returns_the_clean_plan(steps, eta):
    """Whatever the number of jumps, an oracle's plan comes out."""
    keys = jax.random.split(jax.random.PRNGKey(0), (6, 3))
    drawn = sample(oracle, keys, (X0, SHARE), X0.shape[1:], SCHEDULE, SamplerConfig(steps, eta))
    assert drawn.belief.shape == (6, 3, steps, 4, 3)
    for number, step in np.ndindex(3, steps):
        np.testing.assert_allclose(drawn.belief[:, number, step], X0, atol=1e-5)
        np.testing.assert_allclose(drawn.share[:, number, step], SHARE, atol=1e-4)


def opinionated(xt, yt, t, graph):
    """Believes in what it sees: 0.88 for a bit that is set, 0.27 for one that is not."""
    logits = jnp.where(xt > 0.5, 2.0, -1.0)
    return jnp.stack([jnp.zeros_like(logits), logits], axis=-1), yt


def test_a_jump_draws_from_the_posterior():
    """From t = 200 to 100, by Bayes' rule over the chain's matrices, within 5 standard deviations of 40,000 bits."""
    size = (200, 200)
    config = SamplerConfig(2, share_first_half=False)
    drawn = sample(opinionated, jax.random.split(jax.random.PRNGKey(3), (1, 1)), None, size, SCHEDULE, config)
    before, after = (np.asarray(drawn.belief[0, 0, step]) > 0.5 for step in (0, 1))  # the bits, by what was believed
    signal = np.asarray(SCHEDULE.bit_signal)

    def chain(from_step, to_step):  # [x_from, x_to]; bits flip with the same chance either way
        kept = (1 + signal[to_step] / signal[from_step]) / 2
        return np.array([[kept, 1 - kept], [1 - kept, kept]])

    for bit in (0, 1):
        belief = 1 / (1 + np.exp(-(2.0 if bit else -1.0)))
        joint = chain(0, 100) * chain(100, 200)[:, bit]  # [x_0, x_100] with x_200 = bit
        expected = np.array([1 - belief, belief]) @ (joint[:, 1] / joint.sum(axis=1))
        number = (before == bit).sum()
        got = after[before == bit].mean()
        assert abs(got - expected) < 5 * np.sqrt(expected * (1 - expected) / number)


def blurred(xt, yt, t, graph):
    return jnp.stack([-xt, 0.3 * yt], axis=-1), 0.5 * yt


def test_sample_depends_on_its_key_alone():
    """The third instance gives the same samples alone as among others, and no others where more are drawn."""
    config = SamplerConfig(5, 1.0)
    keys = jax.random.split(jax.random.PRNGKey(0), (6, 4))
    together = sample(blurred, keys, None, (4, 3), SCHEDULE, config)
    alone = sample(blurred, keys[2:3, :2], None, (4, 3), SCHEDULE, config)
    np.testing.assert_allclose(together.belief[2, :2], alone.belief[0], rtol=1e-6)
    np.testing.assert_allclose(together.share[2, :2], alone.share[0], rtol=1e-6)
    assert not np.allclose(together.belief[2, 0], together.belief[2, 1])


def calls_and_beliefs(num_steps, num_samples, **settings):
    """Returns the examples of every network call, in the order of t, and the beliefs drawn for six instances."""
    calls = []

    def spy(xt, yt, t, graph):
        jax.debug.callback(lambda t: calls.append((int(t.ravel()[0]), t.size)), t)
        return blurred(xt, yt, t, graph)

    keys = jax.random.split(jax.random.PRNGKey(0), (6, 4))[:, :num_samples]
    drawn = sample(spy, keys, None, (4, 3), SCHEDULE, SamplerConfig(num_steps, **settings))
    jax.effects_barrier()
    return [size for _, size in sorted(calls, reverse=True)], drawn.belief


def test_calls_of_the_first_half_are_shared():
    """One example per instance in two of five jumps, then one per sample; what is heard is heard by all."""
    sizes, beliefs = calls_and_beliefs(5, 4)
    assert sizes == [6, 6, 24, 24, 24]
    np.testing.assert_array_equal(beliefs[:, :, :2], jnp.broadcast_to(beliefs[:, :1, :2], (6, 4, 2, 4, 3)))
    for step in (2, 3, 4):
        assert not np.allclose(beliefs[:, 0, step], beliefs[:, 1, step])


@pytest.mark.parametrize(
    "num_steps, num_samples, shared, sizes",
    [(1, 4, True, [24]), (2, 4, True, [6, 24]), (5, 1, True, [6] * 5), (5, 4, False, [24] * 5)],
)
def test_calls_that_are_not_shared(num_steps, num_samples, shared, sizes):
    """A single jump is each sample's own, and so are all where sharing is turned off; the first sample is the same."""
    asked, beliefs = calls_and_beliefs(num_steps, num_samples, share_first_half=shared)
    assert asked == sizes
    np.testing.assert_allclose(beliefs[:, :1], calls_and_beliefs(num_steps, 2)[1][:, :1], rtol=1e-6)


def test_last_step_alone_is_the_last_of_every_step():
    """Nothing else changes; and the steps before it said something else."""
    keys = jax.random.split(jax.random.PRNGKey(0), (6, 4))
    every = sample(blurred, keys, None, (4, 3), SCHEDULE, SamplerConfig(5))
    last = sample(blurred, keys, None, (4, 3), SCHEDULE, SamplerConfig(5, every_step=False))
    np.testing.assert_array_equal(last.belief[:, :, 0], every.belief[:, :, -1])
    np.testing.assert_array_equal(last.share[:, :, 0], every.share[:, :, -1])
    assert last.belief.shape[2] == 1 and not np.allclose(every.belief[:, :, 0], every.belief[:, :, -1])


def test_copies_of_beliefs_have_normal_noise_on_their_logits():
    """The belief itself comes first; what is sure stays so; the same noise for all instances, whatever N."""
    keys = jax.random.split(jax.random.PRNGKey(3), 4)
    belief = jax.random.uniform(jax.random.PRNGKey(4), (2, 4, 5, 20, 10), minval=0.05, maxval=0.95)
    belief = belief.at[..., 0].set(0.0).at[..., 1].set(1.0)
    copies = with_noisy_copies(keys, belief, 3)
    assert copies.shape == (2, 4, 4, 5, 20, 10)
    np.testing.assert_array_equal(copies[:, 0], belief)
    assert (copies[..., 0] == 0.0).all() and (copies[..., 1] == 1.0).all()
    unsure = np.asarray(copies[..., 2:], dtype=np.float64)
    logit = np.log(unsure / (1 - unsure))
    noise = logit[:, 1:] - logit[:, :1]
    np.testing.assert_allclose(noise[0], noise[1], atol=2e-3)  # near 1 single precision has few logits
    # 9,600 normal numbers: their mean and standard deviation are known to 2 / sqrt(9600) = 0.02 and to 0.015.
    assert abs(noise[0].mean()) < 0.09 and abs(noise[0].std() - BELIEF_NOISE) < 0.06
    for axis in (0, 1, 2):  # copies, samples and steps have noise of their own
        one, other = (np.take(noise[0], number, axis).ravel() for number in (0, 1))
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.1
    np.testing.assert_array_equal(with_noisy_copies(keys[:2], belief[:, :2], 3), copies[:, :, :2])
    np.testing.assert_array_equal(with_noisy_copies(keys, belief, 0)[:, 0], belief)


def test_oracle_has_no_loss():
    """Certain logits and the true noise cost nothing."""
    keys = jax.random.split(jax.random.PRNGKey(1), 6)
    sums = joint_loss(oracle, keys, (X0, SHARE), X0, SHARE, X0 < 2, SCHEDULE)
    assert float(sums.cross_entropy) < 1e-3
    assert float(sums.squared_error) < 1e-3
    assert float(sums.num_edges) == X0.size


def test_ignorant_network_pays_log_two_per_edge_and_masked_edges_are_free():
    """Logits of 0 cost log 2 per real edge; noise predicted as 0 costs about its variance, 1."""

    def ignorant(xt, yt, t, graph):
        return jnp.zeros((*xt.shape, 2)), jnp.zeros_like(yt)

    keys = jax.random.split(jax.random.PRNGKey(1), 500)
    x0 = jnp.ones((500, 4, 3))
    mask = jnp.zeros((500, 4, 3), bool).at[:, :2].set(True)
    sums = joint_loss(ignorant, keys, None, x0, x0, mask, SCHEDULE)
    assert float(sums.num_edges) == 3000
    assert float(sums.cross_entropy) == pytest.approx(3000 * np.log(2), rel=1e-5)
    # The mean of 3,000 squared normals has a standard error of sqrt(2 / 3000) = 0.026.
    assert float(sums.squared_error) / 3000 == pytest.approx(1.0, abs=4 * 0.026)


def test_network_never_sees_the_clean_bits():
    """At large t the noised bits agree with the labels about half the time: nothing leaks."""
    seen = {}

    def spy(xt, yt, t, graph):
        seen["xt"], seen["t"] = xt, t
        return jnp.zeros((*xt.shape, 2)), yt

    keys = jax.random.split(jax.random.PRNGKey(2), 2000)
    x0 = jnp.ones((2000, 4, 3))
    joint_loss(spy, keys, None, x0, x0, x0 > 0, SCHEDULE)
    late = seen["t"][:, 0, 0] > 150
    assert abs(float(seen["xt"][late].mean()) - 0.5) < 0.03
    assert set(np.unique(seen["t"])) <= set(range(1, 201))


@pytest.mark.parametrize(
    "field, value", [("num_steps", 0), ("eta", -0.1), ("eta", 1.5), ("noisy_copies", -1), ("noisy_copies", 101)]
)
def test_bad_sampler_settings_are_refused(field, value):
    """The error names the setting and its value."""
    with pytest.raises(ValueError, match=rf"sampler\.{field}: Expected .* got {value}"):
        SamplerConfig(**{field: value})
