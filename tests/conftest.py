"""Test set-up: CPU devices, run-time checks of shapes and types, and what several folders share."""

import atexit
import os
import shutil
import tempfile
from dataclasses import replace

import pytest

# Several virtual CPU devices in one process hang on small machines unless XLA has more threads than there are cores.
os.environ.setdefault("NPROC", "16")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")

# Most of the time goes into compiling the same programs again and again, in this process and in those that tests start.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="laegd-tests-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
# Only the larger ones, as the command line does.
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

from jaxtyping import install_import_hook

install_import_hook("laegd", "beartype.beartype")


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


@pytest.fixture(scope="session")
def data_root(tmp_path_factory):
    """Where the data sets lie; made once."""
    return tmp_path_factory.mktemp("data")


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
def run(tmp_path_factory, data_root, tiny_toml):
    """Folder of the small run, trained once by the command line; read only."""
    from laegd.cli import main

    workdir = tmp_path_factory.mktemp("runs") / "tiny"
    main(["train", "--config", str(tiny_toml), "--workdir", str(workdir), "--data", str(data_root)])
    return workdir
