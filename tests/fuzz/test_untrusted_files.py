"""Whatever a file holds: it is used as it says, or refused in a line; no crash, no hang, no flood of memory."""

import random
import resource

import pytest
from guard import MEMORY, Outcomes, memory_limit
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from mutations import WILD, edited, mutate, paths
from readers import KINDS

pytestmark = pytest.mark.filterwarnings("ignore")

# Files per kind: (default run, soak run); of cheap ones more.
BYTES = {
    "scenario": (150, 20_000),
    "plan": (300, 40_000),
    "manifest": (60, 3_000),
    "shard": (40, 1_500),
    "settings": (150, 8_000),
    "override": (200, 10_000),
    "scenario settings": (150, 6_000),
    "places": (60, 2_500),
    "results": (150, 8_000),
    "page": (8, 200),
}
DOCUMENTS = {name: (max(count // 2, 8), max(soak // 10, 80)) for name, (count, soak) in BYTES.items()}
VALUES = st.one_of(
    st.sampled_from(WILD),
    st.floats(),
    st.integers(),
    st.text(max_size=8),
    st.floats(1e-40, 1e30),
    st.recursive(st.none() | st.booleans() | st.text(max_size=3), lambda inner: st.lists(inner, max_size=3)),
)
SEEDED = settings(derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
EDITS = st.sampled_from(("set", "set", "set", "remove", "rename", "double"))


@pytest.fixture(scope="session", params=KINDS)
def kind(request):
    return KINDS[request.param]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("untrusted")


def test_whole_files_are_accepted(kind, folder):
    """What is damaged below is whole before."""
    outcomes = Outcomes()
    whole = [*kind.valid(folder), *map(kind.write, kind.documents(folder))]
    for position, content in enumerate(whole):
        outcomes.feed(kind, content, folder, f"whole file {position}")
    assert outcomes.counts["accepted"] == len(whole)


def feed_damaged_bytes(kind, folder, numbers):
    """Feeds files with damaged bytes; each is made from its number."""
    outcomes, whole = Outcomes(), kind.valid(folder)
    for number in numbers:
        rng = random.Random(f"{kind.name}-{number}")
        outcomes.feed(kind, mutate(rng.choice(whole), whole, rng), folder, f"number {number}")
    return outcomes.counts


def feed_wild_documents(kind, folder, numbers):
    """Feeds as many files with wild values in wild places; those of another first number are others."""
    outcomes, whole = Outcomes(), kind.documents(folder)
    places = [list(paths(document)) for document in whole]

    @seed(numbers.start)
    @settings(SEEDED, max_examples=len(numbers))
    @given(st.data())
    def feed(data):
        which = data.draw(st.integers(0, len(whole) - 1))
        change = st.tuples(st.sampled_from(places[which]), EDITS, VALUES)
        edits = data.draw(st.lists(change, min_size=1, max_size=4))
        outcomes.feed(kind, kind.write(edited(whole[which], edits)), folder, f"edits {edits}")

    feed()
    return outcomes.counts


def fed(feed, kind, folder, numbers):
    """Feeds under limits; some files are refused, and memory stays bounded."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with memory_limit():
        counts = feed(kind, folder, numbers)
    assert counts["refused"] > 0
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MEMORY
    return counts


def test_damaged_bytes_are_used_or_refused(kind, folder):
    """Flipped bits, cuts, insertions, repeats, splices, other numbers."""
    fed(feed_damaged_bytes, kind, folder, range(BYTES[kind.name][0]))


def test_wild_documents_are_used_or_refused(kind, folder):
    """Values of any type and size, fields that are gone, twice there or named otherwise."""
    fed(feed_wild_documents, kind, folder, range(DOCUMENTS[kind.name][0]))


@pytest.mark.soak
@pytest.mark.parametrize("tenth", range(10))
def test_many_damaged_bytes_are_used_or_refused(kind, folder, tenth):
    """All kinds and tenths together a hundred thousand files and more."""
    fed(feed_damaged_bytes, kind, folder, range(tenth, BYTES[kind.name][1], 10))


@pytest.mark.soak
@pytest.mark.parametrize("tenth", range(10))
def test_many_wild_documents_are_used_or_refused(kind, folder, tenth):
    fed(feed_wild_documents, kind, folder, range(tenth, DOCUMENTS[kind.name][1], 10))
