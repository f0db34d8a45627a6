"""Measures the network that ships against the certified optimum and prints the tables of docs/models.md.

    python benchmarks/models.py --data data [--run-folder default] [--only scales budget]

Makes the test sets where they are missing; their seed is used nowhere else.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, Literal, get_args

import tyro

from laegd.evaluation.benchmark import Summary, device_name, run, summarise
from laegd.evaluation.gadsg import GADSG, load, random_belief
from laegd.graphs.dataset import Recipe
from laegd.scenario.generator import ScenarioConfig
from laegd.scenario.settings import load_scenario_config
from laegd.solvers.mcmf import MCMFSolver
from laegd.training.loop import ensure_data
from laegd.training.meta import source_commit

TEST_SEED = 53
POLISH = {"polish_rounds": 50, "polish_top": 8}
SCALES = (
    *("gs2_gu4_au2", "gs2_gu5_au3", "gs3_gu6_au4", "gs3_gu7_au5"),
    *("gs6_gu14_au10", "gs6_gu16_au11", "gs9_gu19_au12", "gs9_gu20_au13"),
)
UNSEEN = ("gs4_gu9_au6", "gs12_gu28_au18", "gs20_gu45_au30")
AERIAL = {"20 % aerial": "gs3_gu8_au2", "80 % aerial": "gs3_gu2_au8"}
SHIFTED = "gs3_gu7_au5"
BUDGET = ("gs3_gu7_au5", "gs9_gu20_au13")
Part = Literal["scales", "unseen", "shifts"]
PARTS: tuple[Part, ...] = get_args(Part)


def test_sets(part: Part) -> Iterator[tuple[str, Recipe, str]]:
    """Yields name, recipe and subfolder of every test set."""
    if part == "scales":
        yield from ((scale, Recipe(scale, 2000, TEST_SEED), "") for scale in SCALES)
    elif part == "unseen":
        yield from ((scale, Recipe(scale, 300, TEST_SEED), "") for scale in UNSEEN)
    else:
        for path in sorted(Path("configs/shifts").glob("*.toml")):
            yield path.stem, Recipe(SHIFTED, 500, TEST_SEED, scenario=load_scenario_config(path)), path.stem
        yield from ((name, Recipe(scale, 500, TEST_SEED), "") for name, scale in AERIAL.items())


def polished(solver: GADSG) -> GADSG:
    """Returns the same with local search."""
    return solver.with_settings(decode=replace(solver.settings.decode, **POLISH))


def variants(network: GADSG) -> dict[str, GADSG]:
    """Returns the network without and with local search, and with one sample."""
    return {"N = 8": network, "N = 8, polish": polished(network), "N = 1": network.with_settings(num_samples=1)}


def budgets(network: GADSG) -> dict[str, Any]:
    """Returns the network with more and fewer samples and steps, and what plans without it."""
    of, chance = network.settings, random_belief(network.settings)
    more = network.with_settings(num_samples=32)
    return {
        "N = 1": network.with_settings(num_samples=1),
        "N = 8": network,
        "N = 32": more,
        "N = 8, 20 steps": network.with_settings(sampler=replace(of.sampler, num_steps=20)),
        "N = 8, the network's shares": network.with_settings(decode=replace(of.decode, allocation="model")),
        "N = 8, polish": polished(network),
        "N = 32, polish": polished(more),
        "random belief, N = 8": chance,
        "random belief, N = 8, polish": polished(chance),
        "mcmf": MCMFSolver(),
    }


def ratio(row: Summary) -> str:
    """Formats mean and standard error."""
    return "-" if row.mean_ratio is None else f"{row.mean_ratio:.4f} ± {row.ratio_standard_error or 0.0:.4f}"


def main(data: Path = Path("data"), run_folder: str = "default", only: tuple[str, ...] = ()) -> None:
    """Evaluates the network on every test set, and at other budgets on two of them.

    Args:
        data: Where the test sets lie or are made.
        run_folder: The network: "default", its file or its run folder.
        only: Parts of the tables (scales, unseen, shifts, budget) or names of test sets; default: all.
    """
    known = {*PARTS, "budget", *(name for part in PARTS for name, _, _ in test_sets(part))}
    if unknown := set(only) - known:
        raise SystemExit(f"--only: Expected any of {', '.join(sorted(known))}, got {', '.join(sorted(unknown))}.")
    network = load(run_folder, certify=False)
    print(f"{device_name()}; {date.today()}; commit `{(source_commit() or '')[:10]}`")
    if set(only) != {"budget"}:
        print_test_sets(network, data, only)
    if not only or "budget" in only:
        print_budgets(network, data)


def print_test_sets(network: GADSG, data: Path, only: Sequence[str]) -> None:
    """Prints a row per test set, the same variants of the network in each."""
    solvers = variants(network)
    heads = (f"{name}: {what}" for name in solvers for what in ("ratio", "accuracy", "ms"))
    print(f"\n| test set | data | instances | {' | '.join(heads)} | infeasible |")
    print("|---|---|---:|" + "---:|" * (3 * len(solvers) + 1))
    for part in PARTS:
        for name, recipe, folder in test_sets(part):
            if only and not {part, name} & set(only):
                continue
            assert recipe.scenario == ScenarioConfig() or folder
            dataset = ensure_data(recipe, data / folder, lambda progress: None)
            rows = [summarise(name, dataset, run(solver, dataset)) for solver in solvers.values()]
            infeasible = max(row.infeasible for row in rows)
            print(
                f"| {name} | `{dataset.digest}` | {len(dataset)} | {' | '.join(map(cells, rows))} "
                f"| {100 * infeasible:.2f} % |",
                flush=True,
            )


def print_budgets(network: GADSG, data: Path) -> None:
    """Prints a row per variant, the same two test sets in each."""
    datasets = [ensure_data(Recipe(scale, 2000, TEST_SEED), data, lambda progress: None) for scale in BUDGET]
    heads = (f"{scale}: {what}" for scale in BUDGET for what in ("ratio", "accuracy", "ms"))
    print(f"\n| plans of | {' | '.join(heads)} |")
    print("|---|" + "---:|" * (3 * len(BUDGET)))
    for name, solver in budgets(network).items():
        rows = [summarise(name, dataset, run(solver, dataset)) for dataset in datasets]
        print(f"| {name} | {' | '.join(map(cells, rows))} |", flush=True)


def cells(row: Summary) -> str:
    """Formats ratio with its standard error, accuracy and time."""
    return f"{ratio(row)} | {100 * row.accuracy:.2f} % | {1e3 * row.seconds_total:.3g}"


if __name__ == "__main__":
    tyro.cli(main)
