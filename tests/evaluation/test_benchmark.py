"""The comparison's arithmetic, against hand computation with a solver whose plans are made up."""

import csv
import errno
import io
import json
import math
import os
import re
import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from msgspec import to_builtins
from msgspec.structs import replace as changed
from rich.console import Console

from laegd.evaluation.benchmark import (
    Quantiles,
    RunConfig,
    against,
    choose_reference,
    compare_pairs,
    run,
    summarise,
)
from laegd.evaluation.journal import Journal
from laegd.evaluation.report import differences_table, results_table
from laegd.evaluation.results import Comparison, examples, write_results
from laegd.evaluation.rows import Rows
from laegd.graphs import shards
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
        choose_reference(None, [Dataset.open(tmp_path)], ["made-up"])


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
    write_results(path, Comparison(dataset, {"made-up": {"answer": 42}}, [(summary, rows)]))
    document = json.loads(path.read_text())
    assert document["format"] == "laegd-results/1" and document["reference"] == "optimum"
    assert document["command"].startswith("laegd ")
    assert datetime.fromisoformat(document["created"]) <= datetime.now(UTC)
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
        write_results(tmp_path / "results.csv", Comparison(dataset, {}, [(summarise("made-up", dataset, rows), rows)]))
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


# the reference


def made_up_rows(cost, reference):
    """Rows with these costs; None: no plan."""
    feasible = np.array([value is not None for value in cost])
    numbers = np.array([np.inf if value is None else value for value in cost], dtype=float)
    zeros = np.zeros(len(cost))
    return Rows(numbers, np.array(reference, dtype=float), feasible, zeros, zeros, zeros)


def test_ratio_to_a_method_is_cost_over_its_cost(dataset):
    """All rows, its own too; where it has no plan there is no ratio, which is counted and not accurate."""
    label = [10.0] * 4
    rows = {"a": made_up_rows([12.0, 11.0, 13.0, None], label), "b": made_up_rows([10.0, 22.0, None, None], label)}
    compared = against("b", dataset, rows)
    np.testing.assert_array_equal(compared["a"].ratio[:2], [1.2, 0.5])
    assert np.isnan(compared["a"].ratio[2])
    summary = summarise("a", dataset, compared["a"], "b")
    # 1.2 and 0.5 have a ratio; of four instances only the second is below 1.1, and a has no plan for the last
    assert summary.mean_ratio == pytest.approx(0.85) and summary.reference == "b"
    assert (summary.accuracy, summary.infeasible, summary.without_reference) == (1 / 4, 1 / 4, 2)
    assert summarise("b", dataset, compared["b"], "b").mean_ratio == 1.0
    assert against("optimum", dataset, rows) == rows  # exact labels: they are the reference


def test_reference_is_the_labels_unless_one_is_named(dataset, tmp_path):
    """The labels' name, a method that is compared, or an error that lists both."""
    assert choose_reference(None, [dataset], ["mcmf"]) == "optimum"
    assert choose_reference("optimum", [dataset], ["mcmf"]) == "optimum"
    assert choose_reference("mcmf", [dataset], ["re", "mcmf"]) == "mcmf"
    with pytest.raises(ValueError, match=r"--reference: .*one of optimum, re, got 'mcmf'\. Add it to --methods"):
        choose_reference("mcmf", [dataset], ["re"])
    generate(Recipe("gs2_gu4_au2", 2, seed=4, labels="mcmf"), tmp_path)
    other = Dataset.open(tmp_path)
    with pytest.raises(ValueError, match=r"same kind of labels, got \['mcmf', 'optimum'\]\. Name a --reference"):
        choose_reference(None, [dataset, other], [])
    assert choose_reference("exact", [dataset, other], ["exact"]) == "exact"


# quantiles and pairs


def test_quantiles_are_the_hand_computed_ones():
    """Of 1.00, 1.01, ..., 1.40: the q-quantile is 1 + 0.4 q; shuffled first."""
    ratio = np.random.default_rng(0).permutation(1 + np.arange(41) / 100)
    expected = {"p05": 1.02, "p25": 1.1, "p50": 1.2, "p75": 1.3, "p95": 1.38, "p99": 1.396, "max": 1.4}
    assert to_builtins(Quantiles.of(ratio)) == pytest.approx(expected, rel=1e-12)


