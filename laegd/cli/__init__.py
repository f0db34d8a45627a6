"""The command line: parse, call, print.

Exit codes: 0 done, 2 bad input, 3 no feasible plan, 4 a process of the job was stuck or lost, 75 ended by SIGTERM or
SIGHUP, 130 by Ctrl-C, 141 the reader of standard output has left.

All else is imported when a command runs, so that signals are answered from the first moment; each command imports what
it needs, so that `--help` and `generate` do not wait for JAX.
"""

import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import NoReturn

import laegd
from laegd.cli.process import EXIT_INTERRUPTED, EXIT_PREEMPTED, Terminated, own_process, signals_as_exceptions

EXIT_BAD_INPUT = 2


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command; one line on standard error and an exit code where it fails."""
    own = arguments is None
    if own:
        own_process()

    def run() -> None:
        given = sys.argv[1:] if arguments is None else list(arguments)
        if given == ["--version"]:
            from laegd.cli.console import say

            return say(f"laegd {laegd.__version__}")
        from laegd.cli.commands import parse

        parse(given)()

    with signals_as_exceptions(), warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: _tell(f"warning: {message}")
        message, code = _end_of(run)
    if code or (own and _calls_left()):
        _end(message, code, at_once=own)


def _end_of(call: Callable[[], None]) -> tuple[str, int]:
    """Runs a command; returns what to say at the end, and the exit code."""
    from laegd.cli.console import is_broken_pipe, lost_output

    message, code = _outcome(call)
    lost = lost_output()
    if code or lost is None:
        return message, code
    if is_broken_pipe(lost):
        return "", 128 + getattr(signal, "SIGPIPE", 13)  # Windows has none
    reason = lost.strerror or lost
    return f"output: Expected to write it, got: {reason}. Free space; the command has done its work.", EXIT_BAD_INPUT


def _outcome(call: Callable[[], None]) -> tuple[str, int]:
    """Runs a command; returns the message and the exit code of how it ended."""
    from laegd.cli.console import EXIT_INFEASIBLE, Infeasible, Interrupted

    try:
        call()
        return "", 0
    except Infeasible as error:
        return str(error), EXIT_INFEASIBLE
    except Interrupted as error:
        return str(error), error.exit_code
    except Terminated as error:
        return str(error), EXIT_PREEMPTED
    except KeyboardInterrupt:
        return "interrupted", EXIT_INTERRUPTED
    except OSError as error:
        reason = error.strerror or str(error)
        return f"{error.filename or 'output'}: Expected to read or write it, got: {reason}. Check it.", EXIT_BAD_INPUT
    except (ValueError, FloatingPointError) as error:
        from laegd.training.cluster import ReportedError

        return "" if isinstance(error, ReportedError) else str(error), EXIT_BAD_INPUT
    except MemoryError as error:
        return _too_little_memory(str(error) or "none left"), EXIT_BAD_INPUT
    except ImportError as error:
        if _NO_MEMORY_TO_LOAD not in str(error):
            raise
        return _too_little_memory(str(error)), EXIT_BAD_INPUT
    except RuntimeError as error:
        return _runtime_error(error)


# What Python and the system's loader say where memory, address space or the number of threads is limited.
_NO_MEMORY_TO_LOAD = "failed to map segment"
_NO_THREAD = "can't start new thread"


def _too_little_memory(reason: str) -> str:
    return f"memory: Expected enough for this, got: {reason}. Plan less at a time, or raise the limit."


def _runtime_error(error: RuntimeError) -> tuple[str, int]:
    """Tells of what a user can mend; an error of the program itself goes on."""
    _, found, path = str(error).partition("Symlink loop from ")  # pathlib's
    if found:
        return f"{path.strip(chr(39))}: Expected a path, got a loop of symbolic links. Delete it.", EXIT_BAD_INPUT
    if str(error) == _NO_THREAD:
        return _too_little_memory(_NO_THREAD), EXIT_BAD_INPUT
    from laegd.training.cluster import EXIT_STUCK, failed_exchange

    if (message := failed_exchange(error)) is None:
        raise error
    return message, EXIT_STUCK


def _end(message: str, code: int, at_once: bool) -> NoReturn:
    if message:
        _tell(message)
    if at_once:
        os._exit(code)  # XLA's and Orbax's threads may still be at work: Python's own end crashes or talks under them
    sys.exit(code)


def _calls_left() -> bool:
    """Tells whether something still runs that was given up at a limit; loads nothing to find out."""
    calls = sys.modules.get("laegd.solvers.calls")
    return calls is not None and calls.any_left()


def _tell(message: str) -> None:
    from laegd.cli.console import tell

    tell(message)
