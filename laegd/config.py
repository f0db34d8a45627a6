"""The settings of one experiment: the layers' own settings composed, read from TOML, overridden on the command line.

TOML holds only what differs from the defaults; an unknown key is an error that lists the known ones.
"""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from laegd.decoding.decode import DecodeConfig
from laegd.diffusion.ddim import SamplerConfig
from laegd.diffusion.schedules import DiffusionConfig
from laegd.graphs.dataset import Recipe
from laegd.models.denoiser import ModelConfig
from laegd.scenario.scenario import require, settings_to_dict
from laegd.scenario.settings import convert_settings, read_toml

MAX_STEPS = 10**9
MAX_AT_ONCE = 100_000  # graphs, samples or actions that are in memory together
_AT_ONCE = ("batch_size", "validation_samples")


@dataclass(frozen=True)
class DataConfig:
    """Which instances a model learns from, and on which it is watched. Test sets never stand here."""

    train: tuple[Recipe, ...] = (Recipe("gs3_gu7_au5", 8000, seed=1),)
    """Training sets, one scale each; steps take them in turn."""
    validation: tuple[Recipe, ...] = (Recipe("gs3_gu7_au5", 250, seed=2),)
    """Validation sets; the best checkpoint has the lowest mean cost ratio on them."""

    def __post_init__(self) -> None:
        require(len(self.train) > 0, "data.train", "at least one data set", self.train, "Add a [[data.train]] table.")
        for recipe in (*self.train, *self.validation):
            require(recipe.labels != "none", "data.labels", "exact or mcmf", recipe.labels, "Training needs labels.")
        streams = {(recipe.scale, recipe.seed) for recipe in self.train}
        for recipe in self.validation:
            shared = (recipe.scale, recipe.seed) in streams
            require(not shared, "data.validation.seed", "a seed that no training set has", recipe.seed, "Change it.")


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of the training loop."""

    steps: int = 6000
    """Optimiser steps."""
    batch_size: int = 128
    """Graphs per step, over all devices."""
    learning_rate: float = 1e-3
    """Peak learning rate; reached after the warm-up, then a cosine down to a hundredth of it."""
    warmup_steps: int = 200
    """Steps of linear warm-up."""
    weight_decay: float = 1e-4
    """AdamW's."""
    clip_norm: float = 1.0
    """Largest global norm of the gradient."""
    ema_decay: float = 0.995
    """Decay of the moving average of the parameters, with which plans are made."""
    seed: int = 0
    """Seed of parameters, batches and noise."""
    start_from: str | None = None
    """Network whose parameters and normalisation training begins with: "default", a file of `laegd pack` or a run
    folder, with the same settings of the network; those of diffusion may differ. None: drawn at random."""
    log_every: int = 50
    """Steps between two lines of metrics."""
    validate_every: int = 1000
    """Steps between two validations; each is followed by a checkpoint."""
    validation_samples: int = 8
    """Samples N per validation instance."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "log_every", "validate_every", "validation_samples"):
            value, most = getattr(self, name), MAX_AT_ONCE if name in _AT_ONCE else MAX_STEPS
            require(value >= 1, f"training.{name}", "at least 1", value, "Correct it.")
            require(value <= most, f"training.{name}", f"at most {most:,}", value, "Correct it.")
        require(0 <= self.seed < 2**31, "training.seed", "a seed from 0 to 2^31 - 1", self.seed, "Use 0.")
        for bound in (self.warmup_steps >= 0, self.warmup_steps <= MAX_STEPS):
            require(
                bound, "training.warmup_steps", f"at least 0, at most {MAX_STEPS:,}", self.warmup_steps, "Correct it."
            )
        for name in ("learning_rate", "clip_norm"):
            value = getattr(self, name)
            require(0 < value < float("inf"), f"training.{name}", "a finite number above 0", value, "Correct it.")
        sound = 0 <= self.weight_decay < float("inf")
        require(sound, "training.weight_decay", "at least 0", self.weight_decay, "Use 0 for none.")
        require(0 <= self.ema_decay < 1, "training.ema_decay", "0 <= decay < 1", self.ema_decay, "Use 0.995.")


@dataclass(frozen=True)
class GRLOConfig:
    """Settings of the actor-critic's loss; used where `learner` is "grlo"."""

    num_actions: int = 8
    """Actions drawn per instance and step."""
    policy_weight: float = 1.0
    """Weight of the policy gradient."""
    imitation_weight: float = 1.0
    """Weight of the cross entropy to the best plan that exploration found; 0: a plain actor-critic."""
    value_weight: float = 0.5
    """Weight of the critic's squared error."""
    entropy_weight: float = 0.01
    """Weight of the bonus for an undecided actor."""

    def __post_init__(self) -> None:
        require(self.num_actions >= 1, "grlo.num_actions", "at least 1", self.num_actions, "Use 8.")
        require(
            self.num_actions <= MAX_AT_ONCE, "grlo.num_actions", f"at most {MAX_AT_ONCE:,}", self.num_actions, "Use 8."
        )
        for name in ("policy_weight", "imitation_weight", "value_weight", "entropy_weight"):
            value = getattr(self, name)
            require(0 <= value < float("inf"), f"grlo.{name}", "a finite number, at least 0", value, "Use 0 for none.")


@dataclass(frozen=True)
class ExperimentConfig:
    """All settings of a run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    """The network."""
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    """The forward process."""
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    """The reverse process."""
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    """From samples to plans."""
    data: DataConfig = field(default_factory=DataConfig)
    """Training and validation sets."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """The training loop."""
    learner: Literal["diffusion", "grlo"] = "diffusion"
    """What learns on the graphs: a denoiser, or GRLO's actor and critic, which read no settings of diffusion."""
    grlo: GRLOConfig = field(default_factory=GRLOConfig)
    """GRLO's loss."""

    def __post_init__(self) -> None:
        own_shares = self.learner == "grlo" and self.decode.allocation == "model"
        require(not own_shares, "decode.allocation", "'optimal' with learner 'grlo'", "model", "Its actor has none.")

    @property
    def method(self) -> str:
        """The name that plans of a run with these settings carry."""
        if self.learner == "grlo":
            return "grlo"
        if self.model.encoder == "convolution":
            return "gdsg" if self.model.directed else "gdsg-both"
        return "gadsg-directed" if self.model.directed else "gadsg"

    def to_dict(self) -> dict[str, Any]:
        """Returns the resolved settings as JSON values."""
        return settings_to_dict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> "ExperimentConfig":
        """Builds settings from JSON or TOML values; raises ValueError that names the bad key."""
        return convert_settings(values, ExperimentConfig)


def load_config(path: Path, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """Reads a TOML file and applies overrides such as `training.steps=500`; values are TOML, bare words are strings."""
    values = read_toml(path)
    for override in overrides:
        _override(values, override)
    return ExperimentConfig.from_dict(values)


def _override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    require(bool(equals and key), "--set", "key=value, such as training.steps=500", override, "Correct it.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        value = text
    *tables, last = key.split(".")
    for table in tables:
        values = values.setdefault(table, {})
        require(isinstance(values, dict), "--set", f"a table at {table}", override, "Set lists of tables in the file.")
    values[last] = value
