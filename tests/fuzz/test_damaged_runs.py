"""A run folder with damaged files: it loads as it was, or is refused in a line."""

import random
import shutil

import jax
import numpy as np
import pytest
from guard import SECONDS, flaw, time_limit
from mutations import mutate

import laegd


def leaves(params):
    """Parameter name -> values."""
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(params)}


@pytest.fixture(scope="module")
def whole(run):
    """The parameters of the undamaged run."""
    return leaves(laegd.load(run).loaded.params)


def outcome(folder, whole):
    """Returns what is wrong with the answer, None where the run loads as it was or is refused."""
    try:
        with time_limit(4 * SECONDS):
            params = leaves(laegd.load(folder).loaded.params)
    except ValueError as error:
        return flaw(str(error))
    same = params.keys() == whole.keys() and all(np.array_equal(params[name], whole[name]) for name in whole)
    return None if same else "other parameters"


def feed_damaged_runs(run, whole, folder, numbers, sealed=True):
    """Damages one file of a copy after another; fails with the numbers of all copies that were taken for whole."""
    shutil.copytree(run / "checkpoints", folder / "checkpoints")
    if not sealed:
        for digest in folder.glob("checkpoints/*.sha256"):
            digest.unlink()
    files = sorted(path.relative_to(folder) for path in (folder / "checkpoints").rglob("*") if path.is_file())
    contents = {path: (folder / path).read_bytes() for path in files}
    found = {}
    for number in numbers:
        rng = random.Random(f"run-{number}")
        path = rng.choice(files)
        (folder / path).write_bytes(mutate(contents[path], list(contents.values()), rng))
        try:
            wrong = outcome(folder, whole)
        except Exception as error:
            wrong = f"{type(error).__name__}: {str(error)[:200]}"
        if wrong is not None:
            found[number] = (str(path), wrong)
        (folder / path).write_bytes(contents[path])
    assert not found, "\n".join(f"number {number}: {path}: {wrong}" for number, (path, wrong) in found.items())


def test_a_damaged_run_loads_as_it_was_or_is_refused(run, whole, tmp_path):
    """Flipped bits, cuts, insertions in any file of the checkpoints."""
    feed_damaged_runs(run, whole, tmp_path, range(20))


@pytest.mark.soak
@pytest.mark.parametrize("tenth", range(10))
def test_many_damaged_runs_load_as_they_were_or_are_refused(run, whole, tmp_path, tenth):
    feed_damaged_runs(run, whole, tmp_path, range(tenth, 300, 10))


@pytest.mark.soak
@pytest.mark.parametrize("tenth", range(10))
def test_many_damaged_runs_without_digests_load_as_they_were_or_are_refused(run, whole, tmp_path, tenth):
    """As a crash, or an older version, leaves them."""
    feed_damaged_runs(run, whole, tmp_path, range(tenth, 300, 10), sealed=False)
