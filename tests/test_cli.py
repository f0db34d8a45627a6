"""The command line: every command once, then everything a user can get wrong."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from laegd.cli import main


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A labelled test set of 12 small instances; read only."""
    folder = tmp_path_factory.mktemp("test-set")
    main(["generate", "--scale", "gs2_gu4_au2", "--count", "12", "--seed", "9", "--out", str(folder)])
    return folder


@pytest.fixture
def scenario(data, tmp_path):
    """A scenario file."""
    path = tmp_path / "scenario.json"
    main(["export", str(data), "--index", "2", "--out", str(path)])
    return path


def test_too_little_memory_is_told_in_a_line(cli, scenario, tmp_path, monkeypatch):
    """What NumPy says of it, and what to do."""

    def fail(*_):
        raise MemoryError("Unable to allocate 20.0 GiB")

    monkeypatch.setattr("laegd.solvers.exact.ExactSolver.solve", fail)
    code, _, err = cli("solve", scenario, "--out", tmp_path / "plan.json")
    assert (code, err.count("\n")) == (2, 1) and "got: Unable to allocate 20.0 GiB. Plan less" in err


def test_names_move_no_cursor(cli, scenario, tmp_path):
    """Neither in answers nor in errors; a name is anyone's text."""
    evil = changed(
        scenario, "evil.json", lambda s: s["users"][0].update(id="\x1b]0;owned\x07\nforged", deadline_s=1e-9)
    )
    code, out, err = cli("solve", evil, "--method", "re", "--out", tmp_path / "plan.json")
    assert code == 3
    assert out == "" and err.count("\n") == 2 and err.startswith("laegd: warning: evil.json: deadline_s of ")
    assert r"\x1b]0;owned\x07\nforged cannot be served" in err and "\x1b" not in err


def changed(path, name, change):
    """Writes an altered copy of a JSON file beside it."""
    document = json.loads(path.read_text())
    change(document)
    target = path.with_name(name)
    target.write_text(json.dumps(document))
    return target


# every command once


def test_generate_in_parts_equals_generate_at_once(cli, tmp_path):
    """Two shards made by two commands are the data set of one; a third part is told that none is left."""
    common = ("generate", "--scale", "gs2_gu4_au2", "--count", 260, "--labels", "none", "--workers", 1)
    code, out, err = cli(*common, "--out", tmp_path / "parts", "--shard", "2/2")
    assert (code, err) == (0, "") and "part 2/2 is done" in out
    assert cli(*common, "--out", tmp_path / "parts", "--shard", "1/2")[0] == 0
    code, out, _ = cli(*common, "--out", tmp_path / "parts", "--shard", "3/3")
    assert (code, "complete" in out) == (0, True)
    code, out, _ = cli(*common, "--out", tmp_path / "none", "--shard", "3/3")
    assert code == 0 and "part 3/3 has nothing to do: 260 instances are 2 shards" in out
    code, out, _ = cli(*common, "--out", tmp_path / "whole")
    assert code == 0 and "260 instances of gs2_gu4_au2, labels none, complete" in out
    names = {path.name for path in (tmp_path / "whole").iterdir()}
    assert names == {"manifest.json", "shard-00000.npz", "shard-00001.npz"}
    for name in names:
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_train_writes_checkpoints_and_metrics_and_is_done_the_second_time(cli, run, tiny_toml, data_root):
    """The same command on a finished run changes nothing and says how it ended."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6] and "ratio" in lines[-1]
    before = (run / "metrics.jsonl").read_bytes()
    code, out, err = cli("train", "--config", tiny_toml, "--workdir", run, "--data", data_root)
    assert (code, err) == (0, "") and "step 6; best validation cost ratio" in out
    assert (run / "metrics.jsonl").read_bytes() == before


def test_evaluate_prints_a_table_and_writes_results(cli, run, data, tmp_path):
    """All methods; the exact one has ratio 1; settings of the run stand in the results."""
    code, out, err = cli("evaluate", "--checkpoint", run, "--data", data, "--out", tmp_path / "results.json")
    assert (code, err) == (0, "")
    assert "cost / optimum" in out and "12 instances of gs2_gu4_au2" in out
    results = json.loads((tmp_path / "results.json").read_text())
    ratios = {row["method"]: row["mean_ratio"] for row in results["results"]}
    assert list(ratios) == ["re", "ao", "mcmf", "gadsg", "random-belief", "exact"]
    assert ratios["exact"] == pytest.approx(1) and min(ratios.values()) >= 1 - 1e-9
    assert results["settings"]["gadsg"]["experiment"]["training"]["steps"] == 6
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 1 + 6 * 12


def test_solve_writes_one_plan_or_a_folder_of_plans_with_pictures(cli, run, data, scenario, tmp_path):
    """exact to a file; gadsg to a folder, with its certified gap; a PNG each."""
    code, out, err = cli("solve", scenario, "--out", tmp_path / "plan.json", "--picture", tmp_path / "plan.png")
    assert (code, err) == (0, "") and "certified gap 0.0000 %" in out
    exact = json.loads((tmp_path / "plan.json").read_text())
    assert exact["feasible"] and exact["gap"] == 0 and exact["method"] == "exact"
    assert (tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG")

    other = tmp_path / "other.json"
    cli("export", data, "--index", 3, "--out", other)
    options = ("--method", "gadsg", "--checkpoint", run, "--polish", 2, "--steps", 1)
    targets = ("--out", tmp_path / "plans", "--picture", tmp_path / "pictures")
    code, out, err = cli("solve", scenario, other, *options, *targets)
    assert (code, err) == (0, "") and len(out.splitlines()) == 2
    plan = json.loads((tmp_path / "plans/scenario.json").read_text())
    assert plan["cost"] >= exact["cost"] * (1 - 1e-9) and plan["lower_bound"] <= exact["cost"] * (1 + 1e-9)
    assert {path.name for path in (tmp_path / "plans").iterdir()} == {"scenario.json", "other.json"}
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {"scenario.png", "other.png"}


def test_exported_instance_has_the_data_sets_optimum(cli, data, scenario, tmp_path):
    """Export, then solve: the label's cost to the last digits."""
    from laegd.graphs.dataset import Dataset

    cli("solve", scenario, "--out", tmp_path / "plan.json")
    cost = json.loads((tmp_path / "plan.json").read_text())["cost"]
    assert cost == pytest.approx(float(Dataset.open(data).read_all().cost[2]), rel=1e-9)


