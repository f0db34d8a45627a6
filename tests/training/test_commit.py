"""The commit that results name: of laegd's own source, or none."""

import subprocess
from pathlib import Path

import pytest

from laegd.training import meta


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A package laegd below a folder, whose commit is asked for; returns the folder and git."""
    for variable in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(variable, raising=False)
    module = tmp_path / "laegd" / "training" / "meta.py"
    module.parent.mkdir(parents=True)
    module.write_text("")
    monkeypatch.setattr(meta, "__file__", str(module))

    def git(*arguments):
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        done = subprocess.run(
            ["git", "-C", str(tmp_path), *who, *arguments], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    return tmp_path, git


def commit(git, name):
    """Commits one path; returns the commit."""
    git("add", name)
    git("commit", "-q", "-m", name)
    return git("rev-parse", "HEAD")


def test_no_repository_and_no_git_have_no_commit(source, monkeypatch):
    """As after an installation from a wheel."""
    assert meta.source_commit() is None
    monkeypatch.setenv("PATH", "/nonexistent")
    assert meta.source_commit() is None


def test_a_strangers_repository_is_not_the_source(source):
    """laegd lies in it, as in a virtual environment there, but is not tracked."""
    folder, git = source
    git("init", "-q")
    (folder / "own.py").write_text("")
    commit(git, "own.py")
    assert meta.source_commit() is None


def test_the_commit_is_the_last_that_changed_the_source(source):
    """Commits of other files leave it as it is, so a comparison goes on after them; a changed source has a plus."""
    folder, git = source
    git("init", "-q")
    first = commit(git, "laegd")
    assert meta.source_commit() == first
    (folder / "notes.md").write_text("mine")
    commit(git, "notes.md")
    (folder / "notes.md").write_text("changed")
    assert meta.source_commit() == first
    Path(meta.__file__).write_text("changed = True")
    assert meta.source_commit() == f"{first}+"
