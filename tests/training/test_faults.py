"""Storage that fails: damaged checkpoints, full and read-only disks, locks, clocks; nothing is lost, and it is said."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
import tensorstore
from checks import missing
from test_loop import assert_equal, final_state

from laegd.cli import main
from laegd.evaluation.gadsg import load
from laegd.scenario.files import locked
from laegd.training import checkpoint
from laegd.training.checkpoint import Checkpoints
from laegd.training.loop import train
from laegd.training.meta import state_of
from laegd.training.step import TrainState


@pytest.fixture(scope="module")
def config():
    """Six steps, a checkpoint after every second one."""
    from runs import TINY_VALIDATED

    return TINY_VALIDATED


@pytest.fixture(scope="module")
def whole(validated_run):
    """The undisturbed run."""
    return validated_run


@pytest.fixture(scope="module")
def ended_early(config, data_root, once):
    """The same run, ended after step 4."""

    def interrupt(progress):
        if progress.stage == "train" and progress.done == 3:
            os.kill(os.getpid(), signal.SIGINT)

    def make(folder):
        assert train(config, folder, data_root, interrupt).step == 4

    return once("runs/ended-early", make)


@pytest.fixture
def halted(ended_early, tmp_path):
    """A copy of it to damage and to go on with."""
    return shutil.copytree(ended_early, tmp_path / "run")


def flip(path):
    """Turns one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1 << 3
    path.write_bytes(content)


