"""The shares' diffusion: its moments, and DDIM against DDPM's posterior."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from laegd.diffusion.gaussian import ddim_step, noise_signal, predict_y0, to_share, to_signal
from laegd.diffusion.schedules import DiffusionConfig, make_schedule

SCHEDULE = make_schedule(DiffusionConfig(200))


def test_shares_map_to_signals_and_back():
    """0, 1/4, 1 become -1, -1/2, 1; what lies outside is clipped on the way back."""
    np.testing.assert_allclose(to_signal(jnp.array([0.0, 0.25, 1.0])), [-1, -0.5, 1])
    np.testing.assert_allclose(to_share(jnp.array([-3.0, -0.5, 2.0])), [0, 0.25, 1])


def test_many_small_steps_equal_one_jump():
    """Eq. 39 applied t times has the mean and variance of Eq. 40."""
    y0, mean, variance = 0.7, 0.7, 0.0
    for t in range(1, 121):
        beta = 1 - float(SCHEDULE.alpha_bar[t]) / float(SCHEDULE.alpha_bar[t - 1])
        mean, variance = np.sqrt(1 - beta) * mean, (1 - beta) * variance + beta
    eps = jax.random.normal(jax.random.PRNGKey(0), (200_000,))
    yt = noise_signal(jnp.full(200_000, y0), eps, jnp.array([120]), SCHEDULE)
    assert float(yt.mean()) == pytest.approx(mean, abs=4 * np.sqrt(variance / 200_000))
    assert float(yt.var()) == pytest.approx(variance, rel=0.02)


def test_true_noise_recovers_the_clean_signal():
    """Predicting y_0 inverts the noising when the noise is known."""
    y0 = jnp.linspace(-1, 1, 9)
    eps = jax.random.normal(jax.random.PRNGKey(1), (9,))
    yt = noise_signal(y0, eps, jnp.array([60]), SCHEDULE)
    np.testing.assert_allclose(predict_y0(yt, eps, 60, SCHEDULE), y0, atol=2e-5)


def test_ddim_with_eta_zero_stays_on_the_noising_path():
    """With the true y_0, y_s is the noising of y_0 with the same noise."""
    y0, eps = jnp.linspace(-0.9, 0.9, 7), jax.random.normal(jax.random.PRNGKey(2), (7,))
    yt = noise_signal(y0, eps, jnp.array([160]), SCHEDULE)
    ys = ddim_step(yt, y0, jnp.zeros(7), 160, 40, SCHEDULE, 0.0)
    np.testing.assert_allclose(ys, noise_signal(y0, eps, jnp.array([40]), SCHEDULE), atol=1e-4)


@pytest.mark.parametrize("t", [2, 50, 200])
def test_ddim_with_eta_one_is_ddpms_posterior(t):
    """Mean and variance of q(y_{t-1} | y_t, y_0) as Ho et al. 2020 give them, Eqs. 6-7."""
    a_t, a_s = float(SCHEDULE.alpha_bar[t]), float(SCHEDULE.alpha_bar[t - 1])
    beta, y0, yt = 1 - a_t / a_s, 0.3, -0.8
    mean = np.sqrt(a_s) * beta / (1 - a_t) * y0 + np.sqrt(1 - beta) * (1 - a_s) / (1 - a_t) * yt
    sd = np.sqrt((1 - a_s) / (1 - a_t) * beta)
    args = (jnp.float32(yt), jnp.float32(y0))
    assert float(ddim_step(*args, jnp.float32(0), t, t - 1, SCHEDULE, 1.0)) == pytest.approx(mean, abs=2e-4)
    assert float(ddim_step(*args, jnp.float32(1), t, t - 1, SCHEDULE, 1.0)) == pytest.approx(mean + sd, abs=2e-4)
