"""Tables from CSV files in the dialects that users have: separator, header, rows and cells, plain or gzipped."""

import csv
import gzip
import io
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from laegd.scenario.files import read_file
from laegd.scenario.scenario import in_short, require

SEPARATORS = ",;\t"
MAX_ROWS, MAX_BYTES = 1_000_000, 200_000_000  # of a file, after unpacking
MAX_BAD_ROWS_SHOWN = 20
ABOVE_ZERO = math.ulp(0.0)  # least value of a column whose numbers are above 0


@dataclass(frozen=True)
class Table:
    """A header and the rows below it that hold anything."""

    path: Path
    header_row: int
    """Number of the header's row, from 1."""
    header: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]
    """Number, as a spreadsheet shows it, and cells of each row."""
    decimal_comma: bool
    """Whether 1,5 is a number: the separator is no comma."""

    def column(self, names: Sequence[str]) -> int | None:
        """Returns the index of the first of some plain names among the columns; None where there is none of them."""
        plain = [plain_name(name) for name in self.header]
        return next((plain.index(name) for name in names if name in plain), None)

    def number(self, row: Sequence[str], column: int, low: float, high: float, unit: str) -> float:
        """Reads a number of a row; raises ValueError that names column, bounds, unit and value."""
        cell = row[column].strip() if column < len(row) else ""
        text = cell.replace(",", ".") if self.decimal_comma else cell
        try:
            value = math.nan if "_" in text else float(text)  # float() would take 1_0 for 10
        except ValueError:
            value = math.nan
        least = "above 0" if low == ABOVE_ZERO else f"of at least {low:g}"
        expected = f"{unit} from {low:g} to {high:g}" if math.isfinite(high) else f"{unit} {least}"
        # NaN fails the comparison, so it lands here with everything else that is no number.
        sound = low <= value <= high and math.isfinite(value)
        require(sound, f"column {self.header[column]}", expected, cell, "Correct it or remove the row.")
        return value

    def require_length(self, row: Sequence[str]) -> None:
        """Raises ValueError where a row has not the header's length, since cells may stand under the wrong column."""
        columns = len(self.header)
        cells = max(_length(row), min(len(row), columns))  # empty cells at the end of a longer row are harmless
        remedy = "Quote cells that hold a separator, or remove the row."
        require(cells == columns, "number of cells", f"{columns} as in the header", cells, remedy)


def read_table(path: Path, is_header: Callable[[Table], bool], expected: str) -> Table:
    """Reads a CSV file whose separator is a comma, a semicolon or a tab, whichever makes its first row a header.

    Args:
        path: File; gzipped where its name ends in .gz.
        is_header: Tells whether a table without rows has the columns that are needed.
        expected: These columns, for the error where they are not found.

    Raises:
        ValueError: The file is no such table, too large or damaged; names file, row and reason.
    """
    text = _text_of(path)
    headers = []
    for separator in SEPARATORS:
        rows = _rows_of(path, text, separator, strict=False)
        number, row = next(((number, row) for number, row in rows if any(row)), (1, []))
        header = tuple(cell.strip() for cell in row[: _length(row)])
        found = Table(path, number, header, (), decimal_comma=separator != ",")
        if is_header(found):
            rows = _rows_of(path, text, separator)
            filled = tuple((n, tuple(cells)) for n, cells in rows if n > number and any(map(str.strip, cells)))
            require(bool(filled), str(path), "at least one row below the header", "none", "Add the places.")
            return Table(path, number, header, filled, found.decimal_comma)
        headers.append(found)
    widest = max(headers, key=lambda found: len(found.header))
    columns = in_short(", ".join(widest.header))
    raise ValueError(
        f"{path}, row {widest.header_row}: Expected {expected}, got the columns: {columns}. Rename or add them."
    )


def plain_name(name: str) -> str:
    """Returns a column's name in lower case without blanks and punctuation: `Latitude (deg)` is latitudedeg."""
    return "".join(filter(str.isalnum, name)).lower()


def require_no_bad_rows(path: Path, bad: Sequence[tuple[int, str]]) -> None:
    """Raises ValueError that lists all rows that could not be read, by number and reason."""
    if len(bad) == 1:
        raise ValueError(f"{path}, row {bad[0][0]}, {bad[0][1]}")
    if bad:
        reasons = ((number, reason.rpartition(". ")[0] or reason) for number, reason in bad[:MAX_BAD_ROWS_SHOWN])
        listed = "; ".join(f"row {number}, {reason}" for number, reason in reasons)  # without the remedy of each
        more = f"; and {len(bad) - MAX_BAD_ROWS_SHOWN} more" if len(bad) > MAX_BAD_ROWS_SHOWN else ""
        raise ValueError(
            f"{path}: Expected rows that can be read, got {len(bad)} that cannot: {listed}{more}. "
            "Correct them, or leave them out with --skip-bad-rows."
        )


def _length(row: Sequence[str]) -> int:
    """Returns the number of cells up to the last one that is not empty."""
    return max((position for position, cell in enumerate(row, start=1) if cell.strip()), default=0)


def _text_of(path: Path) -> str:
    raw = read_file(path, "a CSV file", "Check the path, or remove what is no place.", MAX_BYTES)
    if path.suffix == ".gz":
        try:
            raw = gzip.GzipFile(fileobj=io.BytesIO(raw)).read(MAX_BYTES + 1)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(f"{path}: Expected a gzipped CSV file, got: {error}. Copy it again.") from error
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