def truncate(path):
    """Cuts a file to half its length."""
    os.truncate(path, path.stat().st_size // 2)


def seal_anew(folder):
    """Writes the digests that the checkpoints of a run now have."""
    for digest in folder.glob("checkpoints/*.sha256"):
        digest.write_text(checkpoint._digest(digest.with_suffix("")))


DAMAGES = [
    ("state/ocdbt.process_0/d/*", flip),
    ("params/ocdbt.process_0/d/*", truncate),
    ("meta/metadata", flip),
    ("metrics/metrics", truncate),
    ("state/_METADATA", os.unlink),
]


@pytest.mark.parametrize("file, damage", DAMAGES, ids=[file for file, _ in DAMAGES])
def test_damaged_checkpoint_is_put_aside_and_the_one_before_used(halted, config, data_root, whole, file, damage):
    """Said in one warning that names both; the run then ends as if nothing had been."""
    damage(max((halted / "checkpoints/4").glob(file), key=lambda path: path.stat().st_size))
    with pytest.warns(
        RuntimeWarning, match=r"checkpoints/4: Expected a whole checkpoint, got damage.* Step 2, the one"
    ):
        assert train(config, halted, data_root).step == 6
    assert [path.name.split("-")[0] for path in (halted / "damaged").iterdir()] == ["4"]
    assert_equal(final_state(whole, config), final_state(halted, config))
    assert (whole / "metrics.jsonl").read_text() == (halted / "metrics.jsonl").read_text()


def exchange(params):
    """Puts the parameters of the step before in the place of these."""
    shutil.rmtree(params)
    shutil.copytree(params.parents[1] / "2/params", params)


UNSEALED_DAMAGES = [
    ("state/d/*", truncate),
    ("params/d/*", truncate),
    ("meta/metadata", truncate),
    ("state/_METADATA", os.unlink),
    ("params", exchange),
]


@pytest.mark.parametrize("file, damage", UNSEALED_DAMAGES, ids=[file for file, _ in UNSEALED_DAMAGES])
def test_damage_is_found_where_a_crash_came_before_the_digest(halted, file, damage):
    """The step is read to its end before it gets a digest; the one before it is used, to go on and to plan."""
    (halted / "checkpoints/4.sha256").unlink()
    damage(max((halted / "checkpoints/4").glob(file), key=lambda path: path.stat().st_size))
    with pytest.warns(RuntimeWarning, match="checkpoints/4: Expected a whole checkpoint.* Step 2, the one"):
        assert load(halted, "last").loaded.step == 2
    with pytest.warns(RuntimeWarning, match=r"checkpoints/4: Expected a whole checkpoint.* It was moved to"):
        assert Checkpoints.create(halted).last_step() == 2
    assert [path.name.split("-")[0] for path in (halted / "damaged").iterdir()] == ["4"]
    assert not (halted / "checkpoints/4.sha256").exists()


def test_whole_step_gets_the_digest_that_a_crash_kept_from_it(halted):
    """It is the one that it would have had."""
    digest = halted / "checkpoints/4.sha256"
    before = digest.read_text()
    digest.unlink()
    assert Checkpoints.create(halted).last_step() == 4
    assert digest.read_text() == before


@pytest.mark.parametrize(
    "claim, message",
    [
        (
            {"shape": [2**45], "chunks": [2**20]},
            r"\['head_out'\]\['bias'\]: Expected shape \(3,\), got \(35184372088832,\)",
        ),
        ({"chunks": [2**45]}, r": Expected chunks no larger than an array, got \(35184372088832,\)"),
        ({"dtype": "<f8"}, r"\['head_out'\]\['bias'\]: Expected type float32, got 'float64'"),
    ],
    ids=["array", "chunk", "type"],
)
def test_declared_size_of_a_checkpoint_fills_no_memory(halted, claim, message):
    """An array that says it has terabytes is refused by its header, in parameters to plan with and in a state."""
    for item, name in (("params", "head_out.bias"), ("state", "ema_params.head_out.bias")):
        spec = {"driver": "ocdbt", "base": f"file://{halted}/checkpoints/4/{item}/"}
        store = tensorstore.KvStore.open(spec).result()
        header = json.loads(store[f"{name}/.zarray"]) | claim
        store[f"{name}/.zarray"] = json.dumps(header).encode()
    seal_anew(halted)
    with pytest.raises(ValueError, match="params" + message):
        load(halted, "last")
    checkpoints = Checkpoints(halted)
    config, _ = checkpoints.about(4)
    with pytest.raises(ValueError, match=r"state(\['ema_params'\])?" + message):
        checkpoints.restore(state_of(config))


NUMBER = "9" * 400  # a float has 309 digits
NESTED = "[" * 100_000 + "]" * 100_000
HOSTILE = {
    "ratio of 400 digits": ("metrics/metrics", lambda text: f'{{"ratio": {NUMBER}}}'),
    "ratio in brackets": ("metrics/metrics", lambda text: f'{{"ratio": {NESTED}}}'),
    "meta in brackets": ("meta/metadata", lambda text: NESTED),
    "meta is a list": ("meta/metadata", lambda text: "[]"),
    "no config": ("meta/metadata", lambda text: text.replace('"config"', '"other"')),
    "no normalisation": ("meta/metadata", lambda text: text.replace('"normalisation"', '"other"')),
    "mean of 400 digits": ("meta/metadata", lambda text: text.replace('"node_mean": [0', f'"node_mean": [{NUMBER}')),
}


@pytest.mark.parametrize("file, change", HOSTILE.values(), ids=HOSTILE.keys())
def test_stranger_s_run_is_refused_in_one_line(run, tiny_toml, data_root, tmp_path, capsys, file, change):
    """Whoever writes nonsense can also write its digest; to go on and to plan both end with code 2, no traceback."""
    folder = shutil.copytree(run, tmp_path / "run")
    path = folder / "checkpoints/6" / file
    assert path.read_text() != change(path.read_text())
    path.write_text(change(path.read_text()))
    seal_anew(folder)
    train_it = ["train", "--config", str(tiny_toml), "--workdir", str(folder), "--data", str(data_root)]
    for command in (train_it, ["pack", str(folder), "--out", str(tmp_path / "out.npz")]):
        with pytest.raises(SystemExit) as end:
            main(command)
        said = capsys.readouterr().err
        assert end.value.code == 2 and said.count("\n") == 1 and f"{folder}/checkpoints" in said, said


def test_network_is_loaded_from_a_whole_checkpoint(halted):
    """Where the one asked for is damaged, another plans, and it is said; nothing is moved."""
    flip(max((halted / "checkpoints/4").rglob("d/*"), key=lambda path: path.stat().st_size))
    with pytest.warns(RuntimeWarning, match="checkpoints/4: .*Step 2, the one before it, is used"):
        assert load(halted, "last").loaded.step == 2
    assert (halted / "checkpoints/4").is_dir()


def test_run_without_a_whole_checkpoint_is_refused(halted, config, data_root):
    """It neither begins anew nor deletes anything."""
    for step in (2, 4):
        truncate(halted / f"checkpoints/{step}/meta/metadata")
    before = sorted(halted.rglob("*"))
    for call in (lambda: train(config, halted, data_root), lambda: load(halted)):
        with pytest.raises(ValueError, match=r"got damage in every one: \[2, 4\]. Restore them"):
            call()
    assert sorted(halted.rglob("*")) == before


def test_parameters_that_are_not_finite_are_never_saved(halted):
    """The error names the parameter and the last good checkpoint, which stays."""
    checkpoints = Checkpoints(halted)
    params = {"layer": np.array([1.0, np.nan], np.float32)}
    state = TrainState(np.int32(5), params, params, ())
    with pytest.raises(FloatingPointError, match=r"nan or inf in \.params\['layer'\] at step 5.*checkpoint is step 4"):
        checkpoints.save(state, {}, 1.0)
    assert Checkpoints(halted).last_step() == 4


def test_full_disk_keeps_the_checkpoint_before(halted, config, data_root, whole, monkeypatch):
    """The next run goes on from it and ends as if nothing had been."""
    usage = shutil.disk_usage(halted)
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda folder: usage._replace(free=1000))
    with pytest.raises(ValueError, match=r"No space left on device\. Free space and run again: it goes on from step 4"):
        train(config, halted, data_root)
    monkeypatch.undo()
    assert load(halted, "last").loaded.step == 4
    train(config, halted, data_root)
    assert_equal(final_state(whole, config), final_state(halted, config))


