"""Writes JSON values, however wild, as TOML, CSV and NumPy archives: careful about nothing."""

import io
import json
import zipfile
from typing import Any

import numpy as np
from mutations import DEEP, dumped

MAX_NUMBERS = 100_000  # of an array


def toml_of(document: Any) -> bytes:
    """Writes TOML, a line per key; what is no table is written as it is."""
    if not isinstance(document, dict):
        return _inline(document).encode(errors="surrogatepass")
    lines = [f"{_key(key)} = {_inline(value)}" for key, value in document.items()]
    return "\n".join(lines).encode(errors="surrogatepass")


def override_of(document: Any) -> bytes:
    """Writes KEY=VALUE as after `--set`."""
    if not isinstance(document, dict):
        return dumped(document)
    return f"{document.get('key')}={_inline(document.get('value'))}".encode(errors="surrogatepass")


def _key(key: object) -> str:
    return key if isinstance(key, str) and key.isidentifier() else json.dumps(str(key))


def _inline(value: Any) -> str:
    if value == DEEP:
        return "[" * 3000 + "]" * 3000
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)} = {_inline(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    if isinstance(value, float):
        return repr(value)
    return '""' if value is None else json.dumps(value)


def table_of(document: Any) -> bytes:
    """Writes CSV without quotes."""
    rows = document if isinstance(document, list) else [document]
    lines = [",".join(map(str, row)) if isinstance(row, list) else str(row) for row in rows]
    return "\n".join(lines).encode(errors="surrogatepass")


def archive_of(document: Any) -> bytes:
    """Writes an archive of arrays; where type and shape do not fit the numbers, one of them gives way."""
    content = io.BytesIO()
    document = document if isinstance(document, dict) else {"arrays": {"about": document}}
    with zipfile.ZipFile(content, "w") as archive:
        arrays = document.get("arrays")
        for name, one in arrays.items() if isinstance(arrays, dict) else ():
            _add(archive, str(name), _array(one))
        about = document.get("about")
        _add(archive, "about", np.array(about if isinstance(about, str) else dumped(about).decode()))
    return content.getvalue()


def _add(archive: zipfile.ZipFile, name: str, values: np.ndarray) -> None:
    member = io.BytesIO()
    np.lib.format.write_array(member, values, allow_pickle=True)
    archive.writestr(f"{name}.npy".encode(errors="replace").decode().replace("\x00", "?"), member.getvalue())


def _array(one: Any) -> np.ndarray:
    if not isinstance(one, dict):
        return np.array([str(one)])
    values, dtype, shape = one.get("values"), one.get("dtype"), one.get("shape")
    for kind in (dtype, None, object):
        try:
            array = np.array(values, dtype=kind)
            break
        except (ValueError, TypeError, OverflowError, SyntaxError, MemoryError, UnicodeError):
            continue
    else:
        array = np.zeros(3)
    try:
        if isinstance(shape, list) and np.prod([float(size) for size in shape]) < MAX_NUMBERS:
            return np.resize(array, tuple(shape))
    except (ValueError, TypeError, OverflowError):
        pass
    return array
