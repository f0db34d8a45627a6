"""Settings from TOML and the command line; every bad one is named."""

import pytest

from laegd.config import ExperimentConfig, load_config
from laegd.scenario.settings import load_scenario_config


@pytest.fixture
def toml(tmp_path):
    """Writes a TOML file and returns its path."""

    def write(text):
        path = tmp_path / "config.toml"
        path.write_text(text)
        return path

    return write


def test_file_holds_only_what_differs_and_overrides_win(toml):
    """Defaults < file < command line."""
    path = toml("[training]\nsteps = 10\nbatch_size = 32\n")
    config = load_config(path, ["training.steps=7", "diffusion.schedule=cosine"])
    assert (config.training.steps, config.training.batch_size) == (7, 32)
    assert config.diffusion.schedule == "cosine"
    assert config.model == ExperimentConfig().model


def test_settings_survive_json():
    """What a checkpoint stores gives the same settings back."""
    config = ExperimentConfig()
    assert ExperimentConfig.from_dict(config.to_dict()) == config


def test_scenario_settings_reach_the_recipe(toml):
    """Nested tables of a data set's recipe are read."""
    recipe = 'scale = "gs2_gu4_au2"\ncount = 10\nseed = 4\n'
    settings = "scenario.deadline_s = 1.5\nscenario.channel.bandwidth_hz = 1e6\n"
    path = toml("[[data.train]]\n" + recipe + settings)
    scenario = load_config(path).data.train[0].scenario
    assert (scenario.deadline_s, scenario.channel.bandwidth_hz) == (1.5, 1e6)


BAD = [
    ("[training]\nstep = 3", "training.step: Expected one of steps, batch_size", "unknown key"),
    ("[trainign]\nsteps = 3", "trainign: Expected one of model, diffusion", "unknown table"),
    ('[training]\nsteps = "many"', r"Expected `int`, got `str` - at `\$.training.steps`", "wrong type"),
    ("[training]\nsteps = 0", "training.steps: Expected at least 1, got 0", "too small"),
    ("[training]\nlearning_rate = nan", "training.learning_rate: Expected a finite number above 0, got nan", "nan"),
    ("[training]\nema_decay = 1.0", "training.ema_decay: Expected 0 <= decay < 1, got 1.0", "ema"),
    ("[model]\nhidden = 30", "hidden: Expected an even multiple of num_heads = 4, got 30", "hidden"),
    ("[diffusion]\nnum_steps = 1", "Expected a schedule that ends in noise", "schedule that keeps a signal"),
    (
        '[diffusion]\nschedule = "square"',
        "diffusion.schedule: Expected one of linear, cosine, got 'square'",
        "unknown schedule",
    ),
    ('learner = "dqn"', "learner: Expected one of diffusion, grlo, got 'dqn'", "unknown learner"),
    ("[decode]\nthresholds = []", "thresholds: Expected one or more numbers", "no thresholds"),
    (
        '[[data.train]]\nscale = "3x12"\ncount = 1\nseed = 1',
        "scale: Expected a name such as gs3_gu7_au5, got '3x12'",
        "scale",
    ),
    (
        '[[data.train]]\nscale = "gs3_gu7_au5"\ncount = 0\nseed = 1',
        "count: Expected at least 1 instance, got 0",
        "count",
    ),
    (
        '[[data.train]]\nscale = "gs3_gu7_au5"\ncount = 9\nseed = 2',
        "data.validation.seed: Expected a seed that no",
        "same seed",
    ),
    ("[training\nsteps = 3", "Expected TOML, got", "broken TOML"),
]


@pytest.mark.parametrize("text, message", [row[:2] for row in BAD], ids=[row[2] for row in BAD])
def test_bad_settings_are_named(toml, text, message):
    """The error names setting, value and remedy."""
    with pytest.raises(ValueError, match=message):
        load_config(toml(text))


@pytest.mark.parametrize("override", ["training.steps", "=3", "training.steps.more=3"])
def test_bad_overrides_are_named(toml, override):
    """An override is key=value with a known key."""
    with pytest.raises(ValueError, match=r"--set: |Expected one of"):
        load_config(toml("[training]\nsteps = 3"), [override])


@pytest.mark.parametrize("text", ["deadline_s = -1.0", "hap_altitude_m = inf", "deadlines = 2.0", "num_haps = -1"])
def test_bad_scenario_settings_are_named(toml, text):
    """Physical values are positive and finite."""
    with pytest.raises(ValueError, match=text.split(" =")[0]):
        load_scenario_config(toml(text))


def test_missing_file_is_named(tmp_path):
    """The error holds the path."""
    with pytest.raises(ValueError, match=r"none\.toml: Expected a readable TOML file"):
        load_config(tmp_path / "none.toml")
