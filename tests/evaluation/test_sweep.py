"""Names of models and data sets in a sweep, and the matrix that it prints."""

import csv
import io
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from laegd.evaluation.benchmark import Summary
from laegd.evaluation.report import sweep_legend, sweep_tables
from laegd.evaluation.results import write_csv
from laegd.evaluation.rows import Rows
from laegd.evaluation.sweep import Cell, Model, TestSet, data_name, make_cells, other_settings, require_distinct
from laegd.graphs.dataset import Dataset, Recipe, generate
from laegd.scenario.generator import ScenarioConfig, TruncatedNormal
from laegd.scenario.scenario import Channel
from laegd.solvers.exact import ExactSolver

PAPER = ("gs2_gu4_au2", "gs2_gu5_au3", "gs3_gu6_au4", "gs3_gu7_au5", "gs6_gu14_au10", "gs6_gu16_au11")
PAPER += ("gs9_gu19_au12", "gs9_gu20_au13")


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (ScenarioConfig(), "gs3_gu6_au4"),
        (ScenarioConfig(channel=Channel(bandwidth_hz=1e6)), "gs3_gu6_au4 (channel.bandwidth_hz=1e6)"),
        (ScenarioConfig(deadline_s=1.5, num_haps=2), "gs3_gu6_au4 (num_haps=2, deadline_s=1.5)"),
        (ScenarioConfig(chip_energy_factor=3.25e-27), "gs3_gu6_au4 (chip_energy_factor=3.25e-27)"),
        (ScenarioConfig(deadline_s=1.2345678901), "gs3_gu6_au4 (deadline_s=1.2345678901)"),
        (
            ScenarioConfig(workload_flop=replace(ScenarioConfig().workload_flop, sd=1e9)),
            "gs3_gu6_au4 (workload_flop.sd=1e9)",
        ),
    ],
)
def test_data_set_is_called_by_what_differs_from_the_default(config, name):
    """The scale, then dotted keys in the order of the settings; numbers in full but short."""
    assert data_name("gs3_gu6_au4", config) == name


def test_other_settings_give_the_config_back():
    """The default with these keys put in is the config."""
    config = ScenarioConfig(workload_flop=TruncatedNormal(4e9, 2.5e9, 1.2e9, 7e9), channel=Channel(carrier_hz=2e8))
    assert other_settings(config) == {"workload_flop.mean": 4e9, "channel.carrier_hz": 2e8}
    assert other_settings(ScenarioConfig()) == {}


def test_one_name_for_two_is_refused():
    """Both places are named."""
    require_distinct("--data", [("a", "x"), ("b", "y")])
    with pytest.raises(ValueError, match=r"--data: Expected names that differ, got a for both x and z\. Rename"):
        require_distinct("--data", [("a", "x"), ("b", "y"), ("a", "z")])


def made_up_cell(model, name, trained_on, infeasible=0.0):
    """A cell with a mean of 1.0123."""
    numbers = [np.ones(2)] * 6
    summary = Summary("gadsg", name, "optimum", 2, 1.0123, 0.0042, 1.0, 1.1, 0.9, infeasible, 0, 0, 0, None, 0)
    solver, dataset = ExactSolver(), SimpleNamespace(manifest=SimpleNamespace(scale=name))
    rows = Rows(numbers[0], numbers[1], np.ones(2, dtype=bool), *numbers[3:])
    test_set = object.__new__(TestSet)
    object.__setattr__(test_set, "name", name)
    object.__setattr__(test_set, "dataset", dataset)
    return Cell(Model(model, solver, {}, trained_on), test_set, summary, rows)


def test_matrix_of_the_papers_scales_fits_into_80_columns():
    """Eight scales and a shifted one by two models, one with a long name: every mean is there, home scales starred."""
    names = [*PAPER, "gs3_gu6_au4 (channel.bandwidth_hz=1e6)"]
    models = {"specialist-for-gs3_gu6_au4": ("gs3_gu6_au4",), "generalist": PAPER}
    cells = [
        made_up_cell(model, name, home, 0.01 if name == PAPER[-1] else 0)
        for model, home in models.items()
        for name in names
    ]
    console = Console(width=80, record=True, file=io.StringIO())
    for table in sweep_tables(cells, "mean cost / optimum"):
        console.print(table)
    text = console.export_text()
    assert "…" not in text and max(map(len, text.splitlines())) <= 80
    # 18 cells, starred: the specialist's one and the generalist's eight; only the last scale has plans missing
    assert text.count("1.0123") == 18 and text.count("1.0123*") == 9
    assert text.count("±0.0042") == 18 and text.count("1.0%inf") == 2
    assert sweep_legend(cells)[1] == "[9] gs3_gu6_au4 (channel.bandwidth_hz=1e6)" and text.count("[9]") == 1


def test_names_are_shown_as_they_are():
    """Neither markup nor what moves a cursor: the name of a model file is anyone's text."""
    cells = [made_up_cell("[red]x[/red]\x1b[2J", name, ()) for name in PAPER[:1]]
    console = Console(width=80, record=True, file=io.StringIO(), force_terminal=True)
    for table in sweep_tables(cells, "cost / [b]a[/b]\x1b]0;t\x07"):
        console.print(table)
    text = console.export_text()
    assert "[red]x[/red]" in text and "cost / [b]a[/b]" in text  # a long name is folded
    assert r"[red]x[/red]\x1b" in text and "[2J" in text and "\x1b" not in text and "\x07" not in text


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+1+1", "'+1+1"),
        ("-cmd", "'-cmd"),
        ("@sum(a)", "'@sum(a)"),
        ("\t=1", r"\t=1"),
        ("\r=1", r"\r=1"),
    ],
)
def test_no_name_is_a_formula_in_a_spreadsheet(tmp_path, name, cell):
    """It gets an apostrophe in front; numbers, negative ones too, have none. Control characters are escaped."""
    write_csv(tmp_path / "r.json", ("method", "cost"), [(name, "-1.5"), ("gadsg", "nan"), ("a=b", -2)])
    with open(tmp_path / "r.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [["method", "cost"], [cell, "-1.5"], ["gadsg", "nan"], ["a=b", "-2"]]


def test_cells_are_relative_to_the_reference_of_their_data_set(tmp_path):
    """Two models on two data sets, model by model: cost over the cost of the model that is the reference."""
    test_sets, rows, models = [], {}, [Model(name, ExactSolver(name), {}) for name in ("a", "b")]
    for seed, scale in enumerate(("gs2_gu4_au2", "gs2_gu5_au3")):
        generate(Recipe(scale, 2, seed), tmp_path / scale)
        test_sets.append(TestSet(scale, Dataset.open(tmp_path / scale)))
        for name, factor in (("a", 3.0), ("b", 2.0)):
            cost, zeros = np.array([factor, factor * 10 ** (seed + 1)]), np.zeros(2)
            rows[name, scale] = Rows(cost, np.ones(2), np.ones(2, dtype=bool), zeros, zeros, zeros)
    cells = make_cells(models, test_sets, rows, "b")
    found = [(cell.model.name, cell.test_set.name, cell.summary.method, cell.summary.mean_ratio) for cell in cells]
    scales = [one.name for one in test_sets]
    assert found == [(name, scale, name, mean) for name, mean in (("a", 1.5), ("b", 1.0)) for scale in scales]
