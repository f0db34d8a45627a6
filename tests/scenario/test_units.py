"""Conversions of units, and the projection of degrees to metres."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laegd.scenario.units import EARTH_RADIUS_M, db_to_linear, metres_from_degrees

MELBOURNE = (-37.81, 144.96)


def great_circle_m(first, second):
    """Haversine distance of two (latitude, longitude) pairs in degrees."""
    (a, b), (c, d) = np.radians(first), np.radians(second)
    h = math.sin((c - a) / 2) ** 2 + math.cos(a) * math.cos(c) * math.sin((d - b) / 2) ** 2
    return 2 * EARTH_RADIUS_M * math.asin(math.sqrt(h))


@pytest.mark.parametrize(("decibels", "linear"), [(0.0, 1.0), (10.0, 10.0), (-30.0, 1e-3), (200.0, 1e20)])
def test_decades_of_decibels_are_powers_of_ten(decibels, linear):
    """Ten decibels are a factor of ten by definition."""
    assert db_to_linear(np.array([decibels]))[0] == pytest.approx(linear, rel=1e-14)


def test_decibels_add_where_ratios_multiply():
    """10^(a+b) = 10^a 10^b."""
    a, b = np.linspace(-120, 40, 33), np.linspace(17, -90, 33)
    np.testing.assert_allclose(db_to_linear(a + b), db_to_linear(a) * db_to_linear(b), rtol=1e-12)


def test_centre_is_the_origin_and_east_and_north_are_positive():
    """x points east and y north, from the centre."""
    xy_m = metres_from_degrees(np.array([-37.81, -37.81, -37.80]), np.array([144.96, 144.97, 144.96]), MELBOURNE)
    np.testing.assert_array_equal(xy_m[0], [0.0, 0.0])
    assert xy_m[1, 0] > 0 and xy_m[1, 1] == 0
    assert xy_m[2, 1] > 0 and xy_m[2, 0] == 0


def test_a_degree_of_latitude_is_111_km():
    """2 pi 6371.0088 km / 360 = 111.19508 km along a meridian, everywhere."""
    xy_m = metres_from_degrees(np.array([61.0]), np.array([10.0]), (60.0, 10.0))
    assert xy_m[0, 1] == pytest.approx(111_195.08, abs=0.01)


def test_a_degree_of_longitude_shrinks_with_the_cosine_of_latitude():
    """cos 60 degrees = 1/2: half of 111.19508 km."""
    xy_m = metres_from_degrees(np.array([60.0]), np.array([11.0]), (60.0, 10.0))
    assert xy_m[0, 0] == pytest.approx(55_597.54, abs=0.01)


@given(
    st.floats(-60, 60),
    st.floats(-179, 179),
    st.tuples(st.floats(-0.3, 0.3), st.floats(-0.3, 0.3)),
)
def test_distances_from_the_centre_agree_with_the_great_circle(latitude, longitude, offset):
    """Within 50 km and below 60 degrees a distance is right to one percent, as the docstring promises."""
    point = (latitude + offset[0], longitude + offset[1])
    xy_m = metres_from_degrees(np.array([point[0]]), np.array([point[1]]), (latitude, longitude))
    distance_m = great_circle_m((latitude, longitude), point)
    assert np.hypot(*xy_m[0]) == pytest.approx(distance_m, rel=0.01, abs=1e-3)


def test_a_hundred_metres_across_melbourne_are_right_to_a_millimetre_per_metre():
    """Two points 0.001 degrees apart, against the haversine formula."""
    a, b = (-37.8136, 144.9631), (-37.8126, 144.9641)
    xy_m = metres_from_degrees(np.array([a[0], b[0]]), np.array([a[1], b[1]]), MELBOURNE)
    assert np.hypot(*(xy_m[1] - xy_m[0])) == pytest.approx(great_circle_m(a, b), rel=1e-3)
