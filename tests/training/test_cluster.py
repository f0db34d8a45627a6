"""Several processes as one job: they train and compare like one, end together, and notice who is stuck or lost."""

import csv
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from test_loop import final_state

from laegd.cli import main
from laegd.training.cluster import Cluster, part, share, start, together

CALL = """
# What the transport's threads write to descriptor 1 comes in pieces, mixed among each other: away with it.
import os, sys
sys.stdout = open(os.dup(1), "w")
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
import laegd.cli.console; laegd.cli.console.SECONDS_BETWEEN_LINES = float("inf")
from laegd.cli import main; main()
"""
STEPS = 100


def free_port():
    """Returns a port on which nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def begin(*arguments, processes=2, devices=2, options=lambda rank: ()):
    """Starts a command as several processes with virtual devices; options(rank): more of one process's arguments."""
    address = f"127.0.0.1:{free_port()}"
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)}
    started = []
    for rank in range(processes):
        flags = ("--coordinator", address, "--num-processes", processes, "--process-id", rank) if processes > 1 else ()
        command = [sys.executable, "-c", CALL, *map(str, (*arguments, *flags, *options(rank)))]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen(command, env=environment, text=True, **pipes))
    return started


def end(processes):
    """Waits for all; returns code, what Python printed, and errors of each."""
    ends = []
    for process in processes:
        out, err = process.communicate(timeout=400)
        ends.append((process.returncode, out, err))
    return ends


def wait_for(condition, processes):
    """Waits until something holds while all processes live."""
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline and all(process.poll() is None for process in processes)
        time.sleep(0.05)