SITES = "SITE_ID,LATITUDE,LONGITUDE\n10,-37.815,144.970\n11,-37.818,144.965\n"
PEOPLE = "Latitude,Longitude\n-37.8155,144.9705\n-37.8170,144.9660\n-37.8181,144.9649\n"


@pytest.fixture
def places(tmp_path):
    """CSV files of two sites and three users."""
    (tmp_path / "sites.csv").write_text(SITES)
    (tmp_path / "people.csv").write_text(PEOPLE)
    return ("--servers", tmp_path / "sites.csv", "--users", tmp_path / "people.csv")


def test_import_sites_writes_a_scenario_that_can_be_solved(cli, places, tmp_path):
    """Two sites and the HAP serve three users, one of whom flies."""
    out_path = tmp_path / "melbourne.json"
    code, out, err = cli("import-sites", *places, "--out", out_path, "--aerial-share", 0.4, "--seed", 3)
    assert (code, err) == (0, "") and "2 ground servers, 1 HAPs, 3 users, 1 of them aerial" in out
    assert cli("solve", out_path, "--out", tmp_path / "plan.json")[0] == 0
    code, out, err = cli(
        "import-sites", *places, "--out", out_path, "--centre=-37.815,144.970", "--num-servers", 1, "--overwrite"
    )
    assert (code, err) == (0, "") and "1 ground servers" in out


def test_import_sites_says_what_it_does_not_use_and_joins_sectors(cli, places, tmp_path):
    """Two sectors of one mast reach 300 and 500 m; a row without a latitude is left out."""
    sites = tmp_path / "sectors.csv"
    sites.write_text(
        "lac,cell,lat,lon,range,radio\n1,0,-37.815,144.970,300,LTE\n2,0,-37.815,144.970,500,LTE\n3,0,,1,1,x\n"
    )
    command = (
        "import-sites",
        "--servers",
        sites,
        *places[2:],
        "--out",
        tmp_path / "out.json",
        "--server-id",
        "lac,cell",
    )
    code, out, err = cli(*command)
    assert code == 2 and "row 4, column lat: Expected degrees" in err
    code, out, err = cli(*command, "--skip-bad-rows")
    assert code == 0 and "columns used: range; columns not used: radio; rows left out: 4" in out
    assert "2 sites at 1 places, within 1 m of each other: 1-0, 2-0; join them with --merge-sites-m 1" in out
    code, out, err = cli(
        *command[:-4], "--out", tmp_path / "one.json", *command[-2:], "--skip-bad-rows", "--merge-sites-m", 5
    )
    servers = json.loads((tmp_path / "one.json").read_text())["servers"]
    assert code == 0 and [(s["id"], s["coverage_radius_m"]) for s in servers[1:]] == [("1-0", 500.0)]


@pytest.mark.parametrize(
    "command", ["generate", "train", "evaluate", "sweep", "solve", "export", "import-sites", "demo"]
)
def test_help_is_on_standard_output(cli, command):
    """`laegd COMMAND --help` ends with code 0 and shows what each option takes."""
    code, out, err = cli(command, "--help")
    assert (code, err) == (0, "")
    assert "usage: laegd " + command in out and "{None}" not in out
    assert "--out" in out or "--workdir" in out


# bad inputs: (name, builds the arguments, exit code, what the line says)


