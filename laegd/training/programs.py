"""Traced programs, kept beside what JAX keeps of compiled ones.

JAX's cache spares a start the compiling of a program, but not the tracing and lowering, which take longer than loading
what was compiled. So the traced program is kept too, in JAX's portable form (StableHLO, not code of Python's), under a
digest of all that it depends on: laegd's source, the libraries' versions, JAX's configuration, settings and shapes.
"""

import hashlib
from collections.abc import Callable, Hashable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.export

from laegd.scenario.files import write_atomically

_DIGEST_BYTES = hashlib.sha256().digest_size


def _digest_of_source() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


# Read when they are imported: what lies on the disk later may not be what runs.
_CODE = _digest_of_source(), *(version(name) for name in ("jax", "jaxlib", "flax", "jraph", "numpy", "optax"))


def kept(function: Callable[..., Any], settings: Hashable | None, **options: Any) -> Callable[..., Any]:
    """Returns `jax.jit(function, **options)`, whose tracing a process leaves to those after it, on one device.

    Args:
        function: Takes and returns trees of arrays; NamedTuples in them are known to `jax.export`.
        settings: All that the function depends on beside laegd's source; its repr says so in full. None: unknown, so
            every process traces.
        options: Those of `jax.jit`.
    """
    alone, programs = jax.jit(function, **options), {}

    def run(*arguments: Any) -> Any:
        folder = _folder()
        if settings is None or folder is None or jax.device_count() > 1:
            return alone(*arguments)
        leaves, tree = jax.tree.flatten(arguments)
        shapes = tree, *((leaf.shape, leaf.dtype) for leaf in leaves)
        key = shapes, jax.default_backend(), tuple(jax.config.values.items())
        if key not in programs:
            name = hashlib.sha256(repr((_CODE, settings, key)).encode()).hexdigest()
            exported = _exported(folder / f"{name}.traced", alone, arguments)
            programs[key] = alone if exported is None else jax.jit(exported.call, **options)
        return programs[key](*arguments)

    return run


def _folder() -> Path | None:
    """Returns JAX's cache folder; None where there is none, or none of this machine's."""
    folder = jax.config.values["jax_compilation_cache_dir"]
    used = folder and jax.config.values["jax_enable_compilation_cache"] and "://" not in folder
    return Path(folder) if used else None


def _exported(path: Path, program: Any, arguments: tuple[Any, ...]) -> jax.export.Exported | None:
    """Reads a traced program, or traces it and writes it; None where JAX cannot export it, as what calls Python."""
    with suppress(OSError):
        content = path.read_bytes()
        if hashlib.sha256(content[_DIGEST_BYTES:]).digest() == content[:_DIGEST_BYTES]:
            return jax.export.deserialize(bytearray(content[_DIGEST_BYTES:]))
    try:
        exported = jax.export.export(program)(*arguments)
    except NotImplementedError:  # by export; if by the program itself, running it raises this again
        return None
    content = exported.serialize()
    with suppress(ValueError):  # without a place for it the next process traces again
        write_atomically(path, hashlib.sha256(content).digest() + content)
    return exported
