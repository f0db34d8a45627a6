"""Measures a trained run against the certified optimum and writes the tables of docs/specialist.md.

    python benchmarks/quality.py --run-folder runs/gs3 --data data --out docs/specialist.md

Makes the test sets where they are missing; their seeds are used nowhere else.
"""

from datetime import date
from pathlib import Path
from typing import Any

import tyro

from laegd.decoding.decode import DecodeConfig
from laegd.diffusion.ddim import SamplerConfig
from laegd.evaluation.benchmark import Summary, device_name, run, summarise
from laegd.evaluation.gadsg import GADSG, load, random_belief
from laegd.graphs.dataset import Dataset, Recipe
from laegd.scenario.files import write_atomically
from laegd.solvers.exact import ExactSolver
from laegd.solvers.mcmf import MCMFSolver
from laegd.training.loop import ensure_data
from laegd.training.meta import source_commit

TEST_SEED = 90
COUNTS = {"gs3_gu7_au5": 2000, "gs2_gu4_au2": 1000, "gs6_gu14_au10": 500, "gs9_gu20_au13": 250}
POLISH_ROUNDS = 20

HEADINGS = (
    *("method", "mean ratio", "s.e.", "median", "95 %", "accuracy", "infeasible"),
    *("model ms", "decoding ms", "total ms"),
)


def variants(network: GADSG, home: bool) -> list[tuple[str, Any]]:
    """Returns the rows of a table: all variants on the scale that the run was trained on, a few elsewhere."""
    polish = DecodeConfig(polish_rounds=POLISH_ROUNDS)
    chance = random_belief(network.settings)
    rows: list[tuple[str, Any]] = [
        ("GADSG, N = 8, 5 steps", network),
        ("GADSG, N = 8, 5 steps, polish", network.with_settings(decode=polish)),
        ("random belief, N = 8", chance),
        ("random belief, N = 8, polish", chance.with_settings(decode=polish)),
    ]
    if home:
        rows[1:1] = [
            ("GADSG, N = 1, 5 steps", network.with_settings(num_samples=1)),
            ("GADSG, N = 32, 5 steps", network.with_settings(num_samples=32)),
            ("GADSG, N = 8, 20 steps", network.with_settings(sampler=SamplerConfig(num_steps=20))),
            ("GADSG, N = 8, 5 steps, model shares", network.with_settings(decode=DecodeConfig(allocation="model"))),
        ]
        rows.append(("MCMF, 8 weights", MCMFSolver()))
    return [*rows, ("exact", ExactSolver())]


def table_row(label: str, summary: Summary) -> str:
    """Formats a row in Markdown."""
    quality = (summary.mean_ratio, summary.ratio_standard_error, summary.median_ratio, summary.p95_ratio)
    cells = [
        label,
        *("-" if value is None else f"{value:.4f}" for value in quality),
        *(f"{100 * value:.2f} %" for value in (summary.accuracy, summary.infeasible)),
        *(f"{1e3 * s:.2f}" for s in (summary.seconds_model, summary.seconds_decode, summary.seconds_total)),
    ]
    return f"| {' | '.join(cells)} |"


def main(run_folder: Path, data: Path = Path("data"), out: Path = Path("docs/specialist.md")) -> None:
    """Evaluates every variant on every test set and writes the tables.

    Args:
        run_folder: Folder of the run.
        data: Where the test sets lie or are made.
        out: Markdown file.
    """
    network = load(run_folder, certify=False)
    assert network.loaded is not None
    trained_on = {recipe.scale for recipe in network.loaded.config.data.train}
    config, step = network.loaded.config, network.loaded.step
    home = ", ".join(sorted(trained_on))
    lines = [
        "# A specialist: one model on its own scale and elsewhere",
        "",
        f"Written by `python benchmarks/quality.py --run-folder {run_folder}` on {date.today()},",
        f"{device_name()}, commit `{source_commit()}`.",
        f"The run: trained on {home}, step {step} of {config.training.steps}, seed {config.training.seed}.",
        "",
        "Ratios are to the certified optimum of each instance (never below 1), averaged over feasible plans; accuracy",
        "is the share of all instances with a ratio below 1.1; times are milliseconds per instance, in batches and",
        f"without compilation. Polish: at most {POLISH_ROUNDS} rounds of local search. Random belief: decoded noise.",
    ]
    for scale, count in COUNTS.items():
        dataset: Dataset = ensure_data(Recipe(scale, count, TEST_SEED), data, lambda progress: None)
        home = scale in trained_on
        lines += ["", f"## {scale}{'' if home else ', zero-shot'}", ""]
        lines += [f"{count} instances, seed {TEST_SEED}, data `{dataset.digest}`, reference: certified optimum.", ""]
        lines += [f"| {' | '.join(HEADINGS)} |", f"|---|{'---:|' * (len(HEADINGS) - 1)}"]
        for label, solver in variants(network, home):
            lines.append(table_row(label, summarise(solver.name, dataset, run(solver, dataset))))
            print(scale, lines[-1], flush=True)
    write_atomically(out, ("\n".join(lines) + "\n").encode())


if __name__ == "__main__":
    tyro.cli(main)
