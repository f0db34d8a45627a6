"""The examples of docs/python.md run and print what stands below them, and the page names all that is public."""

import contextlib
import io
import re
from pathlib import Path

import pytest

import laegd

PAGE = (Path(__file__).parent.parent / "docs" / "python.md").read_text()
EXAMPLE = re.compile(r"```python\n(.*?)```\n\n```\n(.*?)```", re.DOTALL)
NUMBER = re.compile(r"\d+\.\d+")
TIMES = re.compile(r"\S+$", re.MULTILINE)  # the last column of the table of scores, milliseconds


def test_examples_print_what_is_shown():
    """The same words and the same numbers to a thousandth, but for times."""
    assert PAGE.count("```python") == len(EXAMPLE.findall(PAGE)) > 3
    names: dict = {}
    for code, shown in EXAMPLE.findall(PAGE):
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(code, names)
        printed = output.getvalue()
        if "print(scores)" in code:
            printed, shown = (TIMES.sub("", text) for text in (printed, shown))
        assert NUMBER.sub("#", printed).split() == NUMBER.sub("#", shown).split(), code
        assert list(map(float, NUMBER.findall(printed))) == pytest.approx(
            list(map(float, NUMBER.findall(shown))), rel=1e-3
        ), code


def test_page_names_all_that_is_public():
    """Every name stands in the table at the end, and no other."""
    table = PAGE[PAGE.index("## Names") :]
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(laegd.__all__)
