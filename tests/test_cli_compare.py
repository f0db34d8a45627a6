"""`laegd evaluate` and `laegd sweep` as a user calls them: any methods, any reference, models by data sets."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from laegd.cli import main


@pytest.fixture
def cli(capsys):
    """Runs a command that must succeed in this process; returns what it prints.

    Beside that it warns, once a model, of settings that the model was not trained on: those of the shifted data.
    """

    def call(*arguments):
        main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        warned = "laegd: warning: gadsg was not trained on deadline_s 2.5 (but 2); bandwidth_hz 5e+06 (but 1e+07)."
        assert all(line.startswith(warned) for line in err.splitlines())
        return out

    return call


def generate(folder, *more):
    """Makes a small labelled data set."""
    main(["generate", "--count", "6", "--seed", "9", "--workers", "1", "--out", str(folder), *more])
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Six instances."""
    return generate(tmp_path_factory.mktemp("small"), "--scale", "gs2_gu4_au2")


@pytest.fixture(scope="module")
def shifted(tmp_path_factory):
    """Six instances of another scale with another bandwidth and deadline."""
    config = tmp_path_factory.mktemp("config") / "s.toml"
    config.write_text("deadline_s = 2.5\n[channel]\nbandwidth_hz = 5e6\n")
    return generate(tmp_path_factory.mktemp("shifted"), "--scale", "gs2_gu5_au3", "--config", str(config))


SHIFTED = "gs2_gu5_au3 (deadline_s=2.5, channel.bandwidth_hz=5e6)"


@pytest.fixture(scope="module")
def runs(run, tmp_path_factory):
    """Two run folders of different names."""
    return run, shutil.copytree(run, tmp_path_factory.mktemp("runs") / "other")


def rows_of(path):
    """The CSV beside a results file, without times."""
    with open(path.with_suffix(".csv")) as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def test_evaluate_compares_with_a_method_instead_of_the_labels(cli, data, tmp_path):
    """The ratio is cost over mcmf's cost, which may fall below 1; the plans of three instances stand in the file."""
    methods = "re,ao,mcmf,mcmf-search,exact,exact@0.5"
    out = cli("evaluate", "--data", data, "--methods", methods, "--reference", "mcmf", "--out", tmp_path / "r.json")
    assert "cost / mcmf" in out and "cost ratio minus that of re" in out and max(map(len, out.splitlines())) <= 80
    document = json.loads((tmp_path / "r.json").read_text())
    assert document["reference"] == "mcmf" and {row["reference"] for row in document["results"]} == {"mcmf"}
    assert [row["method"] for row in document["results"]] == methods.split(",")
    assert document["settings"]["exact@0.5"]["time_limit_s"] == 0.5
    rows = rows_of(tmp_path / "r.json")
    cost = {(row["method"], row["instance"]): float(row["cost"]) for row in rows}
    for row in rows:
        expected = cost[row["method"], row["instance"]] / cost["mcmf", row["instance"]]
        assert float(row["ratio"]) == pytest.approx(expected, rel=1e-12)
    assert document["results"][4]["quantiles"]["max"] <= 1 + 1e-9
    assert len(document["paired"]) == 6 * 5 / 2
    for i, example in enumerate(document["examples"]):
        assert example["index"] == i and example["scenario"]["format"] == "laegd-scenario/1"
        assert [plan["method"] for plan in example["plans"]] == ["optimum", *methods.split(",")]
        assert example["plans"][3]["cost"] == cost["mcmf", str(i)]
    assert len(document["examples"]) == 3


def test_data_without_labels_can_be_compared_on_against_a_method(cli, tmp_path):
    """No optimum is needed; the examples have no label's plan."""
    data = generate(tmp_path / "data", "--scale", "gs2_gu4_au2", "--labels", "none")
    options = ("--methods", "re,ao", "--reference", "ao", "--out", tmp_path / "r.json")
    cli("evaluate", "--data", data, *options)
    document = json.loads((tmp_path / "r.json").read_text())
    assert document["results"][1]["mean_ratio"] == 1 and document["results"][0]["mean_ratio"] > 1
    assert [plan["method"] for plan in document["examples"][0]["plans"]] == ["re", "ao"]


