"""A ratio that cannot be ends an evaluation: labels and plans contradict each other."""

import re
from dataclasses import replace

import numpy as np
import pytest

from laegd.cli import main
from laegd.graphs.dataset import Dataset, Recipe, generate
from laegd.solvers.exact import ExactSolver
from laegd.solvers.mcmf import MCMFSolver


def of_mcmf(instances):
    """Plans of a heuristic that claim to be proved, as somebody else's labels may."""
    return [replace(plan, lower_bound=plan.cost) for plan in MCMFSolver().solve(instances)]


def too_cheap(instances):
    """Optimal plans with nine tenths of their cost."""
    return [replace(p, cost=0.9 * p.cost, lower_bound=0.9 * p.cost) for p in ExactSolver().solve(instances)]


def bound_too_high(instances):
    """Optimal plans with a bound above them."""
    return [replace(plan, lower_bound=1.1 * plan.cost) for plan in ExactSolver().solve(instances)]


def no_bound(instances):
    """A heuristic's plans that are called exact, without a bound."""
    return [replace(plan, lower_bound=None) for plan in MCMFSolver().solve(instances)]


@pytest.fixture
def labelled(tmp_path, monkeypatch):
    """Makes a data set called exact with the labels of a function."""

    def make(label):
        monkeypatch.setattr("laegd.graphs.shards._label", lambda method, instances: label(instances))
        generate(Recipe("gs3_gu7_au5", 20, seed=4), tmp_path / "data")
        return tmp_path / "data"

    return make


WRONG = {
    "heuristic plans": (of_mcmf, "exact", r"no plan cheaper than the exact label's bound .* of exact\. The labels"),
    "heuristic plans without a bound": (no_bound, "exact", r"no plan cheaper than the exact label's bound .* of exact"),
    "costs below the plans'": (too_cheap, "re", r"a label that costs what its plan costs, "),
    "bounds above the costs": (bound_too_high, "re", r"a label of at least its lower bound "),
}


@pytest.mark.parametrize(("label", "method", "expected"), WRONG.values(), ids=WRONG)
def test_labels_that_cannot_be_end_an_evaluation(labelled, tmp_path, capsys, label, method, expected):
    """In a line that names data set and instance; no results are written."""
    data = labelled(label)
    with pytest.raises(SystemExit) as end:
        main(["evaluate", "--data", str(data), "--methods", f"mcmf,{method}", "--out", str(tmp_path / "r.json")])
    err = capsys.readouterr().err
    assert (end.value.code, err.count("\n")) == (2, 1) and not (tmp_path / "r.json").exists()
    assert re.search(rf"laegd: {data}, instance \d+: Expected {expected}", err), err


def test_the_instance_that_is_named_is_the_first_that_cannot_be(labelled, capsys, tmp_path):
    """Found without laegd's check: the exact solver's cost below the label's."""
    data = labelled(of_mcmf)
    labels = Dataset.open(data).read_all()
    optimum = np.array([plan.cost for plan in ExactSolver().solve(labels.instances)])
    first = int(np.flatnonzero(optimum < labels.cost * (1 - 1e-6))[0])
    with pytest.raises(SystemExit):
        main(["evaluate", "--data", str(data), "--methods", "exact", "--out", str(tmp_path / "r.json")])
    assert f"instance {first}: " in capsys.readouterr().err


def test_a_bound_above_a_label_ends_an_evaluation(labelled):
    """A solver that proves too much is told apart from one that plans too well."""
    from laegd.evaluation.rows import require_possible

    dataset = Dataset.open(labelled(ExactSolver().solve))
    data, plans = dataset.read(0), ExactSolver().solve(dataset.read(0).instances)
    require_possible(dataset, 0, data, plans)
    for wrong in (replace(plans[7], lower_bound=2.0 * plans[7].cost), replace(plans[7], unserved=("u0",))):
        expected = r"instance 7: Expected a label of at least what exact proves, .*, got "
        with pytest.raises(ValueError, match=expected):
            require_possible(dataset, 0, data, [*plans[:7], wrong, *plans[8:]])
