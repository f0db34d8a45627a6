"""Diffusion of shares with Gaussian noise.

Source: [1] GADSG, Eqs. 39-43; equation numbers refer to [1]. A share in [0, 1] is diffused as 2 y - 1. Where we
differ: [1]'s Algorithm 2 adds noise that is DDPM's only by accident; the step here is DDIM's (Song et al. 2021, Eq.
12) with eta.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from laegd.diffusion.categorical import drawn
from laegd.diffusion.schedules import Schedule


def to_signal(share: Float[Array, "*edge"]) -> Float[Array, "*edge"]:
    """Maps shares in [0, 1] to [-1, 1]."""
    return 2.0 * share - 1.0


def to_share(signal: Float[Array, "*edge"]) -> Float[Array, "*edge"]:
    """Maps [-1, 1] back to shares in [0, 1], clipping what lies outside."""
    return jnp.clip((signal + 1.0) / 2.0, 0.0, 1.0)


def normals(keys: Array, shape: tuple[int, ...]) -> Float[Array, "batch ..."]:
    """Draws normal numbers, one key per example."""
    return drawn(jax.random.normal, keys, shape)


def noise_signal(
    y0: Float[Array, "*edge"], eps: Float[Array, "*edge"], t: Array, schedule: Schedule
) -> Float[Array, "*edge"]:
    """Returns y_t = sqrt(alpha_bar_t) y_0 + sqrt(1 - alpha_bar_t) eps; Eq. 40."""
    alpha_bar = jnp.asarray(schedule.alpha_bar)[t]
    return jnp.sqrt(alpha_bar) * y0 + jnp.sqrt(1.0 - alpha_bar) * eps


def predict_y0(
    yt: Float[Array, "*edge"], eps: Float[Array, "*edge"], t: int | Array, schedule: Schedule
) -> Float[Array, "*edge"]:
    """Estimates y_0 from the predicted noise, clipped to [-1, 1]; Eq. 41."""
    alpha_bar = jnp.asarray(schedule.alpha_bar)[t]
    return jnp.clip((yt - jnp.sqrt(1.0 - alpha_bar) * eps) / jnp.sqrt(alpha_bar), -1.0, 1.0)


def ddim_step(
    yt: Float[Array, "*edge"],
    y0: Float[Array, "*edge"],
    noise: Float[Array, "*edge"],
    t: int | Array,
    s: int | Array,
    schedule: Schedule,
    eta: float,
) -> Float[Array, "*edge"]:
    """Returns y_s given y_t and an estimate of y_0; eta = 0 adds no noise, eta = 1 is DDPM's posterior."""
    alpha_bar = jnp.asarray(schedule.alpha_bar)
    a_t, a_s = alpha_bar[t], alpha_bar[s]
    eps = (yt - jnp.sqrt(a_t) * y0) / jnp.sqrt(1.0 - a_t)  # the noise that agrees with the clipped y_0
    sigma = eta * jnp.sqrt((1.0 - a_s) / (1.0 - a_t) * (1.0 - a_t / a_s))
    direction = jnp.sqrt(jnp.maximum(1.0 - a_s - sigma**2, 0.0))
    return jnp.sqrt(a_s) * y0 + direction * eps + sigma * noise