def test_sweep_is_every_model_on_every_data_set(cli, runs, data, shifted, tmp_path):
    """The cell of a run equals what evaluate says of it; names, settings and the home scale are there."""
    options = ("--methods", "ao", "--samples", 2, "--out", tmp_path / "sweep.json")
    out = cli("sweep", "--checkpoint", *runs, "--data", data, shifted, *options)
    assert f"[2] {SHIFTED}" in out and max(map(len, out.splitlines())) <= 80
    document = json.loads((tmp_path / "sweep.json").read_text())
    assert (document["format"], document["reference"]) == ("laegd-sweep/1", "optimum")
    first, _, free = document["models"]
    assert (first["name"], first["method"], first["step"]) == ("tiny", "gadsg", 6)
    assert first["trained_on"] == ["gs2_gu4_au2", "gs2_gu5_au3"] and first["settings"]["num_samples"] == 2
    assert (free["name"], free["trained_on"], free["step"]) == ("ao", [], None)
    assert [one["name"] for one in document["data"]] == ["gs2_gu4_au2", SHIFTED]
    assert document["data"][1]["setting"] == {"deadline_s": 2.5, "channel.bandwidth_hz": 5e6}
    cells = {(row["model"], row["test_set"]): row for row in document["results"]}
    assert list(cells) == [(model, name) for model in ("tiny", "other", "ao") for name in ("gs2_gu4_au2", SHIFTED)]
    # the home scale has a star for both runs, the shifted one does not though its scale is trained on
    assert out.count("*") == 2 + 1

    for folder, name in ((data, "gs2_gu4_au2"), (shifted, SHIFTED)):
        options = ("--methods", "gadsg,ao", "--samples", 2, "--overwrite", "--out", tmp_path / "r.json")
        cli("evaluate", "--checkpoint", runs[0], "--data", folder, *options)
        for row in json.loads((tmp_path / "r.json").read_text())["results"]:
            cell = cells["tiny" if row["method"] == "gadsg" else "ao", name]
            same = ("method", "mean_ratio", "ratio_standard_error", "accuracy", "infeasible", "quantiles", "instances")
            assert {key: cell[key] for key in same} == {key: row[key] for key in same}
    assert len(rows_of(tmp_path / "sweep.json")) == 3 * 2 * 6


def test_stopped_sweep_goes_on_and_equals_one_that_was_not(cli, runs, data, shifted, tmp_path, monkeypatch, capsys):
    """Ctrl-C at the third cell; then only that and what follows is solved."""
    from laegd.evaluation import rows

    solve_shard, solved = rows.solve_shard, []

    def counted(*arguments):
        solved.append(arguments)
        if len(solved) == 3:
            raise KeyboardInterrupt
        return solve_shard(*arguments)

    monkeypatch.setattr(rows, "solve_shard", counted)
    command = ("sweep", "--checkpoint", *runs, "--data", data, "--data", shifted, "--samples", 2, "--out")
    with pytest.raises(SystemExit) as end:
        main([*map(str, command), str(tmp_path / "stopped.json")])
    assert end.value.code == 130 and "stopped with 2 of 4 parts done" in capsys.readouterr().err
    assert "goes on with 2 of 4 parts done" in cli(*command, tmp_path / "stopped.json")
    assert len(solved) == 3 + 2
    cli(*command, tmp_path / "whole.json")
    assert rows_of(tmp_path / "stopped.json") == rows_of(tmp_path / "whole.json")
    assert not list(tmp_path.glob("*.partial.jsonl"))


def test_killed_evaluation_goes_on(data, tmp_path):
    """kill -9 in the second method: the first one's answers are on the disk, and are not computed again."""
    killed = "import os, signal; from laegd.solvers.mcmf import MCMFSolver as M; M.solve = "
    killed += "lambda self, instances: os.kill(os.getpid(), signal.SIGKILL)"
    counted = "from laegd.solvers.exact import ExactSolver as E; E.solve = None"
    command = ["evaluate", "--data", str(data), "--methods", "exact,mcmf", "--out", str(tmp_path / "r.json")]

    def call(before):
        code = f"{before}\nfrom laegd.cli import main; main()"
        done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, env=os.environ)
        return done.returncode, done.stdout

    assert call(killed)[0] == -signal.SIGKILL
    assert {path.name for path in tmp_path.iterdir()} == {"r.partial.jsonl", "r.partial.lock"}
    code, out = call(counted)
    assert code == 0 and "goes on with 1 of 2 parts done" in out
    assert {path.name for path in tmp_path.iterdir()} == {"r.json", "r.csv"}
    assert json.loads((tmp_path / "r.json").read_text())["command"] == "laegd " + " ".join(command)
