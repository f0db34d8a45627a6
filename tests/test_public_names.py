"""What `laegd` offers: every name is found, described, and loads no more than it needs."""

import inspect
import subprocess
import sys

import pytest

import laegd


def test_names_are_listed():
    """`dir` shows what `__all__` names, before anything is loaded."""
    assert set(dir(laegd)) == {*laegd.__all__, "__version__"}
    assert set(laegd.__all__) == set(laegd._HOME)


@pytest.mark.parametrize("name", sorted(set(laegd.__all__) - {"LOCAL"}))
def test_names_are_described(name):
    """A docstring of its own, which for functions names each parameter that its signature does not explain."""
    value = getattr(laegd, name)
    text = inspect.getdoc(value) or ""
    assert len(text) > 20 and not text.startswith(f"{name}(")  # a dataclass without a docstring shows its signature


@pytest.mark.parametrize("name", ["compare", "draw", "make_plan", "plan_to_json", "plans_to_frame"])
def test_functions_show_an_example(name):
    """Where the call is not plain from the signature."""
    assert ">>> " in (inspect.getdoc(getattr(laegd, name)) or "")


def test_comparing_classical_solvers_loads_no_jax():
    """Networks, plans, JSON, columns and `compare` need NumPy alone."""
    code = """
import sys, numpy as np, laegd
instances = laegd.InstanceBatch.from_scenarios(
    laegd.draw(laegd.ScenarioConfig(), laegd.Scale.parse("gs2_gu4_au2"), 2, np.random.default_rng(0)))
scores = laegd.compare([laegd.ExactSolver()], instances)
laegd.plans_to_frame(instances, scores.plans[0]), laegd.plan_to_json(instances[0], scores.plans[0][0])
laegd.Dataset, laegd.Certified, str(scores)
print([m for m in ("jax", "flax", "orbax", "matplotlib", "beartype") if m in sys.modules])
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_unknown_names_are_refused():
    """As those of any module are."""
    with pytest.raises(AttributeError, match="module 'laegd' has no attribute 'Scenarios'"):
        laegd.Scenarios  # noqa: B018  # pyright: ignore
