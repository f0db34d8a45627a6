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
from laegd.training.cache import keep_programs, read_own

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
        folder = keep_programs()
        if settings is None or folder is None or jax.device_count() > 1:
            return alone(*arguments)
        leaves, tree = jax.tree.flatten(arguments)
        shapes = tree, *((leaf.shape, leaf.dtype) for leaf in leaves)
        key = shapes, jax.default_backend(), tuple(jax.config.values.items())
        if key not in programs:
            name = hashlib.sha256(repr((_CODE, settings, key)).encode()).hexdigest()
            path = folder / f"{name}.traced"
            # Whatever goes wrong with what lies there, the program itself is asked; what goes wrong with that is told.
            with suppress(Exception):
                program = jax.jit(_read(path).call, **options)
                result = program(*arguments)
                programs[key] = program
                return result
            programs[key] = _traced(path, alone, arguments, options)
        return programs[key](*arguments)

    return run


def _read(path: Path) -> jax.export.Exported:
    """Reads a traced program; raises where there is none, or none of that name."""
    content = read_own(path) or b""
    if _digest(path, content[_DIGEST_BYTES:]) != content[:_DIGEST_BYTES]:
        raise ValueError
    return jax.export.deserialize(bytearray(content[_DIGEST_BYTES:]))


def _digest(path: Path, content: bytes) -> bytes:
    """Returns the SHA-256 of a file's name and content: a program under another's name is damage too."""
    return hashlib.sha256(path.name.encode() + content).digest()


def _traced(path: Path, program: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Traces a program and writes it; returns it as it is where JAX cannot export it, as what calls Python."""
    try:
        exported = jax.export.export(program)(*arguments)
    except NotImplementedError:  # JAX cannot export it; an error of the program's own comes again when it runs
        return program
    content = bytes(exported.serialize())
    with suppress(ValueError):  # without a place for it the next process traces again
        write_atomically(path, _digest(path, content) + content)
    return jax.jit(exported.call, **options)
