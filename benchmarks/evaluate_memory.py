"""Measures how much memory `laegd evaluate` takes at its highest, and how long it runs.

    python benchmarks/evaluate_memory.py --data data/gs9 --count 20000 --methods re,mcmf --workers 2

Makes the data set where it is missing. Each process is counted by itself: with several workers the largest one.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import tyro

from laegd.graphs.dataset import Dataset, Recipe, generate
from laegd.graphs.shards import LabelMethod

SCALE, SEED = "gs9_gu20_au13", 91


def main(
    data: Path,
    count: int = 20_000,
    methods: str = "re,ao,mcmf",
    checkpoint: tuple[Path, ...] = (),
    labels: LabelMethod = "exact",
    workers: int = 1,
) -> None:
    """Evaluates in a process of its own and prints its peak of resident memory.

    Args:
        data: Folder of the data set; made where there is none.
        count: Instances of a new data set.
        methods: To compare.
        checkpoint: Runs of learned methods.
        labels: Of a new data set; with none, the first method is the reference.
        workers: Processes, for labels and for methods without a network.
    """
    if not (data / "manifest.json").exists():
        generate(Recipe(SCALE, count, SEED, labels), data, workers=workers)
    dataset = Dataset.open(data)
    reference = ["--reference", methods.split(",")[0]] if dataset.manifest.labels == "none" else []
    runs = ["--checkpoint", *map(str, checkpoint)] if checkpoint else []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "results.json"
        options = ["--methods", methods, "--workers", str(workers), "--out", str(out), *runs, *reference]
        command = [sys.executable, "-m", "laegd.cli", "evaluate", "--data", str(data), *options]
        start = time.perf_counter()
        process = subprocess.Popen(command)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        sizes = ", ".join(f"{path.name} {path.stat().st_size / 2**20:.1f} MiB" for path in sorted(out.parent.iterdir()))
    gib = usage.ru_maxrss / 2**20  # Linux counts KiB
    print(f"{len(dataset)} instances of {dataset.manifest.scale}, {methods}: {gib:.2f} GiB, {seconds:.0f} s; {sizes}")
    sys.exit(process.returncode)


if __name__ == "__main__":
    tyro.cli(main)
