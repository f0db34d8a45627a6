"""Limits on time and memory hold whatever the search is at, and signals are answered."""

import json
import resource
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from laegd.problem.instance import Instance
from laegd.problem.objective import violations
from laegd.scenario.generator import Scale, ScenarioConfig, draw
from laegd.solvers.calls import Advice, Call
from laegd.solvers.exact import ExactSolver
from laegd.solvers.limits import _cgroup_limits, memory_of_machine

CROWDED = ("gs4_gu120_au80", {"gs_coverage_radius_m": 3000.0, "num_haps": 0, "deadline_s": 60.0})
MIB = 2**20


def crowded() -> Instance:
    """Four servers that reach every one of 200 users: sets of dozens, far too many to list."""
    scale, settings = CROWDED
    batch = draw(ScenarioConfig(**settings), Scale.parse(scale), 1, np.random.default_rng(0))
    return Instance.from_scenario(batch.scenario(0))


# Runs in a process of its own: the peak of its memory is then that of the search.
SCRIPT = """
import json, resource, sys
sys.path.insert(0, "tests/solvers")
from test_limits import MIB, crowded
from laegd.problem.objective import violations
from laegd.solvers.exact import ExactSolver

instance, before = crowded(), resource.getrusage(resource.RUSAGE_SELF)
plan = ExactSolver(time_limit_s=float(sys.argv[1]), memory_limit_bytes=int(sys.argv[2]) * MIB).solve_one(instance)
after = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({
    "violations": violations(instance, plan),
    "cost": plan.cost,
    "bound": plan.lower_bound,
    "mib": (after.ru_maxrss - before.ru_maxrss) / 1024,
    "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
}))
"""


def limited(seconds: float, mib: int) -> dict:
    command = [sys.executable, "-c", SCRIPT, str(seconds), str(mib)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_a_memory_limit_holds_and_leaves_a_plan_with_its_bound():
    """64 MiB for the sets of users, where the search would take all that there is."""
    answer = limited(1.0, 64)
    assert answer["violations"] == [] and 0 < answer["bound"] <= answer["cost"]
    assert answer["mib"] < 64 + 64  # beside what NumPy and HiGHS take


@pytest.mark.slow
@pytest.mark.parametrize(("seconds", "mib"), [(5.0, 64), (20.0, 256)])
def test_limits_hold_at_any_size(seconds, mib):
    """CPU time, which a busy machine does not lengthen, ends with the limit too."""
    answer = limited(seconds, mib)
    assert answer["violations"] == [] and answer["bound"] <= answer["cost"]
    assert answer["mib"] < mib + 64 and answer["cpu_s"] < 1.1 * seconds + 1.0


def test_a_time_limit_holds_inside_a_level():
    """A level of the search alone would take minutes; the margin is for busy machines."""
    instance, begin = crowded(), time.perf_counter()
    plan = ExactSolver(time_limit_s=0.2).solve_one(instance)
    assert time.perf_counter() - begin < 10.0
    assert violations(instance, plan) == [] and plan.lower_bound <= plan.cost


def test_a_bound_holds_its_time_limit():
    """It is a bound on a plan found elsewhere."""
    instance, begin = crowded(), time.perf_counter()
    bound = ExactSolver(time_limit_s=0.2).lower_bound(instance)
    assert time.perf_counter() - begin < 10.0
    assert 0 < bound <= ExactSolver(time_limit_s=0.2).solve_one(instance).cost


def test_an_end_without_a_proof_is_explained():
    """Few sets are kept, so the gap stays open although there is no time limit."""
    instance = Instance.from_scenario(
        draw(
            ScenarioConfig(gs_coverage_radius_m=3000.0), Scale.parse("gs3_gu14_au8"), 1, np.random.default_rng(1)
        ).scenario(0)
    )
    with pytest.warns(RuntimeWarning, match="Expected to prove the optimum"):
        plan = ExactSolver(max_columns=1).solve_one(instance)
    assert plan.gap > 1e-9


def test_a_signal_ends_the_wait_for_a_call_that_does_not_end():
    """As HiGHS is, which hears none itself."""
    release = threading.Event()

    def run():
        signal.raise_signal(signal.SIGINT)
        release.wait()

    with pytest.raises(KeyboardInterrupt):
        Call(run).ended()
    release.set()


def test_a_call_returns_or_raises_what_it_ran():
    """The answer, the error, and None yet where the deadline comes first."""
    release = threading.Event()
    call = Call(lambda: release.wait() and 7)
    assert not call.ended(time.perf_counter())
    release.set()
    assert call.ended() and call.answer() == 7
    failing = Call(lambda: [][1])
    assert failing.ended()
    with pytest.raises(IndexError):
        failing.answer()


def test_a_command_does_not_wait_for_a_call_that_was_given_up():
    """It ends with its own code; the time is a guard against hanging."""
    code = (
        "import sys, threading; from laegd.solvers.calls import Call; Call(threading.Event().wait);"
        "sys.argv = ['laegd', '--version']; from laegd.cli import main; main()"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert ended.stdout.startswith("laegd ")


def test_advice_is_taken_once_and_only_waited_for_as_long_as_said():
    """Not yet there, then there, then gone; the hint itself is called once."""
    release, asked = threading.Event(), []

    def hint():
        asked.append(1)
        release.wait()
        return np.array([3])

    advice = Advice(hint)
    assert advice.get(0.0, again=False) is None
    release.set()
    answer = advice.get(60.0, again=True)
    assert answer is not None and answer.tolist() == [3]
    assert advice.get(60.0, again=True) is None and asked == [1]


def test_the_smallest_limit_of_all_control_groups_counts(tmp_path):
    """Version 2 has one tree, version 1 one per controller; "max" and what is hidden are no limits."""
    root, membership = tmp_path / "cgroup", tmp_path / "self"
    (root / "job" / "step").mkdir(parents=True)
    (root / "memory" / "old").mkdir(parents=True)
    (root / "job" / "step" / "memory.max").write_text("max\n")
    (root / "job" / "memory.max").write_text("3000\n")
    (root / "memory" / "old" / "memory.limit_in_bytes").write_text("2000\n")
    membership.write_text("0::/job/step\n5:memory:/old\n6:cpu:/other\n")
    assert sorted(_cgroup_limits(root, membership)) == [2000, 3000]
    assert _cgroup_limits(root, tmp_path / "none") == []
    assert resource.getpagesize() < memory_of_machine() < 2**60


@pytest.mark.parametrize("value", [0, -1, MIB])
def test_a_memory_limit_that_holds_nothing_is_refused(value):
    """The error names the field."""
    with pytest.raises(ValueError, match="memory_limit_bytes: Expected at least"):
        ExactSolver(memory_limit_bytes=value)
