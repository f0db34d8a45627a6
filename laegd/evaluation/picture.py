"""Maps of planned networks: who is served where, with which share. Needs the extra `plots` (matplotlib)."""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from laegd.evaluation.label_places import LabelPlaces
from laegd.evaluation.map_words import (
    HAP_COLOUR,
    HAP_DASHES,
    INK,
    LINE_POINTS,
    SERVER_COLOURS,
    WARNING,
    draw_legend,
    draw_title,
)
from laegd.problem.instance import LOCAL, Instance, Plan
from laegd.scenario.outputs import write_output
from laegd.scenario.scenario import require
from laegd.scenario.units import M_PER_KM

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DOTS_PER_INCH = 160
MAP_INCHES = 7.5  # side of one map
LEGEND_INCHES = 0.95
FORMATS = (".png", ".svg", ".pdf")
POINTS_PER_INCH = 72
HAP_RING = 1.35  # its radius, relative to a ground server's
MAX_LABELLED_USERS = 60  # of one map; more names than that hide the map


def draw_plan(instance: Instance, plan: Plan, path: str | Path) -> None:
    """Writes a map of one planned network; see `draw_plans`."""
    draw_plans(instance, [plan], path)


def draw_plans(instance: Instance, plans: Sequence[Plan], path: str | Path) -> None:
    """Writes maps of several plans of one network side by side, as one file that is whole or absent.

    Args:
        instance: The network.
        plans: Its plans.
        path: File, whose name ends in .png, .svg or .pdf.

    Raises:
        ValueError: There is no plan, matplotlib is missing, the name has another ending, or the file cannot be written.
    """
    require_drawable(path := Path(path))
    from matplotlib import rc_context

    content = io.BytesIO()
    # A $ in a name starts no formula. The same plan gives the same bytes: neither dates nor random names in them.
    with rc_context({"text.parse_math": False, "svg.hashsalt": "laegd"}):
        kind = path.suffix[1:].lower()
        undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
        figure_of(instance, plans).savefig(content, format=kind, dpi=DOTS_PER_INCH, facecolor="white", metadata=undated)
    write_output(path, content.getvalue())


def require_drawable(path: Path) -> None:
    """Raises ValueError where matplotlib is missing, or the file's name does not end as that of a picture."""
    require_matplotlib()
    expected = f"a picture's name, ending in {', '.join(FORMATS)}"
    require(path.suffix.lower() in FORMATS, str(path), expected, path.suffix, "Write plan.png.")


