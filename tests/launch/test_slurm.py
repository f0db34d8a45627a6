"""The Slurm scripts at work, in the Slurm that SLURM_CONF names: `eval "$(.ci/slurm start DIR)"` starts one."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from checks import missing

from laegd.cli import main
from laegd.training.checkpoint import Checkpoints

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "launch/slurm"
PATIENCE_S = 600.0  # what hangs, hangs longer; two slow cores with much else to do need minutes for a job
# By number of tasks: enough to be interrupted between the first and the last. Two tasks take longer for a step.
STEPS = {1: 200, 2: 60}


def slurm_is_up():
    if not shutil.which("sbatch"):
        return False
    return bool(subprocess.run(["sinfo", "--noheader"], capture_output=True, text=True).stdout)


@pytest.fixture(autouse=True, scope="module")
def slurm():
    """Fails or skips where there is no Slurm."""
    if not slurm_is_up():
        missing("SLURM", "no Slurm: .ci/slurm start DIR")


@pytest.fixture
def folder(tmp_path, tiny_toml):
    """Where jobs run: the small run's settings lie there."""
    shutil.copy(tiny_toml, tmp_path / "tiny.toml")
    return tmp_path


def call(folder, *command, **variables):
    """Runs a command in the folder; jobs see this checkout first."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)} | variables
    done = subprocess.run(
        [str(word) for word in command], cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def submit(folder, *arguments):
    return call(folder, "sbatch", "--parsable", "--cpus-per-task=1", *arguments).strip()


def training(data_root, steps):
    """Arguments of sbatch for a training of that many steps."""
    return (SCRIPTS / "train.sh", "tiny.toml", "run", "--data", data_root, "--set", f"training.steps={steps}")


def job(number):
    """What Slurm knows of a job: a dictionary of its fields."""
    line = subprocess.run(["scontrol", "--oneliner", "show", "job", number], capture_output=True, text=True).stdout
    return dict(field.partition("=")[::2] for field in line.splitlines()[0].split())


def wait_for(holds, what, number):
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end, f"job {number}: {what} did not come within {PATIENCE_S:.0f} s; {job(number)}"
        time.sleep(0.1)


def has_ended(number):
    return job(number)["JobState"] not in ("PENDING", "RUNNING", "COMPLETING")


def wait_for_end(number, folder):
    """Waits until the job has ended; says its log where it did not end well."""
    wait_for(lambda: has_ended(number), "the end", number)
    logs = "\n".join(path.read_text() for path in folder.glob("slurm-*.out"))
    assert job(number)["JobState"] == "COMPLETED", logs


def parameters(run):
    """Step and parameters of a run's last checkpoint."""
    checkpoints = Checkpoints(run)
    loaded = checkpoints.load("last")
    checkpoints.close()
    return loaded.step, loaded.params


def assert_equal(ours, theirs):
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_chain_labels_trains_and_evaluates(folder, data_root, run):
    """An array of three labels a data set, training and evaluation follow; all is as made without Slurm."""
    options = dict.fromkeys(("GENERATE_OPTIONS", "TRAIN_OPTIONS", "EVALUATE_OPTIONS"), "--cpus-per-task=1")
    arguments = ("tiny.toml", "run", "gs2_gu4_au2", 600, 9, "test", "results.json", "--data", data_root)
    out = call(folder, SCRIPTS / "chain.sh", *arguments, PARTS="3", **options)
    words = out.replace(",", "").split()
    assert words[::2] == ["generate", "train", "evaluate"]
    labels, training, evaluation = words[1::2]
    wait_for_end(evaluation, folder)

    main(["generate", "--scale", "gs2_gu4_au2", "--count", "600", "--seed", "9", "--out", str(folder / "whole")])
    names = {path.name for path in (folder / "whole").iterdir()}
    assert len(names) == 4 and names == {path.name for path in (folder / "test").iterdir()}  # 3 shards, the manifest
    for name in names:
        assert (folder / "test" / name).read_bytes() == (folder / "whole" / name).read_bytes()
    logs = [(folder / f"slurm-{labels}_{part}.out").read_text() for part in (1, 2, 3)]
    assert any("complete" in log for log in logs)

    step, ours = parameters(folder / "run")
    assert step == 6
    assert_equal(ours, parameters(run)[1])
    assert f"step {step}" in (folder / f"slurm-{training}.out").read_text()

    results = json.loads((folder / "results.json").read_text())
    ratios = {row["method"]: row["mean_ratio"] for row in results["results"]}
    assert ratios["exact"] == pytest.approx(1) and 1 < ratios["gadsg"] < ratios["re"]
    assert len((folder / "results.csv").read_text().splitlines()) == 1 + 600 * len(ratios)


