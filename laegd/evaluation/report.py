"""Tables of results."""

from collections.abc import Sequence

from rich.table import Table

from laegd.evaluation.benchmark import Summary


def results_table(summaries: Sequence[Summary], title: str) -> Table:
    """Returns a table with a row per method: quality against the reference, and where the time goes."""
    table = Table(title=title)
    reference = summaries[0].reference if summaries else "reference"
    table.add_column("method")
    for heading in (
        f"cost / {reference}",
        "+-",
        "median",
        "95 %",
        "accuracy",
        "infeasible",
        "model ms",
        "decode ms",
        "total ms",
    ):
        table.add_column(heading, justify="right", no_wrap=True)

    def number(value: float | None, digits: int) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    for row in summaries:
        quality = [number(v, 4) for v in (row.mean_ratio, row.ratio_standard_error, row.median_ratio, row.p95_ratio)]
        shares = [f"{100 * value:.2f} %" for value in (row.accuracy, row.infeasible)]
        times = [
            number(1e3 * value, 2) if value > 0 else "-"
            for value in (row.seconds_model, row.seconds_decode, row.seconds_total)
        ]
        table.add_row(row.method, *quality, *shares, *times)
    return table
