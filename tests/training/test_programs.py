"""Traced programs are left to later processes, which trace only what has changed."""

import hashlib
import os
from dataclasses import replace

import jax
import numpy as np
import pytest

import laegd
import laegd.training.programs
from laegd.training.programs import kept


@pytest.fixture(autouse=True)
def folder(cache_folder):
    """A cache folder of this test alone; small programs are not in what JAX itself keeps."""
    return cache_folder


@pytest.fixture
def calls():
    """How often a program was traced so far; each call plays a process of its own."""
    traced = []

    def call(settings, size):
        def doubled(tree, _):
            traced.append(size)
            return {name: 2 * values for name, values in tree.items()}

        (values,) = kept(doubled, settings)({"x": np.arange(size, dtype=np.float32)}, None).values()
        np.testing.assert_array_equal(values, 2 * np.arange(size))
        return len(traced)

    return call


def test_the_next_process_traces_nothing(calls, folder):
    assert [calls("settings", 5), calls("settings", 5)] == [1, 1]
    assert len(list(folder.glob("*.traced"))) == 1


def test_other_settings_and_shapes_are_traced_by_themselves(calls):
    assert [calls("settings", 5), calls("others", 5), calls("settings", 6), calls("settings", 5)] == [1, 2, 3, 3]


def a_pipe(path, content):
    path.unlink()
    os.mkfifo(path)


def a_link(path, content):
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def sealed(path, content):
    """Seals content as if it were whole."""
    path.write_bytes(hashlib.sha256(path.name.encode() + content).digest() + content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path, content: path.write_bytes(b""),
        lambda path, content: path.write_bytes(content[:10]),
        lambda path, content: path.write_bytes(content[:40]),
        lambda path, content: path.write_bytes(content[:-1] + bytes([content[-1] ^ 1])),
        lambda path, content: sealed(path, b""),
        lambda path, content: sealed(path, b"garbage"),
        lambda path, content: sealed(path, content[32:].replace(b"ML\xefR", b"junk")),
        a_pipe,
        a_link,
    ],
    ids=["empty", "10 bytes", "40 bytes", "a bit", "sealed nothing", "sealed garbage", "sealed damage", "pipe", "link"],
)
def test_a_damaged_file_is_traced_and_written_again(calls, folder, damage):
    """Whatever is wrong with it, also where its digest is right; and nothing is waited for."""
    assert calls("settings", 5) == 1
    (path,) = folder.glob("*.traced")
    whole = path.read_bytes()
    damage(path, whole)
    assert [calls("settings", 5), calls("settings", 5)] == [2, 2]
    assert path.is_file() and not path.is_symlink() and len(path.read_bytes()) == len(whole)


def test_a_program_under_the_name_of_another_is_not_used(calls, folder):
    """Both are whole, and take what the other takes."""
    assert calls("settings", 5) == 1
    (path,) = folder.glob("*.traced")
    tripled = kept(lambda tree, _: {name: 3 * values for name, values in tree.items()}, "three times")
    tripled({"x": np.arange(5, dtype=np.float32)}, None)
    (other,) = {*folder.glob("*.traced")} - {path}
    path.write_bytes(other.read_bytes())
    assert calls("settings", 5) == 2


def test_other_code_and_other_settings_of_jax_are_traced_by_themselves(calls, monkeypatch):
    """A process of another version does not take this one's programs, nor one that counts more exactly."""
    assert calls("settings", 5) == 1
    with jax.default_matmul_precision("highest"):
        assert [calls("settings", 5), calls("settings", 5)] == [2, 2]
    monkeypatch.setattr(laegd.training.programs, "_CODE", ("another",))
    assert [calls("settings", 5), calls("settings", 5)] == [3, 3]


def test_a_setting_of_jax_that_changes_later_is_heeded():
    """Also by a program that is there already."""
    traced = []
    program = kept(lambda x: traced.append(1) or 2 * x, "settings")
    program(np.ones(3, np.float32))
    with jax.default_matmul_precision("highest"):
        program(np.ones(3, np.float32))
    program(np.ones(3, np.float32))
    assert len(traced) == 2


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("jax_compilation_cache_dir", ""),
        ("jax_compilation_cache_dir", "gs://bucket/programs"),
        ("jax_enable_compilation_cache", False),
    ],
)
def test_where_nothing_is_to_be_kept_nothing_is(calls, folder, monkeypatch, setting, value):
    """No folder, none on this machine, or switched off."""
    monkeypatch.chdir(folder)
    before = jax.config.values[setting]
    jax.config.update(setting, value)
    try:
        assert [calls("settings", 5), calls("settings", 5)] == [1, 2]
    finally:
        jax.config.update(setting, before)
    assert not list(folder.iterdir())


def test_unknown_settings_and_a_folder_that_takes_no_file_keep_nothing(calls, folder):
    """Every process traces for itself."""
    assert [calls(None, 5), calls(None, 5)] == [1, 2]
    (folder / "file").touch()
    jax.config.update("jax_compilation_cache_dir", str(folder / "file/beneath"))
    with pytest.warns(UserWarning, match="Not a directory"):
        assert [calls("settings", 5), calls("settings", 5)] == [3, 4]
    assert not list(folder.glob("*.traced"))


def test_what_has_no_portable_form_runs_all_the_same(folder):
    """Such as a program that calls Python."""
    shape = jax.ShapeDtypeStruct((3,), np.float32)
    program = kept(lambda x: jax.pure_callback(lambda values: 2 * np.asarray(values), shape, x), "settings")
    np.testing.assert_array_equal(program(np.ones(3, np.float32)), [2, 2, 2])
    assert not list(folder.glob("*.traced"))


@pytest.mark.parametrize("error", [NotImplementedError, ValueError])
def test_errors_of_the_program_are_raised(folder, error):
    """Also of the kind by which JAX refuses to export."""

    def wrong(x):
        raise error("ours")

    with pytest.raises(error, match="ours"):
        kept(wrong, "settings")(np.ones(3, np.float32))


@pytest.mark.slow
def test_programs_of_planning_are_kept_and_would_be_on_accelerators(folder, monkeypatch):
    """Sampler and decoder, with local search; JAX refuses to export what another version may not know."""
    export = jax.export.export

    def export_everywhere(program):
        return lambda *values: [export(program, platforms=[name])(*values) for name in ("cuda", "tpu", "cpu")][-1]

    monkeypatch.setattr(jax.export, "export", export_everywhere)
    network = laegd.load(certify=False)
    network = network.with_settings(decode=replace(network.settings.decode, polish_rounds=2))
    scenarios = laegd.draw(laegd.ScenarioConfig(), laegd.Scale.parse("gs2_gu4_au2"), 2, np.random.default_rng(0))
    network.solve(laegd.InstanceBatch.from_scenarios(scenarios))
    assert len(list(folder.glob("*.traced"))) == 2
