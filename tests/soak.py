"""Soak tests: a person runs them whole with `pytest -m soak`, `.ci/run` a part that changes with the commit.

LAEGD_SOAK_PART=3/10 takes every tenth of them in the order of collection, from the third on. Ten tenths are the whole.
"""

import os
from collections.abc import Sequence
from typing import TypeVar

import pytest

VARIABLE = "LAEGD_SOAK_PART"
Item = TypeVar("Item")


def of_part(items: Sequence[Item], text: str) -> list[Item]:
    """Returns the items of part K/N; all where the text is empty."""
    if not text:
        return list(items)
    number, _, parts = text.partition("/")
    if not (number.isdecimal() and parts.isdecimal() and 1 <= int(number) <= int(parts)):
        raise pytest.UsageError(f"{VARIABLE}: Expected K/N with K from 1 to N, got {text!r}. Use 3/10.")
    return list(items[int(number) - 1 :: int(parts)])


def pytest_report_header() -> str | None:
    text = os.environ.get(VARIABLE, "")
    of_part([], text)
    return f"soak tests: part {text} ({VARIABLE}={text})" if text else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    soak = [item for item in items if item.get_closest_marker("soak")]
    chosen = set(of_part(soak, os.environ.get(VARIABLE, "")))
    left_out = [item for item in soak if item not in chosen]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in set(left_out)]
