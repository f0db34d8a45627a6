"""Work on devices: several programs at a time where that keeps a CPU busy."""

import threading

import pytest

from laegd.training import parallel
from laegd.training.parallel import num_lanes, side_by_side

WAIT_S = 60


def test_items_are_worked_at_together_and_come_back_in_order():
    """Three that wait for each other end only if all three have begun."""
    together = threading.Barrier(3)

    def work(item):
        together.wait(WAIT_S)
        return item * item

    assert side_by_side(work, range(6), 3) == [0, 1, 4, 9, 16, 25]


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