class Bench:
    """What the bad inputs are made from."""

    def __init__(self, path, data, run, scenario, places, config):
        self.path, self.data, self.run, self.scenario = path, data, run, scenario
        self.places, self.config, self.out = places, config, path / "out"

    def write(self, name, content):
        """Writes a file and returns its path."""
        (self.path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return self.path / name

    def solve(self, change):
        """Arguments that solve an altered scenario."""
        return "solve", changed(self.scenario, "bad.json", change), "--out", self.out

    def train(self, toml, *more):
        """Arguments that train with altered settings."""
        return "train", "--config", self.write("bad.toml", toml), "--workdir", self.out, *more

    def generate(self, *more):
        """Arguments that make a small data set."""
        return "generate", "--scale", "gs2_gu4_au2", "--count", 3, "--labels", "none", "--out", self.out, *more

    def evaluate(self, *more):
        """Arguments that compare on the test set."""
        return "evaluate", "--data", self.data, "--out", self.out, *more

    def copied(self, damage):
        """A damaged copy of the test set."""
        folder = Path(shutil.copytree(self.data, self.path / "copy"))
        damage(folder)
        return folder


def put(*keys):
    """Returns a change that sets document[keys[0]]... = keys[-1]."""

    def change(document):
        for key in keys[:-2]:
            document = document[key]
        document[keys[-2]] = keys[-1]

    return change


def lose_user(document):
    """Puts one user out of everyone's reach, with a device too slow for its deadline."""
    for server in document["servers"]:
        server["coverage_radius_m"] = 900.0
    document["users"][1] |= {"id": "lost", "x_m": 1e6, "capacity_flops": 1e8}


def flip_byte(folder):
    """Damages the shard."""
    path = folder / "shard-00000.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def set_manifest(**values):
    """Returns a damage that alters the manifest."""

    def damage(folder):
        changed(folder / "manifest.json", "manifest.json", lambda document: document.update(values))

    return damage


BAD = {
    "unknown key": (lambda b: b.train("[training]\nstep = 3"), r"training\.step: Expected one of steps, .*got 'step'"),
    "unknown scenario key": (
        lambda b: b.generate("--config", b.write("s.toml", "deadline = 2.0")),
        "deadline: Expected one of num_haps",
    ),
    "wrong type": (
        lambda b: b.train('[training]\nsteps = "many"'),
        r"Expected `int`, got `str` - at `\$.training.steps`",
    ),
    "broken TOML": (lambda b: b.train("[training\nsteps = 3"), r"bad\.toml: Expected TOML"),
    "no TOML": (
        lambda b: ("train", "--config", b.path / "no.toml", "--workdir", b.out),
        r"no\.toml: Expected a readable",
    ),
    "schedule without noise": (
        lambda b: b.train("[diffusion]\nnum_steps = 1"),
        "Expected a schedule that ends in noise",
    ),
    "seed": (lambda b: b.train("", "--seed", -1), "training.seed: Expected a seed from 0"),
    "set without a value": (
        lambda b: b.train("", "--set", "training.steps"),
        r"--set: Expected key=value, .*got 'training",
    ),
    "set unknown": (lambda b: b.train("", "--set", "training.stepz=3"), "training.stepz: Expected one of steps"),
    "another architecture": (
        lambda b: ("train", "--config", b.config, "--workdir", b.run, "--set", "model.hidden=32"),
        "another architecture: model.hidden = 16 there, 32 here. Name another --workdir",
    ),
    "workdir below a file": (
        lambda b: ("train", "--config", b.config, "--workdir", b.write("file", "") / "run"),
        "file/run: Expected a writable folder, got: Not a directory",
    ),
    "negative": (
        lambda b: b.solve(put("users", 1, "workload_flop", -1.0)),
        r"bad\.json: .*workload_flop: Expected a finite",
    ),
    "not finite": (
        lambda b: (
            "solve",
            b.write(
                "nan.json", b.scenario.read_text().replace('"chip_energy_factor": 1e-26', '"chip_energy_factor": NaN')
            ),
            "--out",
            b.out,
        ),
        r"nan\.json: Expected a laegd-scenario/1 scenario, got: JSON is malformed",
    ),
    "too large": (
        lambda b: ("solve", b.write("inf.json", b.scenario.read_text().replace("1e-26", "1e999")), "--out", b.out),
        r"inf\.json: Expected a laegd-scenario/1 scenario, got: .*out of range",
    ),
    "duplicate id": (
        lambda b: b.solve(put("users", 1, "id", "u0")),
        r"users\[1\]\.id: Expected unique ids, got 'u0'\. Rename one of the two\. Correct",
    ),
    "empty file": (lambda b: ("solve", b.write("e.json", ""), "--out", b.out), r"e\.json: Expected .*an empty file"),
    "truncated JSON": (
        lambda b: ("solve", b.write("t.json", b.scenario.read_bytes()[:-100]), "--out", b.out),
        r"t\.json: Expected a laegd-scenario/1 scenario, got: Input data was truncated",
    ),
    "not UTF-8": (
        lambda b: ("solve", b.write("u.json", b'{"format": "\xff"}'), "--out", b.out),
        r"u\.json: .*UTF-8|utf-8",
    ),
    "wrong format version": (lambda b: b.solve(put("format", "laegd-scenario/9")), "laegd-scenario/9"),
    "unknown field": (lambda b: b.solve(put("users", 0, "colour", "red")), r"unknown field `colour` - at `\$\.users"),
    "no scenario": (lambda b: ("solve", "--out", b.out), "scenarios: Expected at least one file, got none"),
    "missing scenario": (
        lambda b: ("solve", b.path / "no.json", "--out", b.out),
        r"no\.json: Expected a readable scenario",
    ),
    "folder without scenarios": (
        lambda b: ("solve", b.run / "checkpoints", "--out", b.out),
        "checkpoints: Expected a folder of scenarios, .*, got none",
    ),
    "one file name twice": (
        lambda b: ("solve", b.scenario, b.write("scenario.txt", b.scenario.read_text()), "--out", b.out),
        r"scenarios: Expected distinct file names, got scenario\.json twice",
    ),
    "plan over its scenario": (
        lambda b: ("solve", b.scenario, "--out", b.scenario.parent),
        r"--out: Expected a place of its own, got .*scenario\.json, which is an input",
    ),
    "no checkpoint": (
        lambda b: ("solve", b.scenario, "--out", b.out, "--method", "gdsg"),
        "--checkpoint: Expected a run folder for method gdsg, got none",
    ),
    "checkpoint is no run": (
        lambda b: ("solve", b.scenario, "--out", b.out, "--method", "gadsg", "--checkpoint", b.data),
        "Expected a run folder with checkpoints/, got none",
    ),
    "unknown method": (
        lambda b: ("solve", b.scenario, "--out", b.out, "--method", "magic"),
        "--method: Expected one of re, .*, exact@SECONDS, got 'magic'",
    ),
    "negative time limit": (
        lambda b: ("solve", b.scenario, "--out", b.out, "--time-limit-s", "-1"),
        "time_limit_s: Expected a finite number above 0, or None, got -1.0",
    ),
    "time limit inf": (
        lambda b: ("evaluate", "--data", b.data, "--out", b.out, "--methods", "exact", "--time-limit-s", "inf"),
        "time_limit_s: Expected a finite number above 0, or None, got inf",
    ),
    "time limit nan": (
        lambda b: ("solve", b.scenario, "--out", b.out, "--time-limit-s", "nan"),
        "time_limit_s: Expected a finite number above 0, or None, got nan",
    ),
    "no samples": (
        lambda b: ("solve", b.scenario, "--out", b.out, "--method", "random-belief", "--samples", 0),
        "num_samples: Expected at least 1, got 0",
    ),
    "polish": (
        lambda b: ("solve", b.scenario, "--out", b.out, "--method", "random-belief", "--polish", -1),
        "polish_rounds: Expected at least 0, got -1",
    ),
    "too many steps": (
        lambda b: ("solve", b.scenario, "--out", b.out, "--method", "gadsg", "--checkpoint", b.run, "--steps", 900),
        "num_steps: Expected 1 to 200 sampling steps, got 900",
    ),
    "out below a file": (
        lambda b: ("solve", b.scenario, "--out", b.write("file", "") / "plan.json"),
        "plan.json: Expected a file in a writable folder, got .*file, which is a file",
    ),
    "picture of another kind": (
        lambda b: ("solve", b.scenario, "--out", b.out, "--picture", b.path / "a.jpg"),
        r"a\.jpg: Expected a picture's name, ending in \.png, \.svg, \.pdf, got '\.jpg'",
    ),
    "picture is a folder": (
        lambda b: ("solve", b.scenario, "--out", b.out, "--picture", b.write("file", "") / "a.png"),
        "a.png: Expected a file in a writable folder",
    ),
    "CSV without coordinates": (
        lambda b: (
            "import-sites",
            "--servers",
            b.write("c.csv", "name,colour\na,red\n"),
            *b.places[2:],
            "--out",
            b.out,
        ),
        r"c\.csv, row 1: Expected a header with columns such as latitude.*, got the columns: name, colour",
    ),
    "CSV with a bad coordinate": (
        lambda b: ("import-sites", *b.places[:2], "--users", b.write("c.csv", "lat,lon\n91,0\n"), "--out", b.out),
        r"c\.csv, row 2, column lat: Expected degrees from -90 to 90, got '91'",
    ),
    "missing CSV": (
        lambda b: ("import-sites", "--servers", b.path / "no.csv", *b.places[2:], "--out", b.out),
        r"no\.csv: .*No such file",
    ),
    "centre": (
        lambda b: ("import-sites", *b.places, "--out", b.out, "--centre", "here"),
        "--centre: Expected .*'here'",
    ),
    "centre nan": (lambda b: ("import-sites", *b.places, "--out", b.out, "--centre", "nan,0"), "centre: Expected"),
    "aerial share": (
        lambda b: ("import-sites", *b.places, "--out", b.out, "--aerial-share", 2),
        "aerial_share: Expected",
    ),
    "import seed": (lambda b: ("import-sites", *b.places, "--out", b.out, "--seed", -1), "--seed: Expected a seed"),
    "scale": (lambda b: ("generate", "--scale", "3x12", "--count", 3, "--out", b.out), "scale: Expected .*got '3x12'"),
    "count": (
        lambda b: (*b.generate()[:3], "--count", 0, "--out", b.out),
        "count: Expected at least 1 instance, got 0",
    ),
    "count is no number": (lambda b: (*b.generate()[:3], "--count", "ten", "--out", b.out), "--count.*'ten'"),
    "shard": (lambda b: b.generate("--shard", "2"), "--shard: Expected i/n such as 2/16, got '2'"),
    "shard out of range": (lambda b: b.generate("--shard", "3/2"), "shard: Expected i/n with 1 <= i <= n, got '3/2'"),
    "workers": (lambda b: b.generate("--workers", -1), "workers: Expected at least 1 process, got -1"),
    "hopeless settings": (
        lambda b: b.generate("--config", b.write("s.toml", "deadline_s = 0.001")),
        "scenario: Expected settings under which .* Raise deadline_s",
    ),
    "data below a file": (
        lambda b: ("generate", "--scale", "gs2_gu4_au2", "--count", 3, "--out", b.write("file", "") / "data"),
        "file/data/manifest.json: Expected a file in a writable folder",
    ),
    "folder of another recipe": (
        lambda b: (*b.generate()[:5], "--labels", "exact", "--seed", 8, "--out", b.copied(lambda folder: None)),
        r"shard-00000\.npz: Expected a shard of the same scale, seed, labels, scenario, got \{'seed': 9\}",
    ),
    "no data": (
        lambda b: ("evaluate", "--data", b.path, "--out", b.out),
        "manifest.json: Expected a finished data set",
    ),
    "damaged shard": (
        lambda b: ("evaluate", "--data", b.copied(flip_byte), "--out", b.out, "--methods", "exact"),
        r"shard-00000\.npz: Expected .*(damage|SHA-256).*generate again",
    ),
    "missing shard": (
        lambda b: ("export", b.copied(lambda folder: (folder / "shard-00000.npz").unlink()), "--out", b.out),
        r"shard-00000\.npz: Expected a shard, got no file",
    ),
    "manifest of another version": (
        lambda b: ("export", b.copied(set_manifest(format="laegd-dataset/9")), "--out", b.out),
        r"manifest\.json: Expected a laegd-dataset/1 manifest, got: .*laegd-dataset/9",
    ),
    "manifest that counts wrongly": (
        lambda b: ("export", b.copied(set_manifest(count=20)), "--out", b.out, "--index", 15),
        r"manifest\.json: Expected count = 12, as the shards have, got 20",
    ),
    "index": (lambda b: ("export", b.data, "--out", b.out, "--index", 12), "--index: Expected 0 to 11, got 12"),
    "methods": (lambda b: b.evaluate("--methods", "exact,magic"), "--methods: Expected one of re, .*got 'magic'"),
    "method twice": (lambda b: b.evaluate("--methods", "exact,exact"), "--methods: Expected each method once"),
    "time limit without a number": (
        lambda b: b.evaluate("--methods", "exact@abc"),
        "--methods: Expected exact@SECONDS with a number above 0, got 'exact@abc'. Write exact@0.1.",
    ),
    "time limit below 0": (lambda b: b.evaluate("--methods", "re,exact@-1"), "Expected exact@SECONDS .*'exact@-1'"),
    "time limit of solve": (
        lambda b: ("solve", b.scenario, "--out", b.out, "--method", "exact@nan"),
        "--method: Expected exact@SECONDS .*'exact@nan'",
    ),
    "checkpoint for a method without network": (
        lambda b: ("solve", b.scenario, "--out", b.out, "--checkpoint", b.run),
        "--method: Expected a method that samples, such as gadsg, with --checkpoint, got exact. Name one",
    ),
    "samples of methods that draw none": (
        lambda b: b.evaluate("--methods", "ao,exact", "--samples", 4),
        "--methods: Expected a method that samples, .* with --samples .*, got ao, exact. Name one",
    ),
    "time limit of methods without one": (
        lambda b: b.evaluate("--methods", "re,exact@1", "--time-limit-s", 2),
        "--time-limit-s: Expected exact or certified among the methods, got re, exact@1. Add it, or leave that out.",
    ),
    "processes of methods with networks": (
        lambda b: b.evaluate("--methods", "gadsg,random-belief", "--workers", 2),
        "--workers: Expected one without a network, such as exact among the methods, got gadsg, random-belief",
    ),
    "seed of methods that draw none": (
        lambda b: b.evaluate("--methods", "ao,exact", "--seed", 1),
        "--seed: Expected one that draws, such as re among the methods, got ao, exact",
    ),
    "processes of a sweep of networks": (
        lambda b: ("sweep", "--checkpoint", b.run, "--data", b.data, "--out", b.out, "--workers", 2),
        "--workers: Expected .* got networks alone",
    ),
    "time limit of a sweep without exact": (
        lambda b: ("sweep", "--checkpoint", b.run, "--data", b.data, "--out", b.out, "--time-limit-s", 2),
        "--time-limit-s: Expected exact or certified .* got networks alone",
    ),
    "coordinator alone": (
        lambda b: b.evaluate("--methods", "exact", "--coordinator", "127.0.0.1:9999"),
        "--coordinator: Expected --num-processes and --process-id beside it, got 127.0.0.1:9999 without",
    ),
    "local search of nothing": (
        lambda b: b.evaluate("--methods", "random-belief", "--polish-top", 2),
        "--polish-top: Expected it with local search, got none. Give --polish too.",
    ),
    "evaluate without checkpoint": (
        lambda b: b.evaluate("--methods", "gdsg"),
        "--checkpoint: Expected a run folder for method gdsg, got none",
    ),
    "evaluate with a run of another method": (
        lambda b: b.evaluate("--methods", "gdsg", "--checkpoint", b.run),
        "--checkpoint: Expected a run folder for method gdsg, got runs of gadsg. Add one.",
    ),
    "two runs of one method": (
        lambda b: b.evaluate("--checkpoint", b.run, b.run),
        "--checkpoint: Expected one run per method, got .* both gadsg. Compare runs of one method with `laegd sweep`",
    ),
    "reference that is not compared": (
        lambda b: b.evaluate("--methods", "exact", "--reference", "mcmf"),
        "--reference: Expected .*one of exact, optimum, got 'mcmf'. Add it to --methods",
    ),
    "examples": (lambda b: b.evaluate("--examples", -1), "--examples: Expected a number of at least 0, got -1"),
    "processes": (lambda b: b.evaluate("--workers", 0), "--workers: Expected at least 1 process, got 0"),
    "sweep without models": (
        lambda b: ("sweep", "--data", b.data, "--out", b.out),
        "--checkpoint: Expected at least one run folder, got none",
    ),
    "sweep without data": (
        lambda b: ("sweep", "--checkpoint", b.run, "--out", b.out),
        "--data: Expected at least one data set, got none",
    ),
    "one model twice": (
        lambda b: ("sweep", "--checkpoint", b.run, b.run, "--data", b.data, "--out", b.out),
        "--checkpoint: Expected names that differ, got tiny for both .*/tiny and .*/tiny. Rename one",
    ),
    "one data set twice": (
        lambda b: ("sweep", "--checkpoint", b.run, "--data", b.data, b.data, "--out", b.out),
        "--data: Expected names that differ, got gs2_gu4_au2 for both",
    ),
    "sweep with a learned method": (
        lambda b: ("sweep", "--checkpoint", b.run, "--data", b.data, "--out", b.out, "--methods", "gadsg"),
        r"--methods: Expected any of re, ao, .*, exact@SECONDS, got gadsg\. Name a network.s run in --checkpoint",
    ),
    "sweep with a reference that is not compared": (
        lambda b: ("sweep", "--checkpoint", b.run, "--data", b.data, "--out", b.out, "--reference", "ao"),
        "--reference: Expected .* got 'ao'. Add it to --methods",
    ),
    "results below a file": (
        lambda b: ("evaluate", "--data", b.data, "--methods", "exact", "--out", b.write("file", "") / "r.json"),
        "r.json: Expected a file in a writable folder",
    ),
    "results named csv": (
        lambda b: ("evaluate", "--data", b.data, "--methods", "exact", "--out", b.path / "r.csv"),
        r"r\.csv: Expected a name for JSON",
    ),
    "unknown command": (
        lambda b: ("evalute",),
        "command: Expected one of demo, .*, got 'evalute'. Use laegd evaluate.",
    ),
    "command like no other": (lambda b: ("xyz",), "got 'xyz'. Use laegd --help."),
    "unknown choice": (
        lambda b: b.generate("--labels", "best"),
        "--labels: Expected one of exact, mcmf, none, got 'best'. Correct it.",
    ),
    "unknown choice of what may be left out": (
        lambda b: b.evaluate("--allocation", "best"),
        "--allocation: Expected one of (optimal, model|model, optimal), got 'best'. Correct it.",
    ),
    "option of a setting": (lambda b: b.train("", "--training.steps", 0), "training.steps: Expected at least 1, got 0"),
    "unknown option of a setting": (lambda b: b.train("", "--training.stepz", 3), "--training.stepz.*--training.steps"),
    "unknown choice of a setting": (
        lambda b: b.train("", "--model.encoder=best"),
        "--model.encoder: Expected one of (attention, convolution|convolution, attention), got 'best'",
    ),
    "setting twice": (
        lambda b: b.train("", "--set", "training.seed=1", "--seed", 2),
        "training.seed: Expected it once, got it by two options. Remove one.",
    ),
    "unknown option": (lambda b: b.evaluate("--smaples", 3), "--smaples.*--samples"),
    "missing option": (lambda b: ("solve", b.scenario), "--out: Expected a file for the plan, .* got none"),
    "time limit of a method that takes none": (
        lambda b: ("solve", b.scenario, "--out", b.out, "--method", "re", "--time-limit-s", 3),
        "--time-limit-s: Expected a method that heeds it, exact or certified, got re. Leave that out",
    ),
    "patience of one process": (
        lambda b: ("train", "--config", b.config, "--workdir", b.out, "--stuck-after-s", 60),
        "--stuck-after-s: Expected several processes, got one. Leave that out, or start them",
    ),
    "setting of another learner": (
        lambda b: ("train", "--config", b.config, "--workdir", b.out, "--grlo.num-actions", 4),
        "grlo.num_actions: Expected learner = 'grlo' with it, got 'diffusion'. Set that, or leave this out",
    ),
    "memory limit of a method that takes none": (
        lambda b: ("solve", b.scenario, "--out", b.out, "--method", "mcmf", "--memory-limit-mib", 300),
        "--memory-limit-mib: Expected a method that heeds it, exact or certified, got mcmf. Leave that out",
    ),
    "memory limit of nothing": (
        lambda b: ("evaluate", "--data", b.data, "--out", b.out, "--methods", "exact", "--memory-limit-mib", 0.5),
        r"--memory-limit-mib: Expected at least 1 MiB, got 0\.5\. Give e\.g\. 4096",
    ),
    "certifying of what is proved": (
        lambda b: ("solve", b.scenario, "--out", b.out, "--certify", "full"),
        "--certify: Expected a method that heeds it, one that does not prove its gap itself, got exact",
    ),
    "seed of a method that draws nothing": (
        lambda b: ("solve", b.scenario, "--out", b.out, "--method", "ao", "--seed", 3),
        "--seed: Expected a method that heeds it, one that draws, such as re, got ao",
    ),
    "list with a picture": (
        lambda b: ("solve", b.write("l.jsonl", ""), "--out", b.path / "p.jsonl", "--picture", b.path / "p.png"),
        "--picture: Expected scenarios in files of their own, got a list",
    ),
    "standard input beside a file": (
        lambda b: ("solve", "-", b.scenario, "--out", b.out),
        "scenarios: Expected - by itself, got other files beside it",
    ),
}


def contents(folder):
    """Every file below a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def bench(tmp_path, data, run, scenario, places, tiny_toml):
    """What the bad inputs are made from."""
    return Bench(tmp_path, data, run, scenario, places, tiny_toml)


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_code_2_and_leaves_nothing(cli, bench, name):
    """Field or file, value and remedy on one line of standard error; no file has come, gone or changed."""
    build, message = BAD[name]
    arguments = build(bench)
    before, run_before = contents(bench.path), contents(bench.run)
    code, out, err = cli(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("laegd: ") and err.count("\n") == 1 and "Traceback" not in err
    assert re.search(message, err), err
    assert contents(bench.path) == before and contents(bench.run) == run_before


def test_data_set_without_labels_cannot_be_compared_on(cli, bench):
    """Refused before anything is computed."""
    cli(*bench.generate())
    code, out, err = cli("evaluate", "--data", bench.out, "--out", bench.path / "r.json", "--methods", "exact")
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert "Expected a data set with labels to compare with, got 'none'. Generate it with --labels exact" in err


@pytest.mark.parametrize("method", ["exact", "mcmf", "random-belief"])
def test_user_that_nobody_can_serve_is_named_with_code_3(cli, bench, method):
    """The plan file says infeasible and whom; the other scenario of the call is answered all the same."""
    bad = changed(bench.scenario, "bad.json", lose_user)
    code, out, err = cli("solve", bench.scenario, bad, "--out", bench.path / "plans", "--method", method)
    assert code == 3
    assert err.count("\n") == 1 and "bad.json: no feasible plan: lost cannot be served" in err
    plan = json.loads((bench.path / "plans/bad.json").read_text())
    assert (plan["feasible"], plan["cost"], plan["unserved"]) == (False, None, ["lost"])
    assert json.loads((bench.path / "plans/scenario.json").read_text())["feasible"]
    assert out.startswith("scenario.json: cost ")


@pytest.mark.parametrize("command", ["generate", "export", "solve", "evaluate", "import-sites"])
def test_full_disk_is_one_line_and_leaves_nothing_half_written(cli, bench, monkeypatch, command):
    """The write fails with "No space left on device": the file is absent, its temporary too."""

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    arguments = {
        "generate": bench.generate(),
        "export": ("export", bench.data, "--out", bench.out),
        "solve": ("solve", bench.scenario, "--out", bench.out),
        "evaluate": bench.evaluate("--methods", "exact"),
        "import-sites": ("import-sites", *bench.places, "--out", bench.out),
    }[command]
    before = contents(bench.path)
    monkeypatch.setattr(os, "fsync", full)
    code, _, err = cli(*arguments)
    assert code == 2 and err.count("\n") == 1
    assert "Expected a writable folder with room, got: No space left on device. Free space or choose another." in err
    assert contents(bench.path) == before


def test_full_disk_stops_training_before_the_checkpoint_is_begun(cli, tiny_toml, data_root, tmp_path, monkeypatch):
    """Too little room for a checkpoint: one line; with room, the same command goes on and ends."""
    usage = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(path)._replace(free=1000))
    command = ("train", "--config", tiny_toml, "--workdir", tmp_path / "run", "--data", data_root)
    code, out, err = cli(*command)
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert "checkpoints: Expected room for a checkpoint, got: No space left on device. Free space and run again" in err
    assert not list((tmp_path / "run/checkpoints").iterdir())
    monkeypatch.undo()
    assert cli(*command)[0] == 0


# A test run in the background ignores Ctrl-C, and so would its children; progress of a slow machine is no error.
AS_IN_A_TERMINAL = """
import signal; signal.signal(signal.SIGINT, signal.default_int_handler)
import laegd.cli.console; laegd.cli.console.SECONDS_BETWEEN_LINES = float("inf")
"""


def laegd(*arguments, before="", **options):
    """Starts a command in a process of its own, after some Python."""
    code = f"{AS_IN_A_TERMINAL}\n{before}\nfrom laegd.cli import main; main()"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_batch_that_the_devices_cannot_share_is_refused(tiny_toml, tmp_path):
    """Three graphs on two devices: the line offers 2 and 4."""
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "2"}
    command = ("train", "--config", tiny_toml, "--workdir", tmp_path / "run", "--set", "training.batch_size=3")
    process = laegd(*command, env=environment)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out) == (2, "")
    assert (
        err == ("laegd: training.batch_size: Expected a batch divisible by 2 devices, got 3. Use 2 or 4.\n")
        and not (tmp_path / "run").exists()
    )


@pytest.mark.slow
def test_write_that_fails_inside_the_array_store_is_one_line(tiny_toml, run, data_root, tmp_path):
    """Files limited to 20 KiB, as by a quota: one line instead of the store's own hundreds."""

    limited = "import os, resource, sys; limit = resource.RLIMIT_FSIZE; resource.setrlimit(limit, (20 * 1024, -1))"
    command = ("train", "--config", tiny_toml, "--workdir", tmp_path / "run", "--data", data_root)
    process = laegd(*command, before=limited)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out) == (2, "")
    assert err.count("\n") == 1 and "Expected room for a checkpoint, got: " in err and "File too large" in err