def test_chain_ends_where_a_part_fails(folder):
    """Labels of a bad scale fail with exit code 2; what waits for them is removed, not left to wait in vain."""
    options = dict.fromkeys(("GENERATE_OPTIONS", "TRAIN_OPTIONS", "EVALUATE_OPTIONS"), "--cpus-per-task=1")
    arguments = ("tiny.toml", "run", "no_scale", 600, 9, "test", "results.json")
    out = call(folder, SCRIPTS / "chain.sh", *arguments, PARTS="2", **options)
    labels, training, evaluation = out.replace(",", "").split()[1::2]
    for number in (training, evaluation):
        wait_for(lambda number=number: job(number)["JobState"] == "CANCELLED", "the end", number)
    assert job(f"{labels}_1")["ExitCode"] == "2:0"
    assert not (folder / "run").exists()


def train_undisturbed(folder, data_root, tasks):
    """The same training by as many processes, in one go and without Slurm."""
    command = ["laegd", "train", "--config", "tiny.toml", "--workdir", "whole", "--data", data_root]
    command += ["--set", f"training.steps={STEPS[tasks]}"]
    call(folder, *([ROOT / "launch/processes.sh", tasks] if tasks > 1 else []), *command)
    return parameters(folder / "whole")


@pytest.mark.parametrize("tasks", [1, 2])
def test_terminated_training_is_requeued_and_ends_like_an_undisturbed_one(tasks, folder, data_root):
    """SIGTERM: all tasks save and leave with 75, the script has the job run again, the parameters are the same."""
    number = submit(folder, f"--ntasks={tasks}", *training(data_root, STEPS[tasks]))
    metrics, log = folder / "run/metrics.jsonl", folder / f"slurm-{number}.out"

    def steps():
        return len(metrics.read_text().splitlines()) if metrics.exists() else 0

    wait_for(lambda: steps() >= 2 or has_ended(number), "step 2", number)
    call(folder, "scancel", "--signal=TERM", number)
    wait_for(lambda: job(number)["Restarts"] == "1" or has_ended(number), "the requeue", number)
    wait_for(lambda: job(number)["JobState"] != "COMPLETING", "the end of the first part", number)
    assert job(number)["JobState"] == "PENDING", log.read_text()
    assert 2 <= parameters(folder / "run")[0] < STEPS[tasks]
    # Slurm would wait two minutes; in the second of the requeue itself it refuses the job.
    call(folder, "scontrol", "update", f"JobId={number}", "StartTime=now+3")
    wait_for_end(number, folder)

    text = log.read_text()
    left = re.findall(r"srun: error: \w+: tasks? ([\d-]+): Exited with exit code (\d+)", text)
    together, apart = ("0-1", "75"), [("0", "75"), ("1", "75")]  # as srun reports them, in the order in which they end
    assert left == apart[:1] if tasks == 1 else left == [together] or sorted(left) == apart, text
    assert text.count("\nprocesses:") + text.startswith("processes:") == (2 if tasks > 1 else 0)  # rank 0, twice
    step, ours = parameters(folder / "run")
    whole, theirs = train_undisturbed(folder, data_root, tasks)
    assert step == whole == steps() == STEPS[tasks]
    assert_equal(ours, theirs)


def test_cancelled_job_stays_cancelled(folder, data_root):
    """Who cancels a job means it: it is not requeued."""
    number = submit(folder, *training(data_root, STEPS[1]))
    wait_for(lambda: job(number)["JobState"] == "RUNNING", "the start", number)
    call(folder, "scancel", number)
    wait_for(lambda: job(number)["JobState"] == "CANCELLED", "the end", number)
    assert job(number)["Restarts"] == "0"
