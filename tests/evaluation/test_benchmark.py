"""The comparison's arithmetic, against hand computation with a solver whose plans are made up."""

import csv
import io
import json
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from msgspec.structs import replace as changed
from rich.console import Console

from laegd.evaluation.benchmark import Rows, run, summarise, write_results
from laegd.evaluation.report import results_table
from laegd.graphs.dataset import Dataset, Recipe, generate
from laegd.problem.objective import infeasible_plan
from laegd.solvers.exact import ExactSolver

FACTORS = [1.0, 1.05, 1.0999, 1.1, 1.5, None, None, 1.0]  # of the optimum; None: no plan


@dataclass(frozen=True)
class MadeUp:
    """Answers the i-th instance of a call with the optimal plan at FACTORS[i] times its cost."""

    name: str = "made-up"

    def solve(self, instances):
        """Returns the made-up plans."""
        optima = ExactSolver().solve(instances)
        return [
            infeasible_plan(one, self.name)
            if factor is None
            else replace(plan, method=self.name, cost=plan.cost * factor, seconds=0.5, model_seconds=0.3)
            for one, plan, factor in zip(instances, optima, FACTORS, strict=True)
        ]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Eight labelled instances."""
    folder = tmp_path_factory.mktemp("data")
    generate(Recipe("gs2_gu4_au2", len(FACTORS), seed=4), folder)
    return Dataset.open(folder)


@pytest.fixture(scope="module")
def rows(dataset):
    """What the made-up solver gets."""
    return run(MadeUp(), dataset)


def test_summary_is_the_hand_computed_one(dataset, rows):
    """Mean over the six plans, accuracy and infeasible share over all eight instances."""
    summary = summarise("made-up", dataset, rows)
    # 1, 1.05, 1.0999, 1.1, 1.5, 1: the sum is 6.7499
    mean = 6.7499 / 6
    variance = sum((r - mean) ** 2 for r in (1.0, 1.05, 1.0999, 1.1, 1.5, 1.0)) / 5
    assert summary.mean_ratio == pytest.approx(mean, rel=1e-9)
    assert summary.ratio_standard_error == pytest.approx(math.sqrt(variance / 6), rel=1e-6)
    assert summary.median_ratio == pytest.approx((1.05 + 1.0999) / 2, rel=1e-9)
    # sorted: 1, 1, 1.05, 1.0999, 1.1, 1.5; 0.95 of the way over five gaps is 4.75: 1.1 + 0.75 * 0.4
    assert summary.p95_ratio == pytest.approx(1.4, rel=1e-9)
    # below 1.1: 1, 1.05, 1.0999, 1; not 1.1 itself, and not the two without a plan
    assert summary.accuracy == 4 / 8
    assert summary.infeasible == 2 / 8
    assert (summary.method, summary.test_set, summary.reference, summary.instances) == (
        "made-up",
        "gs2_gu4_au2",
        "optimum",
        8,
    )
    # the two infeasible answers took no time
    assert summary.seconds_total == pytest.approx(0.5 * 6 / 8) and summary.seconds_model == pytest.approx(0.3 * 6 / 8)
    assert summary.seconds_decode == 0


def test_exact_solver_has_ratio_one(dataset):
    """On exact labels: every ratio 1, accuracy 1, nothing infeasible."""
    summary = summarise("exact", dataset, run(ExactSolver(), dataset))
    assert summary.mean_ratio == pytest.approx(1.0, abs=1e-9)
    assert summary.p95_ratio == pytest.approx(1.0, abs=1e-9)
    assert (summary.accuracy, summary.infeasible) == (1.0, 0.0)


def test_method_without_any_plan_has_no_ratio(dataset, rows):
    """Accuracy 0, infeasible 1, and no mean that would flatter."""
    none = Rows(*(values[5:7] for values in rows))
    summary = summarise("made-up", dataset, none)
    assert (summary.mean_ratio, summary.ratio_standard_error, summary.p95_ratio) == (None, None, None)
    assert (summary.accuracy, summary.infeasible) == (0.0, 1.0)


def test_data_set_without_labels_is_refused(tmp_path):
    """There is nothing to compare with; the error names the folder and what to do."""
    generate(Recipe("gs2_gu4_au2", 2, seed=4, labels="none"), tmp_path)
    with pytest.raises(ValueError, match=r"Expected a data set with labels .*, got 'none'\. Generate it with"):
        run(MadeUp(), Dataset.open(tmp_path))


def test_heuristic_labels_are_named_as_the_reference(tmp_path):
    """Against mcmf's labels the table says mcmf, and the optimum's ratio is at most 1."""
    generate(Recipe("gs2_gu4_au2", 8, seed=4, labels="mcmf"), tmp_path)
    dataset = Dataset.open(tmp_path)
    summary = summarise("exact", dataset, run(ExactSolver(), dataset))
    assert summary.reference == "mcmf" and summary.mean_ratio <= 1 + 1e-9


def test_progress_counts_instances(dataset):
    """From none to all."""
    seen = []
    run(ExactSolver(), dataset, lambda done, total: seen.append((done, total)))
    assert (seen[0], seen[-1]) == ((0, 8), (8, 8))


def test_results_file_and_csv_hold_everything(dataset, rows, tmp_path):
    """JSON: settings, data, device, versions, summaries; CSV: a row per instance that reads back to the same float."""
    summary = summarise("made-up", dataset, rows)
    path = tmp_path / "deep" / "results.json"
    write_results(path, dataset, {"made-up": {"answer": 42}}, [(summary, rows)])
    document = json.loads(path.read_text())
    assert document["format"] == "laegd-results/1"
    assert document["settings"] == {"made-up": {"answer": 42}}
    assert document["data"] == {
        "scale": "gs2_gu4_au2",
        "count": 8,
        "seed": 4,
        "labels": "exact",
        "digest": dataset.digest,
    }
    assert document["device"] and set(document["versions"]) >= {"laegd", "jax"}
    (result,) = document["results"]
    assert result["mean_ratio"] == summary.mean_ratio and result["accuracy"] == 0.5
    with open(tmp_path / "deep/results.csv") as file:
        table = list(csv.DictReader(file))
    assert [int(row["feasible"]) for row in table] == [factor is not None for factor in FACTORS]
    np.testing.assert_array_equal([float(row["cost"]) for row in table], rows.cost)
    np.testing.assert_array_equal([float(row["ratio"]) for row in table], rows.ratio)
    assert {path.name for path in (tmp_path / "deep").iterdir()} == {"results.json", "results.csv"}


def test_results_named_csv_are_refused(dataset, rows, tmp_path):
    """The JSON would be overwritten by its own CSV."""
    with pytest.raises(ValueError, match=r"results\.csv: Expected a name for JSON"):
        write_results(tmp_path / "results.csv", dataset, {}, [(summarise("made-up", dataset, rows), rows)])
    assert not list(tmp_path.iterdir())


def test_table_fits_into_80_columns(dataset, rows):
    """Nothing is cut off, also for long names, long times and methods without a plan."""
    some = summarise("random-belief", dataset, rows)
    none = summarise("gadsg", dataset, Rows(*(values[5:7] for values in rows)))
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(results_table([changed(some, seconds_total=1234.5, seconds_model=0.0123), none], "8 instances"))
    lines = console.export_text().splitlines()
    text = "\n".join(lines)
    assert "…" not in text and max(map(len, lines)) <= 80
    for part in ("cost / optimum", "random-belief", "1.1250 ± 0.0772", "1.400", "50.0%", "25.0%", "12.3", "1234500"):
        assert part in text, text
