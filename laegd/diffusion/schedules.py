"""Noise schedules for the offloading bits and the shares.

Source: [1] GADSG, Sec. IV-C; equation numbers refer to [1]. Its linear betas, 1e-4 to 2e-2, are those of 1000 steps;
with T = 200 a seventh of the signal would survive, against its own condition prod(1 - beta) ~ 0. So beta is scaled by
1000/T.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from jaxtyping import Float

from laegd.scenario.scenario import in_short

LINEAR_BETA = (1e-4, 2e-2)  # first and last beta of DDPM's 1000 steps
LINEAR_STEPS = 1000
COSINE_OFFSET = 0.008  # Nichol and Dhariwal 2021, Eq. 17
MAX_STEPS = 100_000  # a hundred times DDPM's
MAX_BETA = 0.999  # the same paper's cap, against a singular last step
MAX_FINAL_SIGNAL = 1e-2  # alpha_bar_T above this: sampling would start from what training never saw


@dataclass(frozen=True)
class DiffusionConfig:
    """Settings of the forward process."""

    num_steps: int = 200
    """T; Table III."""
    schedule: Literal["linear", "cosine"] = "linear"
    """Form of beta_t."""

    def __post_init__(self) -> None:
        make_schedule(self)


@dataclass(frozen=True)
class Schedule:
    """What is left of the data after t = 0 .. T steps, as constants of the traced program."""

    alpha_bar: Float[np.ndarray, "step"]  # prod(1 - beta), Eq. 40; the shares' signal power
    bit_signal: Float[
        np.ndarray, "step"
    ]  # prod(1 - 2 beta): a bit is flipped with probability (1 - bit_signal) / 2, Eq. 36

    @property
    def num_steps(self) -> int:
        """T."""
        return len(self.alpha_bar) - 1


def make_schedule(config: DiffusionConfig) -> Schedule:
    """Builds the schedule; raises ValueError where it does not end in noise."""
    steps = config.num_steps
    if steps < 1:
        raise ValueError(f"diffusion.num_steps: Expected at least 1 step, got {steps}. Use 200.")
    if steps > MAX_STEPS:
        raise ValueError(
            f"diffusion.num_steps: Expected at most {MAX_STEPS:,} steps, got {in_short(repr(steps))}. Use 200."
        )
    if config.schedule == "linear":
        beta = np.linspace(*LINEAR_BETA, steps) * LINEAR_STEPS / steps
    else:
        angle = (np.arange(steps + 1) / steps + COSINE_OFFSET) / (1 + COSINE_OFFSET) * np.pi / 2
        beta = 1.0 - np.cos(angle[1:]) ** 2 / np.cos(angle[:-1]) ** 2
    beta = np.minimum(beta, MAX_BETA)
    alpha_bar = np.concatenate([[1.0], np.cumprod(1.0 - beta)])
    # A flip probability of a half already forgets the bit; above that it would remember it inverted.
    bit_signal = np.concatenate([[1.0], np.cumprod(1.0 - 2.0 * np.minimum(beta, 0.5))])
    if alpha_bar[-1] > MAX_FINAL_SIGNAL:
        raise ValueError(
            f"diffusion.schedule: Expected a schedule that ends in noise (alpha_bar_T at most {MAX_FINAL_SIGNAL}), "
            f"got {alpha_bar[-1]:.3g} with {config}. Use linear or cosine with num_steps = 200."
        )
    return Schedule(alpha_bar.astype(np.float32), bit_signal.astype(np.float32))


def stride(num_train_steps: int, num_sample_steps: int) -> list[tuple[int, int]]:
    """Splits T .. 0 into jumps (t, s) of nearly equal length for the DDIM sampler."""
    if not 1 <= num_sample_steps <= num_train_steps:
        raise ValueError(
            f"num_steps: Expected 1 to {num_train_steps} sampling steps, got {num_sample_steps}. "
            "Use 5, or train with more."
        )
    points = np.linspace(num_train_steps, 0, num_sample_steps + 1).round().astype(int).tolist()
    return list(pairwise(points))
