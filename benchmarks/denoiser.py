"""Speed of the network: `python benchmarks/denoiser.py [--scale gs3_gu7_au5] [--batch 256] [--form tuple] ...`.

Graphs per second from CPU time are scaled to all cores: other work on the machine counts less there than in wall time.
"""

import argparse
import ctypes
import os
import time
from collections.abc import Callable

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # malloc.h of glibc


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", default="gs3_gu7_au5")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--form", choices=["dense", "list", "tuple"], default="list")
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--keep-memory", action="store_true", help="tune glibc's malloc first")
    options = parser.parse_args()
    if options.keep_memory:
        keep_freed_memory()  # before JAX starts threads, each of which would have its own pool of memory

    import jax
    import jax.numpy as jnp
    import numpy as np

    from laegd.graphs.encode import Normalisation, edge_values, edges_per_graph, encode, to_graphs_tuple
    from laegd.models.denoiser import Denoiser, ModelConfig
    from laegd.problem.instance import InstanceBatch
    from laegd.scenario.generator import Scale, ScenarioConfig, draw

    rng = np.random.default_rng(0)
    instances = InstanceBatch.from_scenarios(draw(ScenarioConfig(), Scale.parse(options.scale), options.batch, rng))
    graph = encode(instances, Normalisation.fit([instances]))
    shape = graph.edge_mask.shape
    values = (rng.integers(0, 2, shape), rng.normal(size=shape), rng.integers(1, 201, (options.batch, 1, 1)))
    values = tuple(column.astype(np.float32) for column in values)
    if options.form == "tuple":
        xt, yt, t = values
        values = edge_values(graph, xt), edge_values(graph, yt), t[:, 0, 0]
        graph = to_graphs_tuple(graph)
    elif options.form == "list":
        room = edges_per_graph(graph.edge_mask, 1)
        graph = graph._replace(room=np.zeros((options.batch, room), dtype=bool))
    mask = 1.0 if options.form == "tuple" else jnp.asarray(graph.edge_mask)
    arguments = jax.tree.map(jnp.asarray, (*values, graph))
    model = Denoiser(ModelConfig(hidden=options.hidden, num_layers=options.layers))
    params = jax.jit(model.init)(jax.random.key(0), *arguments)

    def loss(params, xt, yt, t, graph):
        logits, eps = model.apply(params, xt, yt, t, graph)
        error = jnp.square(eps - yt) - jnp.where(xt > 0, logits[..., 1], logits[..., 0]) + jax.nn.logsumexp(logits, -1)
        return jnp.sum(error * mask)

    num_parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
    print(f"{options.scale}, batch {options.batch}, {options.form}, {num_parameters} parameters, {jax.devices()[0]}")
    for name, function in (("forward", model.apply), ("forward + backward", jax.grad(loss))):
        wall, cpu = timings(jax.jit(function), (params, *arguments), options.repeats)
        scaled = options.batch * (os.cpu_count() or 1) / cpu
        print(f"{name:20} {wall * 1e3:8.1f} ms  {options.batch / wall:8.0f} graphs/s  by CPU time {scaled:8.0f}")


if __name__ == "__main__":
    main()
