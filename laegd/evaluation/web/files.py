"""Result files of evaluate and sweep as the report reads them; keys that older versions did not write may be absent."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec
import numpy as np

from laegd.problem.instance import Instance, Plan
from laegd.problem.plan_json import plan_from_json
from laegd.scenario.files import read_file
from laegd.scenario.scenario import Scenario, decode_json, require

# Written out again, not imported from `results` and `sweep`: those load JAX, which a page does not need.
Format = Literal["laegd-results/1", "laegd-sweep/1"]
RESULTS_FORMAT, SWEEP_FORMAT = get_args(Format)

# What no evaluation gives, and beyond which charts have no scale, or take for ever.
MAX_RATIO, MAX_SECONDS, MAX_COUNT = 1e12, 1e12, 10**12
MAX_CELLS = 5_000  # of the heat maps
MAX_DEPTH = 50  # of settings
REMEDY = "Correct that number."


class Row(msgspec.Struct, frozen=True):
    """One method, or one model of a sweep, on one test set; see `benchmark.Summary`."""

    method: str
    test_set: str
    reference: str
    instances: int
    mean_ratio: float | None
    ratio_standard_error: float | None
    median_ratio: float | None
    p95_ratio: float | None
    accuracy: float
    infeasible: float
    seconds_model: float
    seconds_decode: float
    seconds_total: float
    quantiles: dict[str, float | None] | None = None
    model: str | None = None
    without_reference: int = 0


class Paired(msgspec.Struct, frozen=True):
    """Two methods on the same instances: ratio of `method` minus ratio of `other`, where both have a plan."""

    method: str
    other: str
    mean_difference: float | None
    standard_error: float | None
    instances: int
    better: int | None = None
    """Instances where `method` costs less."""
    equal: int | None = None


class Data(msgspec.Struct, frozen=True):
    """A data set that was solved."""

    scale: str
    count: int
    seed: int | None
    """None: networks of one's own."""
    labels: str
    digest: str
    name: str = ""
    setting: dict[str, Any] = {}


class Model(msgspec.Struct, frozen=True):
    """A trained model of a sweep."""

    name: str
    method: str
    trained_on: list[str] = []
    step: int | None = None
    settings: Any = None


class Example(msgspec.Struct, frozen=True):
    """A network with its plans, as they stand in the file."""

    index: int
    scenario: msgspec.Raw
    plans: list[msgspec.Raw]

    def read(self) -> tuple[Instance, list[Plan]]:
        """Returns the network and its plans; raises ValueError where they do not belong together."""
        instance = Instance.from_scenario(Scenario.from_json(bytes(self.scenario)))
        return instance, [plan_from_json(instance, bytes(plan)) for plan in self.plans]


class ResultFile(msgspec.Struct, frozen=True, dict=True):
    """What both kinds of file share, and what only one of them has."""

    format: Format
    results: list[Row]
    device: str = ""
    versions: dict[str, str] = {}
    command: str | None = None
    created: str | None = None
    commit: str | None = None
    reference: str | None = None
    settings: dict[str, Any] = {}
    paired: list[Paired] = []
    examples: list[Example] = []
    models: list[Model] = []
    data: Data | list[Data] | None = None

    @property
    def is_sweep(self) -> bool:
        """Several models on several data sets."""
        return self.format == SWEEP_FORMAT

    @cached_property
    def data_sets(self) -> list[Data]:
        """One for results, any number for a sweep."""
        return [] if self.data is None else self.data if isinstance(self.data, list) else [self.data]

    @property
    def reference_name(self) -> str:
        """What ratios are relative to."""
        return self.reference or self.results[0].reference


def read_files(paths: Sequence[Path]) -> list[ResultFile]:
    """Reads result files.

    Raises:
        ValueError: None is given, or one is missing, empty or of another kind; the message names file and field.
    """
    if not paths:
        raise ValueError("files: Expected at least one results file, got none. Write one with `laegd evaluate`.")
    return [_read(path) for path in paths]


