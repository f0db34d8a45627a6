"""The README's example in Python runs, and prints what stands below it, which is true."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import laegd

README = Path(__file__).parent.parent / "README.md"
NUMBER = re.compile(r"\d+\.\d+")


def test_example_prints_what_is_shown():
    """The same words, the same costs but for rounding, and no gap smaller than the exact solver finds."""
    example = re.search(r"```python\n(.*?)```\n\n```\n(.*?)```", README.read_text(), re.DOTALL)
    assert example is not None
    code, shown = example.groups()
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert NUMBER.sub("#", printed) == NUMBER.sub("#", shown)
    costs, costs_shown = ([float(cost) for cost in NUMBER.findall(text)[::2]] for text in (printed, shown))
    assert len(costs) == 3 and costs == pytest.approx(costs_shown, rel=1e-2)
    scenarios = laegd.draw(laegd.ScenarioConfig(), laegd.Scale.parse("gs3_gu7_au5"), 3, np.random.default_rng(4))
    optima = laegd.ExactSolver().solve(laegd.InstanceBatch.from_scenarios(scenarios))
    for (cost, gap), optimum in zip(re.findall(r"cost ([\d.]+), certified gap ([\d.]+) %", shown), optima, strict=True):
        least = optimum.cost - 0.005  # two decimals are shown
        assert least <= float(cost) <= (optimum.cost + 0.005) / (1 - (float(gap) + 0.005) / 100)
