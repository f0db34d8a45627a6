"""Charts of results: quality against time and samples, distributions, heat maps, curves of training.

Every function takes plain data and returns a matplotlib figure that the caller writes as PNG or SVG. A method has the
same colour and marker in all of them (`chart_style`). Costs are drawn as what a plan costs more than the reference, in
percent: 100 (ratio - 1). Needs the extra `plots`.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from laegd.evaluation.chart_style import (
    MUTED,
    WIDTH_INCHES,
    chart_settings,
    excess_percent,
    legend_below,
    legend_rows,
    look_of,
    new_figure,
    percent_axis,
    shortened,
    time_axis,
)
from laegd.scenario.scenario import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEGEND_ROW_INCHES = 0.2
CELL_INCHES = (0.62, 0.36)  # of a heat map
CELL_WORDS = ("#fefefe", "#101214")  # on dark and on light cells, whatever the page's own colours are
QUANTILES = ("p05", "p25", "p50", "p75", "p95", "p99", "max")
POINTS: dict[str, Any] = {"linewidth": 1.6, "markeredgecolor": "white", "clip_on": False, "zorder": 3}
# Lines without markers need a second sign besides colour.
DASHES: dict[str, Any] = {"gdsg": (0, (5, 1.5)), "gdsg-both": (0, (5, 1.5)), "grlo": (0, (1, 1.2))}
SMALLEST_EXCESS = 1e-4  # ratio - 1 below this has the colour of an optimum


class HeatPanel(NamedTuple):
    """One heat map: a row per model, a column per test set."""

    title: str
    models: Sequence[str]
    values: Sequence[Sequence[float | None]] | np.ndarray
    """[model, test set]; None or NaN where it was not measured."""


def _with_settings(make: "Callable[..., Figure]") -> "Callable[..., Figure]":
    @wraps(make)
    def wrapped(*args: Any, **kwargs: Any) -> "Figure":
        with chart_settings():
            return make(*args, **kwargs)

    return wrapped


def _require_some(field: str, data: Any) -> None:
    require(len(data) > 0, field, "something to draw", "nothing", "Give at least one entry.")


@_with_settings
def quality_against_time(
    curves: Mapping[str, Sequence[tuple[float, float]]], *, reference: str = "optimum", title: str = ""
) -> "Figure":
    """Draws every method as a point, or as a curve over its budget.

    Args:
        curves: Per method (seconds per instance > 0, mean cost ratio), in the order of the budget.
        reference: Name of what ratios are relative to.
        title: Of the chart.
    """
    _require_some("curves", curves)
    figure = new_figure(WIDTH_INCHES, 3.3 + LEGEND_ROW_INCHES * legend_rows(len(curves)))
    axes: Axes = figure.add_subplot()
    axes.set_title(title)
    handles, drawn, times = {}, [], []
    for method, points in curves.items():
        look = look_of(method)
        seconds, excess = [s for s, _ in points], [excess_percent(ratio) for _, ratio in points]
        size = 10 if look.marker == "*" else 7
        looks = {"color": look.colour, "marker": look.marker, "markersize": size, **POINTS}
        if " + " in method:  # with something added it looks like the method itself, but dashed
            looks["linestyle"] = "--"
        (handles[method],) = axes.plot(seconds, excess, **looks)
        drawn.extend(excess)
        times.extend(seconds)
    time_axis(axes, times)
    percent_axis(axes.yaxis, drawn)
    axes.set_xlabel("time per network (log)")
    axes.set_ylabel(f"mean cost above the {reference}")
    legend_below(figure, handles)
    return figure


@_with_settings
def quality_against_samples(
    curves: Mapping[str, Sequence[tuple[int, float, float | None]]], *, reference: str = "optimum", title: str = ""
) -> "Figure":
    """Draws what more samples bring, a curve per number of steps, with two standard errors either side.

    Args:
        curves: Per name, for instance `5 steps`: (samples N, mean cost ratio, its standard error or None).
        reference: Name of what ratios are relative to.
        title: Of the chart.
    """
    _require_some("curves", curves)
    from matplotlib.ticker import FuncFormatter, NullLocator

    figure = new_figure(WIDTH_INCHES, 3.3 + LEGEND_ROW_INCHES * legend_rows(len(curves)))
    axes: Axes = figure.add_subplot()
    axes.set_title(title)
    handles, drawn = {}, []
    looks = [look_of(name) for name in ("gadsg", "gdsg", "mcmf", "grlo", "gdsg-both")]
    for position, (name, points) in enumerate(curves.items()):
        look = looks[position % len(looks)]
        samples, excess = [n for n, _, _ in points], [excess_percent(ratio) for _, ratio, _ in points]
        bars = [200.0 * (error or 0.0) for _, _, error in points]
        handles[name] = axes.errorbar(
            samples, excess, bars, color=look.colour, marker=look.marker, markersize=6, linewidth=1.6, capsize=2.5
        )
        drawn.extend(value for middle, bar in zip(excess, bars, strict=True) for value in (middle, middle + bar))
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted({n for points in curves.values() for n, _, _ in points}))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    percent_axis(axes.yaxis, drawn)
    axes.set_xlabel("samples per network, N (log)")
    axes.set_ylabel(f"mean cost above the {reference}")
    legend_below(figure, handles)
    return figure


@_with_settings
def ratio_distribution(
    quantiles: Mapping[str, Mapping[str, float]], *, reference: str = "optimum", title: str = ""
) -> "Figure":
    """Draws where the ratios of each method lie: middle half, 90 %, the worst percent and the worst instance.

    Args:
        quantiles: Per method the cost ratios at p05, p25, p50, p75, p95, p99 and max.
        reference: Name of what ratios are relative to.
        title: Of the chart.
    """
    _require_some("quantiles", quantiles)
    figure = new_figure(WIDTH_INCHES, 1.35 + 0.32 * len(quantiles))
    axes: Axes = figure.add_subplot()
    axes.set_title(title)
    drawn: list[float] = []
    for row, (method, ratios) in enumerate(quantiles.items()):
        missing = [name for name in QUANTILES if name not in ratios]
        require(not missing, f"quantiles.{method}", ", ".join(QUANTILES), f"none for {missing}", "Give all of them.")
        p05, p25, p50, p75, p95, p99, worst = excess = [excess_percent(ratios[name]) for name in QUANTILES]
        colour = look_of(method).colour
        axes.plot([p95, worst], [row, row], color=colour, linewidth=1.0, linestyle=(0, (1, 2)))
        axes.plot([p05, p95], [row, row], color=colour, linewidth=2.0)
        axes.barh(row, p75 - p25, 0.46, left=p25, color=colour, edgecolor=colour, alpha=0.45)
        axes.plot([p50, p50], [row - 0.3, row + 0.3], color=colour, linewidth=2.6)
        axes.plot([p99], [row], color=colour, marker="|", markersize=9, markeredgewidth=1.6)
        axes.plot([worst], [row], color=colour, marker="o", markersize=4, clip_on=False)
        drawn.extend(excess)
    percent_axis(axes.xaxis, drawn)
    axes.set_yticks(range(len(quantiles)), shortened(quantiles), parse_math=False)
    axes.set_ylim(len(quantiles) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(f"cost above the {reference} (log)\nbar: middle half; line: 5 to 95 %; tick: 99 %; dot: worst")
    return figure


@_with_settings
def heat_map(
    panels: Sequence[HeatPanel],
    test_sets: Sequence[str],
    *,
    limits: tuple[float, float] | None = None,
    value_name: str = "mean cost ratio",
    axis_names: tuple[str, str] = ("model", "test set"),
    form: str = ".3f",
) -> "Figure":
    """Draws heat maps side by side with one colour scale: what each model gives on each test set.

    Args:
        panels: One a method family.
        test_sets: Names of the columns.
        limits: Values at both ends of the scale; those of the panels if None.
        value_name: Of the numbers in the cells. Light is good: a low cost ratio, and a high value of anything else.
        axis_names: What rows and columns are.
        form: How numbers are written in the cells.
    """
    _require_some("panels", panels)
    from matplotlib.ticker import FuncFormatter

    low, high = limits or heat_limits(panels)
    ratios = "ratio" in value_name and low >= 1.0
    colour_value = _log_excess if ratios else float
    bottom, top = colour_value(low), colour_value(high)
    top = top if top > bottom else bottom + 1e-3
    rows = max(len(panel.models) for panel in panels)
    longest = max(len(name) for panel in panels for name in shortened(panel.models))
    cells = max(CELL_INCHES[0] * len(test_sets), *(0.09 * len(name) for name in shortened(p.title for p in panels)))
    width = len(panels) * (cells + 0.07 * longest + 0.25) + 1.4
    height = max(CELL_INCHES[1] * rows, 1.0) + 0.06 * max(map(len, shortened(test_sets))) + 1.0
    figure = new_figure(max(width, 3.6), height)
    mesh: Any = None
    columns = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, panel in zip(columns, panels, strict=True):
        axes.set_xlabel(axis_names[1])
        mesh = _draw_panel(axes, panel, test_sets, (bottom, top), colour_value, form)
    columns[0].set_ylabel(axis_names[0])
    bar = figure.colorbar(mesh, ax=list(columns), shrink=0.9, aspect=14, pad=0.02)
    bar.outline.set_visible(False)  # pyright: ignore
    bar.set_label(value_name)
    if ratios:
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{1 + 10**value:.4g}"))
    return figure


def heat_limits(panels: Sequence[HeatPanel]) -> tuple[float, float]:
    """Returns the smallest and the largest value of some heat maps, the ends of a scale that they share."""
    values = np.concatenate([np.array(panel.values, dtype=float).ravel() for panel in panels])
    known = values[np.isfinite(values)]
    return (float(known.min()), float(known.max())) if len(known) else (1.0, 1.0)


def _log_excess(ratio: float) -> float:
    return float(np.log10(max(ratio - 1.0, SMALLEST_EXCESS)))


def _draw_panel(
    axes: "Axes",
    panel: HeatPanel,
    test_sets: Sequence[str],
    ends: tuple[float, float],
    colour_value: Callable[[float], float],
    form: str,
) -> Any:
    """Draws one heat map; returns what a colour bar can be made of."""
    shape = (len(panel.models), len(test_sets))
    values = np.array(panel.values, dtype=float)  # None becomes NaN
    require(values.shape == shape, panel.title, f"{shape} values", values.shape, "Give a row per model.")
    colours = np.ma.masked_invalid([[colour_value(v) if np.isfinite(v) else np.nan for v in row] for row in values])
    mesh = axes.pcolormesh(
        colours,
        cmap="cividis" if colour_value is float else "cividis_r",
        vmin=ends[0],
        vmax=ends[1],
        edgecolors="white",
        linewidth=1.5,
        zorder=1,
    )
    for (row, column), value in np.ndenumerate(values):
        known = bool(np.isfinite(value))
        light = known and sum(mesh.cmap(mesh.norm(colours[row, column]))[:3]) > 1.5
        colour = CELL_WORDS[int(light)] if known else MUTED
        text = f"{value:{form}}" if known else "\u2013"
        axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=colour, fontsize=8.5, zorder=2)
    axes.set_title(shortened([panel.title])[0])
    axes.set_xticks(np.arange(len(test_sets)) + 0.5, shortened(test_sets), rotation=45, ha="right", parse_math=False)
    axes.set_yticks(np.arange(len(panel.models)) + 0.5, shortened(panel.models), parse_math=False)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.invert_yaxis()
    axes.spines[:].set_visible(False)
    return mesh


@_with_settings
def training_curves(
    panels: Mapping[str, Mapping[str, tuple[ArrayLike, ArrayLike]]], ylabel: str, *, log_y: bool = False
) -> "Figure":
    """Draws a grid of charts, two in a row, with a line per method.

    Args:
        panels: Per title, per method: steps and the values there.
        ylabel: What the values are.
        log_y: Whether they are drawn on a logarithmic axis.
    """
    _require_some("panels", panels)
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(WIDTH_INCHES if columns == 1 else 7.4, 2.5 * rows + 0.5)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True)
    handles: dict[str, Any] = {}
    for position, (title, lines) in enumerate(panels.items()):
        axes: Axes = grid[divmod(position, columns)]
        axes.set_title(title)
        for method, (steps, values) in lines.items():
            colour = look_of(method).colour
            (handles[method],) = axes.plot(
                steps, values, color=colour, linewidth=1.6, linestyle=DASHES.get(method, "solid")
            )
        if log_y:
            axes.set_yscale("log")
        if position + columns >= len(panels):
            axes.set_xlabel("training step")
            axes.tick_params(labelbottom=True)
    for unused in grid.flat[len(panels) :]:
        unused.set_visible(False)
    figure.supylabel(ylabel, fontsize=9, color=MUTED)
    legend_below(figure, handles)
    return figure
