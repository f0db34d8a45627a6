"""Measures quality against time and against the number of samples: each method over its budget.

    python benchmarks/curves.py --out results/paper/curves.json

Uses the runs and test sets of launch/paper.sh. Every point is measured on the same instances, one point after another
in one process; a point that the file has with the same settings, weights, data and code is not measured again.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tyro

from laegd.cli.methods import settings_of
from laegd.decoding.decode import DecodeConfig
from laegd.diffusion.ddim import SamplerConfig
from laegd.evaluation.benchmark import device_name, run, summarise
from laegd.evaluation.gadsg import PlanConfig, load, random_belief
from laegd.graphs.dataset import Recipe
from laegd.problem.instance import Solver
from laegd.scenario.files import write_atomically
from laegd.solvers.alternating import AlternatingOptimization
from laegd.solvers.exact import ExactSolver
from laegd.solvers.mcmf import MCMFSolver
from laegd.solvers.random_execution import RandomExecution
from laegd.training.loop import ensure_data
from laegd.training.meta import source_commit

COUNTS = {"gs3_gu7_au5": 250}  # instances: the first of the test set of launch/paper.sh
TEST_SEED = 90
SAMPLES = (1, 2, 4, 8, 16, 32, 64)
FEW_SAMPLES = (1, 4, 16, 64)
CHANCE_SAMPLES = (1, 4, 16, 64, 256)
STEPS = {"gs3_gu7_au5": (10, 20)}  # of the sampler, beside the 5 that all points have
POLISH_ROUNDS = 20
KEY = ("scale", "method", "budget", "data", "settings", "commit")  # of a point that need not be measured again


def points(scale: str, runs: Path) -> Iterator[tuple[str, str, Solver]]:
    """Yields method, budget and solver of every point."""
    for method in ("grlo", "gdsg"):
        network = load(runs / f"{method}-{scale}", certify=False)
        for samples in FEW_SAMPLES:
            yield method, f"N = {samples}", network.with_settings(num_samples=samples)
    chance, polish = random_belief(PlanConfig()), DecodeConfig(polish_rounds=POLISH_ROUNDS)
    for samples in CHANCE_SAMPLES:  # a sample costs next to nothing
        yield "random-belief", f"N = {samples}", chance.with_settings(num_samples=samples)
        polished = chance.with_settings(num_samples=samples, decode=polish)
        yield "random-belief + polish", f"N = {samples}", polished
    for method in ("grlo", "gdsg"):
        network = load(runs / f"{method}-{scale}", certify=False)
        for samples in FEW_SAMPLES:
            polished = network.with_settings(num_samples=samples, decode=polish)
            yield f"{method} + polish", f"N = {samples}", polished
    network = load(runs / f"gadsg-{scale}", certify=False)
    for samples in SAMPLES:
        yield "gadsg", f"N = {samples}", network.with_settings(num_samples=samples)
    for samples in FEW_SAMPLES:
        yield "gadsg + polish", f"N = {samples}", network.with_settings(num_samples=samples, decode=polish)
        for steps in STEPS.get(scale, ()):
            sampler = SamplerConfig(num_steps=steps)
            yield f"gadsg, {steps} steps", f"N = {samples}", network.with_settings(num_samples=samples, sampler=sampler)
    for candidates in (1, 8, 64, 512):
        yield "re", f"best of {candidates}", RandomExecution(num_candidates=candidates)
    yield "ao", "until nothing changes", AlternatingOptimization()
    for weights in (1, 4, 16, 64):
        yield "mcmf", f"{weights} weights", MCMFSolver(num_weights=weights)
    for weights in (1, 4, 16):
        yield "mcmf-search", f"{weights} weights", MCMFSolver(num_weights=weights, local_search=True)
    for limit in (0.001, 0.003, 0.01, 0.03, 0.1, 1.0):
        yield "exact", f"{limit:g} s", ExactSolver(time_limit_s=limit)
    yield "exact", "no limit", ExactSolver()


def main(out: Path, runs: Path = Path("runs/paper"), data: Path = Path("data")) -> None:
    """Measures what is missing and writes it after every point.

    Args:
        out: File of the measurements, JSON.
        runs: Folder of the runs METHOD-SCALE.
        data: Where the test sets lie or are made.
    """
    document: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {"points": []}
    known = {tuple(point[key] for key in KEY) for point in document["points"]}
    document |= {"device": device_name(), "counts": COUNTS, "seed": TEST_SEED}
    for scale, count in COUNTS.items():
        dataset = ensure_data(Recipe(scale, count, TEST_SEED), data, lambda progress: None)
        for method, budget, solver in points(scale, runs):
            settings = json.dumps(settings_of(solver), sort_keys=True)
            point = {"scale": scale, "method": method, "budget": budget, "data": dataset.digest}
            point |= {"commit": source_commit(), "settings": hashlib.sha256(settings.encode()).hexdigest()[:16]}
            if tuple(point[key] for key in KEY) in known:
                continue
            summary = summarise(method, dataset, run(solver, dataset))
            point |= {"ratio": summary.mean_ratio, "error": summary.ratio_standard_error}
            point |= {"accuracy": summary.accuracy, "seconds": summary.seconds_total}
            place = [point[key] for key in KEY[:3]]
            document["points"] = [p for p in document["points"] if [p[key] for key in KEY[:3]] != place] + [point]
            write_atomically(out, json.dumps(document, indent=1).encode() + b"\n")
            print(point, flush=True)


if __name__ == "__main__":
    tyro.cli(main)
