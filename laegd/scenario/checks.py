"""Checks of what users give: rules whose errors name field, rule, value and remedy; JSON of a kind; sizes."""

import math
from dataclasses import asdict
from numbers import Real
from types import UnionType
from typing import Any, TypeGuard, TypeVar

import msgspec

MAX_PAIRS = 1_000_000  # of a user and a server in one network: every array over them takes 8 MB
MAX_SHOWN = 300  # characters of a value in an error

Decoded = TypeVar("Decoded")


def require(rule: bool, field: str, expected: str, value: object, remedy: str) -> None:
    """Raises a ValueError that names field, rule, value and remedy unless the rule holds."""
    if not rule:
        raise ValueError(f"{in_short(field)}: Expected {expected}, got {in_short(repr(value))}. {remedy}")


def require_positive(field: str, value: object) -> None:
    """Raises unless the value is finite and above zero."""
    positive = is_finite(value) and bool(value > 0)  # NumPy's numbers compare to its own truth values
    require(positive, field, "a finite number above 0", value, "Give it in SI units.")


def require_finite(field: str, value: object) -> None:
    """Raises unless the value is finite."""
    require(is_finite(value), field, "a finite number", value, "Give it in SI units.")


def is_finite(value: object) -> TypeGuard[float]:
    """Tells whether a value is a number, NumPy's included, and finite."""
    return isinstance(value, Real) and math.isfinite(value)


def require_pairs(field: str, num_users: int, num_servers: int, most: int = MAX_PAIRS) -> None:
    """Raises where the arrays over users and servers of one network would not fit into memory."""
    pairs = max(num_users, 1) * max(num_servers, 1)
    expected = f"at most {most:,} pairs of a user and a server"
    require(pairs <= most, field, expected, pairs, "Take fewer users or servers.")


def in_short(text: str) -> str:
    """Returns a text from a file as one line of an error shows it: long ones cut, control characters as escapes."""
    if len(text) > MAX_SHOWN:
        text = f"{text[: MAX_SHOWN // 2]} ... {text[-MAX_SHOWN // 2 :]}"
    return printable(text)


def printable(text: str) -> str:
    """Returns a text with what would move a terminal's cursor as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def decode_json(text: bytes | str, kind: type[Decoded] | UnionType, expected: str, remedy: str) -> Decoded:
    """Reads JSON of a kind; raises ValueError with the path of the first bad field."""
    mark = "\ufeff" if isinstance(text, str) else b"\xef\xbb\xbf"  # byte-order mark, as Windows' editors write it
    try:
        return msgspec.json.decode(text.removeprefix(mark), type=kind)  # pyright: ignore[reportArgumentType]
    except (msgspec.DecodeError, UnicodeError) as error:  # covers ValidationError: wrong type, unknown key, bad value
        reason = in_short(str(error))
    except RecursionError:
        reason = "lists or tables in one another, hundreds deep"
    raise ValueError(f"Expected {expected}, got: {reason.removesuffix('.')}. {remedy}")


def settings_to_dict(settings: Any) -> dict[str, Any]:
    """Returns a settings dataclass as JSON values, nested ones included."""
    # Not msgspec alone: it leaves out fields at their default on dataclasses that it built itself.
    return msgspec.to_builtins(asdict(settings))
