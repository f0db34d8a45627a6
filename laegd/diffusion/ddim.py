"""The sampler: noise to beliefs and shares in a few jumps, bits and shares together.

Source: [1] GADSG, Algorithm 2, with DDIM's jumps for the shares and the exact posterior for the bits. Where we differ:
what the network believes at each jump is kept, not at the last one alone. It costs no network call, and plans made of
all are better than those of the last.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from laegd.diffusion.categorical import posterior, uniforms
from laegd.diffusion.gaussian import ddim_step, normals, predict_y0, to_share
from laegd.diffusion.loss import DenoiseFn
from laegd.diffusion.schedules import Schedule, stride
from laegd.scenario.scenario import in_short

MAX_STEPS = 1000


@dataclass(frozen=True)
class SamplerConfig:
    """Settings of the sampler."""

    num_steps: int = 5
    """Jumps from noise to data, one network call each; Table III."""
    eta: float = 0.0
    """Noise of the shares' steps: 0 is DDIM, 1 is DDPM's posterior."""
    every_step: bool = True
    """Plans are made of what the network believes at every step; false: at the last one alone, as in [1]."""

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise ValueError(f"sampler.num_steps: Expected at least 1 step, got {self.num_steps}. Use 5.")
        if self.num_steps > MAX_STEPS:
            raise ValueError(
                f"sampler.num_steps: Expected at most {MAX_STEPS:,} steps, got {in_short(repr(self.num_steps))}. Use 5."
            )
        if not 0 <= self.eta <= 1:
            raise ValueError(f"sampler.eta: Expected a number from 0 to 1, got {self.eta}. Use 0.")

    @property
    def num_beliefs(self) -> int:
        """Number of beliefs that a sample ends with."""
        return self.num_steps if self.every_step else 1


class Sample(NamedTuple):
    """What the network believes at each step that is kept, the last one last."""

    belief: Float[Array, "batch sample step *edge"]  # P(x_0 = 1)
    share: Float[Array, "batch sample step *edge"]  # in [0, 1]


def sample(
    denoise: DenoiseFn, keys: Array, graph: Any, edge_shape: tuple[int, ...], schedule: Schedule, config: SamplerConfig
) -> Sample:
    """Draws one sample per key [batch sample 2] of each of the graphs.

    The same key gives the same sample, whatever else is drawn.
    """
    batch, num_samples = keys.shape[:2]
    keys = keys.reshape(batch * num_samples, -1)
    graph = jax.tree.map(lambda x: jnp.repeat(x, num_samples, axis=0), graph)

    def keys_at(stage: int | Array) -> tuple[Array, Array]:
        both = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, stage)))(keys)
        return both[:, 0], both[:, 1]

    def jump(state: tuple[Array, Array], step: tuple[Array, Array, Array]) -> tuple[tuple[Array, Array], Sample]:
        (stage, t, s), (xt, yt) = step, state
        logits, eps = denoise(xt, yt, jnp.full((len(xt),) + (1,) * len(edge_shape), t), graph)
        belief, y0 = jax.nn.softmax(logits)[..., 1], predict_y0(yt, eps, t, schedule)
        key_x, key_y = keys_at(stage)
        xt = (uniforms(key_x, edge_shape) < posterior(xt, belief, t, s, schedule)).astype(jnp.float32)
        noise = normals(key_y, edge_shape) if config.eta > 0 else jnp.zeros_like(yt)
        return (xt, ddim_step(yt, y0, noise, t, s, schedule, config.eta)), Sample(belief, to_share(y0))

    key_x, key_y = keys_at(0)
    xt = (uniforms(key_x, edge_shape) < 0.5).astype(jnp.float32)
    yt = normals(key_y, edge_shape)
    times = np.array(stride(schedule.num_steps, config.num_steps), dtype=np.int32)
    steps = (jnp.arange(1, len(times) + 1), jnp.asarray(times[:, 0]), jnp.asarray(times[:, 1]))
    # A loop, not the steps written out: the compiled program is the smaller by their number.
    _, drawn = jax.lax.scan(jump, (xt, yt), steps)
    return jax.tree.map(
        lambda x: jnp.moveaxis(x[-config.num_beliefs :], 0, 1).reshape(batch, num_samples, -1, *edge_shape), drawn
    )
