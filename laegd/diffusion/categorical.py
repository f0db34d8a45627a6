"""Diffusion of bits with a symmetric 2x2 kernel.

Source: [1] GADSG, Eqs. 35-38; equation numbers refer to [1]. Bits are floats 0/1. Where we differ: the posterior
holds for any s < t, so that the sampler can jump, and at s = 0 it is the model's belief itself.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from laegd.diffusion.schedules import Schedule


def uniforms(keys: Array, shape: tuple[int, ...]) -> Float[Array, "batch ..."]:
    """Draws uniform numbers, one key per example, so that a draw does not depend on its neighbours in the batch."""
    return drawn(jax.random.uniform, keys, shape)


def drawn(draw: Callable[[Array, tuple[int, ...]], Array], keys: Array, shape: tuple[int, ...]) -> Array:
    """Draws numbers of a distribution along one axis, then gives them their shape.

    The numbers are those of a draw in that shape, whose program takes a CPU ten to thirty times as long to compile.
    """
    flat = jax.vmap(lambda key: draw(key, (math.prod(shape),)))(keys)
    return jax.lax.optimization_barrier(flat).reshape(len(keys), *shape)


def noise_bits(
    keys: Array, x0: Float[Array, "batch *edge"], t: Float[Array, "batch *_"] | Array, schedule: Schedule
) -> Float[Array, "batch *edge"]:
    """Draws x_t given x_0; Eq. 36. `t` broadcasts against x0."""
    flip_probability = (1.0 - jnp.asarray(schedule.bit_signal)[t]) / 2.0
    flip = uniforms(keys, x0.shape[1:]) < flip_probability
    return jnp.where(flip, 1.0 - x0, x0)


def posterior(
    xt: Float[Array, "*edge"], belief: Float[Array, "*edge"], t: int | Array, s: int | Array, schedule: Schedule
) -> Float[Array, "*edge"]:
    """Returns P(x_s = 1 | x_t) under the belief P(x_0 = 1); Eqs. 37-38 with any s < t.

    For each x_0, q(x_s | x_t, x_0) = q(x_t | x_s) q(x_s | x_0) / q(x_t | x_0); the belief weighs the two.
    """
    signal = jnp.asarray(schedule.bit_signal)
    keep_0s = (1.0 + signal[s]) / 2.0  # q(x_s = x_0 | x_0)
    ratio = jnp.where(signal[s] > 0, signal[t] / jnp.where(signal[s] > 0, signal[s], 1.0), 0.0)
    keep_st = (1.0 + ratio) / 2.0  # q(x_t = x_s | x_s)
    likelihood_one = jnp.where(xt > 0.5, keep_st, 1.0 - keep_st)  # q(x_t | x_s = 1)
    likelihood_zero = 1.0 - likelihood_one

    def given(prior_one: Array) -> Array:  # P(x_s = 1 | x_t, x_0) from P(x_s = 1 | x_0)
        one, zero = prior_one * likelihood_one, (1.0 - prior_one) * likelihood_zero
        total = one + zero
        # Both vanish only where x_t contradicts a noiseless path; there x_0 alone decides.
        return jnp.where(total > 0, one / jnp.where(total > 0, total, 1.0), prior_one)

    return belief * given(keep_0s) + (1.0 - belief) * given(1.0 - keep_0s)
