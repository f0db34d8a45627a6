"""Charts: they show the numbers that they are given, and a method looks the same in all of them."""

import io
import sys

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.legend import Legend

from laegd.evaluation.chart_style import LOOKS, excess_percent, look_of, seconds_in_words
from laegd.evaluation.figures import (
    HeatPanel,
    heat_limits,
    heat_map,
    quality_against_samples,
    quality_against_time,
    ratio_distribution,
    training_curves,
)

CURVES = {"gadsg": [(0.004, 1.02), (0.008, 1.005)], "mcmf": [(0.01, 1.15)], "exact": [(0.003, 1.0)]}
SPREAD = {"p05": 1.0, "p25": 1.01, "p50": 1.02, "p75": 1.04, "p95": 1.1, "p99": 1.2, "max": 1.5}


def lines(axes):
    """Returns colour, marker, x and y of every line of a chart."""
    found = axes.get_lines()
    return [(to_hex(line.get_color()), line.get_marker(), line.get_xdata(), line.get_ydata()) for line in found]


def legend_words(figure):
    return [text.get_text() for legend in figure.findobj(Legend) for text in legend.get_texts()]


def written(figure):
    """Draws for real: tick labels and layout are made only then."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=50)
    return content.getvalue()


def test_the_excess_is_percent_above_the_reference():
    """A plan that costs 1.07 times the optimum costs 7 % more."""
    assert excess_percent(1.07) == pytest.approx(7.0) and excess_percent(1.0) == 0.0


@pytest.mark.parametrize(("seconds", "text"), [(1e-5, "10 µs"), (1e-3, "1 ms"), (0.1, "100 ms"), (10.0, "10 s")])
def test_times_are_written_in_their_own_unit(seconds, text):
    """Powers of ten as they stand at an axis."""
    assert seconds_in_words(seconds) == text


def test_every_known_method_has_a_look_of_its_own():
    """Colour and marker together tell methods apart; the optimum and the exact solver are the same thing."""
    assert len({LOOKS[name] for name in LOOKS if name != "optimum"}) == len(LOOKS) - 1
    assert LOOKS["optimum"] == LOOKS["exact"]


@pytest.mark.parametrize(
    ("variant", "method"),
    [
        ("exact@0.1", "exact"),
        ("gadsg, N = 32", "gadsg"),
        ("gdsg-both", "gdsg-both"),
        ("gadsg-directed", "gadsg-directed"),
    ],
)
def test_variants_look_like_their_method(variant, method):
    """A limit or a setting after the name changes nothing; a longer name is another method."""
    assert look_of(variant) == LOOKS[method]
    assert look_of("remote") not in LOOKS.values() and look_of("gadsg2") != LOOKS["gadsg"]


def test_a_method_looks_the_same_in_every_chart():
    """The colour of gadsg in three kinds of charts is the one of the list."""
    time = quality_against_time(CURVES).axes[0]
    spread = ratio_distribution({"gadsg": SPREAD}).axes[0]
    training = training_curves({"gs3": {"gadsg": ([0, 1], [1.0, 0.5])}}, "loss").axes[0]
    colours = {lines(time)[0][0], *(line[0] for line in lines(spread)), lines(training)[0][0]}
    assert colours == {look_of("gadsg").colour}


def test_quality_against_time_draws_every_point():
    """Seconds stay seconds on a logarithmic axis, ratios become percent; an optimum at 0 % lies on the chart."""
    figure = quality_against_time(CURVES)
    axes = figure.axes[0]
    for (colour, marker, x, y), (method, points) in zip(lines(axes), CURVES.items(), strict=True):
        assert (colour, marker) == look_of(method)
        np.testing.assert_allclose(x, [seconds for seconds, _ in points])
        np.testing.assert_allclose(y, [100 * (ratio - 1) for _, ratio in points], atol=1e-9)
    assert axes.get_xscale() == "log" and legend_words(figure) == list(CURVES)
    low, high = axes.get_ylim()
    assert low < 0 and high > 15
    written(figure)
    assert "0 %" in [tick.get_text() for tick in axes.get_yticklabels()]


@pytest.mark.parametrize(
    ("shortest", "longest", "ticks"),
    [
        (0.0021, 0.0029, [0.001, 0.002, 0.005]),
        (0.002, 0.009, [0.002, 0.005, 0.01]),
        (0.004, 0.004, [0.002, 0.005, 0.01]),
        (0.003, 0.03, [0.001, 0.01, 0.1]),
        (2e-5, 40.0, [1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1, 10, 100]),
    ],
)
def test_an_axis_of_times_has_three_ticks(shortest, longest, ticks):
    """However close the times are; all of them lie between the outer ticks, but for those at a tick."""
    figure = quality_against_time({"gadsg": [(shortest, 1.01), (longest, 1.005)]})
    axes = figure.axes[0]
    low, high = axes.get_xlim()
    shown = [tick for tick in axes.get_xticks() if low <= tick <= high]
    assert len(shown) >= 3 and low < shortest <= longest < high
    if shortest < longest:
        assert shown == pytest.approx(ticks)


def test_the_axes_of_a_heat_map_have_names():
    """What rows and columns are."""
    panels = [HeatPanel("gadsg", ["a"], [[1.1]]), HeatPanel("gdsg", ["a"], [[1.2]])]
    first, second, _ = heat_map(panels, ["b"], axis_names=("trained on", "tested on")).axes
    assert (first.get_ylabel(), first.get_xlabel(), second.get_xlabel()) == ("trained on", "tested on", "tested on")


def test_ratios_below_one_stay_on_the_chart():
    """Against a heuristic reference a method may be better: 2 % below it."""
    axes = quality_against_time({"gadsg": [(0.01, 0.98)], "ao": [(0.01, 1.3)]}, reference="mcmf").axes[0]
    assert axes.get_ylim()[0] < -2 and axes.get_ylim()[1] > 30 and "mcmf" in axes.get_ylabel()


def test_quality_against_samples_has_a_curve_per_number_of_steps():
    """Two standard errors either side, and only the numbers of samples that were measured at the axis."""
    figure = quality_against_samples({"5 steps": [(1, 1.05, 0.01), (8, 1.01, None)], "20 steps": [(1, 1.04, 0.01)]})
    axes = figure.axes[0]
    assert legend_words(figure) == ["5 steps", "20 steps"] and axes.get_xticks().tolist() == [1, 8]
    first = axes.containers[0]
    np.testing.assert_allclose(first[0].get_ydata().astype(float), [5.0, 1.0])
    (bar, none) = first[2][0].get_segments()
    np.testing.assert_allclose(bar[:, 1], [3.0, 7.0])
    np.testing.assert_allclose(none[:, 1], [1.0, 1.0])


def test_the_distribution_shows_all_quantiles():
    """The middle half is a bar from p25 to p75; median, p99 and the worst instance are marked."""
    axes = ratio_distribution({"mcmf": SPREAD}).axes[0]
    (bar,) = axes.patches
    assert (bar.get_x(), bar.get_x() + bar.get_width()) == pytest.approx((1.0, 4.0))
    seen = np.concatenate([np.asarray(x, dtype=float) for _, _, x, _ in lines(axes)])
    for percent in (0.0, 2.0, 10.0, 20.0, 50.0):
        assert np.isclose(seen, percent).any(), percent


def test_a_distribution_without_all_quantiles_is_refused():
    """The field and what is missing."""
    with pytest.raises(ValueError, match=r"^quantiles\.ao: Expected p05.*\['p99'\]"):
        ratio_distribution({"ao": {name: value for name, value in SPREAD.items() if name != "p99"}})


def test_heat_maps_share_one_scale_and_write_every_number():
    """The same value has the same colour in both maps; what was not measured is a dash."""
    panels = [HeatPanel("a", ["m"], [[1.01, 1.1]]), HeatPanel("b", ["n"], [[1.1, None]])]
    figure = heat_map(panels, ["s", "t"])
    left, right = figure.axes[:2]
    assert [text.get_text() for text in left.texts] == ["1.010", "1.100"]
    assert [text.get_text() for text in right.texts] == ["1.100", "\u2013"]
    meshes = [axes.collections[0] for axes in (left, right)]
    for mesh in meshes:
        mesh.update_scalarmappable()
    np.testing.assert_allclose(meshes[0].get_facecolor()[1], meshes[1].get_facecolor()[0])
    assert heat_limits(panels) == (1.01, 1.1)


def test_the_first_row_of_a_heat_map_stands_on_top():
    """As in a table: the y axis points down."""
    axes = heat_map([HeatPanel("a", ["m", "n"], [[1.0], [2.0]])], ["s"]).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["m", "n"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]


@pytest.mark.parametrize(("name", "good"), [("mean cost ratio", 0), ("accuracy in %", 1)])
def test_light_is_good_in_heat_maps(name, good):
    """A low ratio and a high accuracy are the lighter cell."""
    axes = heat_map([HeatPanel("a", ["m"], [[1.01, 1.5]])], ["s", "t"], value_name=name).axes[0]
    axes.collections[0].update_scalarmappable()
    brightness = axes.collections[0].get_facecolor()[:, :3].sum(axis=1)
    assert brightness.argmax() == good


def test_a_heat_map_of_another_shape_is_refused():
    """A row per model, a column per test set."""
    with pytest.raises(ValueError, match=r"^a: Expected \(1, 2\) values, got \(1, 1\)"):
        heat_map([HeatPanel("a", ["m"], [[1.0]])], ["s", "t"])


def test_training_curves_fill_a_grid():
    """Four scales, two methods: four charts with two lines each, a legend with each method once."""
    panel = {"gadsg": ([0, 10], [1.0, 0.5]), "gdsg": ([0, 10], [1.0, 0.7])}
    figure = training_curves({name: panel for name in "abcd"}, "validation loss")
    assert [axes.get_title("left") for axes in figure.axes] == list("abcd") and legend_words(figure) == [
        "gadsg",
        "gdsg",
    ]
    for axes in figure.axes:
        np.testing.assert_allclose([y for _, _, _, y in lines(axes)], [[1.0, 0.5], [1.0, 0.7]])
    three = training_curves({name: panel for name in "abc"}, "loss", log_y=True)
    assert [axes.get_visible() for axes in three.axes] == [True] * 3 + [False]


ALL = {
    "time": lambda name: quality_against_time({name: [(0.1, 1.2)]}, title=name),
    "samples": lambda name: quality_against_samples({name: [(1, 1.2, 0.01)]}, title=name),
    "distribution": lambda name: ratio_distribution({name: SPREAD}, title=name),
    "heat map": lambda name: heat_map([HeatPanel(name, [name], [[1.1]])], [name]),
    "training": lambda name: training_curves({name: {name: ([0, 1], [1.0, 0.5])}}, name),
}


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("name", ["$\\frac{$", "_hidden", "a" * 60, "<b>&"])
def test_names_are_never_read_as_formulas(kind, name):
    """Half a formula would otherwise stop the drawing, and an underscore hide a name."""
    assert written(ALL[kind](name))[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    "draw",
    [
        lambda: quality_against_time({}),
        lambda: quality_against_samples({}),
        lambda: ratio_distribution({}),
        lambda: heat_map([], ["s"]),
        lambda: training_curves({}, "loss"),
    ],
)
def test_nothing_to_draw_is_refused(draw):
    """An empty chart would look like a result."""
    with pytest.raises(ValueError, match="Expected something to draw, got 'nothing'"):
        draw()


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ValueError, match=r"pip install 'laegd\[plots\]'"):
        quality_against_time(CURVES)
