"""The command line: parse, call, print.

Exit codes: 0 done, 2 bad input, 3 no feasible plan, 4 a process of the job was stuck or lost, 75 ended by SIGTERM, 130
by Ctrl-C.

Every command imports what it needs when it runs, so that `--help` and `generate` do not wait for JAX.
"""

import io
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from functools import partial, wraps
from typing import Any, NoReturn

import tyro

from laegd.cli.compare import evaluate, sweep
from laegd.cli.console import (
    EXIT_BAD_INPUT,
    EXIT_INFEASIBLE,
    EXIT_INTERRUPTED,
    EXIT_PREEMPTED,
    Infeasible,
    Interrupted,
    Terminated,
    tell,
)
from laegd.cli.data import export, generate, import_sites
from laegd.cli.learn import demo, pack, train
from laegd.cli.plan import solve
from laegd.cli.report import report
from laegd.training.cluster import EXIT_STUCK, ReportedError, failed_exchange

COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo,
    "generate": generate,
    "train": train,
    "pack": pack,
    "evaluate": evaluate,
    "sweep": sweep,
    "solve": solve,
    "report": report,
    "export": export,
    "import-sites": import_sites,
}

# What tyro draws around an error and between its sections, also where the terminal knows no box characters.
_BORDER = re.compile("[\u2500-\u257f]+|-{4,}")
_RULE = re.compile("\u2502 \u2500+ \u2502|-{4,}")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command; one line on standard error and an exit code where it fails."""
    call = _parse(arguments)
    with _sigterm_like_ctrl_c(), warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: tell(f"warning: {message}")
        message, code = _run(call)
    if code:
        _end(message, code, at_once=arguments is None)


def _run(call: Callable[[], None]) -> tuple[str, int]:
    """Returns what to say at the end, and the exit code."""
    try:
        call()
        sys.stdout.flush()
        return "", 0
    except Infeasible as error:
        return str(error), EXIT_INFEASIBLE
    except Interrupted as error:
        return str(error), error.exit_code
    except Terminated:
        return "ended by SIGTERM", EXIT_PREEMPTED
    except KeyboardInterrupt:
        return "interrupted", EXIT_INTERRUPTED
    except BrokenPipeError:  # whoever read us has left
        return "", 128 + getattr(signal, "SIGPIPE", 13)  # Windows has none
    except OSError as error:
        reason = error.strerror or str(error)
        return f"{error.filename or 'output'}: Expected to read or write it, got: {reason}. Check it.", EXIT_BAD_INPUT
    except (ValueError, FloatingPointError) as error:
        return "" if isinstance(error, ReportedError) else str(error), EXIT_BAD_INPUT
    except MemoryError as error:
        reason = str(error) or "none left"
        return f"memory: Expected enough for this, got: {reason}. Plan less at a time.", EXIT_BAD_INPUT
    except RuntimeError as error:
        if (message := failed_exchange(error)) is None:
            raise
        return message, EXIT_STUCK


@contextmanager
def _sigterm_like_ctrl_c() -> Iterator[None]:
    """Lets a scheduler's SIGTERM end a command as Ctrl-C does: nothing is lost, and it says so."""

    def handle(number: int, frame: Any) -> NoReturn:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _end(message: str, code: int, at_once: bool) -> NoReturn:
    if message:
        tell(message)
    if at_once:
        with suppress(OSError):
            sys.stdout.flush()
        os._exit(code)  # XLA's and Orbax's threads may still be at work: Python's own end crashes or talks under them
    sys.exit(code)


def _parse(arguments: Sequence[str] | None) -> Callable[[], None]:
    """Returns the command that was asked for with its arguments, not called yet; ends the program on bad ones."""
    commands = {name: _deferred(command) for name, command in COMMANDS.items()}
    errors = io.StringIO()
    try:
        with redirect_stderr(errors):
            return tyro.extras.subcommand_cli_from_dict(
                commands, args=arguments, prog="laegd", description="Offloading plans with certified gaps."
            )
    except SystemExit as end:
        if end.code:
            _end(_in_one_line(errors.getvalue()), EXIT_BAD_INPUT, at_once=False)
        raise


def _in_one_line(box: str) -> str:
    """Turns tyro's box, a title and sections below it, into a line."""
    title, _, body = _COLOUR.sub("", box).partition("\n")
    title = _BORDER.sub("", title).strip()
    sections = [" ".join(_BORDER.sub("", section).split()) for section in _RULE.split(body)]
    text = "; ".join(section for section in sections if section)
    return text if text.startswith(title) else f"{title}: {text}"


def _deferred(command: Callable[..., None]) -> Callable[..., Any]:
    @wraps(command)
    def bind(*args: Any, **kwargs: Any) -> Callable[[], None]:
        return partial(command, *args, **kwargs)

    return bind
