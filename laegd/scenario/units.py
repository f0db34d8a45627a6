"""Physical constants and conversions. Every name carries its unit."""

import numpy as np
from jaxtyping import Float

SPEED_OF_LIGHT_M_S = 299_792_458.0  # exact, SI definition of the metre
EARTH_RADIUS_M = 6_371_008.8  # mean radius, IUGG 1980
HZ_PER_MHZ = 1e6
M_PER_KM = 1e3


def db_to_linear(value_db: Float[np.ndarray, "*batch"]) -> Float[np.ndarray, "*batch"]:
    """Converts a power ratio from decibels to linear."""
    return 10.0 ** (value_db / 10.0)


def metres_from_degrees(
    latitude_deg: Float[np.ndarray, "point"],
    longitude_deg: Float[np.ndarray, "point"],
    centre_deg: tuple[float, float],
) -> Float[np.ndarray, "point 2"]:
    """Projects latitude and longitude to metres east and north of a centre (equirectangular).

    Within 50 km of the centre and below 60 degrees of latitude the error of a distance is below 1 percent.
    """
    centre_latitude, centre_longitude = np.radians(centre_deg)
    north_m = EARTH_RADIUS_M * (np.radians(latitude_deg) - centre_latitude)
    east_m = EARTH_RADIUS_M * np.cos(centre_latitude) * (np.radians(longitude_deg) - centre_longitude)
    return np.stack([east_m, north_m], axis=-1)