def losses(workdir):
    """Returns the loss of every step."""
    return [json.loads(line)["loss"] for line in (workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def command(tiny_toml, data_root):
    """A training of 100 steps with two validations."""
    settings = ("--set", f"training.steps={STEPS}", "--set", "training.validate_every=50")
    return lambda workdir: ("train", "--config", tiny_toml, "--workdir", workdir, "--data", data_root, *settings)


@pytest.fixture(scope="module")
def alone(command, tmp_path_factory):
    """The run of one process with one device."""
    workdir = tmp_path_factory.mktemp("alone")
    ((code, _, err),) = end(begin(*command(workdir), processes=1, devices=1))
    assert (code, err) == (0, "")
    return workdir


@pytest.mark.slow
def test_two_processes_train_like_one(alone, command, tmp_path):
    """Two times two devices, labels made together: every array of parameters after 100 steps to 1e-5 of its norm.

    Rank 0 alone prints, once.
    """
    arguments = [str(argument) for argument in command(tmp_path / "run")]
    arguments[arguments.index("--data") + 1] = str(tmp_path / "data")
    (code, out, err), (other_code, other_out, other_err) = end(begin(*arguments))
    assert (code, other_code, err, other_err, other_out) == (0, 0, "", "", "")
    first, last = out.splitlines()
    assert first.startswith("processes: 2, each with 2 x cpu (coordinator 127.0.0.1:") and "step 100;" in last
    theirs, ours = final_state(alone, None), final_state(tmp_path / "run", None)
    for our_array, their_array in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert np.linalg.norm(our_array - their_array) <= 1e-5 * np.linalg.norm(their_array)
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(alone), rtol=1e-5)


@pytest.mark.slow
def test_run_goes_on_with_another_number_of_devices(alone, command, tmp_path):
    """SIGTERM to one of two processes: both save the same step, code 75; one device takes the rest: the same losses."""
    processes = begin(*command(tmp_path))
    wait_for(lambda: (tmp_path / "metrics.jsonl").exists() and len(losses(tmp_path)) >= 20, processes)
    processes[1].send_signal(signal.SIGTERM)
    (code, _, err), (other_code, _, other_err) = end(processes)
    assert (code, other_code) == (75, 75)
    stopped = int(err.split("stopped at step ")[1].split(";")[0])
    assert f"rank 1: stopped at step {stopped};" in other_err and 20 <= stopped <= 50
    assert (tmp_path / f"checkpoints/{stopped}").is_dir()
    ((code, _, err),) = end(begin(*command(tmp_path), processes=1, devices=1))
    assert (code, err) == (0, "")
    np.testing.assert_allclose(losses(tmp_path), losses(alone), rtol=1e-5)
    assert len(losses(tmp_path)) == STEPS >= stopped + 50


@pytest.mark.slow
@pytest.mark.parametrize(
    "number, noticed",
    [(signal.SIGSTOP, "to go on within 100 s"), (signal.SIGKILL, "to (go on within|compute and)")],
    ids=["held", "killed"],
)
def test_stuck_or_lost_process_is_noticed(command, tmp_path, number, noticed):
    """Rank 1 is held, or killed; rank 0 ends within the time set, with code 4 and one line that says what to do.

    A killed one is noticed by its closed connection, but where that is overlooked, by the time.
    """
    processes = begin(*command(tmp_path), "--stuck-after-s", 100)  # compiling counts
    wait_for(lambda: (tmp_path / "metrics.jsonl").exists() and len(losses(tmp_path)) >= 3, processes)
    processes[1].send_signal(number)
    began = time.monotonic()
    ((code, _, err),) = end(processes[:1])
    processes[1].kill()
    assert (code, time.monotonic() - began < 160) == (4, True), err
    assert err.count("\n") == 1 and "same command again" in err
    assert re.search(f"Expected all 2 processes {noticed}", err)


@pytest.mark.slow
def test_late_process_is_waited_for(command, tmp_path):
    """Rank 1 is held before the first step for longer than Gloo's own patience of 30 s; both end well."""
    processes = begin(*command(tmp_path))
    wait_for((tmp_path / "metrics.jsonl").exists, processes)
    processes[1].send_signal(signal.SIGSTOP)
    time.sleep(40)
    processes[1].send_signal(signal.SIGCONT)
    assert [(code, err) for code, _, err in end(processes)] == [(0, "")] * 2
    assert len(losses(tmp_path)) == STEPS


def test_failed_exchange_ends_with_a_line(monkeypatch, capsys):
    """What the runtime says of it, and what to do; code 4. Alone, and where the error is another, nothing is hidden."""
    error = jax.errors.JaxRuntimeError("UNKNOWN: Connection closed by peer\nmore")

    def fail(error):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("laegd.training.cluster.num_processes", lambda: 2)
        patch.setattr("laegd.cli.commands.parse", lambda arguments: lambda: fail(error))
        with pytest.raises(SystemExit) as end:
            main([])
        said = capsys.readouterr().err
        assert end.value.code == 4 and said.count("\n") == 1
        assert "got: UNKNOWN: Connection closed by peer. " in said and "same command again" in said
        patch.setattr("laegd.cli.commands.parse", lambda arguments: lambda: fail(RuntimeError("a mistake")))
        with pytest.raises(RuntimeError, match="a mistake"):
            main([])
    monkeypatch.setattr("laegd.cli.commands.parse", lambda arguments: lambda: fail(error))
    with pytest.raises(jax.errors.JaxRuntimeError):
        main([])


@pytest.mark.parametrize("exchange", [share, together])
def test_error_that_names_a_strange_path_reaches_the_others(monkeypatch, exchange):
    """A path need not be UTF-8; were its error not sent, the other ranks would wait for it."""
    sent = []
    monkeypatch.setattr("laegd.training.cluster.num_processes", lambda: 2)
    monkeypatch.setattr("laegd.training.cluster.gather", lambda content: sent.append(content) or [content, b""])

    def fail():
        raise ValueError(f"{os.fsdecode(b'run-' + bytes([0xFF]))}: Expected a folder")

    with pytest.raises(ValueError, match=r"run-.*: Expected a folder"):
        exchange(fail)
    assert sent[0].removeprefix(b"-") == rb"run-\udcff: Expected a folder"


@pytest.mark.slow
def test_bad_input_ends_all_processes_with_one_line(alone, command, tmp_path):
    """Another run's settings, found by rank 0, which tells the user; rank 1 ends with it and is silent."""
    before = sorted(path.name for path in alone.iterdir())
    (code, _, err), (other_code, _, other_err) = end(begin(*command(alone), "--set", "training.seed=5"))
    assert (code, other_code, other_err) == (2, 2, "")
    assert err.count("\n") == 1 and "other settings: training.seed = 0 there, 5 here" in err
    assert sorted(path.name for path in alone.iterdir()) == before


@pytest.mark.slow
@pytest.mark.parametrize("sweep", [False, True], ids=["evaluate", "sweep"])
def test_two_processes_compare_like_one(run, tmp_path, sweep):
    """Over four shards, one process stopped and gone on with: rows equal in all but times."""
    data = tmp_path / "data"
    begin("generate", "--scale", "gs2_gu4_au2", "--count", 900, "--seed", 5, "--out", data, processes=1)[0].wait()
    sources = ("--checkpoint", run)
    methods = "mcmf,re" if sweep else "gadsg,mcmf,re"
    command = ("sweep" if sweep else "evaluate", *sources, "--data", data, "--methods", methods, "--out")
    tables = []
    for processes in (1, 2):
        out = tmp_path / f"{processes}.json"
        ends = end(begin(*command, out, processes=processes))
        assert [(code, err) for code, _, err in ends] == [(0, "")] * processes
        assert ends[-1][1] == "" or processes == 1
        tables.append([line.rsplit(",", 2 if sweep else 1)[0] for line in out.with_suffix(".csv").open()])
    assert tables[0] == tables[1] and len(tables[0]) == 1 + 3 * 900
    assert not list(tmp_path.glob("*.partial*"))


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A data set of eight shards."""
    folder = tmp_path_factory.mktemp("many") / "data"
    arguments = ("--scale", "gs2_gu4_au2", "--count", 2000, "--labels", "mcmf", "--seed", 5, "--out", folder)
    end(begin("generate", *arguments, processes=1))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("sweep", [False, True], ids=["evaluate", "sweep"])
def test_signal_to_one_ends_a_comparison_on_all(run, many, tmp_path, sweep):
    """SIGTERM to rank 1: both answer it between the same shards, code 75; what was solved stands in the end."""
    sources = ("--checkpoint", run)
    methods = "mcmf,re" if sweep else "gadsg,mcmf,re"
    out, kept = tmp_path / "r.json", tmp_path / "r.partial.jsonl"
    command = ("sweep" if sweep else "evaluate", *sources, "--data", many, "--methods", methods, "--out", out)
    processes = begin(*command)
    wait_for(lambda: kept.exists() and kept.read_bytes().count(b"\n") >= 3, processes)
    processes[1].send_signal(signal.SIGTERM)
    (code, _, err), (other_code, other_out, other_err) = end(processes)
    assert (code, other_code, other_out) == (75, 75, "")
    assert err.count("\n") == 1 and other_err.count("\n") <= 1 and "Traceback" not in err + other_err
    lines = kept.read_text().splitlines()
    assert 3 <= len(lines) < 1 + 3 * 8 and len(lines) % 2 == 1
    assert [code for code, _, _ in end(begin(*command))] == [0, 0]
    with out.with_suffix(".csv").open() as table:
        seconds = [row["seconds"] for row in csv.DictReader(table)]
    first = json.loads(lines[1])["seconds"]
    assert len(seconds) == 3 * 2000 and {f"{value:.6g}" for value in first} <= {*seconds}


@pytest.mark.slow
def test_damaged_shard_ends_all_processes(many, tmp_path):
    """Rank 1 meets it and says so in one line; rank 0, which reads others, ends with it, not by the watchdog."""
    data = tmp_path / "data"
    shutil.copytree(many, data)
    content = bytearray((data / "shard-00001.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (data / "shard-00001.npz").write_bytes(content)
    began = time.monotonic()
    command = ("evaluate", "--data", data, "--methods", "mcmf,re", "--out", tmp_path / "r.json")
    (code, _, err), (other_code, _, other_err) = end(begin(*command, "--stuck-after-s", 300))
    assert (code, other_code) == (2, 2) and time.monotonic() - began < 200
    assert err + other_err == "".join(line for line in (err + other_err).splitlines(True) if "shard-00001" in line)
    assert (err + other_err).count("\n") == 1
    assert not (tmp_path / "r.json").exists()


BAD = [
    (dict(num_processes=2), "--num-processes: Expected it beside --coordinator HOST:PORT, got 2"),
    (dict(process_id=1), "--process-id: Expected it beside --coordinator HOST:PORT, got 1"),
    (dict(coordinator="host:1"), "--coordinator: Expected --num-processes and --process-id beside it, got host:1"),
    (dict(coordinator="host:1", num_processes=2), "--coordinator: Expected .* --process-id beside it"),
    (dict(coordinator="host"), "--coordinator: Expected HOST:PORT, slurm or auto, got 'host'"),
    (dict(coordinator="host:x"), "--coordinator: Expected HOST:PORT"),
    (dict(coordinator="host:99999"), "--coordinator: Expected HOST:PORT"),
    (dict(coordinator="host:1", num_processes=2, process_id=2), "--process-id: Expected a rank from 0 to 1, got 2"),
    (dict(coordinator="host:1", num_processes=0, process_id=0), "--num-processes: Expected at least 1, got 0"),
    (dict(stuck_after_s=0.0), "--stuck-after-s: Expected a number above 0, at most 1e.06, got 0.0"),
]


@pytest.mark.parametrize("settings, message", BAD)
def test_bad_flags_are_named(settings, message):
    """Each with its value and what to give."""
    with pytest.raises(ValueError, match=message):
        Cluster(**settings)


def test_one_task_of_slurm_is_alone():
    """So is a process in a batch script, where variables of a step are missing."""
    step = {
        "SLURM_JOB_ID": "7",
        "SLURM_STEP_NODELIST": "n",
        "SLURM_NTASKS": "1",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
    }
    assert start(Cluster(), step) is None
    assert start(Cluster(), {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4"}) is None


def test_alone_all_is_this_process_s():
    """The whole of a sequence is its part, and what it reads it has."""
    assert part(7) == slice(0, 7) and share(lambda: b"content") == b"content"