@pytest.fixture
def small_disk(tmp_path):
    """Mounts and remounts a file system in memory with options; skipped where that is not allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options):
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "laegd-test", folder], capture_output=True)
        if done.returncode and "remount" not in options:
            missing("MOUNT", f"needs the right to mount: {done.stderr.decode().strip()}")
        assert done.returncode == 0, done.stderr
        return folder

    yield mount
    subprocess.run(["umount", folder], capture_output=True)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_real_full_disk_and_read_only_disk(small_disk, config, data_root, whole):
    """A disk with room for one checkpoint fills up; read-only it is refused; with room the run ends as it should."""
    two = sum(path.stat().st_blocks * 512 for path in whole.rglob("*"))
    size = f"size={two * 3 // 2}"  # while one is written, it lies there twice
    workdir = small_disk(size) / "run"
    with pytest.raises(ValueError, match="Expected room for a checkpoint, got: No space left on device"):
        train(config, workdir, data_root)
    kept = Checkpoints(workdir).last_step()
    assert kept in (2, 4)
    small_disk(f"remount,ro,{size}")
    with pytest.raises(ValueError, match=f"{workdir}: Expected a writable folder, got: Read-only file system. Choose"):
        train(config, workdir, data_root)
    small_disk("remount,rw,size=50m")
    assert Checkpoints(workdir).last_step() == kept
    assert train(config, workdir, data_root).step == 6
    assert_equal(final_state(whole, config), final_state(workdir, config))


def test_two_jobs_in_one_folder_are_told_apart(halted, config, data_root):
    """The second is refused, told who works there; after the first has ended, however, it may."""
    hold = "import sys, time, pathlib; from laegd.scenario.files import locked\n"
    hold += "with locked(pathlib.Path(sys.argv[1]), ''): print('held', flush=True); time.sleep(300)"
    command = [sys.executable, "-c", hold, str(halted / "lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        before = sorted(halted.rglob("*"))
        with pytest.raises(ValueError, match=rf"got process {other.pid} of .*\. Wait until it ends, end it, or name"):
            train(config, halted, data_root)
        assert sorted(halted.rglob("*")) == before
        other.kill()
    assert (halted / "lock").exists()  # stale: it locks no one out
    assert train(config, halted, data_root).step == 6
    assert not (halted / "lock").exists()


def test_lock_is_taken_again_by_the_same_process(tmp_path):
    """It is let go at the end of the block, also where that raises."""
    for _ in range(2):
        with pytest.raises(KeyError), locked(tmp_path / "lock", ""):
            raise KeyError
    assert not list(tmp_path.iterdir())


def test_lock_keeps_others_out_and_lets_all_pass_where_there_are_none(tmp_path, monkeypatch):
    """By any second file descriptor, of this process too; on a network file system that knows no locks nobody waits."""
    with locked(tmp_path / "lock", ""):
        with pytest.raises(ValueError, match=f"got process {os.getpid()} of "), locked(tmp_path / "lock", ""):
            pass
        assert (tmp_path / "lock").exists()
    for number in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):

        def refuse(file, blocking, number=number):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr("filelock.lock_descriptor", refuse)
        with locked(tmp_path / "lock", ""), locked(tmp_path / "lock", ""):
            pass


@pytest.mark.parametrize("name", ["lock", "metrics.jsonl"])
@pytest.mark.parametrize("exists", [True, False], ids=["link", "dangling link"])
def test_link_in_a_run_folder_is_not_followed(halted, config, data_root, tmp_path, name, exists):
    """In a stranger's folder it could lead to any file: that is neither made nor changed, and what to do is said."""
    target = tmp_path / "mine"
    if exists:
        target.write_text("mine\n")
    (halted / name).unlink(missing_ok=True)
    (halted / name).symlink_to(target)
    with pytest.raises(ValueError, match=rf"{halted}/{name}: Expected a file of its own, got a link.*Delete the link"):
        train(config, halted, data_root)
    assert target.read_text() == "mine\n" if exists else not target.exists()


