"""The commands on damaged files: code 0, 2 or 3, a line of error where there is one, nothing else written."""

import json
import random
import shutil

import pytest
from guard import SECONDS, time_limit
from mutations import mutate
from readers import KINDS, data_set
from samples import EXPERIMENT, PEOPLE, SIMULATOR, SITES, result_files

from laegd.cli import main

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def whole_set(tmp_path_factory):
    return data_set(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def place(whole_set, tmp_path):
    """A folder with a whole file of every kind in the folder `in`."""
    shutil.copytree(whole_set, tmp_path / "in")
    for name, content in {
        "scenario.json": KINDS["scenario"].valid(tmp_path)[1],
        "config.toml": EXPERIMENT,
        "simulator.toml": SIMULATOR,
        "sites.csv": SITES,
        "people.csv": PEOPLE,
        "results.json": result_files(tmp_path)[0],
    }.items():
        (tmp_path / "in" / name).write_bytes(content)
    return tmp_path


# Command with the file that is damaged; IN is the folder of the files, OUT is what it writes.
COMMANDS = {
    "solve": ("scenario.json", "solve IN/scenario.json --method re --out OUT/plan.json"),
    "solve exactly": ("scenario.json", "solve IN/scenario.json --time-limit-s 1 --out OUT/plan.json"),
    "import-sites": ("people.csv", "import-sites --servers IN/sites.csv --users IN/people.csv --out OUT/s.json"),
    "generate": (
        "simulator.toml",
        "generate --scale gs2_gu2_au1 --count 1 --labels none --workers 1 --config IN/simulator.toml --out OUT",
    ),
    "export": ("manifest.json", "export IN --index 1 --out OUT/s.json"),
    "export of a shard": ("shard-00000.npz", "export IN --index 3 --out OUT/s.json"),
    "evaluate": ("manifest.json", "evaluate --data IN --methods re --out OUT/r.json"),
    "report": ("results.json", "report IN/results.json --out OUT/report.html"),
    "train": ("config.toml", "train --config IN/config.toml --set training.steps=0 --workdir OUT/run"),
}


def feed(place, capsys, name, numbers):
    """Runs the command on damaged files; each is made from its number."""
    file, words = COMMANDS[name]
    whole, source = (place / "in" / file).read_bytes(), place / "in"
    for number in numbers:
        content = mutate(whole, [whole], random.Random(f"{name}-{number}"))
        (source / file).write_bytes(content)
        before = {path: path.stat().st_mtime_ns for path in source.iterdir()}
        run(words, place, capsys, f"number {number} of {name}")
        assert {path: path.stat().st_mtime_ns for path in source.iterdir()} == before
        assert {path.name for path in place.iterdir()} <= {"in", "out", "set"}
        shutil.rmtree(place / "out", ignore_errors=True)


def run(words, place, capsys, where):
    """Runs a command; returns its exit code."""
    capsys.readouterr()
    try:
        with time_limit(2 * SECONDS):
            main([word.replace("IN", str(place / "in")).replace("OUT", str(place / "out")) for word in words.split()])
        code = 0
    except SystemExit as end:
        code = end.code
    lines = capsys.readouterr().err.splitlines(keepends=True)
    error = "".join(line for line in lines if not line.startswith("laegd: warning: "))
    assert code in (0, 2, 3), where
    assert error.count("\n") == (code != 0) and len(error) < 3000, f"{where}: {error[:500]}"
    if code == 2:
        assert error.startswith("laegd: ") and "Expected" in error, f"{where}: {error[:500]}"
    return code


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_answer_damaged_files_in_a_line(place, capsys, name):
    feed(place, capsys, name, range(3 if name == "report" else 15))


@pytest.mark.soak
@pytest.mark.parametrize("tenth", range(10))
@pytest.mark.parametrize("name", COMMANDS)
def test_commands_answer_many_damaged_files_in_a_line(place, capsys, name, tenth):
    feed(place, capsys, name, range(tenth, 20 if name == "report" else 150, 10))


@pytest.fixture
def journal(place, capsys, monkeypatch):
    """What `evaluate` keeps when it is stopped after the first of two methods."""
    from laegd.solvers.mcmf import MCMFSolver

    def interrupted(self, instances):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(SystemExit, match="130"):
        patched.setattr(MCMFSolver, "solve", interrupted)
        main(["evaluate", "--data", str(place / "in"), "--methods", "re,mcmf", "--out", str(place / "out/r.json")])
    return (place / "out/r.partial.jsonl").read_bytes()


def feed_journals(place, journal, capsys, numbers):
    """Goes on from damaged journals, each made from its number; fails with all that were not dealt with."""
    found = []
    for number in numbers:
        shutil.rmtree(place / "out")
        (place / "out").mkdir()
        content = mutate(journal, [journal], random.Random(f"journal-{number}"))
        (place / "out/r.partial.jsonl").write_bytes(content)
        try:
            code = run("evaluate --data IN --methods re,mcmf --out OUT/r.json", place, capsys, f"number {number}")
            if code == 0:
                json.loads((place / "out/r.json").read_bytes())
        except Exception as error:
            found.append(f"number {number}: {type(error).__name__}: {str(error)[:300]}, from {content!r}")
    assert not found, "\n".join(found)


def test_a_damaged_journal_is_gone_on_from_or_refused(place, journal, capsys):
    feed_journals(place, journal, capsys, range(15))


@pytest.mark.soak
@pytest.mark.parametrize("tenth", range(10))
def test_many_damaged_journals_are_gone_on_from_or_refused(place, journal, capsys, tenth):
    feed_journals(place, journal, capsys, range(tenth, 150, 10))
