"""Test set-up: CPU devices, run-time checks of shapes and types, and what several folders share."""

import atexit
import fcntl
import os
import shutil
import signal
import tempfile
from dataclasses import replace
from importlib.metadata import version

import pytest

# Several virtual CPU devices in one process hang on small machines unless XLA has more threads than there are cores.
os.environ.setdefault("NPROC", "16")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")

# Most of the time goes into compiling: programs that run for milliseconds need no optimising, and one compilation
# serves all workers and the processes that tests start.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_cpu_parallel_codegen_split_count=1"
    # XLA aborts at a flag that it does not know, and later ones do not know this one.
    + " --xla_cpu_use_fusion_emitters=false" * version("jaxlib").startswith("0.10."),
)
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="laegd-tests-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")
# Only the larger ones, as the command line does.
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

from jaxtyping import install_import_hook

install_import_hook("laegd", "beartype.beartype")

# As a user's shell starts commands, whatever starts the tests: one in the background ignores these.
for _signal in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
    if signal.getsignal(_signal) is signal.SIG_IGN:
        signal.signal(_signal, signal.default_int_handler if _signal is signal.SIGINT else signal.SIG_DFL)

pytest_plugins = ["soak"]


@pytest.fixture(autouse=True, scope="session")
def no_lines_of_progress():
    """Keeps a slow machine's progress out of standard error, which tests compare."""
    import laegd.cli.console

    laegd.cli.console.SECONDS_BETWEEN_LINES = float("inf")


@pytest.fixture(autouse=True, scope="module")
def no_programs_beyond_need():
    """Forgets compiled programs before they are too many for one process."""
    from laegd.training.parallel import forget_programs_near_limit

    forget_programs_near_limit()


@pytest.fixture
def clock(monkeypatch):
    """Time limits count CPU seconds, of which a busy machine takes none; `clock.sleep` moves the clock on by more."""
    import time

    ahead = 0.0

    def sleep(seconds):
        nonlocal ahead
        ahead += seconds

    monkeypatch.setattr(time, "perf_counter", lambda: time.process_time() + ahead)
    monkeypatch.setattr(time, "sleep", sleep)
    return time


@pytest.fixture
def cli(capsys):
    """Runs a command in this process; returns exit code, standard output and standard error."""
    from laegd.cli import main

    def call(*arguments):
        capsys.readouterr()
        try:
            main([str(argument) for argument in arguments])
            code = 0
        except SystemExit as end:
            code = end.code or 0
        return code, *capsys.readouterr()

    return call


@pytest.fixture(scope="session")
def once(tmp_path_factory, worker_id):
    """Has a folder made by the first worker of the session that asks for it; read only for all."""
    base = tmp_path_factory.getbasetemp()
    shared = (base if worker_id == "master" else base.parent) / "shared"

    def made(name, make):
        folder = shared / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (done := folder.with_suffix(".done")).exists():
                make(folder)
                done.touch()
        return folder

    return made


@pytest.fixture(scope="session")
def data_root(once):
    """Where the data sets of the small run lie."""
    from runs import TINY

    from laegd.training.loop import ensure_data

    def make(folder):
        for recipe in (*TINY.data.train, *TINY.data.validation):
            ensure_data(recipe, folder, lambda progress: None)

    return once("data", make)


@pytest.fixture
def tiny():
    """Settings of the small run, with changes to its training settings."""
    from runs import TINY

    return lambda **changes: replace(TINY, training=replace(TINY.training, **changes))


@pytest.fixture(scope="session")
def tiny_toml(tmp_path_factory):
    """The small run's settings as a file."""
    from runs import TINY_TOML

    path = tmp_path_factory.mktemp("config") / "tiny.toml"
    path.write_text(TINY_TOML)
    return path


@pytest.fixture(scope="session")
def run(once, data_root, tiny_toml):
    """Folder of the small run, trained once by the command line; read only."""
    from laegd.cli import main

    def make(folder):
        main(["train", "--config", str(tiny_toml), "--workdir", str(folder), "--data", str(data_root)])

    return once("runs/tiny", make)


@pytest.fixture(scope="session")
def validated_run(once, data_root):
    """The small run with a checkpoint after every second step; read only."""
    from runs import TINY_VALIDATED

    from laegd.training.loop import train

    return once("runs/validated", lambda folder: train(TINY_VALIDATED, folder, data_root))


@pytest.fixture(scope="session")
def grlo_run(once, data_root):
    """Folder of the small run of GRLO; read only."""
    from runs import TINY_GRLO

    from laegd.training.loop import train

    return once("runs/grlo", lambda folder: train(TINY_GRLO, folder, data_root))