def test_paired_difference_is_over_instances_that_both_solve():
    """Every method with every later one; differences, wins and ties by hand."""
    label = [10.0] * 5
    rows = {
        "a": made_up_rows([11.0, 12.0, 10.0, None, 15.0], label),
        "b": made_up_rows([10.0, 12.0 * (1 + 1e-12), 13.0, 11.0, None], label),
        "c": made_up_rows([None, None, None, None, 20.0], label),
    }
    first, *others = compare_pairs(rows)
    assert [(pair.method, pair.other) for pair in (first, *others)] == [("a", "b"), ("a", "c"), ("b", "c")]
    # a - b on the first three: 0.1, 0 (to rounding), -0.3; mean -0.2 / 3
    assert first.mean_difference == pytest.approx(-0.2 / 3, rel=1e-9)
    variance = sum((value + 0.2 / 3) ** 2 for value in (0.1, 0.0, -0.3)) / 2
    assert first.standard_error == pytest.approx(math.sqrt(variance / 3), rel=1e-9)
    assert (first.instances, first.better, first.equal) == (3, 1, 1)
    # one instance has no standard error; none has no difference
    assert (others[0].mean_difference, others[0].standard_error, others[0].instances) == (-0.5, None, 1)
    assert (others[1].mean_difference, others[1].standard_error, others[1].instances) == (None, None, 0)


def test_differences_table_is_seen_from_the_first_method():
    """The sign turns: b costs 0.0667 less than a on average, is cheaper on one and equal on none of three."""
    rows = {"a": made_up_rows([11.0, 12.0, 10.0], [10.0] * 3), "b": made_up_rows([10.0, 12.1, 10.7], [10.0] * 3)}
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(differences_table(compare_pairs(rows), "a"))
    # b - a: -0.1, 0.01, 0.07: mean -0.02 / 3
    assert re.search(r"b +-0\.0067 ± 0\.0498 +33\.3% +0\.0% +3", text := console.export_text()), text


# going on after an interruption

SOLVER = ExactSolver()
SUBJECT = {"solvers": {"exact": {"seed": 1}}, "data": "d"}


@pytest.fixture(scope="module")
def two_shards(tmp_path_factory):
    """Six instances: a shard of four and one of two."""
    folder = tmp_path_factory.mktemp("two-shards")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "BLOCK", 4)
        generate(Recipe("gs2_gu4_au2", 6, seed=4), folder)
    return Dataset.open(folder)


@pytest.fixture(scope="module")
def stopped_once(two_shards, tmp_path_factory):
    """The journal of a run that was stopped in its second shard."""
    path, calls = tmp_path_factory.mktemp("stopped") / "r.partial.jsonl", []

    def count(done, total):
        calls.append(done)
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(SOLVER, two_shards, count, Journal.open(path, SUBJECT), settings=RunConfig(num_examples=5))
    assert calls == [0, 4]
    return path


@pytest.fixture
def stopped(stopped_once, tmp_path):
    """A copy of it."""
    return Path(shutil.copy(stopped_once, tmp_path))


@pytest.fixture(scope="module")
def whole(two_shards):
    """The journal, in memory, of a run that was not stopped."""
    journal = Journal()
    run(SOLVER, two_shards, journal=journal, settings=RunConfig(num_examples=5))
    return journal


class Untouchable(ExactSolver):
    """Solves nothing of more than two instances: those are done already."""

    def solve(self, instances):
        """Returns the plans."""
        assert len(instances) == 2
        return super().solve(instances)


def numbers(rows):
    """Everything but the times."""
    return rows.cost.tobytes(), rows.reference.tobytes(), rows.feasible.tobytes()


