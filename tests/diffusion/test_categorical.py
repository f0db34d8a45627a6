"""The bits' diffusion against probabilities enumerated by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from laegd.diffusion.categorical import noise_bits, posterior
from laegd.diffusion.schedules import DiffusionConfig, make_schedule

SCHEDULES = [
    make_schedule(DiffusionConfig(12)),
    make_schedule(DiffusionConfig(200)),
    make_schedule(DiffusionConfig(50, "cosine")),
]


def transition(schedule, t):
    """One step's 2x2 kernel Q_t, from the schedule's own beta_t."""
    beta = min(1 - float(schedule.alpha_bar[t]) / float(schedule.alpha_bar[t - 1]), 0.5)
    return np.array([[1 - beta, beta], [beta, 1 - beta]])


def kernel(schedule, s, t):
    """Q_{s+1} ... Q_t by matrix products."""
    product = np.eye(2)
    for step in range(s + 1, t + 1):
        product = product @ transition(schedule, step)
    return product


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("s, t", [(0, 1), (0, 7), (1, 2), (3, 4), (2, 9), (7, 12)])
@pytest.mark.parametrize("belief", [0.0, 0.03, 0.5, 0.9, 1.0])
def test_posterior_matches_bayes_rule(schedule, s, t, belief):
    """P(x_s | x_t) = sum over x_0 of belief(x_0) q(x_t | x_s) q(x_s | x_0) / q(x_t | x_0), also at s = 0."""
    prior, to_s, s_to_t = np.array([1 - belief, belief]), kernel(schedule, 0, s), kernel(schedule, s, t)
    to_t = to_s @ s_to_t
    for xt in (0, 1):
        expected = sum(prior[x0] * to_s[x0, 1] * s_to_t[1, xt] / to_t[x0, xt] for x0 in (0, 1))
        found = posterior(jnp.float32(xt), jnp.float32(belief), t, s, schedule)
        assert float(found) == pytest.approx(expected, abs=2e-4)


def test_posterior_at_zero_is_the_belief():
    """At s = 0 the posterior is the model's belief, whatever x_t is."""
    belief = jnp.linspace(0, 1, 11)
    for xt in (0.0, 1.0):
        found = posterior(jnp.full(11, xt), belief, 40, 0, SCHEDULES[1])
        np.testing.assert_allclose(found, belief, atol=1e-6)


def test_noised_bits_flip_with_the_kernels_probability():
    """The share of flipped bits after t steps agrees with the product of kernels within four standard errors."""
    schedule, count = SCHEDULES[1], 40_000
    keys = jax.random.split(jax.random.PRNGKey(3), 4)
    for t in (1, 20, 100, 200):
        x0 = jnp.concatenate([jnp.zeros((4, count)), jnp.ones((4, count))], axis=1)
        xt = noise_bits(keys, x0, jnp.full((4, 1), t), schedule)
        flipped, expected = float((xt != x0).mean()), kernel(schedule, 0, t)[0, 1]
        assert abs(flipped - expected) < 4 * np.sqrt(expected * (1 - expected) / (8 * count))


def test_noise_of_an_example_does_not_depend_on_its_batch():
    """Example 1 of 3 is noised as it is alone."""
    keys = jax.random.split(jax.random.PRNGKey(0), 3)
    x0, t = jnp.ones((3, 5, 4)), jnp.array([100, 150, 30]).reshape(3, 1, 1)
    together = noise_bits(keys, x0, t, SCHEDULES[1])
    alone = noise_bits(keys[1:2], x0[1:2], t[1:2], SCHEDULES[1])
    np.testing.assert_array_equal(together[1], alone[0])
