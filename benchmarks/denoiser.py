"""Speed of the network: `python benchmarks/denoiser.py [--scale gs3_gu7_au5] [--batch 256] [--form list] ...`.

Forms: all pairs of a user and a server, a list of the edges, or a jraph GraphsTuple. Graphs per second from CPU time
are scaled to all cores: other work on the machine counts less there than in wall time. The share of the machine's
matmul peak counts the operations that XLA counts in the compiled program.
"""

import argparse
import ctypes
import os
import time
from collections.abc import Callable
from typing import NamedTuple

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # malloc.h of glibc
FORMS = ("dense", "list", "tuple")


class Speed(NamedTuple):
    """Of one compiled function on one batch."""

    name: str
    graphs: int
    wall_s: float
    cpu_s: float
    gflop: float

    @property
    def by_cpu(self) -> float:
        """Graphs per second of CPU time, on all cores."""
        return self.graphs * (os.cpu_count() or 1) / self.cpu_s

    def share_of(self, peak_gflops: float) -> float:
        """Of the machine's matmul peak, by CPU time."""
        return self.gflop * (os.cpu_count() or 1) / self.cpu_s / peak_gflops


def keep_freed_memory() -> None:
    """Has glibc reuse XLA's scratch memory: by default each step maps it anew, a page fault per 4 KiB."""
    libc = ctypes.CDLL(None)
    for setting, value in ((M_ARENA_MAX, 1), (M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1)):
        libc.mallopt(setting, value)


def timings(function: Callable, arguments: tuple, repeats: int) -> tuple[float, float]:
    """Returns median seconds of wall and of CPU time."""
    import jax

    wall, cpu = [], []
    for repeat in range(repeats + 3):
        start, cpu_start = time.perf_counter(), time.process_time()
        jax.block_until_ready(function(*arguments))
        if repeat >= 3:
            wall.append(time.perf_counter() - start)
            cpu.append(time.process_time() - cpu_start)
    return sorted(wall)[repeats // 2], sorted(cpu)[repeats // 2]


def matmul_peak(size: int = 2048, repeats: int = 9) -> float:
    """Returns GFLOP/s of a float32 matrix product, on all cores by CPU time."""
    import jax
    import jax.numpy as jnp

    matrix = jnp.ones((size, size))
    _, cpu = timings(jax.jit(jnp.matmul), (matrix, matrix), repeats)
    return 2 * size**3 * (os.cpu_count() or 1) / cpu / 1e9


def measure(scale: str, batch: int, form: str, hidden: int, layers: int, repeats: int) -> list[Speed]:
    """Times the network forward, and forward with backward, on fresh instances of a scale."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from laegd.graphs.encode import Normalisation, edge_values, edges_per_graph, encode, to_graphs_tuple
    from laegd.models.denoiser import Denoiser, ModelConfig
    from laegd.problem.instance import InstanceBatch
    from laegd.scenario.generator import Scale, ScenarioConfig, draw

    rng = np.random.default_rng(0)
    instances = InstanceBatch.from_scenarios(draw(ScenarioConfig(), Scale.parse(scale), batch, rng))
    graph = encode(instances, Normalisation.fit([instances]))
    shape = graph.edge_mask.shape
    values = (rng.integers(0, 2, shape), rng.normal(size=shape), rng.integers(1, 201, (batch, 1, 1)))
    values = tuple(column.astype(np.float32) for column in values)
    mask = 1.0 if form == "tuple" else jnp.asarray(graph.edge_mask)
    if form == "tuple":
        xt, yt, t = values
        values = edge_values(graph, xt), edge_values(graph, yt), t[:, 0, 0]
        graph = to_graphs_tuple(graph)
    elif form == "list":
        room = edges_per_graph(graph.num_edges, 1)
        graph = graph._replace(room=np.zeros((batch, room), dtype=bool))
    arguments = jax.tree.map(jnp.asarray, (*values, graph))
    model = Denoiser(ModelConfig(hidden=hidden, num_layers=layers))
    params = jax.jit(model.init)(jax.random.key(0), *arguments)

    def loss(params, xt, yt, t, graph):
        logits, eps = model.apply(params, xt, yt, t, graph)
        error = jnp.square(eps - yt) - jnp.where(xt > 0, logits[..., 1], logits[..., 0]) + jax.nn.logsumexp(logits, -1)
        return jnp.sum(error * mask)

    speeds = []
    for name, function in (("forward", model.apply), ("forward + backward", jax.grad(loss))):
        compiled = jax.jit(function).lower(params, *arguments).compile()
        wall, cpu = timings(compiled, (params, *arguments), repeats)
        speeds.append(Speed(name, batch, wall, cpu, compiled.cost_analysis()["flops"] / 1e9))
    return speeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", default="gs3_gu7_au5")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--form", choices=FORMS, default="list")
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--keep-memory", action="store_true", help="tune glibc's malloc first")
    options = parser.parse_args()
    if options.keep_memory:
        keep_freed_memory()  # before JAX starts threads, each of which would have its own pool of memory

    import jax

    peak = matmul_peak()
    print(f"{options.scale}, batch {options.batch}, {options.form}, {jax.devices()[0]}, matmul peak {peak:.0f} GFLOP/s")
    speeds = measure(options.scale, options.batch, options.form, options.hidden, options.layers, options.repeats)
    for speed in speeds:
        print(
            f"{speed.name:20} {speed.wall_s * 1e3:8.1f} ms  {options.batch / speed.wall_s:8.0f} graphs/s  "
            f"by CPU time {speed.by_cpu:8.0f}  {100 * speed.share_of(peak):5.1f} % of peak"
        )


if __name__ == "__main__":
    main()
