"""`laegd solve` on several scenarios: files, folders and lists; what is finished stays, what is bad is passed."""

import io
import json
import sys

import numpy as np
import pytest

from laegd.problem.instance import Instance
from laegd.problem.objective import plan_cost
from laegd.problem.plan_json import plan_from_json
from laegd.scenario.generator import Scale, ScenarioConfig, draw
from laegd.scenario.scenario import Scenario
from laegd.solvers.mcmf import MCMFSolver
from laegd.solvers.random_execution import RandomExecution


@pytest.fixture
def cli(cli):
    """Runs `solve`."""
    return lambda *arguments: cli("solve", *arguments)


@pytest.fixture
def folder(tmp_path):
    """Three scenarios that have plans."""
    path = tmp_path / "in"
    path.mkdir()
    for name, seed in (("a", 3), ("b", 4), ("c", 5)):
        drawn = draw(ScenarioConfig(), Scale.parse("gs2_gu4_au2"), 1, np.random.default_rng(seed))
        (path / f"{name}.json").write_bytes(drawn.scenario(0).to_json())
    return path


def as_lines(folder) -> bytes:
    return b"".join(path.read_bytes().replace(b"\n", b" ") + b"\n" for path in sorted(folder.iterdir()))


def count_calls(monkeypatch, at=None, error=KeyboardInterrupt):
    """Counts what is planned; raises at one of the calls."""
    solve, calls = RandomExecution.solve, []

    def counted(self, instances):
        calls.append(len(instances))
        if len(calls) == at:
            raise error
        return solve(self, instances)

    monkeypatch.setattr(RandomExecution, "solve", counted)
    return calls


def test_a_folder_is_planned_file_by_file_and_goes_on_after_an_interruption(cli, folder, tmp_path, monkeypatch):
    """Ctrl-C at the second: the first plan is there; the same command makes two, then none, then all again."""
    command = (folder, "--method", "re", "--out", tmp_path / "plans")
    count_calls(monkeypatch, at=2)
    code, _, err = cli(*command)
    assert code == 130 and "stopped with 1 of 3 scenarios done; their plans are kept" in err
    assert [path.name for path in (tmp_path / "plans").iterdir()] == ["a.json"]
    monkeypatch.undo()
    for overwrite, planned in (((), 2), ((), 0), (("--overwrite",), 3)):
        with monkeypatch.context() as patch:
            calls = count_calls(patch)
            code, out, err = cli(*command, *overwrite)
        assert (code, err, len(calls)) == (0, "", planned)
        assert (f"{3 - planned} of 3 plans were there before" in out) == (planned < 3)
    assert {path.name for path in (tmp_path / "plans").iterdir()} == {"a.json", "b.json", "c.json"}


@pytest.mark.parametrize("change", ["seed", "certify", "scenario", "plan"])
def test_only_a_plan_of_the_same_scenario_and_settings_is_kept(cli, folder, tmp_path, monkeypatch, change):
    """Another seed or bound, another deadline, a damaged plan: made anew."""
    command = [folder, "--method", "re", "--out", tmp_path / "plans"]
    cli(*command)
    if change == "scenario":
        document = json.loads((folder / "a.json").read_text())
        document["users"][0]["deadline_s"] = 2.5
        (folder / "a.json").write_text(json.dumps(document))
    if change == "plan":
        text = (tmp_path / "plans/a.json").read_text()
        (tmp_path / "plans/a.json").write_text(text.replace('"users"', '"losers"'))
    options = {"seed": ("--seed", 1), "certify": ("--certify", "none")}.get(change, ())
    calls = count_calls(monkeypatch)
    assert cli(*command, *options)[0] == 0
    assert len(calls) == (3 if options else 1)


def test_a_bad_file_is_passed_with_a_line_and_code_2_at_the_end(cli, folder, tmp_path):
    """The others are planned; an infeasible one among them changes neither the code nor the others."""
    (folder / "b.json").write_text("{")
    document = json.loads((folder / "c.json").read_text())
    document["users"][0] |= {"id": "lost", "x_m": 1e6, "deadline_s": 1e-3}
    (folder / "c.json").write_text(json.dumps(document))
    code, out, err = cli(folder, "--method", "re", "--out", tmp_path / "plans")
    assert code == 2 and out.startswith("a.json: cost ") and out.count("\n") == 1
    bad, lost, end = err.splitlines()
    assert bad.startswith("laegd: b.json: Expected a laegd-scenario/1 scenario, got: ")
    assert lost.startswith("laegd: c.json: no feasible plan: lost cannot be served (deadline): lost takes ")
    assert "got 1 that cannot" in end
    assert {path.name for path in (tmp_path / "plans").iterdir()} == {"a.json", "c.json"}
    assert json.loads((tmp_path / "plans/c.json").read_text())["unserved"] == ["lost"]


