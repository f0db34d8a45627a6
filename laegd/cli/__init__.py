"""The command line: parse, call, print. Exit codes: 0 done, 2 bad input, 3 no feasible plan, 130 interrupted.

Every command imports what it needs when it runs, so that `--help` and `generate` do not wait for JAX.
"""

import io
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from functools import partial, wraps
from typing import Any

import tyro

from laegd.cli.compare import evaluate
from laegd.cli.console import EXIT_BAD_INPUT, EXIT_INFEASIBLE, EXIT_INTERRUPTED, Infeasible, Interrupted, fail, tell
from laegd.cli.data import export, generate, import_sites
from laegd.cli.learn import demo, train
from laegd.cli.plan import solve

COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo,
    "generate": generate,
    "train": train,
    "evaluate": evaluate,
    "solve": solve,
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
    try:
        call()
        sys.stdout.flush()
    except Infeasible as error:
        fail(str(error), EXIT_INFEASIBLE)
    except (Interrupted, KeyboardInterrupt) as error:
        if arguments is None:
            tell(str(error) or "interrupted")
            os._exit(EXIT_INTERRUPTED)  # XLA may be at work in threads of its own: Python's slow end crashes under them
        fail(str(error) or "interrupted", EXIT_INTERRUPTED)
    except BrokenPipeError:
        # Whoever read us has left; Python would complain about its own flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:
        reason = error.strerror or str(error)
        fail(f"{error.filename or 'output'}: Expected to read or write it, got: {reason}. Check it.", EXIT_BAD_INPUT)
    except (ValueError, FloatingPointError) as error:
        fail(str(error), EXIT_BAD_INPUT)


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
            fail(_in_one_line(errors.getvalue()), EXIT_BAD_INPUT)
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
