"""Sixty small faults, put into laegd one at a time: do the default tests catch them?

Each fault is one edit: a sign, a mask, an index, a bound, an order, a name, an unchecked field. The script copies the
checkout, makes the edit, and runs first the tests named beside the fault, then, where these pass, all default tests.
Run by hand, since it takes an hour: `python tests/seeded_faults.py [--tree CHECKOUT] [--out caught.csv] [NUMBER ...]`.
"""

import argparse
import csv
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple


class Fault(NamedTuple):
    """One edit of one file."""

    file: str
    old: str
    new: str
    tests: str
    """Files below tests/ to run first."""


FAULTS = [
    # scenario
    Fault("scenario/channel.py", "1.0 / (1.0 + k1 * np.exp", "1.0 / (1.0 - k1 * np.exp", "scenario/test_channel.py"),
    Fault("scenario/channel.py", "-k2 * (elevation_deg - k1)", "-k2 * (elevation_deg + k1)", "scenario/test_channel.py"),
    Fault("scenario/channel.py", "np.maximum(np.hypot(horizontal_m, height_m), MIN", "np.maximum(np.hypot(horizontal_m, 0 * height_m), MIN", "scenario/test_channel.py"),
    Fault("scenario/channel.py", "g2g, a2h = ~to_hap & ~aerial, to_hap & aerial", "g2g, a2h = ~to_hap & ~aerial, to_hap & ~aerial", "scenario/test_channel.py"),
    Fault("scenario/channel.py", "Links(horizontal_m <= nodes", "Links(distance_m <= nodes", "scenario/test_channel.py"),
    Fault("scenario/generator.py", "is_aerial[:, scale.num_ground_users :] = True", "is_aerial[:, scale.num_aerial_users :] = True", "scenario/test_generator.py"),
    Fault("scenario/generator.py", "return np.clip(values, self.low, self.high)", "return values", "scenario/test_generator.py"),
    Fault("scenario/scenario.py", "bool(0 <= self.delay_weight <= 1)", "bool(0 <= self.delay_weight)", "scenario/test_scenario.py"),
    # problem
    Fault("problem/instance.py", "chip_energy_factor * nodes.user_capacity_flops**3", "chip_energy_factor * nodes.user_capacity_flops**2", "problem/test_instance.py"),
    Fault("problem/instance.py", "execute_cost=weight_k * execute_delay_s + (1.0 - weight_k)", "execute_cost=weight_k * execute_delay_s + (1.0 + weight_k)", "problem/test_instance.py"),
    Fault("problem/instance.py", "transmit_delay_s + execute_delay_s <= nodes", "execute_delay_s <= nodes", "problem/test_instance.py"),
    Fault("problem/allocation.py", "left = 1.0 - np.where(free, 0.0, floor_s).sum(axis=-2)", "left = 1.0 - np.where(free, floor_s, 0.0).sum(axis=-2)", "problem/test_allocation.py"),
    Fault("problem/allocation.py", "free = at_server & (handed_out <= 1.0)", "free = at_server & (handed_out <= 0.9)", "problem/test_allocation.py"),
    Fault("problem/objective.py", "np.where(local, costs.local_allowed, remote_ok)", "np.where(local, True, remote_ok)", "problem/test_objective.py"),
    Fault("problem/objective.py", "return np.where(server == LOCAL, costs.local_cost,", "return np.where(server <= 0, costs.local_cost,", "problem/test_objective.py"),
    Fault("problem/feasibility.py", "left[s] -= self.floor[user, s]", "left[s] -= 0.5 * self.floor[user, s]", "problem/test_feasibility.py"),
    Fault("problem/instance.py", "max(0.0, (self.cost - self.lower_bound) / self.cost)", "max(0.0, (self.cost - self.lower_bound) / self.lower_bound)", "problem/test_objective.py problem/test_plan_json.py problem/test_instance.py"),
    # solvers
    Fault("solvers/columns.py", "theta = np.where(free_root > 0, left, 0.0)", "theta = np.where(free_root > 0, 1.0, 0.0)", "solvers/test_exact.py"),
    Fault("solvers/columns.py", "fixed_cost=transmit - np.where(must, 0.0,", "fixed_cost=transmit + np.where(must, 0.0,", "solvers/test_exact.py"),
    Fault("solvers/pricing.py", "most=term + total[edges.last] - total[1:]", "most=term + total[edges.last] - total[:-1]", "solvers/test_exact.py"),
    Fault("solvers/set_packing.py", "np.where(local_allowed, -np.inf, 1.0), np.full(num_servers, -np.inf)])\n        self._highs", "np.where(local_allowed, -np.inf, -np.inf), np.full(num_servers, -np.inf)])\n        self._highs", "solvers/test_exact.py"),
    Fault("solvers/reduction.py", "local_cost=costs.local_cost / unit", "local_cost=costs.local_cost", "solvers/test_exact.py"),
    Fault("solvers/rounding.py", "if not used[row].any():", "if not used[row[1:]].any():", "solvers/test_exact.py"),
    Fault("solvers/local_search.py", "self.replace[:, there] = np.inf", "self.replace[there, :] = np.inf", "solvers/test_local_search.py"),
    Fault("solvers/alternating.py", "next_one = (open_price.min(axis=1) - first).argmax()", "next_one = (open_price.min(axis=1) - first).argmin()", "solvers/test_alternating.py"),
    Fault("solvers/random_execution.py", "rest = np.maximum(0.0, 1.0 - load(", "rest = np.maximum(0.0, 0.9 - load(", "solvers/test_random_execution.py"),
    Fault("solvers/mcmf.py", "return (np.cumsum(floors, axis=0) <= _CAPACITY)", "return (np.cumsum(floors, axis=0) <= 2 * _CAPACITY)", "solvers/test_mcmf.py"),
    # graphs
    Fault("graphs/encode.py", "np.where(raw.edge_mask[..., None], raw.edge_features, np.array(normalisation.edge_padding))", "np.where(raw.edge_mask[..., None], raw.edge_features, 0.0)", "graphs/test_encode.py"),
    Fault("graphs/encode.py", "(mean_b - mean) ** 2 * count * count_b / both", "(mean_b - mean) ** 2 * count_b / both", "graphs/test_encode.py"),
    Fault("graphs/encode.py", 'server_features[..., [NODE_COLUMNS.index("log_workload"), NODE_COLUMNS.index("delay_weight")]] = 0.0', 'server_features[..., [NODE_COLUMNS.index("log_workload")]] = 0.0', "graphs/test_encode.py"),
    Fault("graphs/padding.py", "senders=pad_rows(np.asarray(graph.senders), budget.num_edges, num_nodes)", "senders=pad_rows(np.asarray(graph.senders), budget.num_edges, 0)", "graphs/test_padding.py"),
    Fault("graphs/dataset.py", "low, high = max(first - begin, 0), min(last - begin, entry.count)", "low, high = max(first - begin, 0), min(last, entry.count)", "graphs/test_dataset.py"),
    # models
    Fault("models/wiring.py", "server = user // users * servers + pair % servers", "server = pair % servers", "models/test_denoiser.py"),
    Fault("models/gat.py", "gate = wiring.masked(nn.sigmoid(mixed))", "gate = nn.sigmoid(mixed)", "models/test_denoiser.py"),
    Fault("models/gat.py", "self._gather(to_servers, weight[..., self.num_heads :]", "self._gather(to_servers, weight[..., : self.num_heads]", "models/test_gat.py models/test_denoiser.py"),
    Fault("models/denoiser.py", "plan = jnp.stack([2.0 * xt - 1.0, yt]", "plan = jnp.stack([2.0 * xt - 1.0, 0.0 * yt]", "models/test_denoiser.py"),
    # diffusion
    Fault("diffusion/schedules.py", "np.cumprod(1.0 - 2.0 * np.minimum(beta, 0.5))", "np.cumprod(1.0 - np.minimum(beta, 0.5))", "diffusion"),
    Fault("diffusion/categorical.py", "flip_probability = (1.0 - jnp.asarray(schedule.bit_signal)[t]) / 2.0", "flip_probability = (1.0 - jnp.asarray(schedule.bit_signal)[t - 1]) / 2.0", "diffusion"),
    Fault("diffusion/categorical.py", "belief * given(keep_0s) + (1.0 - belief) * given(1.0 - keep_0s)", "belief * given(keep_0s) + (1.0 - belief) * given(keep_0s)", "diffusion"),
    Fault("diffusion/gaussian.py", "direction = jnp.sqrt(jnp.maximum(1.0 - a_s - sigma**2, 0.0))", "direction = jnp.sqrt(jnp.maximum(1.0 - a_s, 0.0))", "diffusion"),
    Fault("diffusion/loss.py", "jnp.sum((eps_hat - eps) ** 2 * mask)", "jnp.sum((eps_hat - eps) ** 2)", "diffusion training/test_loop.py"),
    Fault("diffusion/ddim.py", "posterior(xt, belief, t, s, schedule)", "posterior(xt, belief, s, t, schedule)", "diffusion"),
    # decoding
    Fault("decoding/decode.py", "fits = (need[:, None] <= room) & (score[:, None] > limit) & ~must", "fits = (score[:, None] > limit) & ~must", "decoding"),
    Fault("decoding/decode.py", "choices = jnp.where(must, usable.sum(1), num_servers + 1)", "choices = jnp.where(must, usable.sum(1), 0)", "decoding"),
    Fault("decoding/candidates.py", "grown = bound | (share < floor)\n        return grown, shares(grown), jnp.any(grown != bound)\n\n    free", "grown = bound\n        return grown, shares(grown), jnp.any(grown != bound)\n\n    free", "decoding"),
    Fault("decoding/candidates.py", "return jnp.where(served & fits, cost, jnp.inf)", "return jnp.where(served, cost, jnp.inf)", "decoding"),
    Fault("decoding/polish.py", "swap = prices.replace + prices.replace.swapaxes(0, 1)", "swap = prices.replace + prices.replace", "decoding"),
    Fault("decoding/polish.py", "better = active & (changed.cost < plans.cost * (1.0 - LEAST_GAIN))", "better = active & (changed.cost < plans.cost * (1.0 + 1e-2))", "decoding"),
    # training
    Fault("training/batches.py", "visit = step % len(sizes), step // len(sizes)", "visit = step % len(sizes), step", "training/test_loop.py training/test_parallel.py"),
    Fault("training/step.py", "(1.0 + state.step) / (10.0 + state.step)", "(10.0 + state.step) / (10.0 + state.step)", "training/test_step.py training/test_loop.py"),
    Fault("training/step.py", "gradients = jax.tree.map(lambda g: g / count, gradients)", "gradients = jax.tree.map(lambda g: g / jnp.sqrt(count), gradients)", "training/test_step.py training/test_loop.py"),
    Fault("training/grlo.py", "return -jnp.log(jnp.clip(ratio, _SMALLEST_COST, LARGEST_RATIO))", "return jnp.log(jnp.clip(ratio, _SMALLEST_COST, LARGEST_RATIO))", "training/test_grlo.py"),
    Fault("training/parallel.py", "jax.random.fold_in(key, number)", "jax.random.fold_in(key, number // 2)", "training/test_parallel.py evaluation/test_gadsg.py"),
    Fault("training/meta.py", 'require(its_shape == shape, f"{item}{name}"', 'require(True, f"{item}{name}"', "training/test_loop.py training/test_model_file.py"),
    # evaluation
    Fault("evaluation/benchmark.py", "(_rated(rows) & (rows.ratio < ACCURATE_BELOW)).mean()", "(_rated(rows) & (rows.ratio <= 2.0)).mean()", "evaluation/test_benchmark.py"),
    Fault("evaluation/benchmark.py", "values.std(ddof=1) / np.sqrt(len(values))", "values.std(ddof=1)", "evaluation/test_benchmark.py"),
    Fault("evaluation/calls.py", "better = other.cost < one.cost", "better = other.cost > one.cost", "evaluation/test_gadsg.py"),
    Fault("problem/allocation.py", "floor = (taken * costs.min_share).sum(-1)", "floor = 0 * (taken * costs.min_share).sum(-1)", "evaluation/test_gadsg.py"),
    Fault("evaluation/journal.py", "file.truncate(self.size)\n", "pass\n", "evaluation/test_benchmark.py"),
    # command line
    Fault("cli/methods.py", "if names.count(name) > 1:", "if names.count(name) > 2:", "test_cli.py test_cli_compare.py"),
]  # fmt: skip


