"""Maps of planned networks: who is served where, with which share. Needs the extra `plots` (matplotlib)."""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from laegd.problem.instance import LOCAL, Instance, Plan
from laegd.scenario.files import write_atomically
from laegd.scenario.units import M_PER_KM

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DOTS_PER_INCH = 160
MAP_INCHES = 7.5  # side of one map
MAX_LABELLED_USERS = 60  # of one map; more names than that hide the map
LINE_POINTS = (0.7, 6.0)  # width of a line for a share of 0 and of 1
INK, FAINT, WARNING = "#2b2f36", "#9aa1ab", "#c62828"
# Ten hues that stay apart on white, also for readers who confuse red and green; then they repeat.
SERVER_COLOURS = (
    "#2f6fb7",
    "#e07b00",
    "#2a9d6f",
    "#b5479b",
    "#8a5a2b",
    "#00a3b8",
    "#d1495b",
    "#6a5acd",
    "#7a9a01",
    "#e3a700",
)
HAP_COLOUR = "#4b3b8f"


def draw_plan(instance: Instance, plan: Plan, path: str | Path) -> None:
    """Writes a map of one planned network as PNG; see `draw_plans`."""
    draw_plans(instance, [plan], path)


def draw_plans(instance: Instance, plans: Sequence[Plan], path: str | Path) -> None:
    """Writes maps of several plans of one network side by side, as one PNG that is whole or absent.

    Raises:
        ValueError: There is no plan, matplotlib is missing, or the file cannot be written.
    """
    content = io.BytesIO()
    figure_of(instance, plans).savefig(content, format="png", dpi=DOTS_PER_INCH, facecolor="white")
    write_atomically(Path(path), content.getvalue())


def figure_of(instance: Instance, plans: Sequence[Plan]) -> "Figure":
    """Draws one map a plan, three in a row at most.

    Every line is a task that is offloaded: in its server's colour, the wider the larger the share, dashed to a HAP. The
    ring around a server shows the same shares, one sector a user.
    """
    if not plans:
        raise ValueError("plans: Expected at least one plan, got none. Solve the instance first.")
    try:
        # Not pyplot: it keeps every figure, and asks for a display.
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        remedy = "Install it with pip install 'laegd[plots]'."
        raise ValueError(f"plots: Expected matplotlib to draw with, got no such package. {remedy}") from error
    columns = min(3, len(plans))
    rows = math.ceil(len(plans) / columns)
    legend_inches = 0.9
    height = rows * (MAP_INCHES + 0.55) + legend_inches
    figure = Figure(figsize=(columns * MAP_INCHES, height))
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        rows,
        columns,
        left=0.02 / columns,
        right=1 - 0.02 / columns,
        bottom=legend_inches / height,
        top=1 - 0.6 / height,
        wspace=0.03,
        hspace=0.09,
    )
    for position, plan in enumerate(plans):
        _draw_map(figure.add_subplot(grid[divmod(position, columns)]), instance, plan)
    _draw_legend(figure)
    return figure


class _Frame:
    """The part of the plane that a map shows, a square around all nodes."""

    def __init__(self, instance: Instance) -> None:
        xy_m = np.concatenate([instance.nodes.server_xyz_m[:, :2], instance.nodes.user_xyz_m[:, :2]])
        if not len(xy_m):
            xy_m = np.zeros((1, 2))
        low, high = xy_m.min(axis=0), xy_m.max(axis=0)
        self.centre = (low + high) / 2
        self.side_m = max(float((high - low).max()), 1.0) * 1.16
        self.crowded = instance.num_users > MAX_LABELLED_USERS

    @property
    def ring_m(self) -> float:
        return self.side_m * (0.013 if self.crowded else 0.022)


def _colours(instance: Instance) -> list[str]:
    ground = iter(range(instance.num_servers))
    return [
        HAP_COLOUR if is_hap else SERVER_COLOURS[next(ground) % len(SERVER_COLOURS)]
        for is_hap in instance.nodes.server_is_hap
    ]


def _draw_map(axes: "Axes", instance: Instance, plan: Plan) -> None:
    frame, colours = _Frame(instance), _colours(instance)
    half = frame.side_m / 2
    axes.set_xlim(frame.centre[0] - half, frame.centre[0] + half)
    axes.set_ylim(frame.centre[1] - half, frame.centre[1] + half)
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
    _draw_scale_bar(axes, frame)
    _draw_title(axes, instance, plan)


def _draw_coverage(axes: "Axes", instance: Instance, colours: Sequence[str]) -> None:
    from matplotlib.patches import Circle

    for (x_m, y_m, _), radius_m, colour in zip(
        instance.nodes.server_xyz_m, instance.nodes.server_radius_m, colours, strict=True
    ):
        if np.isfinite(radius_m):
            axes.add_patch(Circle((x_m, y_m), radius_m, facecolor=colour, alpha=0.035, linewidth=0, zorder=0))
            axes.add_patch(
                Circle((x_m, y_m), radius_m, fill=False, edgecolor=colour, alpha=0.3, linewidth=0.8, zorder=0.5)
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
        linestyles=[(0, (2.2, 1.1)) if nodes.server_is_hap[s] else "solid" for s in server],
        alpha=0.62,
        zorder=2,
    )
    lines.set_gid("links")
    axes.add_collection(lines)


