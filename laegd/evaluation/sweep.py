"""Every model on every data set: how far a network carries beyond the scale and the settings that it was trained on.

Source: [1] GADSG, Fig. 6: models by scales. A data set drawn under other than the default settings is a column too.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from laegd.evaluation.benchmark import Summary, against, summarise
from laegd.evaluation.results import CSV_COLUMNS, about, csv_rows, origin, write_csv, write_json
from laegd.evaluation.rows import Rows
from laegd.graphs.dataset import Dataset
from laegd.problem.instance import Solver
from laegd.scenario.generator import ScenarioConfig
from laegd.scenario.scenario import settings_to_dict

SWEEP_FORMAT = "laegd-sweep/1"


@dataclass(frozen=True)
class Model:
    """A row of the sweep: a trained network, or a method that needs none."""

    name: str
    solver: Solver
    settings: dict[str, Any]
    trained_on: tuple[str, ...] = ()
    """Names of its training sets as in `data_name`, the scales; empty for methods without a network."""
    step: int | None = None


@dataclass(frozen=True)
class TestSet:
    """A column of the sweep."""

    __test__ = False  # of pytest

    name: str
    dataset: Dataset

    @staticmethod
    def open(folder: Path) -> "TestSet":
        """Opens a data set and names it for its scale and settings, networks of one's own for their folder."""
        dataset = Dataset.open(folder)
        recipe = dataset.recipe
        return TestSet(folder.resolve().name if recipe is None else data_name(recipe.scale, recipe.scenario), dataset)

    @property
    def setting(self) -> dict[str, Any]:
        """Returns what differs from the default scenario settings, by dotted key; empty for networks of one's own."""
        recipe = self.dataset.recipe
        return {} if recipe is None else other_settings(recipe.scenario)


@dataclass(frozen=True)
class Cell:
    """One model on one data set."""

    model: Model
    test_set: TestSet
    summary: Summary
    rows: Rows


def other_settings(config: ScenarioConfig) -> dict[str, Any]:
    """Returns what differs from the default scenario settings, by dotted key."""
    default = dict(_flat(settings_to_dict(ScenarioConfig())))
    return {key: value for key, value in _flat(settings_to_dict(config)) if value != default[key]}


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def data_name(scale: str, config: ScenarioConfig) -> str:
    """Returns the scale, and in brackets the settings that are not the default ones."""
    text = ", ".join(f"{key}={_short(value)}" for key, value in other_settings(config).items())
    return f"{scale} ({text})" if text else scale


def _short(value: Any) -> str:
    """Writes 1e6 for 1000000.0 and 2.5 for 2.5."""
    if not isinstance(value, float):
        return str(value)
    text = f"{value:g}" if float(f"{value:g}") == value else repr(value)
    mantissa, e, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent)}" if e else text


def require_distinct(option: str, names: Iterable[tuple[str, object]]) -> None:
    """Raises ValueError where two of the (name, source) have one name; it names both sources."""
    seen: dict[str, object] = {}
    for name, source in names:
        if name in seen:
            raise ValueError(
                f"{option}: Expected names that differ, got {name} for both {seen[name]} and {source}. "
                "Rename one, or leave it out."
            )
        seen[name] = source


def make_cells(
    models: Sequence[Model], test_sets: Sequence[TestSet], rows: Mapping[tuple[str, str], Rows], reference: str
) -> list[Cell]:
    """Reduces the rows of each (model, data set) to cells, model by model."""
    cells = {}
    for one in test_sets:
        column = against(reference, one.dataset, {model.name: rows[model.name, one.name] for model in models})
        for model in models:
            compared = column[model.name]
            summary = summarise(model.solver.name, one.dataset, compared, reference, one.name)
            cells[model.name, one.name] = Cell(model, one, summary, compared)
    return [cells[model.name, one.name] for model in models for one in test_sets]


def write_sweep(
    path: Path, models: Sequence[Model], test_sets: Sequence[TestSet], cells: Sequence[Cell], identity: str
) -> None:
    """Writes `sweep.json` and, beside it, a CSV with a row per model and instance."""
    document = {
        "format": SWEEP_FORMAT,
        **origin(cells[0].summary.reference, identity),
        "models": [
            {
                "name": model.name,
                "method": model.solver.name,
                "trained_on": list(model.trained_on),
                "step": model.step,
                "settings": model.settings,
            }
            for model in models
        ],
        "data": [{"name": one.name, "setting": one.setting, **about(one.dataset)} for one in test_sets],
        "results": [{"model": cell.model.name, **msgspec.to_builtins(cell.summary)} for cell in cells],
    }
    rows = ((*row, cell.model.name) for cell in cells for row in csv_rows(cell.summary, cell.rows))
    write_csv(path, (*CSV_COLUMNS, "model"), rows)
    write_json(path, document)