@pytest.mark.parametrize(
    "torn", [b"", b'{"solver":"exact","data', b"\0" * 100, b'{"solver":"ex\n'], ids=["none", "half", "zeros", "line"]
)
def test_stopped_run_goes_on_and_equals_one_that_was_not(two_shards, stopped, whole, torn):
    """Also behind a line that the crash has torn: only the second shard is solved, and the journal is whole again."""
    with open(stopped, "ab") as file:
        file.write(torn)
    settings = RunConfig(num_examples=5)
    journal, seen = Journal.open(stopped, SUBJECT), []
    rows = run(Untouchable(), two_shards, lambda done, total: seen.append((done, total)), journal, settings=settings)
    assert seen == [(4, 6), (6, 6)]
    assert numbers(rows) == numbers(run(SOLVER, two_shards, journal=whole))
    assert len(stopped.read_text().splitlines()) == 3  # header, two shards
    ours, theirs = (examples(two_shards, ["exact"], one, 5) for one in (Journal.open(stopped, SUBJECT), whole))
    assert [one["index"] for one in ours] == [0, 1, 2, 3, 4]
    for one, other in zip(ours, theirs, strict=True):
        assert one["scenario"] == other["scenario"]
        for plan, same in zip(one["plans"], other["plans"], strict=True):
            assert plan | {"seconds": 0} == same | {"seconds": 0}
        # the label's plan first, then the method's: both optimal
        assert [plan["method"] for plan in one["plans"]] == ["optimum", "exact"]
        assert one["plans"][0]["cost"] == pytest.approx(one["plans"][1]["cost"], rel=1e-9)


def test_infeasible_answers_survive_the_journal(dataset, rows, tmp_path):
    """No plan is written as null and read back as an infinite cost."""
    path = tmp_path / "j"
    run(MadeUp(), dataset, journal=Journal.open(path, SUBJECT))
    (answers,) = Journal.open(path, SUBJECT).done.values()
    assert numbers(answers.rows) == numbers(rows)
    np.testing.assert_array_equal(answers.rows.seconds, rows.seconds)
    assert "Infinity" not in path.read_text() and "NaN" not in path.read_text()


def test_journal_of_another_comparison_is_refused(stopped):
    """The error names what differs, here and there, and what to do; the file is left as it is."""
    before = stopped.read_bytes()
    with pytest.raises(ValueError, match=r"solvers\.exact\.seed = 1 there, 2 here.*name another --out, or delete"):
        Journal.open(stopped, {"solvers": {"exact": {"seed": 2}}, "data": "d"})
    with pytest.raises(ValueError, match=r"data = d there, e here; solvers\.mcmf is only here"):
        Journal.open(stopped, {"solvers": {"exact": {"seed": 1}, "mcmf": {}}, "data": "e"})
    assert stopped.read_bytes() == before


def test_damage_inside_a_journal_is_an_error(stopped):
    """Only the end can be torn by a crash."""
    header, first = stopped.read_bytes().splitlines(keepends=True)
    stopped.write_bytes(header + first[:50] + b"\n" + first)
    with pytest.raises(ValueError, match=r"line 2: Expected an entry, got: .* Delete the file"):
        Journal.open(stopped, SUBJECT)


@pytest.mark.parametrize(
    ("column", "value"), [("cost", -1.0), ("label", -1.0), ("seconds", -1.0), ("model_seconds", 1e308)]
)
def test_numbers_that_no_answer_has_are_refused(stopped, column, value):
    """A cost below 0, a time below 0 or of an age; another line follows, so that no crash can have torn it."""
    header, entry, *_ = stopped.read_text().splitlines()
    answers = json.loads(entry)
    answers[column][0] = value
    stopped.write_text("\n".join([header, json.dumps(answers), entry]) + "\n")
    with pytest.raises(ValueError, match=rf"line 2: Expected an entry, got: .*{column}.* Delete the file"):
        Journal.open(stopped, SUBJECT)


def test_full_disk_leaves_the_journal_as_it_was(stopped, two_shards, monkeypatch):
    """The shard that could not be kept is no part of it, and no torn line is left."""
    before = stopped.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ValueError, match="Expected a writable folder with room, got: No space left on device"):
        run(Untouchable(), two_shards, journal=Journal.open(stopped, SUBJECT))
    assert stopped.read_bytes() == before


@pytest.mark.slow
def test_shards_spread_over_processes_give_the_same_rows(two_shards):
    """Two processes, the same answers in the same order."""
    spread = run(SOLVER, two_shards, settings=RunConfig(workers=2))
    assert numbers(spread) == numbers(run(SOLVER, two_shards))


@pytest.mark.parametrize("settings", [{"num_examples": -1}, {"workers": 0}])
def test_bad_run_settings_are_refused(settings):
    """They are named as the options of the command."""
    with pytest.raises(ValueError, match=r"--(examples|workers): Expected .*at least"):
        RunConfig(**settings)
