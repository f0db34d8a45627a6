"""The simulator draws what its settings say, and the same again from the same seed."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from laegd.scenario.generator import Scale, ScenarioConfig, TruncatedNormal, draw

PAPER_SCALES = {
    "gs2_gu4_au2": (2, 4, 2),
    "gs2_gu5_au3": (2, 5, 3),
    "gs3_gu6_au4": (3, 6, 4),
    "gs3_gu7_au5": (3, 7, 5),
    "gs6_gu14_au10": (6, 14, 10),
    "gs6_gu16_au11": (6, 16, 11),
    "gs9_gu19_au12": (9, 19, 12),
    "gs9_gu20_au13": (9, 20, 13),
}
DISTRIBUTIONS = [
    ScenarioConfig().workload_flop,
    ScenarioConfig().user_capacity_flops,
    TruncatedNormal(1.0, 0.1, 0.5, 5.0),  # hardly cut
    TruncatedNormal(1.0, 1.0, 3.0, 4.0),  # only the tail is left
]


def scipy_twin(of):
    """Returns the same distribution as scipy has it."""
    return stats.truncnorm((of.low - of.mean) / of.sd, (of.high - of.mean) / of.sd, loc=of.mean, scale=of.sd)


def everything(batch):
    return b"".join(values.tobytes() for values in batch.nodes)


@pytest.mark.parametrize(("name", "numbers"), PAPER_SCALES.items())
def test_a_scale_reads_back_as_it_is_written(name, numbers):
    """The paper's eight names."""
    scale = Scale.parse(name)
    assert (scale.num_ground_servers, scale.num_ground_users, scale.num_aerial_users) == numbers
    assert str(scale) == name and scale.num_users == numbers[1] + numbers[2]


@pytest.mark.parametrize("name", ["", "gs3", "gs3_gu7", "gs3_gu7_au5 ", "GS3_gu7_au5", "gs-3_gu7_au5", "gs3_gu7_au5_x"])
def test_a_name_that_is_no_scale_is_refused(name):
    """The error names the field and shows a good one."""
    with pytest.raises(ValueError, match=r"^scale: Expected a name such as gs3_gu7_au5"):
        Scale.parse(name)


@pytest.mark.parametrize("of", DISTRIBUTIONS)
def test_truncated_normal_follows_scipys(of):
    """Kolmogorov-Smirnov against scipy.stats.truncnorm; the seed is fixed, so this is no lottery."""
    values = of.draw(np.random.default_rng(11), (20_000,))
    assert stats.kstest(values, scipy_twin(of).cdf).pvalue > 0.01


@pytest.mark.parametrize("of", DISTRIBUTIONS)
def test_truncated_normal_has_scipys_mean_and_variance(of):
    """Within five standard errors of 200,000 draws."""
    count, twin = 200_000, scipy_twin(of)
    values = of.draw(np.random.default_rng(12), (count,))
    mean, variance, kurtosis = twin.mean(), twin.var(), twin.stats(moments="k")
    assert values.mean() == pytest.approx(mean, abs=5 * math.sqrt(variance / count))
    assert values.var() == pytest.approx(variance, abs=5 * variance * math.sqrt((kurtosis + 2) / count))


@settings(max_examples=60, deadline=None)
@given(st.floats(-1e3, 1e3), st.floats(0, 1e3), st.floats(1e-3, 1e3), st.floats(0, 1e3), st.integers(0, 2**32))
def test_truncated_normal_stays_within_its_bounds(mean, sd, low, width, seed):
    """Also where the mean lies far outside them, or nothing is random."""
    of = TruncatedNormal(mean, sd, low, low + width)
    values = of.draw(np.random.default_rng(seed), (50,))
    assert (values >= of.low).all() and (values <= of.high).all()


def test_truncated_normal_without_spread_is_constant():
    """sd = 0 gives the mean, or the nearest bound."""
    assert set(TruncatedNormal(2.0, 0.0, 1.0, 3.0).draw(np.random.default_rng(0), (4,))) == {2.0}
    assert set(TruncatedNormal(9.0, 0.0, 1.0, 3.0).draw(np.random.default_rng(0), (4,))) == {3.0}


