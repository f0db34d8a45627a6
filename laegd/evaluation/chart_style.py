"""How the charts look: one colour and marker per method in all of them, and axes for times and excess costs."""

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from laegd.evaluation.map_words import INK
from laegd.evaluation.picture import require_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

MUTED, GRID = "#5b636e", "#d5d9df"
WIDTH_INCHES = 5.2  # of a chart: on a telephone it then stands at about its own size
PERCENT_FLOOR = 1e-3  # excess costs below this are drawn as if linear, so that an optimum of 0 % has a place
LONGEST_NAME = 36  # characters
NEW_LEGEND_ROW = 3  # entries
NUM_TICKS = 3  # of an axis of times, at least
AXIS_MARGIN = 1.15  # factor beyond the outer ticks of a logarithmic axis


class Look(NamedTuple):
    """What a method is drawn with."""

    colour: str
    marker: str


# Hues after Okabe and Ito, which readers with any colour vision tell apart, at a lightness that stands on white and on
# black. Kin share a family of hues; the marker settles what the hue leaves open.
LOOKS = {
    "gadsg": Look("#3b7dd8", "o"),
    "gadsg-directed": Look("#4aa5d8", "P"),
    "gdsg": Look("#d55e00", "s"),
    "gdsg-both": Look("#e09a00", "D"),
    "grlo": Look("#b5479b", "v"),
    "mcmf": Look("#009e73", "^"),
    "mcmf-search": Look("#7a9a01", "<"),
    "ao": Look("#a0693a", "p"),
    "re": Look("#8a9099", "X"),
    "random-belief": Look("#9b7fb8", "d"),
    "exact": Look(INK, "*"),
    "optimum": Look(INK, "*"),
}
OTHER_COLOURS = ("#6a5acd", "#00a3b8", "#d1495b", "#5f8a3a", "#a86f00", "#7d7461")
OTHER_MARKERS = ("h", ">", "8", "H")


