"""laegd among other programs: signals, closed and full outputs, odd terminals, paths that lead nowhere, limits."""

import dataclasses
import errno
import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from laegd.cli import main, process
from laegd.cli.settings import settings
from laegd.config import ExperimentConfig
from laegd.graphs.signals import ENDING
from laegd.training import devices
from laegd.training.cluster import held_signals


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """A test set of three instances, one of them as a scenario, and tables of places; read only."""
    folder = tmp_path_factory.mktemp("shell")
    main(["generate", "--scale", "gs2_gu4_au2", "--count", "3", "--workers", "1", "--out", str(folder / "data")])
    main(["export", str(folder / "data"), "--out", str(folder / "scenario.json")])
    (folder / "sites.csv").write_text("LATITUDE,LONGITUDE\n-37.815,144.970\n-37.818,144.965\n")
    return folder


def evaluate(files, out, methods="mcmf,exact"):
    """Arguments of a comparison, the quickest where nothing is named."""
    return "evaluate", "--data", files / "data", "--methods", methods, "--out", out


# what a user sees first


def test_no_command_prints_help(cli):
    """With code 0, as `laegd --help` does."""
    code, out, err = cli()
    assert (code, err) == (0, "") and out.startswith("usage: laegd") and "import-sites" in out
    assert cli("--help") == (code, out, err)


def test_version_is_that_of_the_package(cli):
    """One line, for scripts."""
    from importlib.metadata import version

    assert cli("--version") == (0, f"laegd {version('laegd')}\n", "")


def test_former_name_of_an_option_is_taken_with_a_word(cli, files, tmp_path):
    """`sweep --checkpoints` goes on as --checkpoint, which says that there is no such run."""
    code, out, err = cli("sweep", f"--checkpoints={tmp_path}", "--data", files / "data", "--out", tmp_path / "s.json")
    first, second = err.splitlines()
    assert (code, out) == (2, "")
    assert first == "laegd: warning: --checkpoints is called --checkpoint now; the former name will go"
    assert f"{tmp_path}: Expected a run folder" in second


def test_options_of_train_are_the_fields_of_the_settings(cli):
    """Read from source, they have the names, defaults and sentences of the dataclasses; help shows all of them."""
    config = ExperimentConfig()
    tables = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    ours = {(table, one.name): one.default for table, members in settings().items() for one in members}
    theirs = {("", name): repr(value) for name, value in tables.items() if not dataclasses.is_dataclass(value)}
    for table, value in tables.items():
        if table != "data" and dataclasses.is_dataclass(value):
            theirs |= {(table, one.name): repr(getattr(value, one.name)) for one in dataclasses.fields(value)}
    assert {key: eval(default) for key, default in ours.items()} == {key: eval(value) for key, value in theirs.items()}
    _, out, _ = cli("train", "--help")
    for table, name in ours:
        assert f"--{f'{table}.{name}'.lstrip('.').replace('_', '-')} " in out
    assert all(
        one.sentence in " ".join(one.sentence.split()) != "" for members in settings().values() for one in members
    )


def test_option_of_a_setting_does_what_set_does(cli, tiny_toml, tmp_path, monkeypatch):
    """Numbers, words, truth values and lists; both kinds of option beside one another."""
    from laegd.cli import learn

    given = []
    monkeypatch.setattr(learn, "_train", lambda config, *_: given.append(config) or pytest.fail("enough"))
    common = ("train", "--config", tiny_toml, "--workdir", tmp_path)
    options = ("--training.steps=7", "--model.directed", "true", "--decode.thresholds", "[0.1, 0.2]", "--seed", 3)
    for more in (
        (*options, "--set", "diffusion.schedule=cosine"),
        ("--set", "training.steps=7", "--set", "model.directed=true", "--set", "decode.thresholds=[0.1, 0.2]",
         "--set", "training.seed=3", "--diffusion.schedule", "cosine"),
    ):  # fmt: skip
        with pytest.raises(pytest.fail.Exception):
            cli(*common, *more)
    assert given[0] == given[1] and given[0].decode.thresholds == (0.1, 0.2) and given[0].training.steps == 7


# signals


