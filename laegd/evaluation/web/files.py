"""Result files of evaluate and sweep as the report reads them; keys that older versions did not write may be absent."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec
import numpy as np

from laegd.problem.instance import Instance, Plan
from laegd.problem.plan_json import plan_from_json
from laegd.scenario.scenario import Scenario, require

# Written out again, not imported from `results` and `sweep`: those load JAX, which a page does not need.
Format = Literal["laegd-results/1", "laegd-sweep/1"]
RESULTS_FORMAT, SWEEP_FORMAT = get_args(Format)


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
    seed: int
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
    try:
        text = path.read_bytes()
    except OSError as error:
        reason = error.strerror
        raise ValueError(f"{path}: Expected a readable results file, got: {reason}. Check the path.") from error
    remedy = "Give a file that `laegd evaluate` or `laegd sweep` wrote."
    known = f"{RESULTS_FORMAT} or {SWEEP_FORMAT}"
    try:
        found = msgspec.json.decode(text, type=dict[str, Any]).get("format")
        require(found in (RESULTS_FORMAT, SWEEP_FORMAT), f"{path}: format", known, found, remedy)
        file = msgspec.json.decode(text, type=ResultFile)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:  # covers ValidationError
        raise ValueError(f"{path}: Expected {known} in JSON, got: {error}. {remedy}") from error
    require(len(file.results) > 0, f"{path}: results", "at least one row", "none", "Evaluate at least one method.")
    for position, row in enumerate(file.results):
        _check_row(f"{path}: results[{position}]", row)
    for position, example in enumerate(file.examples):
        try:
            example.read()
        except ValueError as error:
            raise ValueError(f"{path}: examples[{position}]: {error}") from error
    return file


def _check_row(field: str, row: Row) -> None:
    ratios = [row.mean_ratio, row.median_ratio, row.p95_ratio, *(row.quantiles or {}).values()]
    known = [ratio for ratio in ratios if ratio is not None]
    remedy = "Correct that number."
    require(all(np.isfinite(r) and r > 0 for r in known), field, "ratios above 0", known, remedy)
    require(row.seconds_total >= 0, f"{field}.seconds_total", "seconds of at least 0", row.seconds_total, remedy)