# interruptions


def interrupt_at_first(folder, pattern, process, number=signal.SIGINT):
    """Sends a signal once a file of that name has appeared; returns what the process left."""
    deadline = time.monotonic() + 300
    while not any(path.stat().st_size for path in folder.glob(pattern)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def test_ctrl_c_while_generating_keeps_finished_shards(cli, tmp_path, monkeypatch):
    """Code 130 and one line; the same command then makes only what is missing."""
    from laegd.graphs import dataset

    made = []
    make_block = dataset.make_block

    def interrupted(recipe, block):
        made.append(block)
        if len(made) == 2:
            raise KeyboardInterrupt
        return make_block(recipe, block)

    monkeypatch.setattr(dataset, "make_block", interrupted)
    command = ("generate", "--scale", "gs2_gu4_au2", "--count", 600, "--labels", "none", "--workers", 1)
    assert cli(*command, "--out", tmp_path / "data") == (130, "", "laegd: interrupted\n")
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["shard-00000.npz"]
    assert cli(*command, "--out", tmp_path / "data")[0] == 0
    assert made == [0, 1, 1, 2]


def test_ctrl_c_while_evaluating_keeps_what_is_solved(cli, bench, monkeypatch):
    """Code 130, one line, no results but a journal; the same command goes on, others are told what differs."""
    from laegd.solvers.mcmf import MCMFSolver

    def interrupted(self, instances):
        raise KeyboardInterrupt

    monkeypatch.setattr(MCMFSolver, "solve", interrupted)
    before = contents(bench.path)
    assert cli(*bench.evaluate("--methods", "mcmf,exact")) == (130, "", "laegd: interrupted\n")
    assert contents(bench.path) == before
    code, out, err = cli(*bench.evaluate("--methods", "exact,mcmf"))
    assert (code, out) == (130, "") and err.count("\n") == 1
    journal = bench.path / "out.partial.jsonl"
    assert f"stopped with 1 of 2 parts done; they are kept in {journal}, the same command goes on" in err
    assert contents(bench.path).keys() - before.keys() == {journal}
    monkeypatch.undo()

    code, out, err = cli(*bench.evaluate("--methods", "exact"))
    assert (code, out) == (2, "") and "solvers.mcmf is only there. Give the settings of then, name another --out" in err
    code, out, err = cli(*bench.evaluate("--methods", "exact,mcmf"))
    assert (code, err) == (0, "") and out.startswith(f"{journal}: goes on with 1 of 2 parts done\n")
    assert contents(bench.path).keys() - before.keys() == {bench.out, bench.path / "out.csv"}


@pytest.mark.slow
def test_ctrl_c_reaches_a_group_of_processes_and_ends_it(tmp_path):
    """As a terminal sends it, to the workers too: one line, finished shards stay, no process is left."""
    command = ("generate", "--scale", "gs3_gu7_au5", "--count", 100_000, "--out", tmp_path, "--workers", 2)
    process = laegd(*command, start_new_session=True)
    process.send_signal = lambda number: os.killpg(process.pid, number)
    code, out, err = interrupt_at_first(tmp_path, "shard-*.npz", process)
    assert (code, out, err) == (130, "", "laegd: interrupted\n")
    assert list(tmp_path.glob("shard-*.npz")) and not list(tmp_path.glob("*.tmp"))
    deadline = time.monotonic() + 10
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(process.pid, 0)
            time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_while_training_keeps_a_checkpoint_and_the_command_goes_on(tiny_toml, data_root, run, tmp_path, number):
    """Code 130, or 75 after SIGTERM, one line; the same command goes on after the last step and ends."""
    steps = ("--set", "training.steps=400")
    command = ("train", "--config", tiny_toml, "--workdir", tmp_path, "--data", data_root, *steps)
    code, out, err = interrupt_at_first(tmp_path, "metrics.jsonl", laegd(*command), number)
    assert (code, out) == (130 if number == signal.SIGINT else 75, "") and err.count("\n") == 1
    assert err.startswith("laegd: stopped at step ") and "the same command goes on from there" in err
    stopped = int(err.split("step ")[1].split(";")[0])
    assert 0 < stopped < 400 and (tmp_path / f"checkpoints/{stopped}").is_dir()
    process = laegd(*command)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, "") and "step 400;" in out
    steps_seen = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps_seen == list(range(1, 401))


@pytest.mark.slow
def test_ctrl_c_in_an_evaluation_process_ends_without_a_traceback(data, run, tmp_path):
    """Sent while programs are traced, loaded or compiled: code 130, one line, and nothing but a journal."""
    process = laegd("evaluate", "--checkpoint", run, "--data", data, "--out", tmp_path / "r.json", "--samples", 5)
    code, out, err = interrupt_at_first(tmp_path, "r.partial.jsonl", process)  # of a method without a network
    assert (code, out) == (130, "") and re.fullmatch("laegd: (interrupted|stopped with .*)\n", err)
    assert {path.name for path in tmp_path.iterdir()} <= {"r.partial.jsonl"}
