"""Writes docs/results.md and its pictures from what launch/paper.sh has measured: the paper's tables and figures.

    python benchmarks/paper.py

Every number is read from a file of results; the paper's own numbers (Tables IV and V of [1] GADSG) stand here.
"""

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

from laegd.evaluation.benchmark import ACCURATE_BELOW
from laegd.evaluation.figures import (
    HeatPanel,
    heat_map,
    quality_against_samples,
    quality_against_time,
    training_curves,
)
from laegd.scenario.files import write_atomically
from laegd.training.checkpoint import Checkpoints

METHODS = ("re", "ao", "grlo", "gdsg", "gadsg")  # the columns of the paper's tables
# Tables IV and V of [1]; gs3_gu6_au4 is printed there as gs3_gu3_au4.
PAPER_RATIO = {
    "gs2_gu4_au2": (2.04, 1.24, 1.37, 1.23, 1.08),
    "gs2_gu5_au3": (2.12, 1.27, 1.42, 1.21, 1.06),
    "gs3_gu6_au4": (2.46, 1.24, 1.25, 1.22, 1.02),
    "gs3_gu7_au5": (2.35, 1.23, 1.29, 1.15, 1.05),
    "gs6_gu14_au10": (2.58, 1.28, 1.23, 1.11, 0.99),
    "gs6_gu16_au11": (2.79, 1.31, 1.25, 1.12, 0.97),
    "gs9_gu19_au12": (3.13, 1.26, 1.15, 1.10, 0.96),
    "gs9_gu20_au13": (3.02, 1.25, 1.17, 1.11, 0.98),
}
PAPER_ACCURACY = {
    "gs2_gu4_au2": (0.13, 0.75, 0.64, 0.77, 0.91),
    "gs2_gu5_au3": (0.11, 0.72, 0.67, 0.79, 0.89),
    "gs3_gu6_au4": (0.14, 0.76, 0.62, 0.83, 0.96),
    "gs3_gu7_au5": (0.09, 0.77, 0.69, 0.85, 0.94),
    "gs6_gu14_au10": (0.06, 0.69, 0.80, 0.90, 1.00),
    "gs6_gu16_au11": (0.09, 0.66, 0.77, 0.82, 1.00),
    "gs9_gu19_au12": (0.03, 0.76, 0.87, 0.89, 1.00),
    "gs9_gu20_au13": (0.05, 0.71, 0.86, 0.88, 1.00),
}
SCALES = tuple(PAPER_RATIO)
CURVE_SCALES = ("gs2_gu5_au3", "gs3_gu6_au4", "gs6_gu14_au10", "gs9_gu19_au12")  # Figs. 4 and 5
LEARNED = ("gadsg", "gdsg", "gdsg-both", "grlo")
WIDE = "gdsg-both-wide"  # trained for the ablation alone
PAPER_REFERENCE = "mcmf-search"  # the paper's labels: many flows, each improved by local search


class Results:
    """The files of one run of launch/paper.sh."""

    def __init__(self, folder: Path, runs: Path) -> None:
        """Reads what there is; a scale that was not run is left out."""
        self.folder, self.runs = folder, runs
        self.documents = {s: read_json(folder / f"{s}.json") for s in SCALES if (folder / f"{s}.json").exists()}
        if not self.documents:
            raise SystemExit(f"{folder}: Expected results, got none. Run launch/paper.sh first.")
        self.rows = {scale: self._read_rows(scale) for scale in self.documents}

    def _read_rows(self, name: str, by: str = "method") -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Returns per method, or model, costs and reference costs, an entry per instance."""
        columns: dict[str, list[tuple[float, float]]] = {}
        with open(self.folder / f"{name}.csv", newline="") as file:
            for row in csv.DictReader(file):
                if by == "method" or row["model"].endswith(row["test_set"]):  # of a sweep: each model on its own scale
                    columns.setdefault(row[by], []).append((float(row["cost"]), float(row["reference"])))
        return {key: (np.array(values)[:, 0], np.array(values)[:, 1]) for key, values in columns.items()}

    def wide_ratio(self, scale: str) -> np.ndarray:
        """Returns cost ratios to the optimum of GDSG-both at GADSG's number of parameters."""
        cost, optimum = self._read_rows("wide", "model")[f"{WIDE}-{scale}"]
        return cost / optimum

    def made(self) -> str:
        """Says on what, when and with which code the files were made."""
        sweeps = [read_json(self.folder / f"{name}.json") for name in ("sweep", "shifts", "wide")]
        parts = [*self.documents.values(), *sweeps]
        days = sorted({part["created"][:10] for part in parts})
        found = {part["commit"] or "-" for part in (*parts, *read_json(self.folder / "curves.json")["points"])}
        commits = {commit[:10] + "+" * commit.endswith("+") for commit in found}  # +: with changes
        devices = ", ".join(sorted({part["device"] for part in parts}))
        between = " to ".join(dict.fromkeys((days[0], days[-1])))
        return f"{devices}; measured {between} at commit {', '.join(f'`{commit}`' for commit in sorted(commits))}."

    def ratio(self, scale: str, method: str, reference: str) -> np.ndarray:
        """Returns cost ratios per instance, inf for an infeasible plan."""
        cost, optimum = self.rows[scale][method]
        return cost / (optimum if reference == "optimum" else self.rows[scale][reference][0])

    def metrics(self, method: str, scale: str) -> list[dict[str, float]]:
        """Returns what a run logged."""
        lines = (self.runs / f"{method}-{scale}" / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]


