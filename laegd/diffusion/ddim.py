"""The sampler: noise to beliefs and shares in a few jumps, bits and shares together.

Source: [1] GADSG, Algorithm 2, with DDIM's jumps for the shares and the exact posterior for the bits. Where we differ:
what the network believes at each jump is kept, not at the last one alone, and noisy copies of it beside. Neither costs
a network call, and plans made of all are better than those of the last belief. In the first half of the jumps, where
there is little but noise to see, an instance's samples share one call.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt

from laegd.diffusion.categorical import posterior, uniforms
from laegd.diffusion.gaussian import ddim_step, normals, predict_y0, to_share
from laegd.diffusion.loss import DenoiseFn
from laegd.diffusion.schedules import Schedule, stride
from laegd.scenario.scenario import in_short

MAX_STEPS = 1000
MAX_COPIES = 100
BELIEF_NOISE = 2.0  # standard deviation on the logits of copies; 1 and 3 gave dearer plans, or as good ones


@dataclass(frozen=True)
class SamplerConfig:
    """Settings of the sampler."""

    num_steps: int = 5
    """Jumps from noise to data, one network call each; Table III."""
    eta: float = 0.0
    """Noise of the shares' steps: 0 is DDIM, 1 is DDPM's posterior."""
    every_step: bool = True
    """Plans are made of what the network believes at every step; false: at the last one alone, as in [1]."""
    noisy_copies: int = 3
    """Copies of each belief with noise on its logits, of which plans are made as well; 0: none, as in [1]."""
    share_first_half: bool = True
    """An instance's samples share the calls of the first half of the jumps, rounded down; false: none, as in [1]."""

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise ValueError(f"sampler.num_steps: Expected at least 1 step, got {self.num_steps}. Use 5.")
        if self.num_steps > MAX_STEPS:
            raise ValueError(
                f"sampler.num_steps: Expected at most {MAX_STEPS:,} steps, got {in_short(repr(self.num_steps))}. Use 5."
            )
        if not 0 <= self.eta <= 1:
            raise ValueError(f"sampler.eta: Expected a number from 0 to 1, got {self.eta}. Use 0.")
        if not 0 <= self.noisy_copies <= MAX_COPIES:
            raise ValueError(
                f"sampler.noisy_copies: Expected 0 to {MAX_COPIES:,} copies, got {in_short(repr(self.noisy_copies))}. "
                "Use 3."
            )

    @property
    def num_kept(self) -> int:
        """Number of steps whose beliefs are kept."""
        return self.num_steps if self.every_step else 1

    @property
    def num_beliefs(self) -> int:
        """Number of beliefs that a sample ends with, copies included."""
        return self.num_kept * (1 + self.noisy_copies)


class Sample(NamedTuple):
    """What the network believes at each step that is kept, the last one last."""

    belief: Float[Array, "batch sample step *edge"]  # P(x_0 = 1)
    share: Float[Array, "batch sample step *edge"]  # in [0, 1]


def sample(
    denoise: DenoiseFn, keys: Array, graph: Any, edge_shape: tuple[int, ...], schedule: Schedule, config: SamplerConfig
) -> Sample:
    """Draws one sample per key [batch sample 2] of each of the graphs.

    The same key gives the same sample, whatever else is drawn, but for calls that are shared: there all samples of an
    instance take what the network says to the first of them, and go on from noise of their own.
    """
    batch, num_samples = keys.shape[:2]
    keys = keys.reshape(batch * num_samples, -1)

    def repeated(values: Any, times: int) -> Any:
        return jax.tree.map(lambda x: jnp.repeat(x, times, axis=0), values)

    def keys_at(stage: int | Array) -> tuple[Array, Array]:
        both = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, stage)))(keys)
        return both[:, 0], both[:, 1]

    def believe(noised: tuple[Array, Array], step: Array, graph: Any) -> tuple[Array, Array]:
        (xt, yt), t = noised, step[1]
        logits, eps = denoise(xt, yt, jnp.full((len(xt),) + (1,) * len(edge_shape), t), graph)
        return jax.nn.softmax(logits)[..., 1], predict_y0(yt, eps, t, schedule)

    def move(noised: tuple[Array, Array], said: tuple[Array, Array], step: Array) -> tuple[Array, Array]:
        (xt, yt), (belief, y0), (stage, t, s) = noised, said, step
        key_x, key_y = keys_at(stage)
        xt = (uniforms(key_x, edge_shape) < posterior(xt, belief, t, s, schedule)).astype(jnp.float32)
        noise = normals(key_y, edge_shape) if config.eta > 0 else jnp.zeros_like(yt)
        return xt, ddim_step(yt, y0, noise, t, s, schedule, config.eta)

    def jumps(noised: tuple[Array, Array], steps: Array, per_call: int) -> tuple[tuple[Array, Array], Any]:
        graph_of_call = repeated(graph, num_samples // per_call)

        def jump(noised: tuple[Array, Array], step: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
            xt, yt = noised
            said = repeated(believe((xt[::per_call], yt[::per_call]), step, graph_of_call), per_call)
            return move(noised, said, step), said

        # A loop, not the steps written out: the compiled program is the smaller by their number.
        return jax.lax.scan(jump, noised, steps)

    key_x, key_y = keys_at(0)
    noised = (uniforms(key_x, edge_shape) < 0.5).astype(jnp.float32), normals(key_y, edge_shape)
    from_to = np.array(stride(schedule.num_steps, config.num_steps))  # [step 2]: from t to s
    steps = jnp.asarray(np.column_stack([np.arange(1, len(from_to) + 1), from_to]), dtype=jnp.int32)
    num_shared = config.num_steps // 2 if config.share_first_half and num_samples > 1 else 0
    said = []
    for per_call, part in ((num_samples, steps[:num_shared]), (1, steps[num_shared:])):
        if len(part):
            noised, heard = jumps(noised, part, per_call)
            said.append(heard)
    belief, y0 = (jnp.concatenate(parts)[-config.num_kept :] for parts in zip(*said, strict=True))

    def by_instance(values: Array) -> Array:
        return jnp.moveaxis(values, 0, 1).reshape(batch, num_samples, -1, *edge_shape)

    return Sample(by_instance(belief), by_instance(to_share(y0)))


def with_noisy_copies(
    keys: UInt[Array, "sample 2"], belief: Float[Array, "batch sample step *edge"], num_copies: int
) -> Float[Array, "batch copy sample step *edge"]:
    """Returns each belief and copies of it with normal noise on its logits.

    Who chooses first and what each user prefers differ from copy to copy as far as the network is unsure of them. All
    instances meet the same noise: drawing it costs nothing, and a plan does not depend on its neighbours.
    """
    shape = (num_copies, *belief.shape[2:])
    factor = jnp.exp(BELIEF_NOISE * jnp.moveaxis(normals(keys, shape), 1, 0))  # of the odds
    noisy = belief[:, None] * factor / (1.0 - belief[:, None] + belief[:, None] * factor)
    return jnp.concatenate([belief[:, None], noisy], axis=1)
