"""The four link models: values worked out by hand, and what must not change them."""

import dataclasses
import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laegd.scenario.channel import line_of_sight_probability, links
from laegd.scenario.generator import Scale, ScenarioConfig, draw
from laegd.scenario.scenario import Channel, Scenario, Server, User, nodes_of


def one_link(server_type, user_type, server_xyz_m, user_xyz_m, radius_m=None, channel=None):
    """Returns covered, gain and rate_bps of a network with one server and one user of 0.2 W."""
    scenario = Scenario(
        channel=channel or Channel(),
        chip_energy_factor=1e-26,
        servers=(Server("s", server_type, *server_xyz_m, 1e10, 100.0, radius_m),),
        users=(User("u", user_type, *user_xyz_m, 3e9, 0.2, 4e9, 4e6, 0.5, 2.0),),
    )
    return tuple(values.item() for values in links(scenario.channel, nodes_of(scenario)))


def test_ground_to_ground_gain_falls_with_the_square_of_distance():
    """1e-3 / 100^2 = 1e-7 (a 60-80-100 triangle)."""
    _, gain, _ = one_link("GS", "GU", (60.0, 0.0, 0.0), (0.0, 80.0, 0.0))
    assert gain == pytest.approx(1e-7, rel=1e-12)


def test_rate_is_shannons():
    """SNR = 0.2 W x 1e-7 / 7.96159e-13 W = 25120.6, and 10 MHz x log2(25121.6) = 146.1664 Mbit/s."""
    _, _, rate_bps = one_link("GS", "GU", (60.0, 0.0, 0.0), (0.0, 80.0, 0.0))
    assert rate_bps == pytest.approx(146.1664e6, rel=1e-6)


def test_rate_at_an_snr_of_one_is_the_bandwidth():
    """log2(1 + 1) = 1: noise power set to 0.2 W x 1e-7."""
    channel = Channel(noise_power_w=2e-8)
    assert one_link("GS", "GU", (100.0, 0.0, 0.0), (0.0, 0.0, 0.0), channel=channel)[2] == pytest.approx(1e7, rel=1e-12)


def test_rate_of_a_hopeless_link_is_linear_in_the_snr_and_not_zero():
    """log2(1 + x) -> x / ln 2 for x = 1e-20, where 1 + x rounds to 1."""
    channel = Channel(noise_power_w=0.2 * 1e-7 / 1e-20)
    _, _, rate_bps = one_link("GS", "GU", (100.0, 0.0, 0.0), (0.0, 0.0, 0.0), channel=channel)
    assert rate_bps == pytest.approx(1e7 * 1e-20 / math.log(2), rel=1e-12)


def test_gain_right_below_the_hap_is_free_space_plus_line_of_sight_loss():
    """20 log10(4 pi 1e8 x 20000 / 299792458) = 98.46838 dB, P_LoS(90 degrees) = 1, so 98.56838 dB = 1.390470e-10."""
    _, gain, _ = one_link("HAP", "GU", (0.0, 0.0, 20_000.0), (0.0, 0.0, 0.0))
    assert gain == pytest.approx(1.390470e-10, rel=1e-6)


def test_air_to_ground_gain_at_45_degrees():
    """d = 282.843 m: 61.478683 dB + P_LoS = 1/(1 + 10 e^-21): 0.1000002 dB, together 61.578683 dB = 6.952351e-7."""
    _, gain, _ = one_link("GS", "AU", (200.0, 0.0, 0.0), (0.0, 0.0, 200.0))
    assert gain == pytest.approx(6.952351e-7, rel=1e-6)


def test_air_to_ground_gain_where_the_line_of_sight_is_even_odds():
    """P_LoS = 1/2 at 10 + ln(10)/0.6 = 13.837642 degrees: 811.9510 m away; 70.894198 + 10.55 dB = 7.171008e-9."""
    _, gain, _ = one_link("GS", "AU", (811.9510076, 0.0, 0.0), (0.0, 0.0, 200.0))
    assert gain == pytest.approx(7.171008e-9, rel=1e-6)


def test_air_to_hap_gain_takes_megahertz_and_kilometres():
    """32.45 + 20 log10(100) + 20 log10(19.8) = 32.45 + 40 + 25.933304 = 98.383304 dB = 1.451007e-10."""
    _, gain, _ = one_link("HAP", "AU", (0.0, 0.0, 20_000.0), (0.0, 0.0, 200.0))
    assert gain == pytest.approx(1.451007e-10, rel=1e-6)


@pytest.mark.parametrize("server_type", ["GS", "HAP"])
@pytest.mark.parametrize("user_type", ["GU", "AU"])
def test_a_user_on_top_of_its_server_is_one_metre_away(server_type, user_type):
    """Distances are at least 1 m, so no gain or rate is infinite."""
    place = (7.0, -3.0, 10.0)
    _, here, rate_bps = one_link(server_type, user_type, place, place)
    assert 0 < here < 1 and math.isfinite(rate_bps)
    if (server_type, user_type) == ("GS", "GU"):
        assert here == 1e-3


