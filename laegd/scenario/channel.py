"""The four link models, SNR and rate, vectorised over instances, users and servers.

Source: [1] GADSG, Eqs. 1-12; equation numbers refer to [1]. Where its text leaves a unit open: Eq. 10 takes f_c in MHz
and the distance in km, distances are three-dimensional and at least 1 m, elevation angles are in degrees.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from laegd.scenario.scenario import Channel, Nodes
from laegd.scenario.units import HZ_PER_MHZ, M_PER_KM, SPEED_OF_LIGHT_M_S, db_to_linear

MIN_DISTANCE_M = 1.0  # the reference distance of Eq. 1; a user on top of a server is no nearer than that


class Links(NamedTuple):
    """What every user-server pair's radio link gives; pairs out of coverage included."""

    covered: Bool[np.ndarray, "*batch user server"]
    gain: Float[np.ndarray, "*batch user server"]  # linear power gain
    rate_bps: Float[np.ndarray, "*batch user server"]


def free_space_loss_db(distance_m: Float[np.ndarray, "*pair"], carrier_hz: float) -> Float[np.ndarray, "*pair"]:
    """Free-space path loss, the first term of Eqs. 2, 6 and 7."""
    return 20.0 * np.log10(4.0 * np.pi * carrier_hz * distance_m / SPEED_OF_LIGHT_M_S)


def line_of_sight_probability(
    elevation_deg: Float[np.ndarray, "*pair"], channel: Channel
) -> Float[np.ndarray, "*pair"]:
    """Probability of a line of sight under an elevation angle in degrees; Eqs. 3 and 8."""
    k1, k2 = channel.los_factor_1, channel.los_factor_2
    # The exponent is capped where exp() would overflow; the probability is 0 to float64 there anyway.
    return 1.0 / (1.0 + k1 * np.exp(np.minimum(-k2 * (elevation_deg - k1), 700.0)))


def probabilistic_gain(
    distance_m: Float[np.ndarray, "*pair"], elevation_deg: Float[np.ndarray, "*pair"], channel: Channel
) -> Float[np.ndarray, "*pair"]:
    """Gain of ground-to-HAP and air-to-ground links; Eqs. 2-4 and, the same sum written out, 5-9."""
    p_los = line_of_sight_probability(elevation_deg, channel)
    excess_db = p_los * channel.excess_loss_los_db + (1.0 - p_los) * channel.excess_loss_nlos_db
    return db_to_linear(-(free_space_loss_db(distance_m, channel.carrier_hz) + excess_db))


def air_to_hap_gain(distance_m: Float[np.ndarray, "*pair"], channel: Channel) -> Float[np.ndarray, "*pair"]:
    """Gain of air-to-HAP links: 32.45 + 20 log f[MHz] + 20 log d[km]; Eqs. 10-11."""
    loss_db = 32.45 + 20.0 * np.log10(channel.carrier_hz / HZ_PER_MHZ) + 20.0 * np.log10(distance_m / M_PER_KM)
    return db_to_linear(-loss_db)


def links(channel: Channel, nodes: Nodes) -> Links:
    """Computes coverage, gain and rate (Eq. 12) of every user-server pair."""
    offset_m = nodes.user_xyz_m[..., :, None, :] - nodes.server_xyz_m[..., None, :, :]  # [*batch, user, server, 3]
    horizontal_m = np.hypot(offset_m[..., 0], offset_m[..., 1])
    height_m = np.abs(offset_m[..., 2])
    distance_m = np.maximum(np.hypot(horizontal_m, height_m), MIN_DISTANCE_M)
    elevation_deg = np.degrees(np.arctan2(height_m, horizontal_m))
    to_hap = np.broadcast_to(nodes.server_is_hap[..., None, :], distance_m.shape)
    aerial = np.broadcast_to(nodes.user_is_aerial[..., :, None], distance_m.shape)

    gain = np.empty_like(distance_m)
    g2g, a2h = ~to_hap & ~aerial, to_hap & aerial
    other = to_hap ^ aerial  # A2G and G2H
    gain[g2g] = channel.reference_gain / distance_m[g2g] ** 2  # Eq. 1
    gain[a2h] = air_to_hap_gain(distance_m[a2h], channel)
    gain[other] = probabilistic_gain(distance_m[other], elevation_deg[other], channel)

    snr = nodes.user_transmit_power_w[..., :, None] * gain / channel.noise_power_w
    # log1p keeps rates of links with an SNR far below 1 exact to float64.
    rate_bps = channel.bandwidth_hz * np.log1p(snr) / np.log(2.0)
    return Links(horizontal_m <= nodes.server_radius_m[..., None, :], gain, rate_bps)
