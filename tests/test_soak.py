"""The parts in which soak tests run."""

import itertools

import pytest
from soak import of_part


@pytest.mark.parametrize("count", [0, 3, 95])
def test_parts_together_are_the_whole(count):
    """Each test is in one of ten parts, and parts differ by at most one test."""
    parts = [of_part(range(count), f"{number}/10") for number in range(1, 11)]
    assert sorted(itertools.chain(*parts)) == list(range(count)) == of_part(range(count), "")
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("text", ["0/10", "11/10", "3", "a/b", "-1/3", "1/0"])
def test_parts_that_are_none_are_refused(text):
    with pytest.raises(pytest.UsageError, match=r"LAEGD_SOAK_PART: Expected K/N with K from 1 to N, got"):
        of_part(range(5), text)