@pytest.mark.parametrize(
    "numbers",
    [(1.0, 1.0, 0.0, 2.0), (1.0, 1.0, -1.0, 2.0), (1.0, 1.0, 3.0, 2.0), (1.0, -1.0, 1.0, 2.0)]
    + [
        tuple(bad if i == j else good for j, good in enumerate((1.0, 1.0, 0.5, 2.0)))
        for i in range(4)
        for bad in (math.nan, math.inf)
    ],
)
def test_a_truncated_normal_that_makes_no_sense_is_refused(numbers):
    """Bounds are positive and ordered, the spread is not negative, all are finite."""
    with pytest.raises(ValueError, match="truncated normal"):
        TruncatedNormal(*numbers)


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(ScenarioConfig) if f.type in (float, "float")])
@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf, -math.inf])
def test_a_setting_out_of_range_is_refused_by_name(field, value):
    """Every number of the settings, by the name the user wrote."""
    with pytest.raises(ValueError, match=field):
        ScenarioConfig(**{field: value})


@pytest.mark.parametrize("change", [{"num_haps": -1}, {"delay_weight_low": 0.8}, {"delay_weight_high": 1.5}])
def test_settings_that_contradict_each_other_are_refused(change):
    """No negative numbers of platforms; weights in order and within 0 to 1."""
    with pytest.raises(ValueError, match=next(iter(change))):
        ScenarioConfig(**change)


def test_same_seed_same_bytes():
    """Every array, to the last bit."""
    first, again = (draw(ScenarioConfig(), Scale(3, 7, 5), 20, np.random.default_rng(9)) for _ in range(2))
    assert everything(first) == everything(again)


def test_another_seed_gives_another_network():
    """The seed is used."""
    first, other = (draw(ScenarioConfig(), Scale(3, 7, 5), 2, np.random.default_rng(seed)) for seed in (9, 10))
    assert everything(first) != everything(other)


def test_networks_have_the_numbers_heights_and_types_of_their_settings():
    """HAPs come first and stand above the centre; ground users come before aerial ones."""
    config = ScenarioConfig(num_haps=2, hap_altitude_m=18_000.0, au_altitude_m=150.0, gs_coverage_radius_m=700.0)
    nodes = draw(config, Scale(4, 6, 3), 5, np.random.default_rng(0)).nodes
    assert nodes.server_is_hap.tolist() == [[True] * 2 + [False] * 4] * 5
    assert nodes.user_is_aerial.tolist() == [[False] * 6 + [True] * 3] * 5
    np.testing.assert_array_equal(nodes.server_xyz_m[:, :2], np.broadcast_to([0.0, 0.0, 18_000.0], (5, 2, 3)))
    assert (nodes.server_xyz_m[:, 2:, 2] == 0).all() and (nodes.user_xyz_m[:, 6:, 2] == 150.0).all()
    assert np.isinf(nodes.server_radius_m[:, :2]).all() and (nodes.server_radius_m[:, 2:] == 700.0).all()
    assert (nodes.server_active_power_w[0] == [30.0] * 2 + [120.0] * 4).all()
    assert (nodes.user_transmit_power_w[0] == [0.2] * 6 + [0.15] * 3).all()


def test_positions_are_uniform_on_a_square_that_grows_with_the_ground_servers():
    """Nine servers at 1 km^2 each: a square of 3 km; both coordinates pass a Kolmogorov-Smirnov test."""
    nodes = draw(ScenarioConfig(), Scale(9, 20, 13), 300, np.random.default_rng(1)).nodes
    for xyz_m in (nodes.user_xyz_m, nodes.server_xyz_m[:, 1:]):
        for axis in (0, 1):
            assert stats.kstest(xyz_m[..., axis].ravel(), stats.uniform(-1500, 3000).cdf).pvalue > 0.01


def test_tasks_follow_their_settings():
    """Bits are workload / (FLOP per bit), weights lie in their interval, deadlines are the setting."""
    nodes = draw(
        ScenarioConfig(flop_per_bit=500.0, deadline_s=3.0), Scale(2, 40, 0), 50, np.random.default_rng(2)
    ).nodes
    np.testing.assert_allclose(nodes.user_task_bits * 500.0, nodes.user_workload_flop, rtol=1e-15)
    assert stats.kstest(nodes.user_delay_weight.ravel(), stats.uniform(0.3, 0.4).cdf).pvalue > 0.01
    assert (nodes.user_deadline_s == 3.0).all()


@pytest.mark.parametrize("scale", ["gs0_gu2_au1", "gs2_gu0_au0", "gs0_gu0_au0", "gs0_gu5_au0"])
def test_scales_without_servers_or_users_can_be_drawn(scale):
    """Any number of each, also none."""
    batch = draw(ScenarioConfig(), Scale.parse(scale), 2, np.random.default_rng(0))
    assert len(batch) == 2 and len(batch.scenario(1).users) == Scale.parse(scale).num_users


def test_drawing_no_network_gives_an_empty_batch():
    """count = 0 is a number too."""
    assert len(draw(ScenarioConfig(), Scale(2, 4, 2), 0, np.random.default_rng(0))) == 0
