"""Colours, seen by readers without red cones, without green ones, and with all.

Source of the model: Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation of Color Vision
Deficiency", 2009, Table 1 at severity 1.0, on linear RGB. Distances are CIE 1976, in L*a*b* at D65.
"""

from itertools import combinations

import numpy as np
import pytest

from laegd.evaluation.chart_style import LOOKS
from laegd.evaluation.figures import DASHES
from laegd.evaluation.map_words import HAP_COLOUR, SERVER_COLOURS

VISIONS = {
    "trichromat": np.eye(3),
    "protanope": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranope": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}
XYZ_OF_RGB = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
LEAST = 8.0
TRAINED = ("gadsg", "gdsg", "gdsg-both", "grlo")  # methods that curves of training show


def lab(colour, vision):
    """Returns L*, a*, b* of a colour such as #ff0000, as this vision sees it."""
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = XYZ_OF_RGB @ np.clip(VISIONS[vision] @ linear, 0, 1) / XYZ_OF_RGB.sum(axis=1)
    x, y, z = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def distance(first, second):
    """Returns the smallest distance of two colours over the three visions."""
    return min(float(np.linalg.norm(lab(first, vision) - lab(second, vision))) for vision in VISIONS)


def test_the_model_is_the_published_one():
    """Each row of a matrix sums to 1: greys stay greys. Pure red has L* 53.24, a* 80.09, b* 67.20."""
    for matrix in VISIONS.values():
        np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=2e-6)
    np.testing.assert_allclose(lab("#ff0000", "trichromat"), [53.24, 80.09, 67.20], atol=0.02)


@pytest.mark.parametrize(("first", "second"), combinations((*SERVER_COLOURS, HAP_COLOUR), 2))
def test_servers_are_told_apart(first, second):
    """Not neighbours alone: any two."""
    assert distance(first, second) >= LEAST


def test_methods_are_told_apart_by_colour_or_marker():
    """The optimum and the exact solver are the same thing."""
    for first, second in combinations((name for name in LOOKS if name != "optimum"), 2):
        same_marker = LOOKS[first].marker == LOOKS[second].marker
        assert not same_marker or distance(LOOKS[first].colour, LOOKS[second].colour) >= LEAST, (first, second)


def test_curves_without_markers_are_told_apart_by_colour_or_dash():
    """As curves of training are drawn."""
    for first, second in combinations(TRAINED, 2):
        same_dash = DASHES.get(first) == DASHES.get(second)
        assert not same_dash or distance(LOOKS[first].colour, LOOKS[second].colour) >= LEAST, (first, second)
