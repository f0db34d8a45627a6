"""How fast planning, training, labelling and starting are, in one run: `python benchmarks/speed.py [--parts plan,...]`.

Prints Markdown tables with machine and date. Whatever is compared runs in turns, so that other work on the machine
meets both sides; medians are given.
"""

import argparse
import datetime
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from denoiser import FORMS, keep_freed_memory, matmul_peak, measure

SEED = 94  # of test instances; no training or validation set has it
SCALE = "gs9_gu20_au13"
POLISH = 20  # rounds
CERTIFIED = {"gs9_gu20_au13": 200, "gs12_gu28_au18": 100, "gs20_gu45_au30": 40}  # instances
GROWTH = ("gs2_gu4_au2", "gs3_gu7_au5", "gs6_gu14_au10", "gs12_gu28_au18", "gs20_gu45_au30", "gs50_gu112_au75")


def scenarios_of(scale: str, count: int):
    """Draws networks of a scale."""
    from laegd.scenario.generator import Scale, ScenarioConfig, draw

    return draw(ScenarioConfig(), Scale.parse(scale), count, np.random.default_rng(SEED))


def instances_of(scale: str, count: int):
    """Draws networks of a scale that can be planned, with their costs."""
    from laegd.graphs.dataset import draw_feasible
    from laegd.problem.instance import InstanceBatch
    from laegd.scenario.generator import Scale, ScenarioConfig

    scenarios, _ = draw_feasible(ScenarioConfig(), Scale.parse(scale), count, np.random.default_rng(SEED))
    return InstanceBatch.from_scenarios(scenarios)


def most_memory() -> float:
    """Returns the MiB that this process had at the highest."""
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) / 2**10


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints Markdown."""
    print("|", " | ".join(header), "|")
    print("|---|" + "---:|" * (len(header) - 1))
    for row in rows:
        print("|", " | ".join(f"{x:.3g}" if isinstance(x, float) else str(x) for x in row), "|")
    print(flush=True)


def seconds(work: Callable[..., object], *arguments: object) -> float:
    start = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - start


def apart(work: Callable[..., Any], *arguments: object) -> Any:
    """Returns what the work returns in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def plan(rounds: int = 5, batch: int = 256) -> None:
    """The shipped network against the exact solver, batched and one by one, in turns."""
    import laegd

    exact = laegd.ExactSolver()
    network = laegd.load(certify=False)
    polished = network.with_settings(decode=replace(network.settings.decode, polish_rounds=POLISH))
    instances = instances_of(SCALE, batch)
    some = [[one] for one in list(instances)[:40]]
    solvers = {"gadsg": network, f"gadsg, polish {POLISH}": polished, "exact": exact}
    for solver in solvers.values():  # compile
        solver.solve(instances)
        for one in some:
            solver.solve(one)
    batched, single = ({name: [] for name in solvers} for _ in range(2))
    for _ in range(rounds):
        for name, solver in solvers.items():
            batched[name].append(1e3 * seconds(solver.solve, instances) / batch)
    for one in some:
        for name, solver in solvers.items():
            single[name].append(1e3 * seconds(solver.solve, one))
    medians = {name: (float(np.median(batched[name])), float(np.median(single[name]))) for name in solvers}
    print(f"Planning {SCALE}, N = 8, 5 steps; ms per instance, and times as fast as exact:\n")
    table(
        ["method", f"batch of {batch}", "one by one", "batched, exact / method", "one by one, exact / method"],
        [(name, *both, medians["exact"][0] / both[0], medians["exact"][1] / both[1]) for name, both in medians.items()],
    )


def train(batch: int = 16, repeats: int = 7) -> None:
    """The paper-size network, forward and backward, in each form; with the memory settings of launch/default.sh."""
    keep_freed_memory()  # before JAX starts threads; not for planning, whose threads would wait for one pool of memory
    peak = matmul_peak()
    print(f"The network of the paper's size (hidden 256, 10 layers), batch {batch}; matmul peak {peak:.0f} GFLOP/s:\n")
    rows = []
    for scale in (SCALE, "gs2_gu4_au2"):
        for form in FORMS:
            forward, both = measure(scale, batch, form, hidden=256, layers=10, repeats=repeats)
            shares = (f"{100 * speed.share_of(peak):.0f} %" for speed in (forward, both))
            rows.append((f"{scale}, {form}", forward.by_cpu, both.by_cpu, *shares, 1e3 * both.by_cpu / peak))
    header = [
        "scale, form",
        "forward, graphs/s",
        "with backward, graphs/s",
        "forward, of peak",
        "with backward, of peak",
    ]
    table([*header, "with backward, graphs per TFLOP of peak"], rows)


def labels(count: int = 200) -> None:
    """Certified optima, seconds of CPU time per instance on one core."""
    from laegd.solvers.exact import ExactSolver

    rows = []
    for scale in ("gs3_gu7_au5", SCALE):
        spent, instances = [], instances_of(scale, count)
        ExactSolver().solve_one(instances[0])  # loads HiGHS
        for instance in instances:
            start = time.process_time()
            ExactSolver().solve_one(instance)
            spent.append(1e3 * (time.process_time() - start))
        rows.append((scale, float(np.median(spent)), float(np.mean(spent)), max(spent)))
    print(f"Labels: certified optima of {count} instances, ms of CPU time per instance:\n")
    table(["scale", "median", "mean", "largest"], rows)


