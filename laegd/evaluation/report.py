"""Tables of results, for a terminal of 80 columns."""

from collections.abc import Sequence

from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from laegd.evaluation.benchmark import Paired, Summary
from laegd.evaluation.sweep import Cell
from laegd.scenario.scenario import printable

_MEAN_WIDTH = 15  # of "1.0148 ± 0.0011"
_SWEEP_COLUMNS = 7  # data sets side by side
_MODEL_WIDTH = 16


def _text(words: str) -> Text:
    """Returns words as they are: neither marked up nor, where a name has control characters, moving the cursor."""
    return Text("\n".join(map(printable, words.split("\n"))))


def _table(title: str) -> Table:
    return Table(title=_text(title), box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False, title_style="")


def results_table(summaries: Sequence[Summary], title: str) -> Table:
    """Returns a table with a row per method, within 80 columns: quality against the reference, and where the time goes.

    Cost ratios are a mean with its standard error and the 95th percentile; times are milliseconds per instance.
    """
    table = _table(title)
    reference = summaries[0].reference if summaries else "reference"
    table.add_column("method", no_wrap=True)
    ratio = f"cost / {reference}"
    quality = (ratio if len(ratio) <= _MEAN_WIDTH else f"cost /\n{reference}", "p95", "accu-\nracy", "infeas-\nible")
    for heading in map(_text, (*quality, "model\nms", "decode\nms", "total\nms")):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in summaries:
        table.add_row(
            _text(row.method),
            _mean(row),
            _number(row.p95_ratio, ".3f"),
            *(f"{100 * share:.1f}%" for share in (row.accuracy, row.infeasible)),
            *(_milliseconds(s) for s in (row.seconds_model, row.seconds_decode, row.seconds_total)),
        )
    return table


def differences_table(pairs: Sequence[Paired], first: str) -> Table:
    """Returns a table of every other method's cost ratio minus that of `first`, instance by instance."""
    table = _table(f"cost ratio minus that of {first}")
    table.add_column("method", no_wrap=True)
    for heading in ("difference", "cheaper", "equal", "instances"):
        table.add_column(heading, justify="right", no_wrap=True)
    for pair in pairs:
        if pair.method == first:
            cheaper = pair.instances - pair.better - pair.equal  # than `first`
            difference = None if pair.mean_difference is None else 0.0 - pair.mean_difference
            shares = [f"{100 * n / pair.instances:.1f}%" if pair.instances else "-" for n in (cheaper, pair.equal)]
            cells = (_with_error(difference, pair.standard_error, "+.4f"), *shares, str(pair.instances))
            table.add_row(_text(pair.other), *cells)
    return table


def sweep_tables(cells: Sequence[Cell], title: str) -> list[Table]:
    """Returns the matrix, a row per model and a column per data set, in as many tables as 80 columns make necessary.

    A cell holds the mean cost ratio, its standard error below it and, where there are any, the infeasible share.
    """
    models = list(dict.fromkeys(cell.model.name for cell in cells))
    names = list(dict.fromkeys(cell.test_set.name for cell in cells))
    by_name = {(cell.model.name, cell.test_set.name): cell for cell in cells}
    tables = []
    for begin in range(0, len(names), _SWEEP_COLUMNS):
        table = _table(title if begin == 0 else "")
        table.add_column("model", overflow="fold", max_width=_MODEL_WIDTH)
        shown = names[begin : begin + _SWEEP_COLUMNS]
        for name in shown:
            table.add_column(_text(_heading(name, names)), justify="right", no_wrap=True)
        for model in models:
            table.add_row(_text(model), *(_cell(by_name[model, name]) for name in shown))
        tables.append(table)
    return tables


def sweep_legend(cells: Sequence[Cell]) -> list[str]:
    """Returns what the marks in the matrix mean, a line each."""
    names = list(dict.fromkeys(cell.test_set.name for cell in cells))
    lines = [f"[{names.index(name) + 1}] {name}" for name in names if " " in name]
    return ["* drawn as training data of the model were", *lines] if any(map(_trained_here, cells)) else lines


def _heading(name: str, names: Sequence[str]) -> str:
    """Breaks gs3_gu7_au5 into three lines; a number points to settings, which would take more."""
    scale, bracket, _ = name.partition(" ")
    return "\n".join([*scale.split("_"), f"[{names.index(name) + 1}]" if bracket else ""])


def _trained_here(cell: Cell) -> bool:
    return cell.test_set.name in cell.model.trained_on


def _cell(cell: Cell) -> str:
    row = cell.summary
    lines = [_number(row.mean_ratio, ".4f") + ("*" if _trained_here(cell) else "")]
    if row.ratio_standard_error is not None:
        lines.append(f"\u00b1{row.ratio_standard_error:.4f}")
    if row.infeasible > 0:
        lines.append(f"{100 * row.infeasible:.1f}%inf")
    return "\n".join(lines)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


def _with_error(value: float | None, error: float | None, form: str) -> str:
    return _number(value, form) + ("" if error is None else f" \u00b1 {error:.4f}")


def _mean(row: Summary) -> str:
    return _with_error(row.mean_ratio, row.ratio_standard_error, ".4f")


def _milliseconds(seconds: float) -> str:
    value = 1e3 * seconds
    return "-" if value == 0 else f"{value:.2g}" if value < 1 else f"{value:.3g}" if value < 100 else f"{value:.0f}"
