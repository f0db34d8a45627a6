"""Servers and users from columns of values, as `Scenario.from_arrays` takes them."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from laegd.scenario.checks import require

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
else:
    ArrayLike = Any  # checks at run time would refuse a float for NumPy's `complex`

Row = TypeVar("Row")


def columns_of(side: str, xyz_m: ArrayLike, columns: Mapping[str, ArrayLike]) -> dict[str, list]:
    """Returns a list per column, those of the positions included, all as long as there are positions.

    Args:
        side: "server" or "user", for errors.
        xyz_m: positions, of shape [side, 3].
        columns: one value, or one per position; of names that begin with `is_`, truth values.

    Raises:
        ValueError: A column has another shape, or no numbers; it is named.
    """
    places = _array(f"{side}_xyz_m", xyz_m)
    shaped = places.ndim == 2 and places.shape[1] == 3
    require(shaped, f"{side}_xyz_m", f"an array of shape [{side}, 3]", places.shape, "Give x, y and z of each.")
    lists: dict[str, list] = dict(zip(("x_m", "y_m", "z_m"), places.T.tolist(), strict=True))
    for name, values in columns.items():
        field, array = f"{side}_{name}", _array(f"{side}_{name}", values)
        expected = f"one value, or {len(places)}, one for each {side}"
        require(array.shape in ((), (len(places),)), field, expected, array.shape, "Correct its length.")
        if name.startswith("is_"):
            require(bool(np.isin(array, (0.0, 1.0)).all()), field, "True or False", values, "Correct it.")
        lists[name] = np.broadcast_to(array, len(places)).tolist()
    return lists


def _array(field: str, values: ArrayLike) -> np.ndarray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{field}: Expected an array of numbers, got: {error} Give one row each.") from error


def server_names(types: Sequence[str]) -> list[str]:
    """Returns hap, gs1, gs2, ...; hap0, hap1, ... where there are several platforms."""
    num_haps, num_ground, names = types.count("HAP"), 0, []
    for s, kind in enumerate(types):
        num_ground += kind == "GS"
        names.append(f"gs{num_ground}" if kind == "GS" else "hap" if num_haps == 1 else f"hap{s - num_ground}")
    return names


def items_of(side: str, kind: Callable[..., Row], columns: Mapping[str, list]) -> tuple[Row, ...]:
    """Builds the server or user of each row; raises ValueError that names the row where one breaks a rule."""
    count = len(columns["type"])
    expected = f"{count} names, one for each {side}"
    require(len(columns["id"]) == count, f"{side}_ids", expected, len(columns["id"]), "Correct its length.")
    items = []
    for position, row in enumerate(zip(*columns.values(), strict=True)):
        try:
            items.append(kind(**dict(zip(columns, row, strict=True))))
        except ValueError as error:
            raise ValueError(f"{side}s[{position}].{error}") from error
    return tuple(items)
