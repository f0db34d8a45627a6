"""Tables of a page that a reader can sort; everything that comes from a file is escaped here."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from laegd.evaluation.chart_style import look_of
from laegd.evaluation.map_words import INK
from laegd.evaluation.web.files import Paired, ResultFile, Row

NOT_KNOWN = "\u2013"
MINUS = "\u2212"


class Cell(NamedTuple):
    """What a cell shows, and the number that it is sorted by."""

    text: str
    value: float | None = None
    numeric: bool = True
    colour: str | None = None
    """Of the dot before the text."""


class Column(NamedTuple):
    """A heading and what it means."""

    heading: str
    meaning: str = ""
    numeric: bool = True


def number(value: int | float | None, form: str = ".4f", scale: float = 1.0, unit: str = "") -> Cell:
    """Returns a cell that is sorted by its full number, whatever digits it shows."""
    if value is None:
        return Cell(NOT_KNOWN)
    return Cell(f"{scale * value:{form}}".replace("-", MINUS) + unit, value)


def words(text: str, colour: str | None = None) -> Cell:
    """Returns a cell of text."""
    return Cell(text, numeric=False, colour=colour)


def method_cell(method: str) -> Cell:
    """Returns a method's name with the colour that it has in the charts."""
    colour = look_of(method).colour
    return words(method, "var(--ink)" if colour == INK else colour)


def table(name: str, caption: str, columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> str:
    """Returns a sortable table in a container that scrolls by itself.

    Args:
        name: Id in the page.
        caption: What the table shows; text.
        columns: One heading each.
        rows: A cell per column; the first names the row.
    """
    headings = "".join(
        f'<th scope="col"{_classes(column.numeric)}><button type="button" title="{escape(column.meaning)}">'
        f"{escape(column.heading)}</button></th>"
        for column in columns
    )
    body = "\n".join(f"<tr>{_row(row)}</tr>" for row in rows)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-labelledby="{name}">\n<table class="sortable">\n'
        f'<caption id="{name}">{escape(caption)}</caption>\n<thead><tr>{headings}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _classes(numeric: bool) -> str:
    return ' class="number"' if numeric else ""


def _row(cells: Sequence[Cell]) -> str:
    parts = []
    for position, cell in enumerate(cells):
        tag, scope = ("th", ' scope="row"') if position == 0 else ("td", "")
        value = "" if not cell.numeric else f' data-value="{"" if cell.value is None else repr(float(cell.value))}"'
        dot = "" if cell.colour is None else f'<span class="dot" style="background: {cell.colour}"></span>'
        text = escape(cell.text)
        if position == 0:  # stays in sight while the rest scrolls, so it must not take all the room
            text = f'<span class="name" title="{text}">{dot}{text}</span>'
        else:
            text = dot + text
        parts.append(f"<{tag}{scope}{_classes(cell.numeric)}{value}>{text}</{tag}>")
    return "".join(parts)


QUALITY = (
    Column("s.e.", "standard error of the mean"),
    Column("median", "median cost ratio"),
    Column("p95", "95th percentile of the cost ratio"),
    Column("accurate", "share of networks with a plan that costs less than 1.1 times the reference"),
    Column("infeasible", "share of networks without a feasible plan"),
    Column("model ms", "milliseconds per network in the network's evaluation"),
    Column("decode ms", "milliseconds per network in decoding"),
    Column("total ms", "milliseconds per network"),
)


def _quality(row: Row) -> list[Cell]:
    times = (row.seconds_model, row.seconds_decode, row.seconds_total)
    return [
        number(row.mean_ratio),
        number(row.ratio_standard_error),
        number(row.median_ratio),
        number(row.p95_ratio, ".3f"),
        number(row.accuracy, ".2f", 100.0, " %"),
        number(row.infeasible, ".2f", 100.0, " %"),
        *(number(seconds or None, ".3g" if seconds < 0.1 else ",.0f", 1e3) for seconds in times),
    ]


def quality_table(name: str, file: ResultFile) -> str:
    """Returns the main table of a results file: a row per method; of a sweep: per model and test set."""
    mean = Column(f"cost / {file.reference_name}", f"mean ratio of a plan's cost to the {file.reference_name}'s")
    if file.is_sweep:
        trained = {model.name: ", ".join(model.trained_on) for model in file.models}
        columns = [Column("model", numeric=False), Column("method", numeric=False), Column("trained on", numeric=False)]
        columns += [Column("test set", numeric=False), Column("networks"), mean, *QUALITY]
        rows = [
            [
                words(row.model or row.method),
                method_cell(row.method),
                words(trained.get(row.model or "") or NOT_KNOWN),
                words(row.test_set),
                number(row.instances, ",.0f"),
                *_quality(row),
            ]
            for row in file.results
        ]
        return table(name, "Every model on every test set", columns, rows)
    first = file.results[0].method
    compared = {row.method: difference(file.paired, row.method, first) for row in file.results}
    columns = [Column("method", numeric=False), mean, *QUALITY]
    if file.paired:
        meaning = f"mean over networks of a method's ratio minus the ratio of {first}, with its standard error"
        columns += [Column(f"minus {first}", meaning), Column("\u00b1 s.e.", "standard error of that difference")]
    rows = [[method_cell(row.method), *_quality(row)] for row in file.results]
    if file.paired:
        for cells, row in zip(rows, file.results, strict=True):
            mean_difference, error = compared[row.method]
            cells += [number(mean_difference, "+.4f"), number(error)]
    counts = sorted({row.instances for row in file.results})
    networks = " or ".join(f"{count:,}" for count in counts)
    caption = f"All methods on {networks} networks of {file.results[0].test_set}"
    unrated = max(row.without_reference for row in file.results)
    caption += (
        f"; for {unrated:,} of them the {file.reference_name} has no plan, so there is no ratio" if unrated else ""
    )
    return table(name, caption, columns, rows)


def difference(paired: Sequence[Paired], method: str, other: str) -> tuple[float | None, float | None]:
    """Returns mean and standard error of a method's ratio minus the other's, in whichever order the pair is kept."""
    for pair in paired:
        if (pair.method, pair.other) == (method, other):
            return pair.mean_difference, pair.standard_error
        if (pair.method, pair.other) == (other, method) and pair.mean_difference is not None:
            return -pair.mean_difference, pair.standard_error
    return None, None


def paired_table(name: str, paired: Sequence[Paired]) -> str:
    """Returns all pairs of methods, compared network by network."""
    columns = (
        Column("method", numeric=False),
        Column("other", numeric=False),
        Column("difference", "mean over networks of the ratio of the method minus that of the other"),
        Column("s.e.", "standard error of that mean"),
        Column("networks", "where both have a feasible plan"),
        Column("better", "networks where the method costs less"),
        Column("equal", "networks where both cost the same"),
    )
    rows = [
        [
            method_cell(pair.method),
            method_cell(pair.other),
            number(pair.mean_difference, "+.4f"),
            number(pair.standard_error),
            number(pair.instances, ",.0f"),
            number(pair.better, ",.0f"),
            number(pair.equal, ",.0f"),
        ]
        for pair in paired
    ]
    return table(name, "Methods compared network by network", columns, rows)