def test_pipe_in_a_run_folder_is_not_waited_for(halted, config, data_root):
    """Reading it would never end."""
    (halted / "metrics.jsonl").unlink()
    os.mkfifo(halted / "metrics.jsonl")
    with pytest.raises(ValueError, match=r"metrics\.jsonl: Expected a file, got a pipe or a device\. Delete it"):
        train(config, halted, data_root)


def test_metrics_of_something_else_are_left_alone(config, data_root, tmp_path):
    """A folder without a run of ours may hold another program's file of that name."""
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1, "acc": 0.5}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl: Expected the metrics of a run, got another file\. Name"):
        train(config, tmp_path, data_root)
    assert (tmp_path / "metrics.jsonl").read_text() == '{"epoch": 1, "acc": 0.5}\n'


def test_clock_that_jumps_back_changes_nothing(halted, config, data_root, whole, monkeypatch):
    """Ten years back between two checkpoints: the newer one is still the one to go on from."""
    now, now_ns = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: now() - 3e8)
    monkeypatch.setattr(time, "time_ns", lambda: now_ns() - 3 * 10**17)
    for path in halted.rglob("*"):
        os.utime(path, (now(), now()))
    assert train(config, halted, data_root).step == 6
    monkeypatch.undo()
    assert_equal(final_state(whole, config), final_state(halted, config))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(halted, "last").loaded.step == 6


def test_digest_is_of_every_file(halted):
    """A byte more or less, another name, another file: each makes another digest."""
    step = halted / "checkpoints/4"
    seen = {checkpoint._digest(step)}
    for change in (lambda: (step / "new").write_bytes(b"x"), lambda: (step / "new").write_bytes(b"xy")):
        change()
        seen.add(checkpoint._digest(step))
    (step / "new").rename(step / "other")
    seen.add(checkpoint._digest(step))
    assert len(seen) == 4