def run(command: Sequence[str], environment: dict[str, str]) -> None:
    subprocess.run(command, check=True, capture_output=True, env=environment)


def start(rounds: int = 5) -> None:
    """A cold process, what it compiles kept from an earlier one."""
    with tempfile.TemporaryDirectory() as folder:
        scenario, out = Path(folder) / "scenario.json", str(Path(folder) / "plan.json")
        scenario.write_bytes(scenarios_of(SCALE, 1).scenario(0).to_json())
        command = [str(Path(sys.executable).parent / "laegd"), "solve", str(scenario), "--out", out, "--method"]
        imports = [sys.executable, "-c", "import laegd"]
        work = {
            "import laegd": imports,
            "laegd solve --method gadsg": [*command, "gadsg"],
            "laegd solve --method certified": [*command, "certified"],
            "laegd solve --method exact": [*command, "exact"],
        }
        cold = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(Path(folder) / "programs")}
        rows = []
        for name, line in work.items():
            first, *later = (seconds(run, line, cold) for _ in range(1 + rounds))
            rows.append((name, first, float(np.median(later))))
    print(f"Start of a process, {SCALE}, s:\n")
    table(["command", "nothing compiled", "compiled before"], rows)


def certified() -> None:
    """The exact solver alone and asking the network, one by one, in turns."""
    import laegd
    from laegd.evaluation.certified import Certified

    rows = []
    for scale, count in CERTIFIED.items():
        instances = instances_of(scale, count)
        exact = laegd.ExactSolver(time_limit_s=20.0)
        solvers = {"exact": exact, "certified": Certified(laegd.load(certify=False), exact)}
        for instance in instances:  # compile
            solvers["certified"].network.solve([instance])
        spent, plans = ({name: [] for name in solvers} for _ in range(2))
        for instance in instances:
            for name, solver in solvers.items():
                start = time.perf_counter()
                plans[name] += solver.solve([instance])
                spent[name].append(1e3 * (time.perf_counter() - start))
        medians, means = ([float(reduce(spent[name])) for name in solvers] for reduce in (np.median, np.mean))
        asked = sum(plan.model_seconds > 0 for plan in plans["certified"])
        worse = sum(
            ours.cost > theirs.cost * (1 + 1e-9)
            for ours, theirs in zip(plans["certified"], plans["exact"], strict=True)
        )
        ratios = (medians[0] / medians[1], means[0] / means[1])
        rows.append((scale, count, *medians, *means, *ratios, f"{asked} of {count}", worse))
    print("Proof alone and with the network, one by one, at most 20 s each:\n")
    header = ["scale", "instances", "exact: median ms", "certified: median ms", "exact: mean ms", "certified: mean ms"]
    table([*header, "exact / certified, medians", "means", "network asked", "certified plans dearer"], rows)


def stage(name: str, scale: str, count: int) -> tuple[float, float]:
    """Does one stage of the work in a process of its own; returns ms per instance and MiB at the highest."""
    import laegd

    if name == "training":
        keep_freed_memory()
    instances = instances_of(scale, count)
    if name == "labels":
        exact = laegd.ExactSolver(time_limit_s=20.0)
        spent = float(np.median([seconds(exact.solve_one, one) for one in instances]))
    elif name == "sampling":
        network = laegd.load(certify=False)
        network.solve(instances)  # compile
        spent = min(seconds(network.solve, instances) for _ in range(3)) / count
    else:
        _, both = measure(scale, count, "list", hidden=64, layers=5, repeats=5)
        spent = both.wall_s / count
    return 1e3 * spent, most_memory()


def growth(count: int = 16) -> None:
    """Time and memory by scale, with the exponent of time in the number of users."""
    stages, columns, peaks = ("labels", "training", "sampling"), [], []
    for name in stages:
        for scale in GROWTH:
            spent, peak = apart(stage, name, scale, count)
            columns.append(spent)
            peaks.append(peak)
    spent, peaks = (np.reshape(values, (len(stages), len(GROWTH))) for values in (columns, peaks))
    users = [len(scenarios_of(scale, 1).scenario(0).users) for scale in GROWTH]
    exponents = [f"{np.polyfit(np.log(users), np.log(row), 1)[0]:.2f}" for row in spent]
    print(
        f"Growth: {count} instances; labels one by one, their median; one training step of the shipped size; sampling "
        "with N = 8, 5 steps. Memory is the process's highest.\n"
    )
    rows = []
    for i, scale in enumerate(GROWTH):
        cells = ((float(ms), round(mib)) for ms, mib in zip(spent[:, i], peaks[:, i], strict=True))
        rows.append((scale, users[i], *(cell for pair in cells for cell in pair)))
    header = [f"{name}: {unit}" for name in stages for unit in ("ms", "MiB")]
    last = [text for exponent in exponents for text in (exponent, "")]
    table(["scale", "users", *header], [*rows, ("exponent in the users", "", *last)])


PARTS = {
    "plan": plan,
    "certified": certified,
    "train": lambda: apart(train),  # its settings of memory stay with it
    "labels": labels,
    "start": start,
    "growth": growth,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", default=",".join(PARTS))
    options = parser.parse_args()

    from laegd.evaluation.benchmark import device_name
    from laegd.training.meta import source_commit

    print(f"{device_name()}, {datetime.date.today()}, commit `{(source_commit() or '')[:10]}`\n")
    for part in options.parts.split(","):
        PARTS[part]()


if __name__ == "__main__":
    main()