def python(code, *arguments, **options):
    """Runs some Python; returns exit code, standard output and standard error."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    end = subprocess.run(command, capture_output=True, text=True, timeout=300, **options)
    return end.returncode, end.stdout, end.stderr


@pytest.mark.parametrize("number", ENDING)
def test_signal_before_the_command_begins_ends_it_like_one_later(number):
    """75 for a scheduler to start it again, and for a closed terminal; 130 for Ctrl-C."""
    code = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from laegd.cli.process import own_process; own_process(); os.kill(os.getpid(), int(sys.argv[1]))"
    )
    said = "interrupted" if number == signal.SIGINT else f"ended by {number.name}"
    assert python(code, number.value) == (130 if number == signal.SIGINT else 75, "", f"laegd: {said}\n")


def test_signal_while_a_module_is_imported_ends_at_once(tmp_path):
    """A module that takes any exception for a lack of its own would lose the signal."""
    (tmp_path / "careless.py").write_text(
        "import os, signal\ntry: os.kill(os.getpid(), signal.SIGTERM)\nexcept BaseException: pass\n"
    )
    code = "from laegd.cli.process import signals_as_exceptions\nwith signals_as_exceptions(): import careless"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    assert python(code, env=environment) == (75, "", "laegd: ended by SIGTERM\n")


def test_signal_that_was_ignored_from_the_start_stays_so():
    """As SIGHUP is under nohup, and Ctrl-C in the background of a script."""
    code = (
        "import os, signal\nfor one in (signal.SIGHUP, signal.SIGINT): signal.signal(one, signal.SIG_IGN)\n"
        "from laegd.cli import process; from laegd.training.cluster import held_signals\nprocess.own_process()\n"
        "with process.signals_as_exceptions(), held_signals() as caught:\n"
        "    for one in (signal.SIGHUP, signal.SIGINT): os.kill(os.getpid(), one)\n"
        "    print(caught())"
    )
    assert python(code) == (0, "0\n", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_closed_terminal_ends_a_comparison_as_a_scheduler_does(cli, files, tmp_path, monkeypatch, number):
    """Code 75 and one line; what is solved is kept."""
    from laegd.solvers.exact import ExactSolver

    monkeypatch.setattr(ExactSolver, "solve", lambda *_: signal.raise_signal(number))
    code, out, err = cli(*evaluate(files, tmp_path / "r.json"))
    assert (code, out, err.count("\n")) == (75, "", 1) and "stopped with 1 of 2 parts done; they are kept in" in err


@pytest.mark.parametrize("number", ENDING)
def test_signal_while_steps_are_taken_waits_for_the_next(number):
    """A number, not an exception."""
    with held_signals() as caught:
        signal.raise_signal(number)
        assert caught() == number


ORPHANS = """
import ctypes, os, sys, time
from laegd.graphs.processes import spread

def hold(path):  # in native code that keeps Python's lock, so that no thread of this process runs
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    ctypes.PyDLL(None).sleep(1000)

if __name__ == "__main__":
    list(spread(hold, sys.argv[1:], 2))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's process descriptors")
def test_processes_end_with_the_one_that_started_them(tmp_path):
    """Also where that is killed, and they are in native code."""
    (tmp_path / "orphans.py").write_text(ORPHANS)
    pipes = [tmp_path / "a", tmp_path / "b"]
    for pipe in pipes:
        os.mkfifo(pipe)
    parent = subprocess.Popen([sys.executable, tmp_path / "orphans.py", *pipes], stderr=subprocess.DEVNULL)
    children = [os.pidfd_open(int(pipe.read_text())) for pipe in pipes]  # reading waits until each has written
    parent.kill()
    parent.wait()
    for child in children:
        assert select.select([child], [], [], 60)[0]
        os.close(child)


# outputs


class Unwritable:
    """Standard output that takes nothing."""

    encoding = "utf-8"

    def __init__(self, number):
        self.number = number

    def write(self, text):
        """Fails, as a file does where there is something to write."""
        if text:
            raise OSError(self.number, os.strerror(self.number))

    def flush(self):
        """Has nothing to write."""

    def isatty(self):
        """It is a file."""
        return False

    def fileno(self):
        """It has no number."""
        raise OSError


FULL = "output: Expected to write it, got: No space left on device. Free space; the command has done its work."


