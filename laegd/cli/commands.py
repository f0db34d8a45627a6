"""The commands by name, and what a command line asks for; tyro parses it, its errors become lines of laegd's form."""

import ast
import difflib
import io
import re
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from functools import partial, wraps
from importlib import import_module
from pathlib import Path
from typing import Any

import tyro

from laegd.cli.console import output, tell

COMMANDS = {
    "demo": "learn",
    "generate": "data",
    "train": "learn",
    "pack": "learn",
    "evaluate": "compare",
    "sweep": "compare",
    "solve": "plan",
    "report": "report",
    "export": "data",
    "import-sites": "data",
}
"""Each with the module of laegd.cli that has its function."""

RENAMED = {"--checkpoints": "--checkpoint"}
"""Options by their former names, which are still taken."""

# What tyro draws around an error and between its sections, also where the terminal knows no box characters.
_BORDER = re.compile("[\u2500-\u257f]+|-{4,}")
_RULE = re.compile("\u2502 \u2500+ \u2502|-{4,}")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_CHOICE = re.compile(r"invalid choice (.+) for argument '(\S+)'. Expected one of \((.+?),?\)")


def parse(arguments: Sequence[str]) -> Callable[[], None]:
    """Returns the command that was asked for with its arguments, not called yet; where help was, prints it.

    Raises:
        ValueError: There is no such command or option, or one has no such value.
    """
    name = arguments[0] if arguments else "--help"
    if name in COMMANDS:
        ask = partial(tyro.cli, _deferred(name), prog=f"laegd {name}", args=_renamed(arguments[1:]))
    elif name.startswith("-"):
        find = _described if name in ("-h", "--help") else _deferred
        commands = {name: find(name) for name in COMMANDS}
        about = "Offloading plans with certified gaps."
        ask = partial(
            tyro.extras.subcommand_cli_from_dict, commands, prog="laegd", description=about, args=arguments or [name]
        )
    else:
        near = difflib.get_close_matches(name, COMMANDS, 1) or ["--help"]
        raise ValueError(f"command: Expected one of {', '.join(COMMANDS)}, got {name!r}. Use laegd {near[0]}.")
    return _answer(ask)


def _answer(ask: Callable[[], Callable[[], None]]) -> Callable[[], None]:
    errors = io.StringIO()
    with output():
        try:
            with redirect_stderr(errors):
                return ask()
        except SystemExit as end:
            if end.code:
                raise ValueError(_in_one_line(errors.getvalue())) from None
    return lambda: None  # help has been printed


def _renamed(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments with options by their present names, and says which one has a new one."""
    present = []
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if option in RENAMED:
            tell(f"warning: {option} is called {RENAMED[option]} now; the former name will go")
        present.append(RENAMED.get(option, option) + equals + value)
    return present


def _in_one_line(box: str) -> str:
    """Turns tyro's box, a title and sections below it, into a line."""
    title, _, body = _COLOUR.sub("", box).partition("\n")
    title = _BORDER.sub("", title).strip()
    sections = [" ".join(_BORDER.sub("", section).split()) for section in _RULE.split(body)]
    text = "; ".join(section for section in sections if section)
    if choice := _CHOICE.search(text):
        value, option, known = choice.groups()
        allowed = [name for name in known.replace("'", "").split(", ") if name != "None"]
        return f"{option}: Expected one of {', '.join(allowed)}, got {value}. Correct it."
    return text if text.startswith(title) else f"{title}: {text}"


def _described(name: str) -> Callable[[], None]:
    """Returns a stand-in for a command with its description, read from its source: that needs no import."""
    module = ast.parse(Path(__file__).with_name(f"{COMMANDS[name]}.py").read_text())
    function = name.replace("-", "_")

    def stand_in() -> None:
        pass

    (stand_in.__doc__,) = (
        ast.get_docstring(node) for node in module.body if isinstance(node, ast.FunctionDef) and node.name == function
    )
    return stand_in


def _deferred(name: str) -> Callable[..., Any]:
    command = getattr(import_module(f"laegd.cli.{COMMANDS[name]}"), name.replace("-", "_"))

    @wraps(command)
    def bind(*args: Any, **kwargs: Any) -> Callable[[], None]:
        return partial(command, *args, **kwargs)

    return bind