def look_of(method: str) -> Look:
    """Returns the same look for a method wherever it is drawn, also for names that are not known.

    Variants such as `exact@0.1` or `gadsg, N = 32` look like the method they start with.
    """
    known = [name for name in LOOKS if method == name or (method.startswith(name) and not _goes_on(method[len(name)]))]
    if known:
        return LOOKS[max(known, key=len)]
    code = zlib.crc32(method.encode())  # not hash(): it differs from one run of Python to the next
    return Look(OTHER_COLOURS[code % len(OTHER_COLOURS)], OTHER_MARKERS[code // 7 % len(OTHER_MARKERS)])


def _goes_on(character: str) -> bool:
    """Whether the name of a method does not end before this character."""
    return character.isalnum() or character in "-_"


@contextmanager
def plain_names() -> Iterator[None]:
    """While a figure is made or written, a `$` in a name starts no formula."""
    require_matplotlib()
    import matplotlib

    with matplotlib.rc_context({"text.parse_math": False}):
        yield


@contextmanager
def chart_settings() -> Iterator[None]:
    """Matplotlib's settings while a chart is made; names are plain."""
    require_matplotlib()
    import matplotlib

    # Any: the stub of rc_context lists every key.
    settings: Any = {
        "font.size": 9.0,
        "text.color": INK,
        "axes.edgecolor": GRID,
        "axes.labelcolor": MUTED,
        "axes.titlecolor": INK,
        "axes.titlesize": 10.0,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.unicode_minus": True,
        "grid.color": GRID,
        "grid.linewidth": 0.6,
        "xtick.color": GRID,
        "ytick.color": GRID,
        "xtick.labelcolor": MUTED,
        "ytick.labelcolor": MUTED,
        "xtick.minor.visible": False,
        "legend.frameon": False,
        "legend.fontsize": 8.5,
    }
    with plain_names(), matplotlib.rc_context(settings):
        yield


def new_figure(width: float, height: float) -> "Figure":
    """Returns an empty figure of that many inches that can be written without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def excess_percent(ratio: float) -> float:
    """Turns a cost ratio into what it costs more than the reference, in percent."""
    return 100.0 * (ratio - 1.0)


def seconds_in_words(seconds: float) -> str:
    """Returns 3e-5 as 30 µs, 0.01 as 10 ms, 100 as 100 s."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= 0.9999 * scale:
            return f"{seconds / scale:g} {unit}"
    return f"{seconds:g} s"


def time_ticks(shortest: float, longest: float) -> list[float]:
    """Returns at least three round times in seconds, from one before the shortest time to one after the longest.

    They are powers of ten, or 1, 2 and 5 times such where these are too few.
    """
    first, last = int(np.floor(np.log10(shortest))) - 1, int(np.ceil(np.log10(longest))) + 1
    for steps in ((1,), (1, 2, 5)):
        times = [step * 10.0**power for power in range(first, last + 1) for step in steps]
        low = max(index for index, time in enumerate(times) if time <= shortest * 1.001)
        high = min(index for index, time in enumerate(times) if time >= longest * 0.999)
        if high - low >= NUM_TICKS - 1:
            break
    low = min(low, high - NUM_TICKS + 1)
    return times[low : high + 1]


def time_axis(axes: "Axes", seconds: Sequence[float]) -> None:
    """Makes x a logarithmic axis of seconds, wide enough for these times and for three ticks."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    ticks = time_ticks(min(seconds), max(seconds))
    axes.set_xscale("log")
    axes.set_xlim(ticks[0] / AXIS_MARGIN, ticks[-1] * AXIS_MARGIN)
    axes.set_xticks(ticks)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: seconds_in_words(value)))
    axes.xaxis.set_minor_locator(NullLocator())


def percent_axis(axis: "Axis", values: Sequence[float]) -> None:
    """Makes an axis of excess costs in percent: logarithmic, and linear around 0 %, where every optimum stands.

    Args:
        axis: To be changed.
        values: What will be drawn, percent.
    """
    from matplotlib.ticker import FuncFormatter, NullLocator

    sizes = [abs(value) for value in values if abs(value) > PERCENT_FLOOR]
    threshold = 10.0 ** np.floor(np.log10(min(sizes))) if sizes else 1.0
    top, bottom = max([threshold, *values]), min([0.0, *values])
    decades = np.arange(np.log10(threshold), np.ceil(np.log10(top) - 1e-9) + 1)
    ticks = np.concatenate([[0.0], 10.0**decades])
    if bottom < 0:
        below = -(10.0 ** np.arange(np.log10(threshold), np.ceil(np.log10(max(-bottom, threshold)) - 1e-9) + 1))
        ticks = np.concatenate([below[::-1], ticks])
    name: Any = axis.axis_name  # pyright: ignore[reportAttributeAccessIssue]
    getattr(axis.axes, f"set_{name}scale")("symlog", linthresh=threshold, linscale=0.6)
    axis.set_ticks([tick for tick in ticks if bottom * 10 <= tick <= top * 10])
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
    low = -0.15 * threshold if bottom >= 0 else 1.6 * bottom
    getattr(axis.axes, f"set_{name}lim")(low, max(1.6 * top, threshold))


def legend_below(figure: "Figure", handles: Mapping[str, Any]) -> None:
    """Names what is drawn, below the charts."""
    legend = figure.legend(
        list(handles.values()),
        shortened(handles),
        loc="outside lower center",
        ncols=min(NEW_LEGEND_ROW, max(1, len(handles))),
        columnspacing=1.4,
        handletextpad=0.5,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def shortened(names: Iterable[str]) -> list[str]:
    """Returns names that leave room for a chart: long ones without their middle."""
    half = LONGEST_NAME // 2
    return [name if len(name) <= LONGEST_NAME else f"{name[:half]}\u2026{name[-half:]}" for name in names]


def legend_rows(entries: int) -> int:
    """Returns how many rows `legend_below` takes."""
    return -(-entries // NEW_LEGEND_ROW)
