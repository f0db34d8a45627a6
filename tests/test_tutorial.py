"""The tutorial does what it says: its commands run, and print what stands on the page."""

import json
import re

import pytest
from tutorial import PAGE, outputs, run_command, run_page

NUMBER = re.compile(r"\d+(?:\.\d+)?")
EXACT = ("laegd import-sites", "laegd generate", "laegd solve town.json --method exact")


def words(text: str) -> list[str]:
    """The output without its numbers, which differ with the machine, and without the room that they take."""
    return NUMBER.sub("#", text).replace("\u2500", "").split()


def without_times(text: str) -> str:
    return re.sub(r"[\d.]+ ms", "# ms", text)


@pytest.mark.slow
def test_tutorial_prints_what_it_shows(tmp_path):
    """Every command runs and prints the page's words; what is not learned prints the page's numbers too."""
    page = PAGE.read_text()
    now = run_page(page, tmp_path, run_command)
    shown, printed = list(outputs(page)), list(outputs(now))
    assert len(shown) > 10
    for (command, old), (_, new) in zip(shown, printed, strict=True):
        assert words(new) == words(old), command
        if command.startswith(EXACT):
            assert without_times(new) == without_times(old), command
    best, learned = (json.loads((tmp_path / name).read_text())["cost"] for name in ("best.json", "polished.json"))
    assert best <= learned <= 1.1 * best
    assert (tmp_path / "report.html").stat().st_size > 10_000
