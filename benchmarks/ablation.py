"""What each part beyond the paper is worth, over several training seeds, as a table for docs/models.md.

    python benchmarks/ablation.py --data data --workdir runs/ablation

One small network per part and seed, each part taken away or changed alone; all judged on networks that none was trained
or watched on. Goes on where it was interrupted. Two cores: about half an hour.
"""

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from laegd.config import ExperimentConfig
from laegd.decoding.decode import DecodeConfig
from laegd.diffusion.ddim import SamplerConfig
from laegd.evaluation.benchmark import device_name, run
from laegd.evaluation.gadsg import GADSG, load
from laegd.graphs.dataset import Recipe
from laegd.training.loop import ensure_data, train
from laegd.training.meta import source_commit

TEST_SEED = 56
SCALE = "gs3_gu7_au5"
BASE: dict[str, Any] = {
    "model": {"hidden": 32, "num_layers": 4},
    "diffusion": {"schedule": "cosine"},
    "data": {
        "train": [{"scale": SCALE, "count": 30000, "seed": 51}],
        "validation": [{"scale": SCALE, "count": 500, "seed": 52}],
    },
    "training": {"steps": 1200, "learning_rate": 2e-3, "ema_decay": 0.995},
}
TRAINED: dict[str, dict[str, Any]] = {
    "all parts": {},
    "no gated sum beside attention": {"model": {"gated_sum": False}},
    "users listen to servers only": {"model": {"directed": True}},
    "linear schedule": {"diffusion": {"schedule": "linear"}},
    "no average of the parameters": {"training": {"ema_decay": 0.0}},
    "a tenth of the labels": {"data": {"train": [{"scale": SCALE, "count": 3000, "seed": 51}]}},
    "labels of mcmf": {"data": {"train": [{"scale": SCALE, "count": 30000, "seed": 51, "labels": "mcmf"}]}},
}
PLANNED: dict[str, dict[str, Any]] = {
    "the last step's belief alone": {"sampler": SamplerConfig(every_step=False)},
    "no noisy copies, four thresholds": {
        "sampler": SamplerConfig(noisy_copies=0),
        "decode": DecodeConfig(thresholds=(0.5, 0.25, 0.1, 0.0)),
    },
    "no shared network calls": {"sampler": SamplerConfig(share_first_half=False)},
    "threshold 0.25": {"decode": DecodeConfig(thresholds=(0.25,))},
    "polish of the best, 20 rounds": {"decode": DecodeConfig(polish_rounds=20)},
    "polish of the best eight, 20 rounds": {"decode": DecodeConfig(polish_rounds=20, polish_top=8)},
    "N = 1": {"num_samples": 1},
    "N = 1, the last step's belief alone": {"num_samples": 1, "sampler": SamplerConfig(every_step=False)},
}


def settings(changes: dict[str, Any], seed: int) -> ExperimentConfig:
    """Returns the base settings with a part's changes."""
    values = {table: keys | changes.get(table, {}) for table, keys in BASE.items()}
    config = ExperimentConfig.from_dict(values)
    last_only = replace(config.training, seed=seed, validate_every=config.training.steps)
    return replace(config, training=last_only)


def main(data: Path = Path("data"), workdir: Path = Path("runs/ablation"), seeds: int = 3, count: int = 1000) -> None:
    """Trains and judges every part and seed.

    Args:
        data: Where data sets lie or are made.
        workdir: Folder of the runs.
        seeds: Training seeds per part.
        count: Test networks.
    """
    test = ensure_data(Recipe(SCALE, count, TEST_SEED), data, lambda progress: None)

    def judged(network: GADSG) -> float:
        rows = run(network, test)
        return float(rows.ratio[rows.feasible].mean())

    ratios: dict[str, list[float]] = {name: [] for name in (*TRAINED, *PLANNED)}
    for seed in range(seeds):
        for name, changes in TRAINED.items():
            folder = workdir / f"{name.replace(' ', '-')}-{seed}"
            train(settings(changes, seed), folder, data)
            network = load(folder, certify=False)
            ratios[name].append(judged(network))
            print(f"{name}, seed {seed}: {ratios[name][-1]:.4f}", flush=True)
            if not changes:
                for other, planned in PLANNED.items():
                    ratios[other].append(judged(network.with_settings(**planned)))
    base = np.array(next(iter(ratios.values())))
    print(f"\n{SCALE}, {count} networks, data `{test.digest}`, N = 8, 5 steps; {seeds} training seeds")
    print(f"{device_name()}; {date.today()}; commit `{(source_commit() or '')[:10]}`\n")
    print("| what is changed | ratio, mean over seeds | lowest to highest | difference, paired by seed |")
    print("|---|---:|---:|---:|")
    for name, found in ratios.items():
        ratio, difference = np.array(found), np.array(found) - base
        error = difference.std(ddof=1) / np.sqrt(seeds) if seeds > 1 else np.nan
        change = "" if ratio is base or not difference.any() else f"{difference.mean():+.4f} ± {error:.4f}"
        print(f"| {name} | {ratio.mean():.4f} | {ratio.min():.4f} to {ratio.max():.4f} | {change} |")


if __name__ == "__main__":
    tyro.cli(main)