@pytest.mark.parametrize(("number", "code", "said"), [(errno.ENOSPC, 2, f"laegd: {FULL}\n"), (errno.EPIPE, 141, "")])
def test_output_that_cannot_be_written_costs_no_work(cli, files, tmp_path, monkeypatch, number, code, said):
    """Results and all plans are there; a full disk is one line, a reader that has left is none."""
    other = tmp_path / "other.json"
    other.write_bytes((files / "scenario.json").read_bytes())
    monkeypatch.setattr(sys, "stdout", Unwritable(number))
    assert cli(*evaluate(files, tmp_path / "r.json")) == (code, "", said)
    assert (tmp_path / "r.json").exists()
    assert cli("solve", files / "scenario.json", other, "--out", tmp_path / "plans") == (code, "", said)
    assert len(list((tmp_path / "plans").iterdir())) == 2


def test_characters_that_an_output_lacks_are_written_with_others():
    """Signs have a spelling, frames become lines, all else is escaped."""
    code = "from laegd.cli.process import own_process; own_process(); print('1 \\u00b1 2 \\u2500\\u2502 \\u4e2d')"
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    assert python(code, env=environment) == (0, "1 +- 2 -| \\u4e2d\n", "")


def shell(redirection, *arguments, stdout=subprocess.PIPE, **environment):
    """Runs a command with a shell's redirections; returns exit code, standard output and standard error."""
    command = ["sh", "-c", f'exec "$0" -m laegd "$@" {redirection}', sys.executable, *map(str, arguments)]
    environment = {name: value for name, value in (os.environ | environment).items() if value is not None}
    end = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, timeout=300, env=environment)
    return end.returncode, (end.stdout or b"").decode("ascii", "replace"), end.stderr.decode()


