"""Where programs are kept: only where nobody else can put one, and what is damaged there is made again."""

import grp
import os
import pwd
import stat
import warnings
import zlib

import jax
import numpy as np
import pytest
from checks import missing
from jax.experimental.compilation_cache import compilation_cache

import laegd
import laegd.training.cache
from laegd.training.cache import default_folder, keep_programs


@pytest.fixture
def choose(cache_folder):
    """Names another folder, as a user does."""
    return lambda folder: jax.config.update("jax_compilation_cache_dir", folder and str(folder))


def refused(match):
    """Asserts that there is one warning, no folder, and that JAX uses none either."""
    with pytest.warns(UserWarning, match=match) as caught:
        assert keep_programs() is None
    assert len(caught) == 1 and not jax.config.values["jax_enable_compilation_cache"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert keep_programs() is None


def test_a_missing_folder_is_made_for_the_user_alone(cache_folder, choose):
    """With the folders above it, whatever the umask."""
    choose(cache_folder / "a/b")
    before = os.umask(0)
    try:
        assert keep_programs() == cache_folder / "a/b"
    finally:
        os.umask(before)
    for folder in (cache_folder / "a", cache_folder / "a/b"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777, 0o702])
def test_a_folder_that_others_can_write_is_not_used(cache_folder, mode):
    """Neither read nor written, with one warning; a sticky one too: others can add files to it."""
    cache_folder.chmod(mode)
    refused(f"{cache_folder}, which others can write, mode {mode:04o}")
    jax.jit(lambda x: x + 1)(np.ones(3))
    assert not list(cache_folder.iterdir())


def test_a_folder_of_somebody_else_is_not_used(cache_folder, monkeypatch):
    """Root's too: it is asked for a folder of the user's own."""
    owner = cache_folder.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    refused(f"{cache_folder}, which belongs to user {owner}")


@pytest.mark.parametrize(("mode", "used"), [(0o777, False), (0o1777, True), (0o755, True)])
def test_folders_above_are_looked_at(cache_folder, mode, used):
    """In one that others can write they could put another folder in its place, but in a sticky one, as /tmp."""
    cache_folder.parent.chmod(mode)
    if used:
        assert keep_programs() == cache_folder
    else:
        refused(f"{cache_folder.parent}, which others can write, mode {mode:04o}")


@pytest.mark.parametrize(
    ("name", "members", "used"),
    [("me", [], True), ("me", ["me"], True), ("me", ["me", "you"], False), ("staff", [], False)],
)
def test_a_group_of_the_user_alone_may_write_above(cache_folder, monkeypatch, name, members, used):
    """Many systems give each user a group of the same name, whose members no others are."""
    group = os.getegid()
    cache_folder.parent.chmod(0o770)
    monkeypatch.setattr(pwd, "getpwuid", lambda user: pwd.struct_passwd(("me", "x", user, group, "", "/", "sh")))
    monkeypatch.setattr(grp, "getgrgid", lambda group: grp.struct_group((name, "x", group, members)))
    if used:
        assert keep_programs() == cache_folder
    else:
        refused(f"{cache_folder.parent}, which others can write")


def test_an_unknown_user_shares_the_group(cache_folder, monkeypatch):
    """As in a container that has no such user."""
    cache_folder.parent.chmod(0o770)
    monkeypatch.setattr(grp, "getgrgid", lambda group: {}[group])
    refused(f"{cache_folder.parent}, which others can write")


def test_links_are_followed_once(cache_folder, choose):
    """What the link leads to is judged and used, so that no later link can lead elsewhere."""
    link = cache_folder.with_name("link")
    link.symlink_to(cache_folder)
    choose(link)
    assert keep_programs() == cache_folder == laegd.training.cache.Path(jax.config.values["jax_compilation_cache_dir"])
    (cache_folder / "open").mkdir()
    (cache_folder / "open").chmod(0o777)
    link.unlink()
    link.symlink_to(cache_folder / "open")
    laegd.training.cache._checked.cache_clear()
    choose(link)
    refused(f"{cache_folder}/open, which others can write")


def test_what_cannot_be_a_folder_is_told(cache_folder, choose):
    """Programs are then compiled at every start."""
    (cache_folder / "file").touch()
    choose(cache_folder / "file/beneath")
    refused("file/beneath: Not a directory")


@pytest.mark.parametrize("folder", ["", "gs://bucket/programs"])
def test_no_folder_and_folders_elsewhere_are_left_alone(choose, folder):
    """The user has chosen them."""
    choose(folder)
    assert keep_programs() is None
    assert (
        jax.config.values["jax_compilation_cache_dir"] == folder and jax.config.values["jax_enable_compilation_cache"]
    )


def test_python_keeps_programs_in_the_users_cache_folder(cache_folder, choose, monkeypatch):
    """Without a choice of the user's; a network that is loaded is enough. What takes 0.1 s to compile is kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_folder))
    monkeypatch.delenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", raising=False)
    choose(None)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
    laegd.load()
    folder = default_folder()
    assert folder.parent == cache_folder / "laegd/programs" and stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert jax.config.values["jax_compilation_cache_dir"] == str(folder)
    assert jax.config.values["jax_persistent_cache_min_compile_time_secs"] == 0.1


def test_a_limit_of_the_users_stays(cache_folder, choose, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_folder))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "7")
    choose(None)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 7.0)
    assert keep_programs() == default_folder()
    assert jax.config.values["jax_persistent_cache_min_compile_time_secs"] == 7.0


def start_and_compile():
    """Plays a process that compiles one small program; returns what JAX warned of."""
    laegd.training.cache._checked.cache_clear()
    compilation_cache.reset_cache()
    jax.clear_caches()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        keep_programs()
        assert float(jax.jit(lambda x: (3 * x).sum())(np.ones(5, np.float32))) == 15
    return [str(warning.message) for warning in caught]


def truncated(entry):
    entry.write_bytes(entry.read_bytes()[:-9])


def a_pipe(entry):
    entry.unlink()
    os.mkfifo(entry)


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: entry.write_bytes(b""),
        truncated,
        lambda entry: entry.write_bytes(b"garbage"),
        lambda entry: entry.write_bytes(zlib.compress(b"")),
        a_pipe,
    ],
    ids=["empty", "truncated", "garbage", "nothing packed", "pipe"],
)
def test_a_damaged_entry_of_jax_is_made_again(cache_folder, damage):
    """JAX would warn at each start, compile, and leave it as it is; a pipe it would wait for."""
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    assert start_and_compile() == []
    entries = sorted(cache_folder.glob("*-cache"))
    whole = [zlib.decompress(entry.read_bytes())[4:] for entry in entries]  # what comes before is the time it took
    damage(entries[0])
    assert start_and_compile() == []
    assert [len(zlib.decompress(entry.read_bytes())[4:]) for entry in entries] == [len(content) for content in whole]
    before = [entry.stat().st_mtime_ns for entry in entries]
    assert start_and_compile() == [] and [entry.stat().st_mtime_ns for entry in entries] == before


def test_files_that_others_left_are_not_used(cache_folder):
    """From a time when they could write there."""
    if os.geteuid() != 0:
        missing("ROOT", "gives files away, which only root can")
    names = ("x-cache", "y.traced", "other")
    for name in names:
        (cache_folder / name).write_bytes(b"planted")
        os.chown(cache_folder / name, 12345, -1)
    keep_programs()
    assert [name for name in names if (cache_folder / name).exists()] == ["other"]