def run_pytest(tree: Path, tests: list[str], workers: int) -> tuple[bool, str]:
    """Runs tests of a checkout until the first failure; returns whether one failed, and the line that says so."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-n", str(workers), *tests]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    if done.returncode not in (0, 1, 2):
        raise RuntimeError(f"pytest ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return done.returncode != 0, failed[0].split(" - ")[0] if failed else ""


def seed(fault: Fault, tree: Path) -> None:
    """Makes the edit; raises ValueError where its text does not stand in the file exactly once."""
    path = tree / "laegd" / fault.file
    text = path.read_text()
    if (count := text.count(fault.old)) != 1:
        raise ValueError(f"{fault.file}: Expected {fault.old!r} once, got it {count} times. Correct the fault.")
    path.write_text(text.replace(fault.old, fault.new))


def try_fault(number: int, source: Path, workers: int, quick: bool) -> tuple[str, str, float]:
    """Returns how a fault was caught (by its own tests, by the others, not), by which test, after how many seconds."""
    fault, begin = FAULTS[number], time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="seeded-") as folder:
        tree = Path(folder) / "laegd"
        subprocess.run(["git", "clone", "-q", str(source), str(tree)], check=True)
        shutil.rmtree(tree / ".git")
        seed(fault, tree)
        caught, by = run_pytest(tree, [f"tests/{name}" for name in fault.tests.split()], 0)
        how = "own tests" if caught else "not caught"
        if not caught and not quick:
            caught, by = run_pytest(tree, ["tests"], workers)
            how = "other tests" if caught else "not caught"
    return how, by, time.perf_counter() - begin


def main() -> None:
    """Tries the faults and prints a line each."""
    parser = argparse.ArgumentParser(description="Tries whether the default tests catch sixty seeded faults.")
    parser.add_argument("numbers", type=int, nargs="*", help="faults to try, from 0; default: all")
    parser.add_argument(
        "--tree", type=Path, default=Path(__file__).parents[1], help="checkout with what is to be tried"
    )
    parser.add_argument("--out", type=Path, help="CSV to write")
    parser.add_argument("--workers", type=int, default=2, help="of the run of all default tests")
    parser.add_argument("--quick", action="store_true", help="run only the tests named beside a fault")
    arguments = parser.parse_args()
    rows = []
    for number in arguments.numbers or range(len(FAULTS)):
        how, by, seconds = try_fault(number, arguments.tree, arguments.workers, arguments.quick)
        rows.append((number, FAULTS[number].file, FAULTS[number].new.strip(), how, by, f"{seconds:.0f}"))
        print(*rows[-1], sep=" | ", flush=True)
        if arguments.out:
            with arguments.out.open("w", newline="") as file:
                csv.writer(file).writerows([("number", "file", "edit", "caught by", "test", "seconds"), *rows])
    print(f"{sum(row[3] != 'not caught' for row in rows)} of {len(rows)} faults caught")


if __name__ == "__main__":
    main()
