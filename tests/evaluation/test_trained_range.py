"""Numbers outside of a model's training sets: told with field, value and range, once; what is inside is not."""

from dataclasses import replace

import numpy as np
import pytest

from laegd.config import DataConfig
from laegd.evaluation.trained_range import tell_untrained, untrained
from laegd.graphs.dataset import Recipe
from laegd.problem.instance import InstanceBatch
from laegd.scenario.generator import Scale, ScenarioConfig, draw
from laegd.scenario.scenario import Channel

RECIPES = DataConfig((Recipe("gs2_gu4_au2", 10, seed=1), Recipe("gs9_gu20_au13", 10, seed=1)), ()).train


def found(config: ScenarioConfig, scale: str = "gs3_gu7_au5") -> list[str]:
    """What is said of two networks."""
    drawn = draw(config, Scale.parse(scale), 2, np.random.default_rng(0))
    return list(untrained(RECIPES, InstanceBatch.from_scenarios(drawn)))


def test_networks_of_the_training_sets_kind_are_not_told():
    """Between the smallest and the largest scale, and a tenth beyond a setting."""
    assert found(ScenarioConfig()) == found(ScenarioConfig(deadline_s=2.1)) == []


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (ScenarioConfig(num_haps=2), "number of HAPs 2 (but 1)"),
        (ScenarioConfig(channel=Channel(bandwidth_hz=2e7)), "bandwidth_hz 2e+07 (but 1e+07)"),
        (ScenarioConfig(deadline_s=1.5), "deadline_s 1.5 (but 2)"),
        (ScenarioConfig(gs_coverage_radius_m=250.0), "coverage_radius_m of ground servers 250 (but 900)"),
        (ScenarioConfig(au_altitude_m=500.0), "z_m of aerial users 500 (but 200)"),
    ],
)
def test_a_setting_that_no_training_set_had_is_told(config, words):
    """Field, value and range, and nothing else."""
    assert found(config) == [words]


def test_a_scale_beyond_the_training_sets_is_told():
    """30 servers and 150 users: the largest had 9 and 33."""
    assert [text.split(" (but ")[0] for text in found(ScenarioConfig(), "gs30_gu90_au60")] == [
        *("number of ground servers 30", "number of ground users 90", "number of aerial users 60")
    ]


def test_a_list_of_instances_of_two_channels_is_judged_by_its_nodes():
    """Which channel is whose is not known then; the rest is."""
    one, other = (
        InstanceBatch.from_scenarios(
            draw(ScenarioConfig(num_haps=2, channel=channel), Scale.parse("gs2_gu4_au2"), 1, np.random.default_rng(0))
        )[0]
        for channel in (Channel(), Channel(bandwidth_hz=2e7))
    )
    assert one.channel != other.channel and replace(one, channel=None).digest == other.digest
    assert list(untrained(RECIPES, InstanceBatch.stack([one, other]))) == ["number of HAPs 2 (but 1)"]


def test_the_warning_is_one_line_with_the_remedy():
    """As Python's warning, which the command line shows."""
    drawn = draw(ScenarioConfig(num_haps=3), Scale.parse("gs3_gu7_au5"), 1, np.random.default_rng(0))
    with pytest.warns(UserWarning, match=r"gadsg was not trained on number of HAPs 3 \(but 1\)\. .* compare with the"):
        tell_untrained("gadsg", RECIPES, InstanceBatch.from_scenarios(drawn))