def require_matplotlib() -> None:
    """Raises ValueError where matplotlib is missing."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        remedy = "Install it with pip install 'laegd[plots]'."
        raise ValueError(f"plots: Expected matplotlib to draw with, got no such package. {remedy}") from error


def figure_of(instance: Instance, plans: Sequence[Plan], side_inches: float = MAP_INCHES) -> "Figure":
    """Draws one map a plan, three in a row at most, and returns matplotlib's figure.

    Every line is a task that is offloaded: in its server's colour, the wider the larger the share, dashed to a HAP. The
    ring around a server shows the same shares, one sector a user. Words have the same size on a map of any side.
    """
    if not plans:
        raise ValueError("plans: Expected at least one plan, got none. Solve the instance first.")
    require_matplotlib()
    # Not pyplot: it keeps every figure, and asks for a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(3, len(plans))
    rows = math.ceil(len(plans) / columns)
    height = rows * (side_inches + 0.55) + LEGEND_INCHES
    figure = Figure(figsize=(columns * side_inches, height))
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        rows,
        columns,
        left=0.02 / columns,
        right=1 - 0.02 / columns,
        bottom=LEGEND_INCHES / height,
        top=1 - 0.6 / height,
        wspace=0.03,
        hspace=0.09,
    )
    for position, plan in enumerate(plans):
        _draw_map(figure.add_subplot(grid[divmod(position, columns)]), _Frame(instance, side_inches), instance, plan)
    draw_legend(figure, 3 if columns == 1 else 6)
    return figure


class _Frame:
    """The part of the plane that a map shows, a square around all nodes."""

    def __init__(self, instance: Instance, side_inches: float) -> None:
        xy_m = np.concatenate([instance.nodes.server_xyz_m[:, :2], instance.nodes.user_xyz_m[:, :2]])
        if not len(xy_m):
            xy_m = np.zeros((1, 2))
        low, high = xy_m.min(axis=0), xy_m.max(axis=0)
        self.centre = (low + high) / 2
        self.side_m = max(float((high - low).max()), 1.0) * 1.16
        self.side_inches = side_inches
        self.crowded = instance.num_users > MAX_LABELLED_USERS

        # outer radius of the ring around a ground server, and radius of a user's marker
        self.ring_m = self.side_m * (0.013 if self.crowded else 0.022)
        self.marker_m = self.side_m * (0.004 if self.crowded else 0.0075)

    @property
    def box_m(self) -> tuple[float, float, float, float]:
        """Left, bottom, right and top."""
        (x_m, y_m), half_m = self.centre.tolist(), self.side_m / 2
        return x_m - half_m, y_m - half_m, x_m + half_m, y_m + half_m


def _colours(instance: Instance) -> list[str]:
    ground = iter(range(instance.num_servers))
    return [
        HAP_COLOUR if is_hap else SERVER_COLOURS[next(ground) % len(SERVER_COLOURS)]
        for is_hap in instance.nodes.server_is_hap
    ]


def _draw_map(axes: "Axes", frame: _Frame, instance: Instance, plan: Plan) -> None:
    colours = _colours(instance)
    left_m, bottom_m, right_m, top_m = frame.box_m
    axes.set_xlim(left_m, right_m)
    axes.set_ylim(bottom_m, top_m)
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color("#d5d9df")
    _draw_coverage(axes, instance, colours)
    _draw_links(axes, instance, plan, colours)
    for s in range(instance.num_servers):
        _draw_server(axes, frame, instance, plan, s, colours[s])
    _draw_users(axes, frame, instance, plan, colours)
    _draw_names(axes, frame, instance, plan, colours)
    _draw_scale_bar(axes, frame)
    draw_title(axes, instance, plan)


def _draw_coverage(axes: "Axes", instance: Instance, colours: Sequence[str]) -> None:
    from matplotlib.patches import Circle

    # Many discs on top of each other would turn the map grey.
    alpha = 0.4 / max(10, instance.num_servers)

    for (x_m, y_m, _), radius_m, colour in zip(
        instance.nodes.server_xyz_m, instance.nodes.server_radius_m, colours, strict=True
    ):
        if np.isfinite(radius_m):
            axes.add_patch(Circle((x_m, y_m), radius_m, facecolor=colour, alpha=alpha, linewidth=0, zorder=0))
            axes.add_patch(
                Circle(
                    (x_m, y_m),
                    radius_m,
                    fill=False,
                    edgecolor=colour,
                    alpha=max(7 * alpha, 0.13),
                    linewidth=0.8,
                    zorder=0.5,
                )
            )


def _draw_links(axes: "Axes", instance: Instance, plan: Plan, colours: Sequence[str]) -> None:
    from matplotlib.collections import LineCollection

    away, nodes = np.flatnonzero(plan.server != LOCAL), instance.nodes
    if not len(away):
        return
    server = plan.server[away]
    ends_m = np.stack([nodes.user_xyz_m[away, :2], nodes.server_xyz_m[server, :2]], axis=1)  # [user end 2]
    thin, thick = LINE_POINTS
    lines = LineCollection(
        list(ends_m),
        colors=[colours[s] for s in server],
        linewidths=thin + (thick - thin) * plan.share[away],
        linestyles=[HAP_DASHES if nodes.server_is_hap[s] else "solid" for s in server],
        alpha=0.62,
        zorder=2,
    )
    lines.set_gid("links")
    axes.add_collection(lines)


def _draw_server(axes: "Axes", frame: _Frame, instance: Instance, plan: Plan, s: int, colour: str) -> None:
    from matplotlib.patches import Circle, Wedge

    x_m, y_m = (float(v) for v in instance.nodes.server_xyz_m[s, :2])
    is_hap, users = bool(instance.nodes.server_is_hap[s]), np.flatnonzero(plan.server == s)
    outer = frame.ring_m * (HAP_RING if is_hap else 1.0)
    axes.add_patch(Circle((x_m, y_m), outer * 1.12, facecolor="white", edgecolor=colour, linewidth=0.9, zorder=4))
    start_deg = 90.0
    for u in users[np.argsort(-plan.share[users], kind="stable")]:
        turn_deg = 360.0 * float(plan.share[u])
        axes.add_patch(
            Wedge(
                (x_m, y_m),
                outer,
                start_deg - turn_deg,
                start_deg,
                width=outer * 0.42,
                facecolor=colour,
                edgecolor="white",
                linewidth=0.9,
                zorder=4.5,
            )
        )
        start_deg -= turn_deg
    size = 42 if is_hap else 20
    axes.scatter(
        [x_m], [y_m], marker="*" if is_hap else "s", s=size * (0.4 if frame.crowded else 1), c=[colour], zorder=5
    )


def _draw_users(axes: "Axes", frame: _Frame, instance: Instance, plan: Plan, colours: Sequence[str]) -> None:
    xy_m, aerial = instance.nodes.user_xyz_m[:, :2], instance.nodes.user_is_aerial
    unserved = np.isin(instance.user_ids, plan.unserved)
    size = 16 if frame.crowded else 44
    for u, (x_m, y_m) in enumerate(xy_m):
        home = plan.server[u] == LOCAL
        colour = WARNING if unserved[u] else INK if home else colours[plan.server[u]]
        axes.scatter(
            [x_m],
            [y_m],
            marker="^" if aerial[u] else "o",
            s=size * (1.25 if aerial[u] else 1.0),
            facecolor="white" if home else colour,
            edgecolor=colour if home else "white",
            linewidth=1.5 if home else 0.9,
            zorder=6,
        )


def _draw_names(axes: "Axes", frame: _Frame, instance: Instance, plan: Plan, colours: Sequence[str]) -> None:
    """Names servers, then users, where they cover least; on a crowded map HAPs only."""
    server_xy_m, user_xy_m = instance.nodes.server_xyz_m[:, :2].tolist(), instance.nodes.user_xyz_m[:, :2].tolist()
    places = LabelPlaces(frame.box_m)
    rings_m = [frame.ring_m * (HAP_RING if is_hap else 1.0) * 1.12 for is_hap in instance.nodes.server_is_hap]
    for (x_m, y_m), ring_m in zip(server_xy_m, rings_m, strict=True):
        places.take(x_m, y_m, ring_m)
    for (x_m, y_m), s in zip(user_xy_m, plan.server, strict=True):
        places.take(x_m, y_m, frame.marker_m)
        if s != LOCAL:
            places.take_line((x_m, y_m), server_xy_m[s], frame.marker_m * 2)

    def name(xy_m: list[float], away_m: float, text: str, colour: str, points: float, weight: str) -> None:
        height_m = points / POINTS_PER_INCH / frame.side_inches * frame.side_m * 1.25
        width_m = (0.5 * len(text) + 0.2) * height_m * (1.15 if weight == "bold" else 1.0)
        x_m, y_m = places.place(xy_m[0], xy_m[1], away_m, width_m, height_m)
        _write(axes, x_m, y_m, text, colour, points, weight)

    for s, ring_m in enumerate(rings_m):
        count = int((plan.server == s).sum())
        load = f"{count} user{'s' * (count > 1)}" if count else "idle"
        if instance.nodes.server_is_hap[s] or not frame.crowded:
            name(server_xy_m[s], ring_m * 1.1, f"{instance.server_ids[s]} · {load}", colours[s], 7.5, "bold")
    for u, user in enumerate(instance.user_ids if not frame.crowded else ()):
        text = user if plan.server[u] == LOCAL else f"{user} {plan.share[u]:.0%}"
        colour = WARNING if user in plan.unserved else INK
        name(user_xy_m[u], frame.marker_m * 1.3, text, colour, 6.3, "normal")


def _write(axes: "Axes", x_m: float, y_m: float, text: str, colour: str, points: float, weight: str) -> None:
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=2.0, foreground="white", alpha=0.85)]
    label = axes.text(x_m, y_m, text, color=colour, fontsize=points, weight=weight, zorder=7, path_effects=halo)
    label.set(ha="center", va="center", clip_on=True)


def scale_bar_m(side_m: float) -> float:
    """Returns the roundest length (1, 2 or 5 times a power of ten) of at most a quarter of the side."""
    decade = 10.0 ** math.floor(math.log10(side_m / 4))
    return max(step * decade for step in (1, 2, 5) if step * decade <= side_m / 4)


def _draw_scale_bar(axes: "Axes", frame: _Frame) -> None:
    length_m = scale_bar_m(frame.side_m)
    text = f"{length_m / M_PER_KM:g} km" if length_m >= M_PER_KM else f"{length_m:g} m"
    x_m = frame.centre[0] - frame.side_m * 0.475
    y_m = frame.centre[1] - frame.side_m * 0.475
    axes.plot([x_m, x_m + length_m], [y_m, y_m], color=INK, linewidth=2.4, solid_capstyle="butt", zorder=8)
    _write(axes, x_m + length_m / 2, y_m + frame.side_m * 0.016, text, INK, 8.0, "normal")
