"""Schedules end in noise, and say so where they do not."""

import numpy as np
import pytest

from laegd.diffusion.schedules import DiffusionConfig, Schedule, make_schedule, stride


@pytest.mark.parametrize("form", ["linear", "cosine"])
@pytest.mark.parametrize("steps", [50, 200, 1000])
def test_signal_falls_from_one_to_noise(form, steps):
    """Nothing is lost at t = 0, nearly all at t = T, and never gained on the way."""
    schedule = make_schedule(DiffusionConfig(steps, form))
    for signal in (schedule.alpha_bar, schedule.bit_signal):
        assert signal[0] == 1 and signal[-1] < 1e-2
        assert (np.diff(signal) <= 0).all()
    assert schedule.num_steps == steps


def test_linear_betas_at_1000_steps_are_ddpms():
    """With T = 1000 nothing is scaled: alpha_bar_1 = 1 - 1e-4, and alpha_bar_T = 4.04e-5, the known value of DDPM."""
    schedule = make_schedule(DiffusionConfig(1000))
    assert schedule.alpha_bar[1] == pytest.approx(1 - 1e-4, rel=1e-6)
    assert schedule.alpha_bar[-1] == pytest.approx(4.04e-5, rel=1e-2)


def test_bits_forget_through_products_of_one_minus_two_beta():
    """Two flips with probability b1, b2 leave the bit flipped with b1 (1 - b2) + b2 (1 - b1)."""
    schedule = make_schedule(DiffusionConfig(200))
    beta = 1 - schedule.alpha_bar[1:3].astype(np.float64) / schedule.alpha_bar[0:2]
    flipped_twice = beta[0] * (1 - beta[1]) + beta[1] * (1 - beta[0])
    assert (1 - schedule.bit_signal[2]) / 2 == pytest.approx(flipped_twice, rel=1e-3)


@pytest.mark.parametrize("steps", [0, -3])
def test_no_steps_are_refused(steps):
    """A schedule needs a step."""
    with pytest.raises(ValueError, match=r"num_steps: Expected at least 1 step, got"):
        DiffusionConfig(steps)


def test_schedule_that_keeps_a_signal_is_refused():
    """Two linear steps end in noise, one does not."""
    # beta = 1e-4 * 1000 / 2 and 2e-2 * 1000 / 2 capped at 0.999: (1 - 0.05)(1 - 0.999) = 9.5e-4 ends in noise.
    assert make_schedule(DiffusionConfig(2)).alpha_bar[-1] == pytest.approx(9.5e-4, rel=1e-3)
    # One linear step has beta = min(1e-4 * 1000, 0.999) = 0.1 and keeps 0.9 of the signal.
    with pytest.raises(ValueError, match=r"ends in noise .* got 0\.9 .*Use linear or cosine with num_steps = 200"):
        DiffusionConfig(1)


def test_stride_covers_all_steps_without_overlap():
    """Jumps begin at T, end at 0 and join."""
    jumps = stride(200, 5)
    assert jumps == [(200, 160), (160, 120), (120, 80), (80, 40), (40, 0)]
    assert stride(7, 7) == [(t, t - 1) for t in range(7, 0, -1)]
    with pytest.raises(ValueError, match="Expected 1 to 200 sampling steps, got 201"):
        stride(200, 201)


def test_schedule_is_a_plain_constant():
    """Arrays are float32 NumPy, so that tracing bakes them in."""
    schedule = make_schedule(DiffusionConfig())
    assert isinstance(schedule, Schedule) and schedule.alpha_bar.dtype == np.float32
