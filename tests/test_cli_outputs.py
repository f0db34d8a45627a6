"""No command writes over what it reads, over another thing that it writes, or, unasked, over a finished file."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from laegd.cli import main
from laegd.training.model_file import default_path

SITES = "lat,lon\n-37.81,144.96\n-37.82,144.97\n"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A data set, a scenario, results, tables and a model; read only."""
    folder = tmp_path_factory.mktemp("inputs")
    main(["generate", "--scale", "gs2_gu4_au2", "--count", "3", "--seed", "9", "--out", str(folder / "data")])
    main(["export", str(folder / "data"), "--out", str(folder / "town.json")])
    main(["evaluate", "--data", str(folder / "data"), "--methods", "re", "--out", str(folder / "results.json")])
    for name in ("sites.csv", "users.csv"):
        (folder / name).write_text(SITES)
    (folder / "sim.toml").write_text("num_haps = 1\n")
    shutil.copy(default_path(), folder / "model.npz")
    return folder


@pytest.fixture
def place(base, tmp_path, monkeypatch):
    """A copy of them to work in."""
    shutil.copytree(base, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cli(cli):
    """Runs a command line, given as one text."""
    return lambda text: cli(*text.split())


def contents(folder):
    """Returns what every file below holds."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


REFUSED = {
    "sites over servers": "import-sites --servers sites.csv --users users.csv --out sites.csv",
    "sites over users": "import-sites --servers sites.csv --users users.csv --out ./users.csv",
    "sites over settings": "import-sites --servers sites.csv --users users.csv --config sim.toml --out sim.toml",
    "export over a shard": "export data --out data/shard-00000.npz",
    "export over the manifest": "export data --out data/manifest.json",
    "results over the manifest": "evaluate --data data --methods re --out data/manifest.json",
    "results over a model": "evaluate --data data --methods gadsg --checkpoint model.npz --out model.npz",
    "sweep over a model": "sweep --data data --checkpoint model.npz --methods re --out model.npz",
    "report over results": "report results.json --out results.json",
    "report over a link's target": "report link.json --out results.json",
    "plan over scenario": "solve town.json --method re --out town.json",
    "plans over scenarios": "solve town.json other.json --method re --out .",
    "picture over scenario": "solve town.json --method re --out plan.json --picture town.json",
    "picture over plan": "solve town.json --method re --out plan.json --picture plan.json",
    "plan over model": "solve town.json --method gadsg --checkpoint model.npz --out model.npz",
}


@pytest.mark.parametrize("command", REFUSED.values(), ids=REFUSED)
def test_no_input_and_no_other_output_is_replaced(cli, place, command):
    """Also with --overwrite; nothing is written, and one line names option and place."""
    (place / "link.json").symlink_to("results.json")
    shutil.copy(place / "town.json", place / "other.json")
    before = contents(place)
    solve = command.startswith("solve")
    code, out, err = cli(command if solve else f"{command} --overwrite")
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert "Expected a place of its own" in err and err.startswith(("laegd: --out", "laegd: --picture"))
    assert contents(place) == before


FINISHED = {
    "import-sites": "import-sites --servers sites.csv --users users.csv --out OUT.json",
    "export": "export data --index 1 --out OUT.json",
    "report": "report results.json --out OUT.html",
}


@pytest.mark.parametrize("command", FINISHED.values(), ids=FINISHED)
def test_a_finished_file_is_replaced_when_asked(cli, place, command):
    """Unasked it stays as it is."""
    out = place / command.split()[-1]
    out.write_text("mine")
    code, _, err = cli(command)
    assert (code, err.count("\n")) == (2, 1) and "which is there. Name another, or give --overwrite" in err
    assert out.read_text() == "mine"
    assert cli(f"{command} --overwrite")[0] == 0 and len(out.read_text()) > 4


def test_results_beside_a_table_of_the_same_name(cli, place):
    """`--out sites.json` would write sites.csv: refused, and with --overwrite too, for that is no table of results."""
    command = "evaluate --data data --methods re --out sites.json"
    for more, reason in (("", "which is there. Name another"), (" --overwrite", "which is none. Name another")):
        code, out, err = cli(command + more)
        assert (code, out, err.count("\n")) == (2, "", 1) and f"sites.csv, {reason}" in err
    assert (place / "sites.csv").read_text() == SITES and not (place / "sites.json").exists()


def test_results_are_replaced_by_another_comparison_only_when_asked(cli, place):
    """The same comparison is said to be finished; --overwrite makes it anew."""
    before = contents(place)
    code, out, _ = cli("evaluate --data data --methods re --out results.json")
    assert (code, out) == (0, "results.json: finished before; --overwrite compares again\n")
    code, _, err = cli("evaluate --data data --methods mcmf --out results.json")
    assert code == 2 and "results.json, which is there" in err
    assert contents(place) == before
    assert cli("evaluate --data data --methods mcmf --out results.json --overwrite")[0] == 0
    document = json.loads((place / "results.json").read_text())
    assert [row["method"] for row in document["results"]] == ["mcmf"]
    assert (place / "results.csv").read_text().count("mcmf,") == 3


def test_results_that_were_being_written_are_written_again(cli, place):
    """A job killed between its CSV and its JSON leaves a journal: the same command goes on from there."""
    killed = "import os; from laegd.evaluation import results; results.write_json = lambda *_: os._exit(9)\n"
    killed += "from laegd.cli import main; main('evaluate --data data --methods re --out r.json'.split())"
    assert subprocess.run([sys.executable, "-c", killed], check=False).returncode == 9
    assert {"r.csv", "r.partial.jsonl"} <= {path.name for path in place.iterdir()} and not (place / "r.json").exists()
    code, out, _ = cli("evaluate --data data --methods re --out r.json")
    assert code == 0 and "goes on with 1 of 1 parts done" in out and (place / "r.json").exists()


def test_results_go_into_no_device(cli, place):
    """Their CSV and journal stand beside them."""
    code, _, err = cli("evaluate --data data --methods re --out /dev/null")
    assert code == 2 and "--out: Expected a file, got /dev/null, a pipe or a device" in err


def test_a_manifest_of_something_else_is_no_data_set(cli, place):
    """`generate` leaves it alone."""
    (place / "other").mkdir()
    (place / "other" / "manifest.json").write_text('{"name": "an extension"}')
    before = contents(place)
    code, _, err = cli("generate --scale gs2_gu4_au2 --count 3 --labels none --workers 1 --out other")
    assert code == 2 and "manifest.json: Expected the manifest of a data set, got another file" in err
    assert contents(place) == before


# what is read


LOOPS = {
    "solve": "solve loop --out a.json",
    "solve into": "solve town.json --method re --out loop",
    "model": "solve town.json --method gadsg --checkpoint loop --out a.json",
    "evaluate": "evaluate --data loop --methods re --out a.json",
    "evaluate into": "evaluate --data data --methods re --out loop",
    "sweep": "sweep --data data --checkpoint loop --out a.json",
    "report": "report loop --out a.html",
    "export": "export loop --out a.json",
    "pack": "pack loop --out a.npz",
    "import-sites": "import-sites --servers loop --users users.csv --out a.json",
    "generate": "generate --scale gs2_gu4_au2 --count 3 --labels none --workers 1 --out loop",
    "settings": "generate --scale gs2_gu4_au2 --count 3 --labels none --workers 1 --config loop --out a",
    "train": "train --config loop --workdir a",
}


@pytest.mark.parametrize("command", LOOPS.values(), ids=LOOPS)
def test_a_loop_of_links_is_one_line(cli, place, command):
    """As any path."""
    (place / "loop").symlink_to("loop")
    code, out, err = cli(command)
    assert (code, out, err.count("\n")) == (2, "", 1) and "loop" in err


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("town.json", "solve town.json --out a.json"),
        ("data/manifest.json", "export data --out a.json"),
        ("data/shard-00000.npz", "export data --out a.json"),
        ("results.json", "report results.json --out a.html"),
        ("r.partial.jsonl", "evaluate --data data --methods re --out r.json"),
        ("sim.toml", "generate --scale gs2_gu4_au2 --count 3 --workers 1 --config sim.toml --out a"),
    ],
)
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_pipe_is_not_waited_for_and_a_device_fills_no_memory(cli, place, name, command, kind):
    """In place of each file that is read."""
    (place / name).unlink(missing_ok=True)
    os.mkfifo(place / name) if kind == "pipe" else (place / name).symlink_to("/dev/zero")
    code, out, err = cli(command)
    assert (code, out, err.count("\n")) == (2, "", 1) and name in err and "got" in err


def test_the_journal_follows_no_link(cli, place):
    """Its target is anyone's file."""
    (place / "victim").write_text("mine")
    for target in ("victim", "none"):
        (place / "r.partial.jsonl").unlink(missing_ok=True)
        (place / "r.partial.jsonl").symlink_to(target)
        code, _, err = cli("evaluate --data data --methods re --out r.json")
        assert code == 2 and "r.partial.jsonl: Expected a file of its own, got a link to another. Delete" in err
    assert (place / "victim").read_text() == "mine" and not (place / "none").exists()


def test_a_byte_order_mark_is_no_part_of_a_file(cli, place):
    """As Windows' editors write it, before a scenario and before settings."""
    for name in ("town.json", "sim.toml"):
        (place / name).write_bytes(b"\xef\xbb\xbf" + (place / name).read_bytes())
    assert cli("solve town.json --method re --out plan.json")[0] == 0
    command = "generate --scale gs2_gu4_au2 --count 3 --labels none --workers 1 --config sim.toml --out a"
    assert cli(command)[0] == 0
