"""Tables of places: the sites of an operator, the positions of users, and what is known of each.

Positions are latitude and longitude, or metres on a plane. Further columns are read where a table has them: reach,
altitude, devices and tasks (`SERVER_COLUMNS`, `USER_COLUMNS`).
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from laegd.scenario.places import Places, PlanarPlaces
from laegd.scenario.scenario import require
from laegd.scenario.tables import ABOVE_ZERO, Table, plain_name, read_table, require_no_bad_rows

Crs = Literal["degrees", "metres"]

# Plain names, in order of preference; `Latitude (deg)` is found as latitudedeg.
LATITUDE_NAMES = ("latitude", "lat", "latitudedeg", "latdeg", "latitudewgs84", "ycoord", "y")
LONGITUDE_NAMES = ("longitude", "lon", "lng", "long", "longitudedeg", "londeg", "longitudewgs84", "xcoord", "x")
NORTH_NAMES = ("ym", "y", "northing", "northm", "north", "ycoord", "northingm")
EAST_NAMES = ("xm", "x", "easting", "eastm", "east", "xcoord", "eastingm")
ID_NAMES = ("id", "siteid", "serverid", "userid", "stationid", "cellid", "uuid", "name", "sitename")
MAX_ID_LENGTH = 200  # of the scenario format
# Of latitude and longitude, or of projected y and x: no projection of the earth is wider.
LIMITS: Mapping[Crs, tuple[float, float]] = {"degrees": (90.0, 180.0), "metres": (1e8, 1e8)}


class Column(NamedTuple):
    """An optional column: its plain names, the least and the largest value, and the unit."""

    names: tuple[str, ...]
    low: float
    high: float
    unit: str


_REACH = Column(("coverageradiusm", "reachm", "rangem", "range", "radiusm", "radius"), ABOVE_ZERO, math.inf, "metres")
_ALTITUDE = Column(("altitudem", "zm", "altitude", "heightm", "height", "z"), 0.0, 1e6, "metres")
_CAPACITY = Column(("capacityflops", "flops"), ABOVE_ZERO, math.inf, "FLOP/s")

SERVER_COLUMNS: Mapping[str, Column] = {
    "coverage_radius_m": _REACH,
    "z_m": _ALTITUDE,
    "capacity_flops": _CAPACITY,
    "active_power_w": Column(("activepowerw",), ABOVE_ZERO, math.inf, "watts"),
}
USER_COLUMNS: Mapping[str, Column] = {
    "z_m": _ALTITUDE,
    "capacity_flops": _CAPACITY,
    "transmit_power_w": Column(("transmitpowerw",), ABOVE_ZERO, math.inf, "watts"),
    "workload_flop": Column(("workloadflop", "workload"), ABOVE_ZERO, math.inf, "FLOP"),
    "task_bits": Column(("taskbits",), ABOVE_ZERO, math.inf, "bits"),
    "delay_weight": Column(("delayweight", "weight"), 0.0, 1.0, "a weight"),
    "deadline_s": Column(("deadlines", "deadline"), ABOVE_ZERO, math.inf, "seconds"),
}


class PlacesTable(NamedTuple):
    """What a table of places holds, and what of it is not used."""

    places: Places | PlanarPlaces
    used: tuple[str, ...]
    """Columns beside id and position that are used, as the table spells them."""
    unused: tuple[str, ...]
    """Columns that are not used."""
    skipped: tuple[int, ...]
    """Numbers of the rows that were left out."""

    def __str__(self) -> str:
        parts = [
            f"{title} {', '.join(map(str, values))}"
            for title, values in (
                ("columns used:", self.used),
                ("columns not used:", self.unused),
                ("rows left out:", self.skipped),
            )
            if values
        ]
        return "; ".join(parts)


def read_places(
    path: str | Path,
    columns: Mapping[str, Column],
    *,
    crs: Crs = "degrees",
    id_columns: Sequence[str] = (),
    skip_bad_rows: bool = False,
) -> PlacesTable:
    """Reads places from a CSV file, plain or gzipped.

    Columns are found by their usual names in any case. The separator is a comma, a semicolon or a tab; decimal commas
    are read unless it is a comma. Points without an id are named after their row: `row2` is the first below the header.

    Args:
        path: The file.
        columns: Further columns to read where the table has them: `SERVER_COLUMNS` or `USER_COLUMNS`.
        crs: Whether positions are latitude and longitude in degrees, or x and y in metres on a plane.
        id_columns: Columns whose cells, joined by a hyphen, make the id; none: the first of `ID_NAMES` that is found.
        skip_bad_rows: Leaves out rows that cannot be read; else they are an error that lists them all.

    Raises:
        ValueError: naming file, row, column and value of what cannot be read.
    """
    path = Path(path)
    table = read_table(path, lambda table: _position(table, crs) is not None, _expected(crs))
    position = _position(table, crs)
    assert position is not None
    found = {name: table.column(column.names) for name, column in columns.items()}
    found = {name: index for name, index in found.items() if index is not None}
    ids = _ids_of(table, id_columns)
    row_of_id: dict[str, int] = {}
    rows, bad = [], []
    for number, row in table.rows:
        try:
            rows.append(_numbers(table, row, position, [(i, columns[name]) for name, i in found.items()], crs))
        except ValueError as error:
            bad.append((number, str(error)))
        else:
            _take_id(path, number, "-".join(row[i].strip() for i in ids), table, ids, row_of_id)
    if bad and not skip_bad_rows:
        _say_if_metres(table, position, crs)
        require_no_bad_rows(path, bad)
    require(bool(rows), str(path), "a row that can be read", "none", "Correct the rows.")
    north, east, *known = np.array(rows).T
    values = dict(zip(found, known, strict=True))
    names = tuple(row_of_id)
    places = Places(names, north, east, values) if crs == "degrees" else PlanarPlaces(names, east, north, values)
    read = {*position, *ids}
    used = tuple(table.header[index] for index in found.values() if index not in read)
    unused = tuple(name for index, name in enumerate(table.header) if name and index not in read | set(found.values()))
    return PlacesTable(places, used, unused, tuple(number for number, _ in bad))


def _numbers(
    table: Table, row: Sequence[str], position: tuple[int, int], known: Sequence[tuple[int, Column]], crs: Crs
) -> tuple[float, ...]:
    """Reads position and further columns of a row; raises ValueError at the first that cannot be read."""
    table.require_length(row)
    point = [table.number(row, i, -most, most, crs) for i, most in zip(position, LIMITS[crs], strict=True)]
    return *point, *(_value(table, row, i, column) for i, column in known)


def read_sites(path: str | Path) -> Places:
    """Reads points from a CSV file: latitude and longitude in degrees and, where there is such a column, ids."""
    places = read_places(path, {}).places
    assert isinstance(places, Places)
    return places


def _position(table: Table, crs: Crs) -> tuple[int, int] | None:
    """Returns the columns of latitude and longitude, or of y and x."""
    names = (LATITUDE_NAMES, LONGITUDE_NAMES) if crs == "degrees" else (NORTH_NAMES, EAST_NAMES)
    north, east = map(table.column, names)
    return None if north is None or east is None else (north, east)


def _expected(crs: Crs) -> str:
    if crs == "metres":
        return "a header with columns such as x_m and y_m (--crs metres)"
    return "a header with columns such as latitude and longitude (or x_m and y_m with --crs metres)"


def _ids_of(table: Table, id_columns: Sequence[str]) -> list[int]:
    if not id_columns:
        found = table.column(ID_NAMES)
        return [] if found is None else [found]
    indices = [table.column([plain_name(name)]) for name in id_columns]
    for name, index in zip(id_columns, indices, strict=True):
        known = f"columns of the table: {', '.join(table.header)}"
        require(index is not None, f"{table.path}, id columns", known, name, "Name one of them.")
    return [index for index in indices if index is not None]


def _take_id(path: Path, number: int, name: str, table: Table, ids: Sequence[int], row_of_id: dict[str, int]) -> None:
    """Adds a row's id; raises ValueError where it is too long, or another row's."""
    name = (name.strip("-") and name) or f"row{number}"
    where = f"{path}, row {number}, column {'-'.join(table.header[i] for i in ids) or 'id'}"
    require(len(name) <= MAX_ID_LENGTH, where, f"an id of at most {MAX_ID_LENGTH} characters", name, "Shorten it.")
    remedy = "Rename one, or make ids of several columns with --server-id or --user-id."
    require(name not in row_of_id, where, f"an id other than row {row_of_id.get(name)}'s", name, remedy)
    row_of_id[name] = number


def _value(table: Table, row: Sequence[str], index: int, column: Column) -> float:
    """Reads a cell of an optional column; nan where it is empty."""
    if not row[index].strip():
        return math.nan
    return table.number(row, index, column.low, column.high, column.unit)


def _say_if_metres(table: Table, position: tuple[int, int], crs: Crs) -> None:
    """Raises ValueError where what should be degrees looks like metres in most rows."""
    if crs != "degrees":
        return
    cells = [[row[index].strip() for index in position if index < len(row)] for _, row in table.rows]
    far = sum(any(_is_far(cell) for cell in pair) for pair in cells)
    names = " and ".join(table.header[index] for index in position)
    require(
        2 * far <= len(cells),
        f"{table.path}, columns {names}",
        "degrees",
        f"numbers beyond 360 in {far} of {len(cells)} rows",
        "They look like metres: read them with --crs metres.",
    )


def _is_far(cell: str) -> bool:
    try:
        return 360.0 < abs(float(cell)) < math.inf
    except ValueError:
        return False