def _draw_server(axes: "Axes", frame: _Frame, instance: Instance, plan: Plan, s: int, colour: str) -> None:
    from matplotlib.patches import Circle, Wedge

    x_m, y_m = (float(v) for v in instance.nodes.server_xyz_m[s, :2])
    is_hap, users = bool(instance.nodes.server_is_hap[s]), np.flatnonzero(plan.server == s)
    outer = frame.ring_m * (1.35 if is_hap else 1.0)
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
    if not frame.crowded or is_hap:
        number = f"{len(users)} user{'s' * (len(users) != 1)}" if len(users) else "idle"
        offset = outer * 1.12 + frame.side_m * 0.006
        _write(axes, x_m, y_m - offset, f"{instance.server_ids[s]} · {number}", colour, 7.5, va="top", weight="bold")


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
    if frame.crowded:
        return
    away_m = frame.side_m * 0.012
    for u, (x_m, y_m) in enumerate(xy_m):
        text = instance.user_ids[u] if plan.server[u] == LOCAL else f"{instance.user_ids[u]} {plan.share[u]:.0%}"
        x_m, y_m, ha = _label_place(frame, instance, plan, u, (float(x_m), float(y_m)), away_m)
        _write(axes, x_m, y_m, text, WARNING if unserved[u] else INK, 6.3, ha=ha, va="center")


def _label_place(
    frame: _Frame, instance: Instance, plan: Plan, u: int, xy_m: tuple[float, float], away_m: float
) -> tuple[float, float, str]:
    """Puts a label on the side where the line to the server is not, unless the frame ends there."""
    x_m, y_m = xy_m
    s = plan.server[u]
    server_x_m = instance.nodes.server_xyz_m[s, 0] if s != LOCAL else -math.inf
    right = bool(server_x_m < x_m)
    room_m = frame.side_m / 2 - 5 * away_m
    if x_m > frame.centre[0] + room_m:
        right = False
    elif x_m < frame.centre[0] - room_m:
        right = True
    return x_m + (away_m if right else -away_m), y_m, "left" if right else "right"


def _write(
    axes: "Axes", x_m: float, y_m: float, text: str, colour: str, points: float, ha: str = "center", **style
) -> None:
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=2.0, foreground="white", alpha=0.9)]
    axes.text(x_m, y_m, text, color=colour, fontsize=points, ha=ha, zorder=7, path_effects=halo, clip_on=True, **style)


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
    _write(axes, x_m + length_m / 2, y_m + frame.side_m * 0.008, text, INK, 8.0, va="bottom")


def _draw_title(axes: "Axes", instance: Instance, plan: Plan) -> None:
    aerial, ground = int(instance.nodes.user_is_aerial.sum()), int((~instance.nodes.user_is_aerial).sum())
    home = int((plan.server == LOCAL).sum())
    if plan.feasible:
        gap = (
            "" if plan.gap is None else f" · within {plan.gap:.2%} of the optimum" if plan.gap > 1e-9 else " · optimal"
        )
        title = f"{plan.method} · cost {plan.cost:,.4g}{gap}"
        detail = f"{instance.num_users - home} tasks offloaded, {home} run at home"
    else:
        title = f"{plan.method} · no feasible plan"
        detail = f"cannot be served together: {', '.join(plan.unserved)}" if plan.unserved else "none was found"
    axes.text(0.0, 1.035, title, transform=axes.transAxes, fontsize=12, weight="bold", color=INK, va="bottom")
    network = f"{ground} ground and {aerial} aerial users, {instance.num_servers} servers · {detail}"
    axes.text(0.0, 1.01, network, transform=axes.transAxes, fontsize=8.5, color="#5b636e", va="bottom")


def _draw_legend(figure: "Figure") -> None:
    from matplotlib.lines import Line2D

    def marker(shape: str, label: str, filled: bool = True, colour: str = SERVER_COLOURS[0]) -> Line2D:
        face = colour if filled else "white"
        return Line2D(
            [],
            [],
            linestyle="",
            marker=shape,
            markersize=8,
            markerfacecolor=face,
            markeredgecolor=colour,
            markeredgewidth=1.4,
            label=label,
        )

    def line(points: float, label: str, style: object = "solid") -> Line2D:
        return Line2D([], [], color=FAINT, linewidth=points, linestyle=style, label=label)  # pyright: ignore

    thin, thick = LINE_POINTS
    figure.legend(
        handles=[
            marker("s", "ground server; ring: its shares"),
            marker("*", "high-altitude platform", colour=HAP_COLOUR),
            marker("o", "ground user, offloaded"),
            marker("^", "aerial user, offloaded"),
            marker("o", "ground user, at home", filled=False, colour=INK),
            marker("^", "aerial user, at home", filled=False, colour=INK),
            line(thin + 0.1 * (thick - thin), "10 % of a server"),
            line(thin + 0.5 * (thick - thin), "50 % of a server"),
            line(1.6, "to a platform", (0, (2.2, 1.1))),
        ],
        loc="lower center",
        ncols=5,
        frameon=False,
        fontsize=8.5,
        labelcolor=INK,
        columnspacing=1.4,
        handletextpad=0.5,
        bbox_to_anchor=(0.5, 0.0),
    )
