"""Traced programs are left to later processes, which trace only what has changed."""

import jax
import numpy as np
import pytest

from laegd.training.programs import kept


@pytest.fixture(autouse=True)
def folder(tmp_path):
    """JAX's cache folder, of this test alone."""
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    yield tmp_path
    jax.config.update("jax_compilation_cache_dir", before)


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


@pytest.mark.parametrize("length", [0, 10, 40, -1])
def test_a_damaged_file_is_traced_and_written_anew(calls, folder, length):
    assert calls("settings", 5) == 1
    (path,) = folder.glob("*.traced")
    whole = path.read_bytes()
    path.write_bytes(whole[:length] if length >= 0 else whole[:-1] + bytes([whole[-1] ^ 1]))
    assert [calls("settings", 5), calls("settings", 5)] == [2, 2]


def test_without_a_folder_nothing_is_kept(calls, folder):
    jax.config.update("jax_compilation_cache_dir", None)
    assert [calls("settings", 5), calls("settings", 5)] == [1, 2]
    jax.config.update("jax_compilation_cache_dir", str(folder / "file/beneath"))
    (folder / "file").touch()
    assert [calls("settings", 5), calls("settings", 5)] == [3, 4]
    assert not list(folder.glob("*.traced"))
