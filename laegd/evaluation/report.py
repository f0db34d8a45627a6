"""Tables of results."""

from collections.abc import Sequence

from rich.box import SIMPLE
from rich.table import Table

from laegd.evaluation.benchmark import Summary


def results_table(summaries: Sequence[Summary], title: str) -> Table:
    """Returns a table with a row per method, within 80 columns: quality against the reference, and where the time goes.

    Cost ratios are a mean with its standard error and the 95th percentile; times are milliseconds per instance.
    """
    table = Table(title=title, box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False, title_style="")
    reference = summaries[0].reference if summaries else "reference"
    table.add_column("method", no_wrap=True)
    quality = (f"cost / {reference}", "p95", "accu-\nracy", "infeas-\nible")
    for heading in (*quality, "model\nms", "decode\nms", "total\nms"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in summaries:
        table.add_row(
            row.method,
            _mean(row),
            _number(row.p95_ratio, ".3f"),
            *(f"{100 * share:.1f}%" for share in (row.accuracy, row.infeasible)),
            *(_milliseconds(s) for s in (row.seconds_model, row.seconds_decode, row.seconds_total)),
        )
    return table


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


def _mean(row: Summary) -> str:
    error = "" if row.ratio_standard_error is None else f" \u00b1 {row.ratio_standard_error:.4f}"
    return _number(row.mean_ratio, ".4f") + error


def _milliseconds(seconds: float) -> str:
    value = 1e3 * seconds
    return "-" if value == 0 else f"{value:.2g}" if value < 1 else f"{value:.3g}" if value < 100 else f"{value:.0f}"
