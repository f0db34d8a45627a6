"""Measures time and memory of each stage of a large job: draw networks, label them, evaluate a network on them.

    python benchmarks/load.py --checkpoint runs/paper/gadsg-gs9_gu20_au13 --out load

Memory is the highest sum over all processes of a stage (PSS: pages that processes share count once). Data sets stay in
the folder; a stage that is there is measured again only where its files are deleted.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import tyro

SEED = 91
SECONDS_BETWEEN_LOOKS = 0.2


def memory_bytes(session: int) -> int:
    """Returns the memory of all processes of a session."""
    total = 0
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            try:
                if os.getsid(int(process.name)) == session:
                    rollup = (process / "smaps_rollup").read_text()
                    total += int(rollup.split("Pss:")[1].split()[0]) * 2**10
            except (OSError, IndexError):  # it has just ended
                pass
    return total


def measure(*arguments: object) -> tuple[float, int]:
    """Runs a command; returns its seconds and the most memory it took, in bytes."""
    start, most = time.perf_counter(), 0
    command = [sys.executable, "-m", "laegd.cli", *map(str, arguments)]
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            most = max(most, memory_bytes(process.pid))
            time.sleep(SECONDS_BETWEEN_LOOKS)
    if process.returncode:
        sys.exit(f"{' '.join(command)}: code {process.returncode}")
    return time.perf_counter() - start, most


def main(
    out: Path,
    checkpoint: Path,
    scale: str = "gs9_gu20_au13",
    counts: tuple[int, ...] = (1_000, 10_000, 100_000),
    exact_counts: tuple[int, ...] = (1_000, 10_000),
    samples: int = 8,
    workers: int = 2,
) -> None:
    """Prints a row per stage and count as soon as it is measured.

    Args:
        out: Folder of the data sets; rows are added to rows.jsonl there.
        checkpoint: Run of the network.
        scale: Of the networks.
        counts: Instances, drawn without labels and evaluated.
        exact_counts: Instances that are labelled with certified optima.
        samples: N of the network.
        workers: Processes that draw and label.
    """
    out.mkdir(parents=True, exist_ok=True)
    for labels, sizes in (("none", counts), ("exact", exact_counts)):
        for count in sizes:
            data = out / f"{scale}-{labels}-{count}"
            made = ("--scale", scale, "--count", count, "--seed", SEED, "--labels", labels, "--workers", workers)
            if not (data / "manifest.json").exists():
                report(out, f"generate --labels {labels}", scale, count, measure("generate", *made, "--out", data))
    print(training_set(out / f"{scale}-exact-{max(exact_counts)}"), flush=True)
    for count in counts:
        shutil.rmtree(out / "results", ignore_errors=True)
        network = ("--checkpoint", checkpoint, "--samples", samples, "--out", out / "results" / "r.json")
        compared = ("--data", out / f"{scale}-none-{count}", "--methods", "gadsg,re", "--reference", "re")
        report(out, f"evaluate gadsg (N = {samples}), re", scale, count, measure("evaluate", *network, *compared))


def training_set(data: Path, batch_size: int = 128) -> str:
    """Returns what an instance of a labelled set takes on the disk and encoded in memory, and how long it takes."""
    import jax
    import numpy as np

    from laegd.graphs.dataset import Dataset
    from laegd.training.batches import TrainingSet, pick
    from laegd.training.loop import fit_normalisation

    dataset = Dataset.open(data)
    start = time.perf_counter()
    read = TrainingSet.read(dataset, batch_size, fit_normalisation([dataset]))
    seconds = time.perf_counter() - start
    memory = sum(leaf.nbytes for leaf in jax.tree.leaves(read.encoded)) / len(dataset)
    disk = sum(path.stat().st_size for path in data.rglob("*") if path.is_file()) / len(dataset)
    chosen, start = np.random.default_rng(0).integers(0, len(dataset), (50, batch_size)), time.perf_counter()
    for places in chosen:
        pick(read.encoded, places)
    batch = (time.perf_counter() - start) / len(chosen)
    return (
        f"training on {data.name}: {disk / 1e3:.1f} kB an instance on the disk, {memory / 1e3:.1f} kB encoded; "
        f"read and encoded in {1e3 * seconds / len(dataset):.2f} ms each, {batch_size} picked in {1e3 * batch:.2f} ms"
    )


def report(out: Path, stage: str, scale: str, count: int, measured: tuple[float, int]) -> None:
    """Prints a row of the table and keeps it."""
    seconds, size = measured
    row = {"stage": stage, "scale": scale, "count": count, "seconds": round(seconds, 1), "gib": round(size / 2**30, 2)}
    with open(out / "rows.jsonl", "a") as file:
        file.write(json.dumps(row) + "\n")
    each = 1e3 * seconds / count
    print(f"| {stage} | {scale} | {count:,} | {seconds:.0f} | {each:.2f} | {size / 2**30:.2f} |", flush=True)


if __name__ == "__main__":
    tyro.cli(main)
