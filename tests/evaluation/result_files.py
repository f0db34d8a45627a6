"""Small result files, written by hand: what evaluate and sweep write, with names that a careless page would run."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

from laegd.problem.instance import Instance
from laegd.problem.plan_json import plan_to_json
from laegd.scenario.scenario import Scenario
from laegd.solvers.exact import ExactSolver
from laegd.solvers.mcmf import MCMFSolver

REFERENCE = Path(__file__).parents[1] / "data" / "reference"
EVIL = "<script>document.title='run'</script>$x_1$&\"'"
NEWER_KEYS = ("command", "created", "commit", "reference", "paired", "examples")
MEANS = {  # method: mean ratio, seconds in total; in an order that no column has
    "gadsg": (1.007, 0.0081),
    "random-belief": (1.22, 0.0001),
    "mcmf": (1.15, 0.0115),
    "exact": (1.0, 0.0035),
    "exact@0.001": (1.04, 0.001),
    "gdsg": (1.031, 0.0064),
    "grlo": (1.3, 0.0005),
    "ao": (1.29, 0.0123),
    "re": (2.3, 0.00002),
}


def row(method, mean, seconds, **changes):
    """A Summary in JSON; its quantiles grow with the mean excess."""
    excess = mean - 1
    quantiles = {"p05": 0, "p25": 0.1, "p50": 0.5, "p75": 1, "p95": 4, "p99": 7, "max": 12}
    return {
        "method": method,
        "test_set": "gs3_gu7_au5",
        "reference": "optimum",
        "instances": 2000,
        "mean_ratio": mean,
        "ratio_standard_error": excess / 50,
        "median_ratio": 1 + 0.5 * excess,
        "p95_ratio": 1 + 4 * excess,
        "accuracy": 1 / mean**3,
        "infeasible": 0.0,
        "seconds_model": 0.9 * seconds if method == "gadsg" else 0.0,
        "seconds_decode": 0.01 * seconds,
        "seconds_total": seconds,
        "quantiles": {name: 1 + size * excess for name, size in quantiles.items()},
        **changes,
    }


@cache
def network():
    """An instance with ids of users that hold markup and a formula, and two plans of it: the optimum and another."""
    document = json.loads((REFERENCE / "gs3_gu7_au5_0.json").read_text())["scenario"]
    document["users"][0]["id"], document["users"][1]["id"] = EVIL, "$\\frac{$"
    scenario = Scenario.from_json(json.dumps(document))
    instance = Instance.from_scenario(scenario)
    best = replace(ExactSolver().solve([instance])[0], method="optimum")
    other = replace(MCMFSolver(num_weights=1).solve([instance])[0], method="gadsg")
    return scenario, instance, best, other


def results(names=tuple(MEANS)):
    """A results.json of some methods; a name that is not known has numbers too, and no plan."""
    scenario, instance, *plans = network()
    rows = [row(name, *MEANS[name]) if name in MEANS else empty_row(name) for name in names]
    known = [name for name in names if name in MEANS]
    pairs = [(a, b) for i, a in enumerate(known) for b in known[i + 1 :]]
    return {
        "format": "laegd-results/1",
        "command": "laegd evaluate --checkpoint runs/gs3 --data data/test --out results.json",
        "created": "2026-11-24T03:00:00Z",
        "commit": "d94712c",
        "settings": {"gadsg": {"num_samples": 8, "num_steps": 5}, "exact": {}},
        "data": {"scale": "gs3_gu7_au5", "count": 2000, "seed": 90, "labels": "exact", "digest": "6d5d517d2f1c34ae"},
        "reference": "optimum",
        "device": "1 x cpu (2 cores, x86_64)",
        "versions": {"laegd": "0.1.0", "jax": "0.10.2"},
        "results": rows,
        "paired": [
            {
                "method": a,
                "other": b,
                "mean_difference": MEANS[a][0] - MEANS[b][0],
                "standard_error": 0.001,
                "instances": 2000,
                "better": 1500,
                "equal": 20,
            }
            for a, b in pairs
        ],
        "examples": [
            {
                "index": 0,
                "scenario": json.loads(scenario.to_json()),
                "plans": [json.loads(plan_to_json(instance, plan)) for plan in plans],
            }
        ],
    }


def empty_row(method):
    """A method that found no plan at all."""
    none = dict.fromkeys(("mean_ratio", "ratio_standard_error", "median_ratio", "p95_ratio", "quantiles"))
    return row(method, 2.0, 0.5, **none, accuracy=0.0, infeasible=1.0)


def old_results():
    """As the first version wrote it: without the newer keys."""
    document = {key: value for key, value in results().items() if key not in NEWER_KEYS}
    for entry in document["results"]:
        del entry["quantiles"]
    return document


SCALES = ("gs2_gu4_au2", "gs3_gu7_au5", "gs6_gu14_au10")
TEST_SETS = (*SCALES, "gs3_gu7_au5 (deadline_s=1.5)")


def sweep():
    """A sweep.json: two families of three models and one method without a network, on four test sets."""
    models = [
        {"name": f"{family}-{scale}", "method": family, "trained_on": [scale], "step": 6000, "settings": {"seed": 1}}
        for family in ("gadsg", "gdsg")
        for scale in SCALES
    ]
    models.append({"name": "mcmf", "method": "mcmf", "trained_on": [], "step": None, "settings": {}})
    rows = []
    for m, model in enumerate(models):
        for t, test_set in enumerate(TEST_SETS):
            mean = 1.15 if model["method"] == "mcmf" else 1.003 + 0.012 * abs(m % 3 - t) + 0.02 * (m > 2)
            rows.append(row(model["method"], mean, 0.01 * (t + 1), test_set=test_set, model=model["name"]))
    data = [
        {
            "name": name,
            "scale": name.split(" ")[0],
            "setting": {"deadline_s": 1.5} if " " in name else {},
            "count": 500,
            "seed": 91,
            "labels": "exact",
            "digest": f"{i:016x}",
        }
        for i, name in enumerate(TEST_SETS)
    ]
    head = {key: value for key, value in results().items() if key not in ("settings", "data", "paired", "examples")}
    return {**head, "format": "laegd-sweep/1", "models": models, "data": data, "results": rows}


def write(path, document):
    """Writes a file and returns its path."""
    path.write_text(json.dumps(document))
    return path
