"""A compile cache of a test's own."""

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

import laegd.training.cache

SETTINGS = (
    "jax_compilation_cache_dir",
    "jax_enable_compilation_cache",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)


@pytest.fixture
def cache_folder(tmp_path):
    """Yields the folder in which this test alone keeps programs; JAX and laegd have looked at none before."""

    def forget():
        laegd.training.cache._checked.cache_clear()
        compilation_cache.reset_cache()

    before = {name: jax.config.values[name] for name in SETTINGS}
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    forget()
    jax.config.update("jax_compilation_cache_dir", str(folder))
    yield folder
    for name, value in before.items():
        jax.config.update(name, value)
    forget()
