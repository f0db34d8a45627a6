"""The pictures of a page: charts of a results file, heat maps of a sweep, solved networks side by side."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING

from laegd.evaluation.chart_style import plain_names
from laegd.evaluation.difference_map import differing_users, draw_difference
from laegd.evaluation.figures import (
    QUANTILES,
    HeatPanel,
    heat_limits,
    heat_map,
    quality_against_time,
    ratio_distribution,
)
from laegd.evaluation.picture import figure_of
from laegd.evaluation.web.files import Example, ResultFile, Row
from laegd.evaluation.web.svg import to_svg
from laegd.evaluation.web.tables import Column, number, table, words
from laegd.problem.instance import LOCAL, Instance, Plan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_EXAMPLES = 3  # networks of one file that are drawn
MAX_NODES = 2_000  # of a map
MAP_INCHES = 5.6  # smaller than on a sheet, so that words are larger beside the map
WITHOUT_NETWORK = "without a network"
LEARNED = ("gadsg", "gdsg", "grlo")


def charts(name: str, file: ResultFile) -> str:
    """Returns the pictures of one file, empty where it holds no number to draw."""
    if file.is_sweep:
        return _grid(_heat_maps(f"{name}-ratio", file, accuracy=False), "pictures small") + _grid(
            _heat_maps(f"{name}-accuracy", file, accuracy=True), "pictures small"
        )
    return _grid(_charts(name, file))


def _grid(pictures: Iterable[str], look: str = "pictures") -> str:
    content = "".join(pictures)
    return f'<div class="{look}">\n{content}</div>\n' if content else ""


def _picture(name: str, figure: "Figure", label: str, caption: str) -> str:
    return f"<figure>{to_svg(figure, name, label)}<figcaption>{escape(caption)}</figcaption></figure>\n"


def _charts(name: str, file: ResultFile) -> Iterator[str]:
    reference = file.reference_name
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in file.results:
        if row.mean_ratio is not None and row.seconds_total > 0:
            curves.setdefault(row.method.partition("@")[0], []).append((row.seconds_total, row.mean_ratio))
    if curves:
        points = {method: sorted(points) for method, points in curves.items()}
        said = "; ".join(
            f"{method} {ratio:.4f} in {1e3 * s:.3g} ms" for method, ps in points.items() for s, ratio in ps
        )
        caption = "Quality against time: further down is better, further left is faster; a line joins time limits."
        figure = quality_against_time(points, reference=reference)
        yield _picture(f"{name}-time", figure, f"Mean cost ratio against time: {said}", caption)
    known: dict[str, dict[str, float]] = {}
    for row in file.results:
        ratios = {key: value for key, value in (row.quantiles or {}).items() if value is not None}
        if all(key in ratios for key in QUANTILES):
            known[row.method] = ratios
    if known:
        said = "; ".join(f"{method} median {q['p50']:.3f}, worst {q['max']:.3f}" for method, q in known.items())
        caption = "How the cost ratios of the networks are distributed, per method."
        figure = ratio_distribution(known, reference=reference)
        yield _picture(f"{name}-spread", figure, f"Distribution of cost ratios: {said}", caption)


def _heat_maps(name: str, file: ResultFile, accuracy: bool) -> Iterator[str]:
    """A map per method family, side by side, one colour scale for all."""
    test_sets = list(dict.fromkeys(row.test_set for row in file.results))
    trained = {model.name for model in file.models if model.trained_on}
    families: dict[str, list[Row]] = {}
    for row in file.results:
        families.setdefault(_family(row, trained), []).append(row)
    panels = [_panel(family, rows, test_sets, accuracy) for family, rows in families.items()]
    value_name, form = ("accuracy in %", ".1f") if accuracy else ("mean cost ratio", ".3f")
    meaning = value_name if accuracy else f"{value_name} to the {file.reference_name}"
    for position, panel in enumerate(panels):
        numbers = "; ".join(
            f"{model}: " + ", ".join("unknown" if v is None else f"{v:{form}}" for v in row)
            for model, row in zip(panel.models, panel.values, strict=True)
        )
        label = f"{meaning} of {panel.title} on {', '.join(test_sets)}. {numbers}"
        figure = heat_map([panel], test_sets, limits=heat_limits(panels), value_name=value_name, form=form)
        caption = f"{panel.title}: {meaning}; a row per model, a column per test set, one scale for all maps."
        yield _picture(f"{name}{position}", figure, label, caption)


def _family(row: Row, trained: Collection[str]) -> str:
    """Models of one method stand in one map, all methods without a network in another."""
    return row.method if row.model in trained else WITHOUT_NETWORK


def _panel(family: str, rows: Sequence[Row], test_sets: Sequence[str], accuracy: bool) -> HeatPanel:
    cells = {
        (row.model or row.method, row.test_set): 100 * row.accuracy if accuracy else row.mean_ratio for row in rows
    }
    models = list(dict.fromkeys(model for model, _ in cells))
    return HeatPanel(family, models, [[cells.get((model, test_set)) for test_set in test_sets] for model in models])


def maps(name: str, examples: Sequence[Example]) -> str:
    """Returns the first solved networks: the reference, the first learned method, where they differ."""
    return "".join(_example(f"{name}-map{i}", example) for i, example in enumerate(examples[:MAX_EXAMPLES]))


def _example(name: str, example: Example) -> str:
    instance, plans = example.read()
    if not plans:
        return ""
    if instance.num_users + instance.num_servers > MAX_NODES:
        note = f"{instance.num_users:,} users and {instance.num_servers:,} servers are too many for a map."
        return f'<h4>Network {example.index}</h4>\n<p class="note">{note}</p>'
    shown = [plans[0], *_compared(plans[1:])]
    pictures = []
    for position, plan in enumerate(shown):
        with plain_names():
            figure = figure_of(instance, [plan], MAP_INCHES)
        caption = f"{plan.method}: {_in_words(instance, plan)}"
        pictures.append(_picture(f"{name}-{position}", figure, f"Map of the plan of {caption}", caption))
    if len(shown) == 2:
        pictures.append(_difference(name, instance, *shown))
    return f"<h4>Network {example.index}</h4>\n{_grid(pictures)}"


def _compared(plans: Sequence[Plan]) -> list[Plan]:
    learned = [plan for plan in plans if plan.method.startswith(LEARNED)]
    return (learned or list(plans))[:1]


def _in_words(instance: Instance, plan: Plan) -> str:
    if not plan.feasible:
        return "no feasible plan."
    away = int((plan.server != LOCAL).sum())
    return f"cost {plan.cost:,.1f}, {away} of {instance.num_users} tasks offloaded."


def _difference(name: str, instance: Instance, first: Plan, second: Plan) -> str:
    users = differing_users(first, second)
    if not users:
        words_only = f"{second.method} sends every task where {first.method} does."
        return f'<p class="note">{escape(words_only)}</p>'
    with plain_names():
        figure = draw_difference(instance, first, second, MAP_INCHES)
    caption = f"Where {first.method} and {second.method} differ: {len(users)} of {instance.num_users} users."
    columns = [Column("user", numeric=False)]
    columns += [
        Column(text, numeric=kind) for p in (first, second) for text, kind in ((p.method, False), ("share", True))
    ]
    rows = []
    for u in users:
        cells = [words(instance.user_ids[u])]
        for plan in (first, second):
            s = int(plan.server[u])
            cells += [words("at home" if s == LOCAL else instance.server_ids[s])]
            cells += [number(None if s == LOCAL else float(plan.share[u]), ".0f", 100.0, " %")]
        rows.append(cells)
    listed = table(f"{name}-users", "Users who are served otherwise", columns, rows)
    return _picture(f"{name}-both", figure, caption, caption) + f'<div class="beside">{listed}</div>\n'
