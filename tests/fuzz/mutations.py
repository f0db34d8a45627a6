"""Seeded damage to valid files: bytes changed at random, and JSON documents with wild values in wild places."""

import json
import random
from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any

NUMBERS = (
    b"0", b"-0.0", b"-1", b"1", b"2", b"0.5", b"1e308", b"-1e308", b"1e200", b"1e30", b"1e-30", b"1e-300", b"5e-324",
    b"1e400", b"1" + b"0" * 400, b"9" * 5000, b"NaN", b"nan", b"Infinity", b"-inf", b"2147483648", b"1000000000",
    b"9223372036854775808", b"18446744073709551616", b"1_000", b"0x10", b"true", b"null", b"1" + b"0" * 18,
)  # fmt: skip
TOKENS = (
    *NUMBERS,
    b"", b'"', b"'", b"[", b"]", b"{", b"}", b",", b":", b"\n", b"\r", b"\x00", b"\xff", b"\xef\xbb\xbf", b"\\", b"\t",
    b'""', b"[]", b"{}", b"=", b"[[", b"#", b'"\\ud800"', b'"\\u0000"', b"\xed\xa0\x80", b"../../x", b"/etc/passwd",
    b"<script>alert(1)</script>", b"\x1b[31m", b"\xe2\x80\xae", b"[" * 3000, b'{"a":' * 1500, b"a" * 200_000,
)  # fmt: skip
DEEP = "deep nesting"  # stands for three thousand brackets
WILD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 0.5, 1e308, -1e308, 1e200, 1e30, 1e-30, 1e-300, 5e-324, -0.0, 2**31, 2**63, 2**64,
    10**9, 10**18, 10**400, float("nan"), float("inf"), float("-inf"), "", "a", "0", "\x00", "\x1b[31m", "\ud800",
    "\u202e", "a" * 100_000, "../../x", "/etc/passwd", "<script>alert(1)</script>", "$\\frac{$", "\"'&", [], {}, [None],
    [[]], {"a": 1}, {"": {}}, [0.5] * 3, ["gs3_gu7_au5"], "gs3_gu7_au5", "gs100000_gu100000_au5", DEEP, "optimum",
)  # fmt: skip
_DIGITS = frozenset(b"0123456789")


def mutate(content: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Returns the content with one to four random changes, now and then with a piece of another file."""
    damaged = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        rng.choice(_CHANGES)(damaged, others, rng)
    return bytes(damaged)


def _flip(content: bytearray, others: Sequence[bytes], rng: random.Random) -> None:
    if content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def _truncate(content: bytearray, others: Sequence[bytes], rng: random.Random) -> None:
    del content[rng.randint(0, len(content)) :]


def _insert(content: bytearray, others: Sequence[bytes], rng: random.Random) -> None:
    at = rng.randint(0, len(content))
    content[at:at] = rng.choice((rng.choice(TOKENS), rng.randbytes(rng.randint(1, 8))))


def _delete(content: bytearray, others: Sequence[bytes], rng: random.Random) -> None:
    at = rng.randint(0, len(content))
    del content[at : at + rng.choice((1, 4, 30, 200))]


def _repeat(content: bytearray, others: Sequence[bytes], rng: random.Random) -> None:
    at = rng.randint(0, len(content))
    content[at:at] = content[at : at + rng.choice((1, 8, 60, 400))] * rng.choice((1, 2, 20))


def _splice(content: bytearray, others: Sequence[bytes], rng: random.Random) -> None:
    other = rng.choice(others)
    at, begin = rng.randint(0, len(content)), rng.randint(0, len(other))
    content[at : at + rng.choice((0, 50))] = other[begin : begin + rng.choice((10, 100, 1000))]


def _replace_number(content: bytearray, others: Sequence[bytes], rng: random.Random) -> None:
    starts = [i for i in range(len(content)) if content[i] in _DIGITS and (not i or content[i - 1] not in _DIGITS)]
    if not starts:
        return
    begin = end = rng.choice(starts)
    while end < len(content) and content[end] in b"0123456789.eE+-":
        end += 1
    content[begin:end] = rng.choice(NUMBERS)


_CHANGES = (_flip, _truncate, _insert, _delete, _repeat, _splice, _replace_number, _replace_number)


def paths(document: Any, prefix: tuple = ()) -> Iterator[tuple]:
    """Yields the place of every value in a JSON document as keys and positions."""
    yield prefix
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in items:
        yield from paths(value, (*prefix, key))


def edited(document: Any, edits: Sequence[tuple[tuple, str, Any]]) -> Any:
    """Returns a copy in which values are set, removed, doubled or given another key; places that are gone are left."""
    whole = [json.loads(json.dumps(document))]
    for path, how, value in edits:
        parent: Any = whole
        *way, last = (0, *path)
        try:
            for key in way:
                parent = parent[key]
            _edit(parent, last, how, value)
        except (KeyError, IndexError, TypeError):
            continue
    return whole[0] if whole else None


def _edit(parent: Any, key: Any, how: str, value: Any) -> None:
    if how == "set":
        parent[key] = deepcopy(value)  # later edits reach into it
    elif how == "remove":
        del parent[key]
    elif how == "rename" and isinstance(parent, dict):
        parent[str(value)[:50]] = parent.pop(key)
    elif how == "double" and isinstance(parent, list):
        parent.insert(key, deepcopy(parent[key]))


def dumped(document: Any) -> bytes:
    """Writes JSON as no careful program would: NaN, lone surrogates and deep nesting included."""
    text = json.dumps(document)
    return text.replace(json.dumps(DEEP), "[" * 3000 + "]" * 3000).encode()