def _read(path: Path) -> ResultFile:
    text = read_file(path, "a readable results file", "Check the path.")
    try:
        file = _decode(text)
        _check(file)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return file


def _decode(text: bytes) -> ResultFile:
    remedy, known = "Give a file that `laegd evaluate` or `laegd sweep` wrote.", f"{RESULTS_FORMAT} or {SWEEP_FORMAT}"
    found = decode_json(text, dict, f"{known} in JSON", remedy).get("format")
    require(found in (RESULTS_FORMAT, SWEEP_FORMAT), "format", known, found, remedy)
    return decode_json(text, ResultFile, f"{known} in JSON", remedy)


def _check(file: ResultFile) -> None:
    """Raises where the file holds what no page can show."""
    require(len(file.results) > 0, "results", "at least one row", "none", "Evaluate at least one method.")
    cells = len({row.model or row.method for row in file.results}) * len({row.test_set for row in file.results})
    require(cells <= MAX_CELLS, "results", f"at most {MAX_CELLS:,} models x test sets", cells, "Split the file.")
    for position, row in enumerate(file.results):
        _check_row(f"results[{position}]", row)
    for position, pair in enumerate(file.paired):
        counts = (pair.instances, pair.better or 0, pair.equal or 0)
        require(all(0 <= n <= MAX_COUNT for n in counts), f"paired[{position}]", "counts", counts, REMEDY)
        sizes = [abs(value) for value in (pair.mean_difference, pair.standard_error) if value is not None]
        require(all(s <= MAX_RATIO for s in sizes), f"paired[{position}]", f"at most {MAX_RATIO:g}", sizes, REMEDY)
    for position, data in enumerate(file.data_sets):
        require(0 <= data.count <= MAX_COUNT, f"data[{position}].count", "a count", data.count, REMEDY)
    settings = [file.settings, *(model.settings for model in file.models), *(data.setting for data in file.data_sets)]
    require(_depth(settings) <= MAX_DEPTH, "settings", f"at most {MAX_DEPTH} levels", "more", "Flatten them.")
    for position, example in enumerate(file.examples):
        try:
            example.read()
        except ValueError as error:
            raise ValueError(f"examples[{position}]: {error}") from error


def _depth(value: Any) -> int:
    """Returns how many lists and tables stand in one another, at most one more than are allowed."""
    depth, level = 0, [value]
    while level and depth <= MAX_DEPTH:
        inside = (one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list))
        level = [value for values in inside for value in values]
        depth += 1
    return depth


def _check_row(field: str, row: Row) -> None:
    ratios = [row.mean_ratio, row.median_ratio, row.p95_ratio, *(row.quantiles or {}).values()]
    known = [ratio for ratio in ratios if ratio is not None]
    require(all(np.isfinite(r) and r > 0 for r in known), field, "ratios above 0", known, REMEDY)
    sizes = [*known, abs(row.ratio_standard_error or 0.0)]
    require(max(sizes) <= MAX_RATIO, field, f"ratios of at most {MAX_RATIO:g}", sizes, REMEDY)
    for name in ("accuracy", "infeasible"):
        share = getattr(row, name)
        require(0 <= share <= 1, f"{field}.{name}", "a share from 0 to 1", share, REMEDY)
    for name in ("seconds_model", "seconds_decode", "seconds_total"):
        seconds, expected = getattr(row, name), "seconds of at least 0"
        require(seconds >= 0, f"{field}.{name}", expected, seconds, REMEDY)
        require(seconds <= MAX_SECONDS, f"{field}.{name}", f"at most {MAX_SECONDS:g}", seconds, REMEDY)
    for name in ("instances", "without_reference"):
        count = getattr(row, name)
        require(0 <= count <= MAX_COUNT, f"{field}.{name}", f"a count of at most {MAX_COUNT:g}", count, REMEDY)
