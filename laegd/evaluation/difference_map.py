"""A map of where two plans of one network differ: both ways of every user who is served otherwise."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from laegd.evaluation.chart_style import look_of
from laegd.evaluation.label_places import LabelPlaces
from laegd.evaluation.map_words import FAINT, HAP_COLOUR, INK
from laegd.evaluation.picture import MAP_INCHES, POINTS_PER_INCH, require_matplotlib
from laegd.problem.instance import LOCAL, Instance, Plan

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARGIN = 1.16  # side of the map over the extent of the network, as there
LINES = {"first": (6.0, 0.35), "second": (1.8, 1.0)}  # points and opacity: both are seen where they meet
NAME_POINTS = 8.5
NODE_POINTS = 5.0  # radius of a marker, with room around it
HOME_RINGS = (190.0, 90.0)  # sizes of the rings for a task that runs at home in the first and in the second plan


def differing_users(first: Plan, second: Plan) -> list[int]:
    """Returns the users, by position, who are served elsewhere in the second plan."""
    return np.flatnonzero(first.server != second.server).tolist()


def draw_difference(instance: Instance, first: Plan, second: Plan, side_inches: float = MAP_INCHES) -> "Figure":
    """Draws who is served otherwise: the first plan's way wide, the second's thin; a ring: runs at home."""
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height = side_inches + 1.15
    figure = Figure(figsize=(side_inches, height))
    FigureCanvasAgg(figure)
    axes: Axes = figure.add_axes((0.02, 0.55 / height, 0.96, side_inches * 0.96 / height))
    _frame(axes, instance)
    users = differing_users(first, second)
    ways = [(u, int(plan.server[u])) for plan in (first, second) for u in users if plan.server[u] != LOCAL]
    _draw_network(axes, instance, users, ways)
    for line, plan, ring in zip(LINES.values(), (first, second), HOME_RINGS, strict=True):
        _draw_ways(axes, instance, users, plan, line, ring)
    count = f"{len(users)} of {instance.num_users} users" if users else "nobody"
    axes.text(0, 1.035, "where they differ", transform=axes.transAxes, fontsize=12, weight="bold", color=INK)
    axes.text(0, 1.01, f"{count} served otherwise", transform=axes.transAxes, fontsize=8.5, color="#5b636e")
    _draw_key(figure, first.method, second.method)
    return figure


def _frame(axes: "Axes", instance: Instance) -> None:
    xy_m = np.concatenate([instance.nodes.server_xyz_m[:, :2], instance.nodes.user_xyz_m[:, :2], np.zeros((1, 2))])
    xy_m = xy_m[:-1] if len(xy_m) > 1 else xy_m
    low, high = xy_m.min(axis=0), xy_m.max(axis=0)
    centre, half_m = (low + high) / 2, max(float((high - low).max()), 1.0) * MARGIN / 2
    axes.set_xlim(centre[0] - half_m, centre[0] + half_m)
    axes.set_ylim(centre[1] - half_m, centre[1] + half_m)
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color("#d5d9df")


def _draw_network(axes: "Axes", instance: Instance, users: list[int], ways: Sequence[tuple[int, int]]) -> None:
    """Servers by name, the users in question by name, all others faint.

    Args:
        axes: Of the map.
        instance: The network.
        users: Those that are served otherwise.
        ways: User and server of each line that is drawn.
    """
    nodes = instance.nodes
    server_xy_m, user_xy_m = nodes.server_xyz_m[:, :2].tolist(), nodes.user_xyz_m[:, :2].tolist()
    names = _Names(axes)
    for user, server in ways:
        names.places.take_line(user_xy_m[user], server_xy_m[server], names.metres(NODE_POINTS))
    for x_m, y_m in (*server_xy_m, *user_xy_m):
        names.places.take(x_m, y_m, names.metres(NODE_POINTS))
    for s, (x_m, y_m) in enumerate(server_xy_m):
        is_hap = bool(nodes.server_is_hap[s])
        colour = HAP_COLOUR if is_hap else INK
        axes.scatter([x_m], [y_m], marker="*" if is_hap else "s", s=160 if is_hap else 70, c=[colour], zorder=5)
        names.write(x_m, y_m, instance.server_ids[s], colour, "bold")
    for u, (x_m, y_m) in enumerate(user_xy_m):
        differs = u in users
        shape, colour = "^" if nodes.user_is_aerial[u] else "o", INK if differs else FAINT
        axes.scatter([x_m], [y_m], marker=shape, s=44, c=[colour], edgecolor="white", linewidth=0.9, zorder=6)
        if differs:
            names.write(x_m, y_m, instance.user_ids[u], INK, "normal")


def _draw_ways(
    axes: "Axes", instance: Instance, users: list[int], plan: Plan, line: tuple[float, float], ring: float
) -> None:
    points, alpha = line
    colour, nodes = look_of(plan.method).colour, instance.nodes
    for u in users:
        (x_m, y_m), s = nodes.user_xyz_m[u, :2].tolist(), int(plan.server[u])
        if s == LOCAL:
            axes.scatter([x_m], [y_m], s=ring, facecolor="none", edgecolor=colour, linewidth=1.8, zorder=5.5)
        else:
            server_x_m, server_y_m = nodes.server_xyz_m[s, :2].tolist()
            xy_m = ([x_m, server_x_m], [y_m, server_y_m])
            axes.plot(*xy_m, color=colour, linewidth=points, alpha=alpha, zorder=3, gid="way")


class _Names:
    """Writes names beside their nodes where they cover least."""

    def __init__(self, axes: "Axes") -> None:
        (left_m, right_m), (bottom_m, top_m) = axes.get_xlim(), axes.get_ylim()
        figure: Any = axes.figure
        width_points = figure.get_size_inches()[0] * axes.get_position().width * POINTS_PER_INCH
        self.axes, self.metres_per_point = axes, (right_m - left_m) / width_points
        self.places = LabelPlaces((left_m, bottom_m, right_m, top_m))

    def metres(self, points: float) -> float:
        """Returns a length on paper as one on the map."""
        return points * self.metres_per_point

    def write(self, x_m: float, y_m: float, text: str, colour: str, weight: str) -> None:
        """Writes one name."""
        from matplotlib.patheffects import withStroke

        height_m = self.metres(NAME_POINTS * 1.25)
        width_m = (0.5 * len(text) + 0.2) * height_m * (1.15 if weight == "bold" else 1.0)
        x_m, y_m = self.places.place(x_m, y_m, self.metres(NODE_POINTS), width_m, height_m)
        halo = [withStroke(linewidth=2.0, foreground="white", alpha=0.85)]
        label = self.axes.text(x_m, y_m, text, color=colour, fontsize=NAME_POINTS, weight=weight, path_effects=halo)
        label.set(ha="center", va="center", clip_on=True, zorder=7, gid="name")


def _draw_key(figure: "Figure", first: str, second: str) -> None:
    from matplotlib.lines import Line2D

    names = zip(LINES.values(), (first, second), strict=True)
    handles = [
        Line2D([], [], color=look_of(name).colour, linewidth=points, alpha=alpha) for (points, alpha), name in names
    ]
    ring = Line2D([], [], linestyle="", marker="o", markersize=9, markerfacecolor="none", markeredgecolor=FAINT)
    figure.legend(
        [*handles, ring],
        [f"way in {first}", f"way in {second}", "ring: runs at home"],
        loc="lower center",
        ncols=3,
        frameon=False,
        fontsize=8.5,
        labelcolor=INK,
    )
