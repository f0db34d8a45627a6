"""kill -9 at thirty random moments: the same command goes on, and what it ends with is what an undisturbed run has."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from test_loop import assert_equal, final_state

CALL = """
import laegd.cli.console; laegd.cli.console.SECONDS_BETWEEN_LINES = float("inf")
from laegd.cli import main; main()
"""
MAX_KILLS = 2  # of one job


def begin(command):
    """Starts a command in a process of its own."""
    return subprocess.Popen([sys.executable, "-c", CALL, *map(str, command)], stdout=-3, stderr=subprocess.PIPE)


def finish(process):
    """Waits for a command that must end well and silently."""
    err = process.communicate(timeout=300)[1]
    assert (process.returncode, err) == (0, b"")


def killed_again_and_again(command, progress, total, rng):
    """Kills the command at random points of its progress, then lets it end; returns how often it was hit."""
    hits = 0
    for _ in range(rng.integers(1, MAX_KILLS + 1)):
        process = begin(command)
        threshold = rng.integers(progress(), total) if progress() < total else total
        while process.poll() is None and progress() <= threshold:
            time.sleep(0.002)
        time.sleep(rng.uniform(0.0, 0.15))  # a save takes about that long
        process.send_signal(signal.SIGKILL)
        process.communicate()
        hits += process.returncode == -signal.SIGKILL
    finish(begin(command))
    return hits


def lines(path):
    """Returns the number of whole lines of a file."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.fixture(scope="module")
def training(tiny_toml, data_root):
    """Sixty steps with a checkpoint after every third."""
    sets = [
        option
        for name, value in (("steps", 60), ("validate_every", 3))
        for option in ("--set", f"training.{name}={value}")
    ]
    return lambda workdir: ("train", "--config", tiny_toml, "--data", data_root, *sets, "--workdir", workdir)


@pytest.fixture(scope="module")
def trained(training, tmp_path_factory):
    """The run that nobody killed."""
    workdir = tmp_path_factory.mktemp("trained")
    finish(begin(training(workdir)))
    return workdir


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(14))
def test_killed_training_ends_like_an_undisturbed_one(training, trained, tmp_path, seed):
    """The same parameters bit for bit and the same metrics; no step was damaged, nothing temporary is left."""
    rng = np.random.default_rng([14, seed])
    metrics = tmp_path / "metrics.jsonl"
    assert killed_again_and_again(training(tmp_path), lambda: lines(metrics), 59, rng)
    assert_equal(final_state(trained, None), final_state(tmp_path, None))
    assert metrics.read_bytes() == (trained / "metrics.jsonl").read_bytes()
    left = {path.name for path in tmp_path.iterdir()} | {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert not {name for name in left if "tmp" in name} and not left & {"damaged", "lock"}


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(8))
def test_killed_generation_ends_with_the_same_bytes(tmp_path_factory, tmp_path, seed):
    """Of eight shards; every finished one is kept."""
    rng = np.random.default_rng([8, seed])
    command = (
        "generate",
        "--scale",
        "gs2_gu4_au2",
        "--count",
        2000,
        "--labels",
        "mcmf",
        "--workers",
        1 + seed % 2,
        "--out",
    )
    whole = tmp_path_factory.getbasetemp() / "killed-generation"
    if not (whole / "manifest.json").exists():
        finish(begin((*command, whole)))
    assert killed_again_and_again((*command, tmp_path), lambda: len(list(tmp_path.glob("shard-*.npz"))), 8, rng)
    for path in whole.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(8))
def test_killed_evaluation_ends_with_the_same_rows(run, tmp_path_factory, tmp_path, seed):
    """Of three methods on eight shards; equal in all but times."""
    rng = np.random.default_rng([88, seed])
    base = tmp_path_factory.getbasetemp() / "killed-evaluation"
    if not (base / "whole.csv").exists():
        generate = ("generate", "--scale", "gs2_gu4_au2", "--count", 2000, "--labels", "mcmf", "--out", base / "data")
        finish(begin(generate))
    command = ("evaluate", "--checkpoint", run, "--data", base / "data", "--methods", "gadsg,mcmf,re", "--out")
    if not (base / "whole.csv").exists():
        finish(begin((*command, base / "whole.json")))
    out = tmp_path / "r.json"
    assert killed_again_and_again((*command, out), lambda: lines(tmp_path / "r.partial.jsonl"), 24, rng)
    whole, ours = ([row.rsplit(",", 1)[0] for row in path.open()] for path in (base / "whole.csv", tmp_path / "r.csv"))
    assert whole == ours and len(ours) == 1 + 3 * 2000
    assert {path.name for path in tmp_path.iterdir()} == {"r.json", "r.csv"}
