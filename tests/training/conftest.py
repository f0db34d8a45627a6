"""A run small enough to train in a test."""

from dataclasses import replace

import pytest

from laegd.config import DataConfig, ExperimentConfig, TrainingConfig
from laegd.graphs.dataset import Recipe
from laegd.models.denoiser import ModelConfig

TINY = ExperimentConfig(
    model=ModelConfig(hidden=16, num_layers=2, num_heads=2),
    data=DataConfig(
        train=(Recipe("gs2_gu4_au2", 60, seed=1), Recipe("gs2_gu5_au3", 40, seed=1)),
        validation=(Recipe("gs2_gu4_au2", 10, seed=2),),
    ),
    training=TrainingConfig(
        steps=6, batch_size=16, warmup_steps=2, log_every=1, validate_every=100, validation_samples=2
    ),
)


@pytest.fixture(scope="session")
def data_root(tmp_path_factory):
    """Where the data sets lie; made once."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def tiny():
    """Settings of the small run, with changes to its training settings."""
    return lambda **changes: replace(TINY, training=replace(TINY.training, **changes))
