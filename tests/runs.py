"""A run small enough to train in a test."""

import tomllib
from dataclasses import replace

from laegd.config import ExperimentConfig

TINY_TOML = """
[model]
hidden = 16
num_layers = 1
num_heads = 2

[sampler]
num_steps = 2

[training]
steps = 6
batch_size = 16
warmup_steps = 2
log_every = 1
validate_every = 100
validation_samples = 2

[[data.train]]
scale = "gs2_gu4_au2"
count = 60
seed = 1

[[data.train]]
scale = "gs2_gu5_au3"
count = 40
seed = 1

[[data.validation]]
scale = "gs2_gu4_au2"
count = 10
seed = 2
"""

TINY = ExperimentConfig.from_dict(tomllib.loads(TINY_TOML))
TINY_GRLO = replace(TINY, learner="grlo", data=replace(TINY.data, train=TINY.data.train[:1]))
TINY_VALIDATED = replace(TINY, training=replace(TINY.training, validate_every=2))
