"""Points on the globe from CSV files: the sites of an operator, the places of users."""

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from laegd.scenario.scenario import require

SEPARATORS = ",;\t"
# In order of preference; compared in lower case without blanks and punctuation, so `Latitude (deg)` is found too.
LATITUDE_NAMES = ("latitude", "lat", "latitudedeg", "latdeg", "latitudewgs84", "ycoord", "y")
LONGITUDE_NAMES = ("longitude", "lon", "lng", "long", "longitudedeg", "londeg", "longitudewgs84", "xcoord", "x")
ID_NAMES = ("id", "siteid", "serverid", "userid", "stationid", "cellid", "uuid", "name", "sitename")
MAX_ID_LENGTH = 200  # of the scenario format
MAX_ROWS, MAX_BYTES = 1_000_000, 200_000_000  # of a file


@dataclass(frozen=True)
class Places:
    """Named points on the globe; ids are unique."""

    ids: tuple[str, ...]
    latitude_deg: Float[np.ndarray, "point"]
    longitude_deg: Float[np.ndarray, "point"]

    def __post_init__(self) -> None:
        sizes = (len(self.ids), len(self.latitude_deg), len(self.longitude_deg))
        require(len(set(sizes)) == 1, "places", "as many ids as latitudes and longitudes", sizes, "Give one of each.")
        require(len(set(self.ids)) == len(self.ids), "ids", "unique ids", self.ids, "Rename the repeated ones.")
        for field, values, limit in (
            ("latitude_deg", self.latitude_deg, 90),
            ("longitude_deg", self.longitude_deg, 180),
        ):
            inside = np.abs(values) <= limit
            require(
                bool(inside.all()), field, f"-{limit:.0f} to {limit:.0f}", values[~inside].tolist(), "Give degrees."
            )

    def __len__(self) -> int:
        return len(self.ids)


class _Columns(NamedTuple):
    """Where a file keeps what is read, as (index, name as written); `id` may be missing."""

    latitude: tuple[int, str]
    longitude: tuple[int, str]
    id: tuple[int, str] | None


def _find_column(header: Sequence[str], names: Sequence[str]) -> tuple[int, str] | None:
    plain = ["".join(filter(str.isalnum, cell)).lower() for cell in header]
    return next(((plain.index(name), header[plain.index(name)].strip()) for name in names if name in plain), None)


def _find_columns(header: Sequence[str]) -> _Columns | None:
    latitude, longitude = _find_column(header, LATITUDE_NAMES), _find_column(header, LONGITUDE_NAMES)
    return _Columns(latitude, longitude, _find_column(header, ID_NAMES)) if latitude and longitude else None


def _text_of(path: Path) -> str:
    with open(path, "rb") as file:
        raw = file.read(MAX_BYTES + 1)
    require(len(raw) <= MAX_BYTES, str(path), f"at most {MAX_BYTES / 1e6:.0f} MB", "more", "Remove what is no place.")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row, value = raw.count(b"\n", 0, error.start) + 1, raw[error.start : error.end]
        raise ValueError(f"{path}, row {row}: Expected UTF-8 text, got {value!r}. Save the file as UTF-8.") from error
    require(bool(text.strip()), str(path), "a header and at least one row", "an empty file", "Fill it.")
    return text


def _rows_of(path: Path, text: str, separator: str, strict: bool = True) -> Iterator[tuple[int, list[str]]]:
    """Yields rows and their numbers, those that a spreadsheet shows, so empty rows count."""
    number = 0
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=strict, skipinitialspace=True)
    try:
        for number, row in enumerate(rows, start=1):
            if number > MAX_ROWS:
                raise ValueError(f"{path}: Expected at most {MAX_ROWS:,} rows, got more. Remove the empty ones.")
            yield number, row
    except csv.Error as error:
        raise ValueError(f"{path}, row {number + 1}: Expected CSV, got: {error}. Correct its quotes.") from error


def _degrees(where: str, cell: str, limit: float, decimal_comma: bool) -> float:
    number = cell.replace(",", ".") if decimal_comma else cell
    try:
        # float() would take 1_0 for 10
        value = math.nan if "_" in number else float(number)
    except ValueError:
        value = math.nan
    # NaN fails the comparison, so it lands here with everything else that is no coordinate
    require(
        abs(value) <= limit, where, f"degrees from -{limit:.0f} to {limit:.0f}", cell, "Correct it or remove the row."
    )
    return value


def _cell(row: Sequence[str], column: tuple[int, str] | None) -> str:
    return row[column[0]].strip() if column and column[0] < len(row) else ""


def _header_of(path: Path, text: str) -> tuple[int, str, _Columns]:
    """Returns the header's row number, the separator and the columns."""
    headers = []
    for separator in SEPARATORS:
        rows = _rows_of(path, text, separator, strict=False)
        headers.append((separator, *next(((number, row) for number, row in rows if any(row)), (1, []))))
    for separator, number, row in headers:
        if columns := _find_columns(row):
            return number, separator, columns
    _, number, row = max(headers, key=lambda header: len(header[2]))
    found = ", ".join(cell.strip() for cell in row)[:MAX_ID_LENGTH]
    expected = "a header with columns such as latitude and longitude"
    raise ValueError(f"{path}, row {number}: Expected {expected}, got the columns: {found}. Rename or add them.")


def read_sites(path: str | Path) -> Places:
    """Reads points from a CSV file: latitude and longitude in degrees and, where there is such a column, ids.

    Columns are found by their usual names in any case (`LATITUDE_NAMES`, `LONGITUDE_NAMES`, `ID_NAMES`). The separator
    is a comma, a semicolon or a tab; decimal commas are read unless it is a comma. Points without an id are named after
    their row: `row2` is the first below the header.

    Raises:
        ValueError: naming file, row, column and value of the first thing that cannot be read.
    """
    path = Path(path)
    text = _text_of(path)
    header, separator, columns = _header_of(path, text)
    row_of_id: dict[str, int] = {}
    degrees: list[tuple[float, float]] = []
    for number, row in _rows_of(path, text, separator):
        if number <= header or not any(cell.strip() for cell in row):
            continue

        def read(column: tuple[int, str], limit: float, row: list[str] = row, number: int = number) -> float:
            where = f"{path}, row {number}, column {column[1]}"
            return _degrees(where, _cell(row, column), limit, decimal_comma=separator != ",")

        degrees.append((read(columns.latitude, 90.0), read(columns.longitude, 180.0)))
        name = _cell(row, columns.id) or f"row{number}"
        where = f"{path}, row {number}, column {columns.id[1] if columns.id else 'id'}"
        require(len(name) <= MAX_ID_LENGTH, where, f"an id of at most {MAX_ID_LENGTH} characters", name, "Shorten it.")
        require(name not in row_of_id, where, f"an id other than row {row_of_id.get(name)}'s", name, "Rename one.")
        row_of_id[name] = number
    require(bool(degrees), str(path), "at least one row below the header", "none", "Add the places.")
    latitude_deg, longitude_deg = np.array(degrees).T
    return Places(tuple(row_of_id), latitude_deg, longitude_deg)
