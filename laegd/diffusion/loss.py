"""The joint training loss. Source: [1] GADSG, Algorithm 1 and Eqs. 45-47.

Where we differ: Algorithm 1 prints the clean bits as input of the classifier, which leaks the answer; Eqs. 35-36 are
followed and the bits are noised too. Sums and counts are returned apart, so that means over several devices are
exact.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from laegd.diffusion.categorical import noise_bits
from laegd.diffusion.gaussian import noise_signal, normals, to_signal
from laegd.diffusion.schedules import Schedule


@runtime_checkable
class DenoiseFn(Protocol):
    """All that diffusion knows of a network."""

    def __call__(
        self, xt: Float[Array, "*edge"], yt: Float[Array, "*edge"], t: Array, graph: Any
    ) -> tuple[Float[Array, "*edge 2"], Float[Array, "*edge"]]:
        """Returns logits of the bits and the predicted noise of the shares; `t` broadcasts against the edges."""
        ...


class LossSums(NamedTuple):
    """Sums over real edges."""

    cross_entropy: Float[Array, ""]
    squared_error: Float[Array, ""]
    num_edges: Float[Array, ""]


def joint_loss(
    denoise: DenoiseFn,
    keys: Array,
    graph: Any,
    x0: Float[Array, "batch *edge"],
    share: Float[Array, "batch *edge"],
    edge_mask: Bool[Array, "batch *edge"],
    schedule: Schedule,
) -> LossSums:
    """Noises labels at a random step per example and scores the denoiser; `keys` has one key per example."""
    key_t, key_x, key_y = jnp.moveaxis(jax.vmap(lambda key: jax.random.split(key, 3))(keys), 1, 0)
    t = jax.vmap(lambda key: jax.random.randint(key, (), 1, schedule.num_steps + 1))(key_t)
    t = t.reshape(t.shape + (1,) * (x0.ndim - 1))  # [batch, 1, ...]
    eps = normals(key_y, x0.shape[1:])
    xt = noise_bits(key_x, x0, t, schedule)
    logits, eps_hat = denoise(xt, noise_signal(to_signal(share), eps, t, schedule), t, graph)
    cross_entropy = optax.softmax_cross_entropy_with_integer_labels(logits, x0.astype(jnp.int32))
    mask = edge_mask.astype(jnp.float32)
    return LossSums(jnp.sum(cross_entropy * mask), jnp.sum((eps_hat - eps) ** 2 * mask), jnp.sum(mask))
