"""The settings of a run as options of `train`, such as --training.steps.

They are read from the source of the settings' dataclasses, since importing those would load JAX for `--help`. Each
becomes one override of the configuration file, which checks it.
"""

import ast
from collections.abc import Iterator
from dataclasses import field, fields, make_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from tyro.conf import arg

import laegd

_PACKAGE = Path(laegd.__file__).parent
_ROOT = "ExperimentConfig"


class Setting(NamedTuple):
    """A field of a settings dataclass, as its source has it."""

    name: str
    annotation: str
    default: str
    sentence: str

    @property
    def choices(self) -> tuple[str, ...]:
        """Values that it may have, where they are few."""
        if self.annotation == "bool":
            return ("true", "false")
        if not self.annotation.startswith("Literal["):
            return ()
        values = ast.literal_eval(self.annotation.removeprefix("Literal"))
        return tuple(map(str, values))

    @property
    def option(self) -> Any:
        """The type that tyro makes an option of."""
        default = ast.literal_eval(self.default)
        shown = str(default).lower() if isinstance(default, bool) else default
        kind = f"{{{','.join(self.choices)}}}" if self.choices else self.annotation.partition(" ")[0].upper()
        about = arg(metavar=kind if kind.isalpha() or self.choices else "TOML", help=self.sentence,
                    help_behavior_hint=f"(default: {shown})")  # fmt: skip
        return Annotated[Literal[self.choices] | None if self.choices else str | None, about]


def settings() -> dict[str, list[Setting]]:
    """Returns all settings that one value gives, by their table; those outside any below ""."""
    classes = _classes(ast.parse((_PACKAGE / "config.py").read_text()))
    found: dict[str, list[Setting]] = {"": []}
    for one in _fields(classes[_ROOT]):
        if one.annotation in classes:
            found[one.name] = [one for one in _fields(classes[one.annotation]) if _is_value(one)]
        else:
            found[""].append(one)
    return {table: members for table, members in found.items() if members}


def _classes(module: ast.Module) -> dict[str, ast.ClassDef]:
    """Returns the classes that a module has or imports from laegd."""
    found = {}
    for node in module.body:
        if isinstance(node, ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("laegd."):
            path = _PACKAGE.joinpath(*str(node.module).split(".")[1:]).with_suffix(".py")
            names = {alias.name for alias in node.names}
            body = ast.parse(path.read_text()).body
            found |= {one.name: one for one in body if isinstance(one, ast.ClassDef) and one.name in names}
    return found


def _fields(node: ast.ClassDef) -> Iterator[Setting]:
    for one, after in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name) and one.value is not None:
            told = after.value if isinstance(after, ast.Expr) else None
            sentence = " ".join(str(told.value).split()) if isinstance(told, ast.Constant) else ""
            yield Setting(one.target.id, ast.unparse(one.annotation), ast.unparse(one.value), sentence)


def _is_value(setting: Setting) -> bool:
    """Tells whether TOML has it as a value; lists of tables stand in the file only."""
    try:
        ast.literal_eval(setting.default)
    except ValueError:
        return False
    return True


def _options() -> Any:
    tables = []
    for table, members in settings().items():
        options = [(one.name, one.option, None) for one in members]
        if table:
            made = make_dataclass(f"{table.title()}Settings", options, frozen=True)
            tables.append((table, made, field(default_factory=made)))
        else:
            tables += options
    return make_dataclass("Settings", tables, frozen=True)


Settings: Any = _options()
"""All settings, each None unless it is given."""
NONE_GIVEN = Settings()


def overrides(given: Any) -> tuple[str, ...]:
    """Returns what was given as overrides of the configuration, such as training.steps=500."""
    return tuple(_overrides(given, ""))


def _overrides(given: Any, prefix: str) -> Iterator[str]:
    for one in fields(given):
        value = getattr(given, one.name)
        if isinstance(value, str):
            yield f"{prefix}{one.name}={value}"
        elif value is not None:
            yield from _overrides(value, f"{one.name}.")
