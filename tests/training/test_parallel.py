"""Programs mapped over devices: compiled once per shape, on any version of XLA."""

import jax
import numpy as np
import pytest

from laegd.training import parallel


def weighted(weights, rows):
    return rows @ weights


def rows(count: int) -> np.ndarray:
    return np.arange(6.0 * count, dtype=np.float32).reshape(1, 2 * count, 3)


@pytest.mark.parametrize("known", [True, False])
def test_forward_program_gives_the_product_whatever_options_xla_knows(monkeypatch, known):
    if not known:
        monkeypatch.setattr(parallel, "_CPU_OPTIONS", {"xla_cpu_no_such_option": "1"})
    weights = np.linspace(-1.0, 1.0, 12, dtype=np.float32).reshape(3, 4)
    program = parallel.over_devices(weighted, reduced=False)
    for count in (2, 5, 2):
        values = parallel.split(rows(count)[0], jax.local_device_count())
        np.testing.assert_allclose(parallel.join(program(weights, values)), rows(count)[0] @ weights, rtol=1e-5)


def test_forward_program_is_compiled_once_per_shape():
    traced = []

    def weighted_and_counted(weights, rows):
        traced.append(rows.shape)
        return rows @ weights

    program = parallel.over_devices(weighted_and_counted, reduced=False)
    for count in (2, 5, 2, 5):
        program(np.ones((3, 4), np.float32), parallel.split(rows(count)[0], jax.local_device_count()))
    assert len(traced) == len(set(traced)) == 2
