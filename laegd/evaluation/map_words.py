"""Title, legend and colours of the maps."""

from typing import TYPE_CHECKING

from laegd.problem.instance import LOCAL, Instance, Plan

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINE_POINTS = (0.7, 6.0)  # width of a line for a share of 0 and of 1
INK, FAINT, WARNING = "#2b2f36", "#9aa1ab", "#c62828"
# Ten colours that stay apart on white, for readers without red or green cones too; then they repeat.
SERVER_COLOURS = (
    "#2f6fb7",
    "#e07b00",
    "#2a9d6f",
    "#b5479b",
    "#8a5a2b",
    "#00a3b8",
    "#d1495b",
    "#6a5acd",
    "#5f7d00",
    "#e3a700",
)
HAP_COLOUR = "#4b3b8f"
HAP_DASHES = (0, (2.2, 1.1))  # of the lines to it, in line widths


def draw_title(axes: "Axes", instance: Instance, plan: Plan) -> None:
    """Writes method, cost and gap above a map, and the size of network and answer."""
    aerial, ground = int(instance.nodes.user_is_aerial.sum()), int((~instance.nodes.user_is_aerial).sum())
    home = int((plan.server == LOCAL).sum())
    if plan.feasible:
        gap = (
            "" if plan.gap is None else " · optimal" if plan.gap < 1e-9 else f" · certified gap {100 * plan.gap:.2g} %"
        )
        title = f"{plan.method} · cost {plan.cost:,.1f}{gap}"
        detail = f"{instance.num_users - home} tasks offloaded, {home} run at home"
    else:
        title = f"{plan.method} · no feasible plan"
        detail = f"cannot be served together: {', '.join(plan.unserved)}" if plan.unserved else "none was found"
    axes.text(0.0, 1.035, title, transform=axes.transAxes, fontsize=12, weight="bold", color=INK, va="bottom")
    network = f"{ground} ground and {aerial} aerial users, {instance.num_servers} servers · {detail}"
    axes.text(0.0, 1.01, network, transform=axes.transAxes, fontsize=8.5, color="#5b636e", va="bottom")


def draw_legend(figure: "Figure", columns: int) -> None:
    """Explains markers and lines below the maps."""
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
            marker("s", "ground server"),
            marker("*", "high-altitude platform", colour=HAP_COLOUR),
            marker("o", "ground user, offloaded"),
            marker("^", "aerial user, offloaded"),
            marker("o", "ground user, at home", filled=False, colour=INK),
            marker("^", "aerial user, at home", filled=False, colour=INK),
            line(thin + 0.1 * (thick - thin), "10 % of a server"),
            line(thin + 0.5 * (thick - thin), "50 % of a server"),
            line(1.6, "to a platform", HAP_DASHES),
            marker("s", "ring: shares, a sector a user", filled=False),
            Line2D(
                [],
                [],
                linestyle="",
                marker="o",
                markersize=11,
                alpha=0.35,
                markerfacecolor="#dbe5f3",
                label="coverage of a ground server",
            ),
            Line2D([], [], linestyle="", label="cost: weighted sum of s and J"),
        ],
        loc="lower center",
        ncols=columns,
        frameon=False,
        fontsize=8.0,
        labelcolor=INK,
        columnspacing=1.4,
        handletextpad=0.5,
        bbox_to_anchor=(0.5, 0.0),
    )