def read_json(path: Path) -> dict[str, Any]:
    """Reads a file of results."""
    return json.loads(path.read_text())


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Formats a table in Markdown, the first column to the left."""
    lines = [f"| {' | '.join(headings)} |", f"|---|{'---:|' * (len(headings) - 1)}"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows), ""]


def mean_ratio(ratio: np.ndarray) -> str:
    """Writes the mean over feasible plans with its standard error."""
    some = ratio[np.isfinite(ratio)]
    return f"{some.mean():.3f} ± {some.std(ddof=1) / np.sqrt(len(some)):.3f}"


def accuracy(ratio: np.ndarray) -> str:
    """Writes the share of all instances below the limit."""
    return f"{(ratio < ACCURATE_BELOW).mean():.3f}"


def paper_table(
    results: Results, reference: str, write: Callable[[np.ndarray], str], paper: dict[str, Any]
) -> list[str]:
    """Returns a table of the paper, ours with theirs in brackets."""
    rows = []
    for scale in results.documents:
        ours = [write(results.ratio(scale, method, reference)) for method in METHODS]
        rows.append([scale, *(f"{own} ({theirs:.2f})" for own, theirs in zip(ours, paper[scale], strict=True))])
    return table(["test set", *(method.upper() for method in METHODS)], rows)


def where_worse(results: Results) -> list[str]:
    """Returns what is worse here than in the paper, under its own protocol."""
    found = []
    for scale in results.documents:
        for method, ratio, share in zip(METHODS, PAPER_RATIO[scale], PAPER_ACCURACY[scale], strict=True):
            ours = results.ratio(scale, method, PAPER_REFERENCE)
            mean, accurate = ours[np.isfinite(ours)].mean(), (ours < ACCURATE_BELOW).mean()
            if mean > ratio + 0.005:
                found.append(f"- {scale}, {method.upper()}: ratio {mean:.3f}, the paper {ratio:.2f}")
            if accurate < share - 0.005:
                found.append(f"- {scale}, {method.upper()}: accuracy {accurate:.3f}, the paper {share:.2f}")
    return [*(found or ["Nothing."]), ""]


def all_methods(results: Results) -> list[str]:
    """Returns a table per scale with everything that was measured."""
    lines = []
    for scale, document in results.documents.items():
        data = document["data"]
        lines += [f"### {scale}", "", f"{data['count']} instances, seed {data['seed']}, data `{data['digest']}`.", ""]
        rows = []
        for row in document["results"]:
            ratio = results.ratio(scale, row["method"], "optimum")
            numbers = [mean_ratio(ratio), f"{row['median_ratio']:.3f}", f"{row['p95_ratio']:.3f}", accuracy(ratio)]
            against = mean_ratio(results.ratio(scale, row["method"], PAPER_REFERENCE))
            times = [f"{1e3 * row[f'seconds_{part}']:.2f}" for part in ("model", "decode", "total")]
            rows.append([row["method"], *numbers, f"{100 * row['infeasible']:.1f} %", against, *times])
        headings = ["method", "ratio to optimum", "median", "95 %", "accuracy", "infeasible"]
        lines += table([*headings, "ratio to mcmf-search", "model ms", "decoding ms", "total ms"], rows)
    return lines


def ablation(results: Results) -> list[str]:
    """Returns what direction gains and what attention gains: paired differences of GDSG, GDSG-both and GADSG."""
    rows = []
    for scale in (scale for scale, measured in results.rows.items() if "gdsg-both" in measured):
        ratio = {m: results.ratio(scale, m, "optimum") for m in ("gdsg", "gdsg-both", "gadsg")}
        wide = results.wide_ratio(scale)
        gains = (ratio["gdsg"] - ratio["gdsg-both"], ratio["gdsg-both"] - ratio["gadsg"], wide - ratio["gadsg"])
        means = (ratio["gdsg"], ratio["gdsg-both"], wide, ratio["gadsg"])
        rows.append([scale, *map(mean_ratio, means), *map(signed, gains)])
    methods = ["GDSG", "GDSG-both", "GDSG-both, width 40", "GADSG"]
    return table(["test set", *methods, "direction gains", "attention gains", "at equal size"], rows)


def signed(difference: np.ndarray) -> str:
    """Writes a mean paired difference with its standard error."""
    some = difference[np.isfinite(difference)]
    return f"{some.mean():+.4f} ± {some.std(ddof=1) / np.sqrt(len(some)):.4f}"


def matrix(document: dict[str, Any]) -> tuple[list[str], list[str], dict[tuple[str, str], float]]:
    """Returns models, test sets and mean ratios of a sweep."""
    cells = {(row["model"], row["test_set"]): row["mean_ratio"] for row in document["results"]}
    return [m["name"] for m in document["models"]], [d["name"] for d in document["data"]], cells


def sweep_section(results: Results, pictures: Path) -> list[str]:
    """Draws Fig. 6 and returns its table."""
    models, sets, cells = matrix(read_json(results.folder / "sweep.json"))
    panels = []
    for method in ("gadsg", "gdsg"):
        names = [f"{method}-{scale}" for scale in SCALES if f"{method}-{scale}" in models]
        values = [[cells[name, test] for test in sets] for name in names]
        panels.append(HeatPanel(method, [name.removeprefix(f"{method}-") for name in names], values))
    heat_map(panels, sets, axis_names=("trained on", "tested on")).savefig(pictures / "fig6.png", dpi=150)
    rows = [[name, *(f"{cells[name, test]:.3f}" for test in sets)] for name in models]
    return ["![Mean ratio of every model on every scale](figures/fig6.png)", "", *table(["model", *sets], rows)]


def shift_section(results: Results) -> list[str]:
    """Returns the table of shifted settings."""
    models, sets, cells = matrix(read_json(results.folder / "shifts.json"))
    return table(["test set", *models], ([test, *(f"{cells[model, test]:.3f}" for model in models)] for test in sets))


def training_section(results: Results, pictures: Path) -> list[str]:
    """Draws Figs. 4 and 5."""
    for name, key, label in (
        ("fig4", "squared_error", "squared error of the noise of the shares"),
        ("fig5", "ratio", "validation cost ratio to the optimum"),
    ):
        panels = {}
        for scale in CURVE_SCALES:
            lines = {m: [x for x in results.metrics(m, scale) if key in x] for m in ("gadsg", "gdsg", "gdsg-both")}
            panels[scale] = {m: ([x["step"] for x in some], [x[key] for x in some]) for m, some in lines.items()}
        training_curves(panels, label, log_y=name == "fig4").savefig(pictures / f"{name}.png", dpi=150)
    return [
        "![Loss during training](figures/fig4.png)",
        "",
        "![Validation ratio during training](figures/fig5.png)",
        "",
    ]


def curve_section(results: Results, pictures: Path) -> list[str]:
    """Draws quality against time and against the number of samples."""
    document = read_json(results.folder / "curves.json")
    counts = " and ".join(f"{count} instances of {scale}" for scale, count in document["counts"].items())
    data = ", ".join(f"`{digest}`" for digest in sorted({point["data"] for point in document["points"]}))
    lines = [f"{counts}, seed {document['seed']}, data {data}, {document['device']}.", ""]
    for scale in dict.fromkeys(point["scale"] for point in document["points"]):
        here = [point for point in document["points"] if point["scale"] == scale]
        curves: dict[str, list[tuple[float, float]]] = {}
        samples: dict[str, list[tuple[int, float, float | None]]] = {}
        for point in here:
            method = point["method"]
            if "steps" not in method:
                curves.setdefault(method, []).append((point["seconds"], point["ratio"]))
            if method == "gadsg" or method.startswith("gadsg, "):
                name = "5 steps" if method == "gadsg" else method.removeprefix("gadsg, ")
                samples.setdefault(name, []).append((int(point["budget"][4:]), point["ratio"], point["error"]))
        quality_against_time(curves, title=scale).savefig(pictures / f"time-{scale}.png", dpi=150)
        lines += [f"![Quality against time, {scale}](figures/time-{scale}.png)", ""]
        if len(samples) > 1:
            figure = quality_against_samples(samples, title=f"GADSG, {scale}")
            figure.savefig(pictures / f"samples-{scale}.png", dpi=150)
            lines += [f"![Quality against samples, {scale}](figures/samples-{scale}.png)", ""]
        rows = ([p["method"], p["budget"], f"{p['ratio']:.4f}", f"{1e3 * p['seconds']:.2f}"] for p in here)
        lines += ["<details><summary>All points of the two pictures</summary>", ""]
        lines += [*table(["method", "budget", "mean ratio", "ms"], rows), "</details>", ""]
    return lines


def provenance(results: Results) -> list[str]:
    """Returns how each model was trained."""
    rows = []
    for scale in results.documents:
        for method in (*LEARNED, WIDE):
            if not (results.runs / f"{method}-{scale}").exists():
                continue
            checkpoints = Checkpoints(results.runs / f"{method}-{scale}")
            loaded, meta = checkpoints.load(), checkpoints.read_meta(checkpoints.last_step() or 0)
            checkpoints.close()
            config = loaded.config
            recipe, training = config.data.train[0], config.training
            data = ", ".join(f"`{digest}`" for digest in meta["data"].values())
            size = f"{config.model.hidden} x {config.model.num_layers}"
            parameters = f"{sum(np.size(leaf) for leaf in jax.tree.leaves(loaded.params)):,}"
            budget = f"{training.steps} x {training.batch_size}"
            seeds = f"{training.seed}, {recipe.seed}, {config.data.validation[0].seed}"
            name = f"{method}-{scale}"
            commit = f"`{(meta['commit'] or '-')[:10]}`"
            rows.append([name, size, parameters, f"{recipe.count}", budget, f"{loaded.step}", seeds, data, commit])
    of_training = ["labels", "steps x batch", "best step", "seeds", "data", "commit"]
    return table(["model", "width x layers", "parameters", *of_training], rows)


def main(
    results: Path = Path("results/paper"), runs: Path = Path("runs/paper"), out: Path = Path("docs/results.md")
) -> None:
    """Writes the page and, in `figures` beside it, its pictures.

    Args:
        results: Folder of the results.
        runs: Folder of the runs METHOD-SCALE.
        out: Page in Markdown; what stands in it between the marks `<!-- NAME -->` and `<!-- end -->` is replaced.
    """
    found, pictures = Results(results, runs), out.parent / "figures"
    pictures.mkdir(exist_ok=True)
    sections = {
        "made": [found.made()],
        "table 4": paper_table(found, "optimum", mean_ratio, PAPER_RATIO),
        "table 4 paper": paper_table(found, PAPER_REFERENCE, mean_ratio, PAPER_RATIO),
        "table 5": paper_table(found, "optimum", accuracy, PAPER_ACCURACY),
        "table 5 paper": paper_table(found, PAPER_REFERENCE, accuracy, PAPER_ACCURACY),
        "worse": where_worse(found),
        "ablation": ablation(found),
        "training": training_section(found, pictures),
        "sweep": sweep_section(found, pictures),
        "shifts": shift_section(found),
        "curves": curve_section(found, pictures),
        "all": all_methods(found),
        "provenance": provenance(found),
    }
    page = out.read_text()
    for name, lines in sections.items():
        start, end = f"<!-- {name} -->\n", "<!-- end -->"
        before, mark, rest = page.partition(start)
        if not mark:
            raise SystemExit(f"{out}: Expected the mark {start.strip()}, got none. Restore it.")
        _, _, after = rest.partition(end)
        page = before + mark + "\n".join(lines).rstrip() + "\n" + end + after
    write_atomically(out, page.encode())


if __name__ == "__main__":
    tyro.cli(main)
