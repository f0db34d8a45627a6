"""Settings of `laegd demo`: small enough for two cores, and with `--train` for five minutes."""

from laegd.config import DataConfig, ExperimentConfig, TrainingConfig
from laegd.graphs.dataset import Recipe

SCALE = "gs3_gu7_au5"
TEST = Recipe(SCALE, 500, seed=90)
"""Unseen in training and validation."""

DEMO = ExperimentConfig(
    data=DataConfig(train=(Recipe(SCALE, 4000, seed=1),), validation=(Recipe(SCALE, 250, seed=2),)),
    training=TrainingConfig(
        steps=1500, batch_size=128, learning_rate=2e-3, warmup_steps=100, ema_decay=0.99, validate_every=500
    ),
)
