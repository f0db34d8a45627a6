"""Work on devices: several programs at a time where that keeps a CPU busy."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from laegd.training import parallel
from laegd.training.parallel import MAPS_HELD, example_keys, forget_programs_near_limit, num_lanes, side_by_side

WAIT_S = 60


def test_items_are_worked_at_together_and_come_back_in_order():
    """Three that wait for each other end only if all three have begun."""
    together = threading.Barrier(3)

    def work(item):
        together.wait(WAIT_S)
        return item * item

    assert side_by_side(work, range(6), 3) == [0, 1, 4, 9, 16, 25]


def test_every_example_has_a_key_of_its_own_that_depends_on_its_number_alone():
    """The same number gives the same key in any batch; no two numbers share one."""
    key = jax.random.PRNGKey(0)
    keys = np.asarray(example_keys(key, jnp.arange(50)))
    assert len({tuple(one) for one in keys.tolist()}) == 50
    np.testing.assert_array_equal(example_keys(key, jnp.array([7, 30])), keys[[7, 30]])


@pytest.mark.parametrize("lanes", [1, 2])
def test_error_of_one_item_reaches_the_caller(lanes):
    """As if the items were worked at one after the other."""
    with pytest.raises(ZeroDivisionError):
        side_by_side(lambda item: 1 // item, [2, 1, 0, 1], lanes)


def test_a_cpu_has_a_lane_per_core_and_an_accelerator_one(monkeypatch):
    """Cores are shared between virtual devices; an accelerator runs one program after the other."""
    monkeypatch.setattr(parallel, "num_cores", lambda: 9)
    monkeypatch.setattr(parallel.jax, "local_device_count", lambda: 2)
    assert num_lanes() == 4
    monkeypatch.setattr(parallel, "num_cores", lambda: 1)
    assert num_lanes() == 1
    monkeypatch.setattr(parallel, "num_cores", lambda: 9)
    monkeypatch.setattr(parallel, "on_cpu", lambda: False)
    assert num_lanes() == 1


@pytest.mark.skipif(not MAPS_HELD.exists(), reason="needs Linux")
def test_programs_are_forgotten_at_half_of_the_maps_allowed_and_not_before(monkeypatch, tmp_path):
    """The maps come back, and the program still runs."""
    allowed = tmp_path / "max_map_count"
    monkeypatch.setattr(parallel, "MAPS_ALLOWED", allowed)
    double = jax.jit(lambda x: jnp.sort(2 * x))
    assert double(jnp.arange(3))[2] == 4
    held = len(MAPS_HELD.read_text().splitlines())
    allowed.write_text(f"{4 * held}\n")
    assert not forget_programs_near_limit() and double._cache_size() == 1
    allowed.write_text(f"{held}\n")
    assert forget_programs_near_limit() and double._cache_size() == 0
    assert len(MAPS_HELD.read_text().splitlines()) < held
    assert double(jnp.arange(3))[2] == 4


def test_system_without_a_limit_keeps_its_programs(monkeypatch, tmp_path):
    """Nothing to read, nothing to do."""
    monkeypatch.setattr(parallel, "MAPS_ALLOWED", tmp_path / "missing")
    assert not forget_programs_near_limit()
