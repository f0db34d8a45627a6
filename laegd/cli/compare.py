"""The command that compares methods: `evaluate`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import OmitArgPrefixes

from laegd.cli.console import progress_bar, show
from laegd.cli.methods import AS_TRAINED, METHODS, OptionalFloat, Sampling, make_solvers, settings_of

if TYPE_CHECKING:
    from laegd.graphs.dataset import Dataset
    from laegd.problem.instance import Solver


def evaluate(
    data: Path,
    out: Path,
    methods: str = ",".join(METHODS),
    time_limit_s: OptionalFloat = None,
    sampling: Annotated[Sampling, OmitArgPrefixes] = AS_TRAINED,
) -> None:
    """Compares methods on a labelled data set; prints a table, writes results and a CSV with a row per instance.

    Args:
        data: Folder of the data set.
        out: Results, JSON; the CSV stands beside it.
        methods: Any of gadsg, random-belief, mcmf, exact, separated by commas.
        time_limit_s: Per instance, for exact.
        sampling: Settings of gadsg and random-belief.
    """
    from laegd.evaluation.benchmark import require_labels
    from laegd.graphs.dataset import Dataset

    dataset = Dataset.open(data)
    require_labels(dataset)
    compare(make_solvers(methods.split(","), sampling, time_limit_s), dataset, out)


def compare(solvers: "Sequence[Solver]", dataset: "Dataset", out: Path) -> None:
    """Runs every solver on the data set, writes `out` and its CSV, prints the table."""
    from laegd.evaluation.benchmark import csv_path, run, summarise, write_results
    from laegd.evaluation.report import results_table
    from laegd.scenario.files import require_writable

    for path in (out, csv_path(out)):
        require_writable(path)
    results = []
    for solver in solvers:
        with progress_bar(solver.name) as bar:
            rows = run(solver, dataset, lambda done, total, bar=bar: bar(done, total, ""))
        results.append((summarise(solver.name, dataset, rows), rows))
    write_results(out, dataset, {solver.name: settings_of(solver) for solver in solvers}, results)
    m = dataset.manifest
    title = f"{m.count} instances of {m.scale}, seed {m.seed}, data {dataset.digest}"
    show(results_table([summary for summary, _ in results], title))
