"""Traced programs, kept beside what JAX keeps of compiled ones.

JAX's cache spares a start the compiling of a program, but not the tracing and lowering, which take three times as long
as loading what was compiled. So the traced program is kept too, in JAX's portable form (StableHLO, not code of
Python's), under a digest of all that it depends on: laegd's source, the libraries' versions, settings and shapes.
"""

import hashlib
from collections.abc import Callable, Hashable
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.export

from laegd.scenario.files import write_atomically

_DIGEST_BYTES = hashlib.sha256().digest_size


def kept(function: Callable[..., Any], settings: Hashable, **options: Any) -> Callable[..., Any]:
    """Returns `jax.jit(function, **options)`, whose tracing a process leaves to those after it, on one device.

    Args:
        function: Takes and returns trees of arrays; NamedTuples in them are known to `jax.export`.
        settings: All that the function depends on beside laegd's source; its repr says so in full.
        options: Those of `jax.jit`.
    """
    alone, programs = jax.jit(function, **options), {}

    def run(*arguments: Any) -> Any:
        folder = jax.config.values["jax_compilation_cache_dir"]
        if folder is None or jax.device_count() > 1:
            return alone(*arguments)
        leaves, tree = jax.tree.flatten(arguments)
        shapes = tree, *((leaf.shape, leaf.dtype) for leaf in leaves)
        if shapes not in programs:
            name = hashlib.sha256(repr((_surroundings(), settings, shapes)).encode()).hexdigest()
            exported = _exported(Path(folder) / f"{name}.traced", alone, arguments)
            programs[shapes] = jax.jit(exported.call, **options)
        return programs[shapes](*arguments)

    return run


def _exported(path: Path, program: Any, arguments: tuple[Any, ...]) -> jax.export.Exported:
    """Reads a traced program, or traces it and writes it."""
    with suppress(OSError):
        content = path.read_bytes()
        if hashlib.sha256(content[_DIGEST_BYTES:]).digest() == content[:_DIGEST_BYTES]:
            return jax.export.deserialize(bytearray(content[_DIGEST_BYTES:]))
    exported = jax.export.export(program)(*arguments)
    content = exported.serialize()
    with suppress(ValueError):  # without a place for it the next process traces again
        write_atomically(path, hashlib.sha256(content).digest() + content)
    return exported


@cache
def _surroundings() -> tuple[str, ...]:
    """Returns all that every program depends on."""
    source = hashlib.sha256()
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        source.update(path.read_bytes())
    versions = [version(name) for name in ("jax", "jaxlib", "flax", "jraph", "numpy", "optax")]
    return (source.hexdigest(), *versions, jax.default_backend(), repr(sorted(jax.config.values.items(), key=str)))
