"""Settings from TOML as dataclasses; an unknown key is an error that lists the known ones."""

import dataclasses
import tomllib
import typing
from pathlib import Path
from typing import Any

import msgspec

from laegd.scenario.files import read_file
from laegd.scenario.generator import ScenarioConfig
from laegd.scenario.scenario import in_short, require

Settings = typing.TypeVar("Settings")

MAX_CHARACTERS = 16_000  # of a file; those of configs/ have a thousand


def convert_settings(values: dict[str, Any], settings: type[Settings]) -> Settings:
    """Builds a settings dataclass from JSON or TOML values; raises ValueError that names the bad key."""
    _check_keys(values, settings, "")
    try:
        return msgspec.convert(values, settings)
    except (msgspec.ValidationError, UnicodeError) as error:
        reason = in_short(str(error).rstrip("."))
    reason = reason if "Expected" in reason else f"Expected known settings, got: {reason}"
    raise ValueError(f"config: {reason}. Correct that setting.")


def _check_keys(value: Any, annotation: Any, path: str) -> None:
    """Raises at the first key that no settings class has, or choice that a key has not; lists the known ones."""
    if isinstance(value, (list, tuple)):
        for position, item in enumerate(value):
            _check_keys(item, (typing.get_args(annotation) or (None,))[0], f"{path}[{position}]")
    if not isinstance(value, dict) or not dataclasses.is_dataclass(annotation):
        return
    hints = typing.get_type_hints(annotation)
    for key, item in value.items():
        name = f"{path}.{key}".lstrip(".")
        require(key in hints, name, f"one of {', '.join(hints)}", key, "Correct the key's spelling.")
        if typing.get_origin(hints[key]) is typing.Literal:
            known = typing.get_args(hints[key])
            require(item in known, name, f"one of {', '.join(known)}", item, "Correct it.")
        _check_keys(item, hints[key], name)


def load_scenario_config(path: Path) -> ScenarioConfig:
    """Reads scenario settings from a TOML file."""
    return convert_settings(read_toml(path), ScenarioConfig)


def read_toml(path: Path) -> dict[str, Any]:
    """Reads a TOML file; raises ValueError that names the file, and the line where there is one."""
    try:
        text = read_file(path, "a readable TOML file", "Name one of configs/.").decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: Expected a readable TOML file, got: {error}. Name one of configs/.") from error
    limit = f"at most {MAX_CHARACTERS:,} characters"  # tomllib takes seconds over a key of 30,000
    require(len(text) <= MAX_CHARACTERS, str(path), limit, "more", "Shorten it.")
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError(f"{path}: Expected TOML, got brackets in one another, hundreds deep. Remove them.") from error
    except ValueError as error:  # TOMLDecodeError, or a number of thousands of digits
        raise ValueError(f"{path}: Expected TOML, got: {in_short(str(error))}. Correct that line.") from error
