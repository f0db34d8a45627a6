"""The whole way from nothing to a plan, as a user walks it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(sys.executable).with_name("laegd")  # as pip installs it


@pytest.mark.slow
def test_demo_makes_table_results_and_picture(tiny, tmp_path, capsys):
    """The function behind `laegd demo`, with a smaller network and data: everything it promises is there."""
    from laegd.cli.learn import run_demo
    from laegd.graphs.dataset import Recipe

    run_demo(tiny(), Recipe("gs2_gu4_au2", 10, seed=90), tmp_path)
    out, err = capsys.readouterr()
    assert err == ""
    for word in ("gadsg", "random-belief", "mcmf", "exact", "cost / optimum", "picture: ", "report: "):
        assert word in out
    results = json.loads((tmp_path / "results.json").read_text())["results"]
    assert [row["method"] for row in results] == ["gadsg", "random-belief", "mcmf", "exact"]
    assert all(row["mean_ratio"] >= 1 - 1e-9 and row["infeasible"] == 0 for row in results)
    assert results[-1]["accuracy"] == 1
    assert (tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG")
    assert "<table" in (tmp_path / "report.html").read_text()
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 1 + 4 * 10


def test_demo_trains_on_none_of_the_instances_that_it_tests_on():
    """Scale and seed of the test set are neither in the training nor in the validation sets."""
    from laegd.evaluation.demo import DEMO, TEST

    assert (TEST.scale, TEST.seed) not in {(r.scale, r.seed) for r in (*DEMO.data.train, *DEMO.data.validation)}


@pytest.mark.slow
def test_generate_train_evaluate_export_solve(tiny_toml, tmp_path):
    """Each command feeds the next through files alone; standard error has progress at most."""

    def laegd(*arguments):
        done = subprocess.run([SCRIPT, *map(str, arguments)], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        # progress now and then, on a slow machine, and nothing else
        assert all(re.match(r"[\w -]+ \d+/\d+", line) for line in done.stderr.splitlines()), done.stderr
        return done.stdout

    laegd("generate", "--scale", "gs2_gu4_au2", "--count", 10, "--seed", 5, "--out", "test")
    laegd("train", "--config", tiny_toml, "--workdir", "run")
    table = laegd("evaluate", "--checkpoint", "run", "--data", "test", "--out", "results.json")
    assert "random-belief" in table and max(map(len, table.splitlines())) <= 80
    laegd("export", "test", "--index", 3, "--out", "scenario.json")
    answer = laegd(
        *("solve", "scenario.json", "--method", "gadsg", "--checkpoint", "run"),
        *("--out", "plan.json", "--picture", "plan.png"),
    )
    assert answer.startswith("scenario.json: cost ") and "certified gap" in answer

    plan = json.loads((tmp_path / "plan.json").read_text())
    rows = [line.split(",") for line in (tmp_path / "results.csv").read_text().splitlines()]
    optimum = float(next(row for row in rows if row[0] == "exact" and row[2] == "3")[3])
    assert plan["feasible"] and plan["cost"] >= optimum * (1 - 1e-9)
    assert plan["cost"] == pytest.approx(sum(user["cost"] for user in plan["users"]), rel=1e-12)
    # the certificate is honest: the optimum lies between the bound and the cost
    assert plan["lower_bound"] <= optimum * (1 + 1e-9)
    assert plan["gap"] == pytest.approx(1 - plan["lower_bound"] / plan["cost"], abs=1e-12)
    shares = {}
    for user in plan["users"]:
        if user["server"] is not None:
            shares[user["server"]] = shares.get(user["server"], 0.0) + user["share"]
    assert np.all(np.array(list(shares.values())) <= 1 + 1e-9)