def test_line_of_sight_probability_is_one_half_where_its_factors_balance():
    """1 / (1 + k1 exp(-k2 (theta - k1))) = 1/2 at theta = k1 + ln(k1) / k2."""
    for k1, k2 in ((10.0, 0.6), (4.88, 0.43), (9.61, 0.16)):
        channel = Channel(los_factor_1=k1, los_factor_2=k2)
        theta_deg = np.array([k1 + math.log(k1) / k2])
        assert line_of_sight_probability(theta_deg, channel)[0] == pytest.approx(0.5, rel=1e-12)


def test_line_of_sight_probability_grows_with_the_elevation_and_stays_within_0_and_1():
    """Also with factors so large that exp() would overflow."""
    for channel in (Channel(), Channel(los_factor_1=80.0, los_factor_2=50.0)):
        probability = line_of_sight_probability(np.linspace(0, 90, 181), channel)
        assert (probability >= 0).all() and (probability <= 1).all() and (np.diff(probability) >= 0).all()


@pytest.mark.parametrize(("x_m", "covered"), [(899.9, True), (900.0, True), (900.1, False)])
def test_coverage_is_horizontal(x_m, covered):
    """A drone 5 km up counts by its shadow; the edge of the disc belongs to it."""
    assert one_link("GS", "AU", (0.0, 0.0, 0.0), (x_m, 0.0, 5000.0), radius_m=900.0)[0] is covered


def test_no_radius_covers_everyone():
    """A coverage radius of None has no edge."""
    assert one_link("HAP", "GU", (0.0, 0.0, 20_000.0), (1e7, 0.0, 0.0))[0]


def drawn(seed):
    return draw(ScenarioConfig(), Scale(3, 4, 3), 2, np.random.default_rng(seed))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.floats(-np.pi, np.pi))
def test_rotating_the_plane_changes_no_gain_and_no_rate(seed, angle):
    """Only distances and heights count."""
    batch = drawn(seed)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    nodes = batch.nodes
    turned = nodes._replace(server_xyz_m=nodes.server_xyz_m @ turn.T, user_xyz_m=nodes.user_xyz_m @ turn.T)
    before, after = links(batch.channel, nodes), links(batch.channel, turned)
    np.testing.assert_allclose(after.gain, before.gain, rtol=1e-9)
    np.testing.assert_allclose(after.rate_bps, before.rate_bps, rtol=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))
def test_moving_the_whole_network_changes_no_gain(seed, east_m, north_m):
    """The origin is nowhere special."""
    batch = drawn(seed)
    nodes, shift_m = batch.nodes, np.array([east_m, north_m, 0.0])
    moved = nodes._replace(server_xyz_m=nodes.server_xyz_m + shift_m, user_xyz_m=nodes.user_xyz_m + shift_m)
    np.testing.assert_allclose(links(batch.channel, moved).gain, links(batch.channel, nodes).gain, rtol=1e-8)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.permutations(range(7)))
def test_renumbering_users_renumbers_their_links(seed, order):
    """No link knows the index of its user."""
    batch = drawn(seed)
    index = np.array(order)
    changes = {name: getattr(batch.nodes, name)[:, index] for name in batch.nodes._fields if name.startswith("user")}
    before, after = links(batch.channel, batch.nodes), links(batch.channel, batch.nodes._replace(**changes))
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(new, old[:, index])


def test_a_batch_gives_the_same_links_as_its_networks_one_by_one():
    """The leading axis is only for speed."""
    batch = drawn(5)
    together = links(batch.channel, batch.nodes)
    for i in range(len(batch)):
        alone = links(batch.channel, nodes_of(batch.scenario(i)))
        for one, many in zip(alone, together, strict=True):
            np.testing.assert_array_equal(one, many[i])


@pytest.mark.parametrize(("num_servers", "num_users"), [(0, 3), (2, 0), (0, 0)])
def test_networks_without_servers_or_users_have_no_links(num_servers, num_users):
    """Empty axes stay empty instead of failing."""
    scenario = drawn(0).scenario(0)
    small = msgspec.structs.replace(scenario, servers=scenario.servers[:num_servers], users=scenario.users[:num_users])
    assert links(small.channel, nodes_of(small)).gain.shape == (num_users, num_servers)


def test_more_power_and_less_noise_never_slow_a_link():
    """The rate is monotone in the SNR."""
    batch = drawn(1)
    base = links(batch.channel, batch.nodes).rate_bps
    strong = batch.nodes._replace(user_transmit_power_w=batch.nodes.user_transmit_power_w * 2)
    quiet = dataclasses.replace(batch, channel=msgspec.structs.replace(batch.channel, noise_power_w=1e-13))
    assert (links(batch.channel, strong).rate_bps > base).all()
    assert (links(quiet.channel, quiet.nodes).rate_bps > base).all()