def closed_pipe(*arguments):
    """Runs a command whose reader has left."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        return shell("", *arguments, stdout=writer)
    finally:
        os.close(writer)


ODD = {
    "closed output": (lambda arguments: shell(">&-", *arguments), 0, ""),
    "all closed": (lambda arguments: shell("<&- >&- 2>&-", *arguments), 0, ""),
    "full output": (lambda arguments: shell(">/dev/full", *arguments), 2, f"laegd: {FULL}\n"),
    "full errors": (lambda arguments: shell("2>/dev/full", *arguments), 0, ""),
    "reader that left": (lambda arguments: closed_pipe(*arguments), 141, ""),
    "no columns": (lambda arguments: shell("", *arguments, COLUMNS="0", LINES="0"), 0, ""),
    "one column": (lambda arguments: shell("", *arguments, COLUMNS="1"), 0, ""),
    "ASCII": (lambda arguments: shell("", *arguments, PYTHONIOENCODING="ascii"), 0, ""),
    "C locale": (lambda arguments: shell("", *arguments, LC_ALL="C", LANG=None, PYTHONUTF8="0"), 0, ""),
}


@pytest.mark.parametrize("name", ["closed output", "full output", "reader that left"])
def test_help_needs_no_output(name):
    """A process of its own, at whose very end the output is flushed."""
    run, code, said = ODD[name]
    assert run(["--help"]) == (code, "", said)


class Made(NamedTuple):
    """What commands are given; read only."""

    files: Path
    run: Path
    data: Path
    toml: Path


@pytest.fixture(scope="session")
def made(files, run, data_root, tiny_toml):
    """A trained run too, and results of a comparison."""
    main(["evaluate", "--data", str(files / "data"), "--methods", "exact", "--out", str(files / "results.json")])
    return Made(files, run, data_root, tiny_toml)


COMMANDS = {
    "--help": lambda m, tmp: (),
    "train --help": lambda m, tmp: (),
    "--tyro-print-completion": lambda m, tmp: ("bash",),
    "generate": lambda m, tmp: ("--scale", "gs2_gu4_au2", "--count", 3, "--out", tmp / "data"),
    "train": lambda m, tmp: ("--config", m.toml, "--workdir", m.run, "--data", m.data),
    "pack": lambda m, tmp: (m.run, "--out", tmp / "model.npz"),
    "evaluate": lambda m, tmp: evaluate(m.files, tmp / "r.json", "gadsg,exact")[1:],
    "sweep": lambda m, tmp: ("--checkpoint", m.run, "--data", m.files / "data", "--out", tmp / "s.json"),
    "solve": lambda m, tmp: (m.files / "scenario.json", "--out", tmp / "plan.json", "--picture", tmp / "plan.png"),
    "report": lambda m, tmp: (m.files / "results.json", "--out", tmp / "report.html"),
    "export": lambda m, tmp: (m.files / "data", "--out", tmp / "scenario.json"),
    "import-sites": lambda m, tmp: (
        "--servers",
        m.files / "sites.csv",
        "--users",
        m.files / "sites.csv",
        "--out",
        tmp / "scenario.json",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("condition", ODD)
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_works_with_every_output(command, condition, made, tmp_path):
    """One line or silence, the right code, and the work done all the same."""
    arguments = [*command.split(), *COMMANDS[command](made, tmp_path)]
    start, code, said = ODD[condition]
    ended, out, err = start(arguments)
    err = re.sub(r"(?m)^[\w-]+ \d+/\d+.*\n", "", err)  # progress of a slow machine
    assert (ended, err) == (code, said)
    assert ("\ufffd" not in out) or condition in ("no columns", "one column", "full errors")
    assert any(tmp_path.iterdir()) or command == "train" or command.startswith("-") or " " in command


# paths


LOOPS = {
    "generate --out": lambda m, loop: ("--scale", "gs2_gu4_au2", "--count", 3, "--out", loop),
    "generate --config": lambda m, loop: (
        "--scale",
        "gs2_gu4_au2",
        "--count",
        3,
        "--out",
        loop.parent / "new",
        "--config",
        loop,
    ),
    "train --config": lambda m, loop: ("--config", loop, "--workdir", loop.parent / "new"),
    "train --workdir": lambda m, loop: ("--config", m.toml, "--workdir", loop),
    "train --data": lambda m, loop: ("--config", m.toml, "--workdir", loop.parent / "new", "--data", loop),
    "pack RUN": lambda m, loop: (loop, "--out", loop.parent / "new"),
    "pack --out": lambda m, loop: (m.run, "--out", loop),
    "evaluate --data": lambda m, loop: ("--data", loop, "--methods", "exact", "--out", loop.parent / "new"),
    "evaluate --checkpoint": lambda m, loop: (
        *evaluate(m.files, loop.parent / "new", "gadsg")[1:],
        "--checkpoint",
        loop,
    ),
    "evaluate --out": lambda m, loop: evaluate(m.files, loop)[1:],
    "sweep --data": lambda m, loop: ("--data", loop, "--checkpoint", m.run, "--out", loop.parent / "new"),
    "sweep --checkpoint": lambda m, loop: (
        "--data",
        m.files / "data",
        "--checkpoint",
        loop,
        "--out",
        loop.parent / "n",
    ),
    "sweep --out": lambda m, loop: ("--data", m.files / "data", "--checkpoint", m.run, "--out", loop),
    "solve SCENARIO": lambda m, loop: (loop, "--out", loop.parent / "new"),
    "solve --out": lambda m, loop: (m.files / "scenario.json", "--out", loop),
    "solve --picture": lambda m, loop: (m.files / "scenario.json", "--out", loop.parent / "new", "--picture", loop),
    "solve --checkpoint": lambda m, loop: (
        m.files / "scenario.json",
        "--method",
        "gadsg",
        "--checkpoint",
        loop,
        "--out",
        loop.parent / "new",
    ),
    "report RESULTS": lambda m, loop: (loop, "--out", loop.parent / "new"),
    "report --out": lambda m, loop: (m.files / "results.json", "--out", loop),
    "export DATA": lambda m, loop: (loop, "--out", loop.parent / "new"),
    "export --out": lambda m, loop: (m.files / "data", "--out", loop),
    "import-sites --servers": lambda m, loop: (
        "--servers",
        loop,
        "--users",
        m.files / "sites.csv",
        "--out",
        loop.parent / "new",
    ),
    "import-sites --out": lambda m, loop: (
        "--servers",
        m.files / "sites.csv",
        "--users",
        m.files / "sites.csv",
        "--out",
        loop,
    ),
    "import-sites --config": lambda m, loop: (
        "--servers",
        m.files / "sites.csv",
        "--users",
        m.files / "sites.csv",
        "--out",
        loop.parent / "new",
        "--config",
        loop,
    ),
}


@pytest.mark.parametrize("below", ["", "file"], ids=["itself", "below"])
@pytest.mark.parametrize("option", LOOPS)
def test_loop_of_links_is_one_line(option, below, cli, made, tmp_path):
    """As any path of any command, and as a folder on the way there; the link stays, nothing is written beside it."""
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    path = type("Loop", (type(loop),), {})(loop / below)
    arguments = LOOPS[option](made, path)
    command = option.split()[0]
    code, out, err = cli(command, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1) and "loop" in err and "Traceback" not in err
    assert loop.is_symlink() and not any(path.is_file() and path.stat().st_size for path in tmp_path.rglob("*"))


# devices and limits


@pytest.mark.parametrize(
    "error", [AssertionError(), RuntimeError("Unable to initialize backend 'cuda': no\nGPU. (set")]
)
def test_platform_without_a_device_is_told_in_a_line(cli, files, tmp_path, monkeypatch, error):
    """JAX_PLATFORMS=cuda where there is no GPU; a method without network does not ask."""
    import jax

    def fail():
        raise error

    monkeypatch.setattr(jax, "devices", fail)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    devices.start_devices.cache_clear()
    command = ("solve", files / "scenario.json", "--out", tmp_path / "plan.json", "--method")
    code, out, err = cli(*command, "random-belief")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "JAX_PLATFORMS: Expected a platform with a device here, such as cpu, got 'cuda': " in err
    assert cli(*command, "exact")[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("platform", ["cuda", "tpu", "gpu", "nonsense"])
@pytest.mark.parametrize("command", ["train", "evaluate", "sweep", "solve", "pack"])
def test_no_command_shows_a_traceback_without_its_platform(command, platform, made, tmp_path):
    """Real processes; whatever JAX says there."""
    if platform == "cuda" and os.path.exists("/dev/nvidiactl"):
        pytest.skip("a GPU is here")
    arguments = [command, *COMMANDS[command](made, tmp_path)]
    arguments += ["--method", "gadsg"] if command == "solve" else []
    code, out, err = shell("", *arguments, JAX_PLATFORMS=platform)
    assert (code, out, err.count("\n")) == (2, "", 1) and f"got '{platform}'" in err


@pytest.mark.skipif(sys.platform != "linux", reason="limits of address space are tested on Linux")
def test_address_space_is_checked_before_xla_would_abort():
    """What is taken counts: of 4 GB no 5 are left."""
    code = (
        "import resource; from laegd.training.devices import require_address_space\n"
        "require_address_space(1e15)\n"
        "resource.setrlimit(resource.RLIMIT_AS, (4 * 10**9, -1)); require_address_space(3e9)\n"
        "try: require_address_space(5e9)\nexcept ValueError as error: print(error)"
    )
    code, out, err = python(code)
    assert (code, err) == (0, "")
    assert out.startswith("memory: Expected 5.0 GB of address space left for JAX, got ") and "ulimit -v" in out


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits of address space are tested on Linux")
@pytest.mark.parametrize("megabytes", [300, 500, 1000, 1500, 2000, 2500, 3000, 4000, 6000])
@pytest.mark.parametrize("command", ["evaluate", "solve", "train"])
def test_no_limit_of_address_space_aborts(command, megabytes, made, tmp_path):
    """Done, or one line and code 2."""
    arguments = [command, *COMMANDS[command](made, tmp_path)]
    arguments += ["--method", "gadsg"] if command == "solve" else []
    script = f'ulimit -v {megabytes}000; exec "$0" -m laegd "$@"'
    end = subprocess.run(["sh", "-c", script, sys.executable, *map(str, arguments)], capture_output=True, text=True)
    assert end.returncode in (0, 2) and end.stderr.count("\n") == (end.returncode == 2)


def test_width_and_signs_of_the_process_are_prepared(monkeypatch):
    """A width of 0 is none."""
    code = "import os; from laegd.cli.process import own_process; own_process(); print(os.environ.get('COLUMNS'))"
    for given, kept in (("0", "None"), ("00", "None"), ("72", "72"), ("", "None")):
        assert python(code, env=os.environ | {"COLUMNS": given})[1] == f"{kept}\n"
    assert process.ending(signal.SIGHUP) == "ended by SIGHUP"