@pytest.mark.parametrize("place", ["file", "standard input", "standard output"])
def test_a_list_gets_a_list_of_the_plans_of_its_files(cli, folder, tmp_path, monkeypatch, place):
    """Line n answers line n, null what cannot be read; costs are those of the files, whatever stands before them."""
    cli(folder, "--method", "re", "--out", tmp_path / "plans")
    alone = [json.loads((tmp_path / f"plans/{name}.json").read_text())["cost"] for name in "abc"]
    lines = as_lines(folder).splitlines(keepends=True)
    content = b"".join([lines[2], b"{}\n", b"\n", lines[0], lines[1]])
    (tmp_path / "l.jsonl").write_bytes(content)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    source = tmp_path / "l.jsonl" if place == "file" else "-"
    target = tmp_path / "out.jsonl"
    code, out, err = cli(source, "--method", "re", *([] if place == "standard output" else ["--out", target]))
    assert code == 2 and ", line 2: Expected a laegd-scenario/1" in err
    answers = [json.loads(line) for line in (out if place == "standard output" else target.read_text()).splitlines()]
    assert [answer and answer["cost"] for answer in answers] == [alone[2], None, alone[0], alone[1]]
    assert not list(tmp_path.glob("*.partial*")) and not list(tmp_path.glob("*.lock"))


def test_a_list_goes_on_after_an_interruption(cli, folder, tmp_path, monkeypatch):
    """What a crash has torn is planned again; no list is there before all of it is planned."""
    (tmp_path / "l.jsonl").write_bytes(as_lines(folder))
    command = (tmp_path / "l.jsonl", "--method", "re", "--out", tmp_path / "out.jsonl")
    with monkeypatch.context() as patch:
        count_calls(patch, at=3)
        assert cli(*command)[0] == 130
    assert not (tmp_path / "out.jsonl").exists()
    partial = tmp_path / "out.partial.jsonl"
    partial.write_bytes(partial.read_bytes()[:-20])
    calls = count_calls(monkeypatch)
    assert cli(*command)[0] == 0 and len(calls) == 2 and not partial.exists()
    for line, text in zip((tmp_path / "out.jsonl").open(), (tmp_path / "l.jsonl").open(), strict=True):
        instance = Instance.from_scenario(Scenario.from_json(text))
        plan = plan_from_json(instance, line)
        assert plan.cost == pytest.approx(float(plan_cost(instance.costs, plan.server, plan.share)), rel=1e-12)


def test_a_network_without_a_plan_is_refused_before_a_solver_is_made(cli, folder, tmp_path, monkeypatch):
    """No network is loaded for it, hence nothing compiled."""
    monkeypatch.setattr("laegd.cli.plan.make_solvers", lambda *_: pytest.fail("loaded"))
    document = json.loads((folder / "a.json").read_text())
    document["channel"]["bandwidth_hz"] = 10.0
    for user in document["users"]:
        user["capacity_flops"] = 1e8
    (folder / "a.json").write_text(json.dumps(document))
    code, out, err = cli(folder / "a.json", "--method", "gadsg", "--out", tmp_path / "plan.json")
    assert (code, out) == (3, "") and "bandwidth_hz of channel is 10; usual are" in err
    assert "u0, u1, u2, u3, u4, u5 cannot be served (rate): the " in err and err.count("cannot be served") == 1


def test_memory_limit_reaches_the_proof(cli, folder, tmp_path, monkeypatch):
    """In MiB on the command line, in bytes in the search."""
    monkeypatch.setattr("laegd.solvers.exact.memory_of_machine", lambda: pytest.fail("asked the machine"))
    command = (folder / "a.json", "--memory-limit-mib", 300, "--out", tmp_path / "plan.json")
    assert "certified gap 0.0000 %" in cli(*command)[1]
    with pytest.raises(pytest.fail.Exception, match="asked the machine"):
        cli(folder / "a.json", "--out", tmp_path / "other.json")


def test_certifying_is_told_apart_and_can_be_left_out(cli, folder, tmp_path):
    """mcmf proves nothing: its gap and the time of it stand in the line, or neither."""
    command = (folder / "a.json", "--method", "mcmf", "--out", tmp_path / "plan.json")
    assert ", certified in " in cli(*command)[1]
    _, out, _ = cli(*command, "--certify", "none")
    assert "gap unknown" in out and "certified" not in out and "planned in " in out


def test_progress_is_told_by_every_solver():
    """After each instance: how many are done, and of how many."""
    drawn = draw(ScenarioConfig(), Scale.parse("gs2_gu4_au2"), 2, np.random.default_rng(3))
    instances = [Instance.from_scenario(drawn.scenario(i)) for i in range(2)]
    for solver in (RandomExecution(), MCMFSolver()):
        told = []
        solver.solve(instances, progress=lambda *now, told=told: told.append(now))
        assert told == [(1, 2, ""), (2, 2, "")]
