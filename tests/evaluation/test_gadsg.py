"""A trained network as a solver: what holds of every plan, whatever the network has learnt."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laegd.evaluation.calls import EDGES_PER_BATCH, dealt
from laegd.evaluation.gadsg import PlanConfig, load, random_belief
from laegd.problem.allocation import exact_shares, optimal_shares
from laegd.problem.instance import LOCAL, Instance, InstanceBatch
from laegd.problem.objective import is_feasible, plan_cost, violations
from laegd.scenario.generator import Scale, ScenarioConfig
from laegd.scenario.scenario import Channel, Scenario, Server, User
from laegd.solvers.exact import ExactSolver
from laegd.solvers.local_search import improve
from laegd.training import parallel
from laegd.training.parallel import MAPS_HELD

COUNT = 12
BATCH = 4  # instances per call of a compiled program: few sizes, little compiling


def drawn(scale, count, seed):
    """Returns feasible instances of a scale."""
    from laegd.graphs.dataset import draw_feasible

    batch, _ = draw_feasible(ScenarioConfig(), Scale.parse(scale), count, np.random.default_rng(seed))
    return InstanceBatch.from_scenarios(batch)


def user(name, x_m=0.0, **changes):
    """Returns a user that can run its task at home in half its deadline."""
    values = {
        "x_m": x_m, "y_m": 0.0, "z_m": 0.0, "capacity_flops": 4e9, "transmit_power_w": 0.2, "workload_flop": 4e9,
        "task_bits": 4e6, "delay_weight": 0.5, "deadline_s": 2.0,
    }  # fmt: skip
    return User(name, "GU", **(values | changes))


def server(name, x_m=0.0):
    """Returns a ground server."""
    return Server(name, "GS", x_m, 0.0, 0.0, capacity_flops=12e9, active_power_w=120.0, coverage_radius_m=900.0)


def instance(servers, users):
    """Returns the instance of a network."""
    scenario = Scenario(channel=Channel(), chip_energy_factor=1e-26, servers=tuple(servers), users=tuple(users))
    return Instance.from_scenario(scenario)


@pytest.fixture(scope="module", autouse=True)
def small_batches():
    """Every call of some instances takes several batches, the last one padded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("laegd.evaluation.calls.EDGES_PER_BATCH", BATCH * 8 * 24)
        yield


@pytest.fixture(scope="module")
def network(run):
    """The small trained network."""
    return load(run)


@pytest.fixture(scope="module")
def chance():
    """Chance in the network's place."""
    return random_belief(PlanConfig(certify=True))


@pytest.fixture(scope="module")
def instances():
    """Unseen feasible instances of the small scale."""
    return drawn("gs2_gu4_au2", COUNT, 77)


@pytest.fixture(scope="module")
def optima(instances):
    """Their certified optimal costs."""
    return np.array([plan.cost for plan in ExactSolver().solve(instances)])


def same(ours, theirs):
    """Tells whether two lists of plans are the same plans."""
    return all(
        np.array_equal(a.server, b.server) and np.array_equal(a.share, b.share) and a.cost == b.cost
        for a, b in zip(ours, theirs, strict=True)
    )


# What holds whatever is believed is tried by chance, which compiles in a second; of the network in the slow tests.
chance_first = pytest.mark.parametrize(
    "solver", [pytest.param("network", marks=pytest.mark.slow), "chance"], indirect=True, scope="module"
)


@pytest.fixture(scope="module", params=["network", "chance"])
def solver(request):
    """The trained network, and chance in its place."""
    return request.getfixturevalue(request.param)


def test_every_plan_obeys_every_constraint_and_costs_at_least_the_optimum(solver, instances, optima):
    """Feasible by the independent checker, priced as it says, never below the certified optimum."""
    for one, plan, optimum in zip(instances, solver.solve(instances), optima, strict=True):
        assert plan.feasible and violations(one, plan) == []
        assert plan.cost == pytest.approx(float(plan_cost(one.costs, plan.server, plan.share)), rel=1e-12)
        assert plan.cost >= optimum * (1 - 1e-9)


def test_certified_gap_holds(solver, instances, optima):
    """The lower bound is below the optimum, so the gap to the optimum is at most the certified one."""
    for plan, optimum in zip(solver.solve(instances), optima, strict=True):
        assert plan.lower_bound <= optimum * (1 + 1e-9)
        assert 0 <= (plan.cost - optimum) / plan.cost <= plan.gap + 1e-9


def test_same_seed_same_plans_and_other_seeds_other_samples(solver, instances):
    """Solving is a function of instances and settings; another seed finds other plans."""
    plain = solver.with_settings(certify=False)
    assert same(plain.solve(instances), plain.solve(instances))
    assert not same(plain.solve(instances), plain.with_settings(seed=1).solve(instances))


@chance_first
def test_more_samples_never_cost_more(solver, instances):
    """The first 8 of 32 samples are the 8, so the best of 32 costs at most the best of 8."""
    eight, many = (
        np.array([plan.cost for plan in solver.with_settings(num_samples=n, certify=False).solve(instances)])
        for n in (8, 32)
    )
    assert (many <= eight * (1 + 1e-6)).all() and (many < eight).any()


@chance_first
def test_beliefs_of_every_step_make_plans_that_are_no_dearer(solver, instances):
    """The last step's candidates are among them; with few samples others are better now and then."""
    sampler = replace(solver.settings.sampler, noisy_copies=0)
    one = solver.with_settings(num_samples=1, certify=False, sampler=sampler)
    last = one.with_settings(sampler=replace(sampler, every_step=False))
    every, alone = (np.array([plan.cost for plan in which.solve(instances)]) for which in (one, last))
    assert (every <= alone * (1 + 1e-6)).all() and (every < alone).any()


@chance_first
def test_noisy_copies_make_plans_that_are_no_dearer(solver, instances):
    """The candidates without copies are among them, shares too; with few samples others are better now and then."""
    decoding = replace(solver.settings.decode, allocation="model")
    one = solver.with_settings(num_samples=1, certify=False, decode=decoding)
    plain = one.with_settings(sampler=replace(one.settings.sampler, noisy_copies=0))
    noisy, alone = (np.array([plan.cost for plan in which.solve(instances)]) for which in (one, plain))
    assert (noisy <= alone * (1 + 1e-6)).all() and (noisy < alone).any()


@pytest.mark.parametrize("largest", [2**22, 0], ids=["device", "host"])
def test_polish_never_costs_more(solver, instances, monkeypatch, largest):
    """Local search only takes changes that pay, one per round, wherever it runs."""
    called = []

    def spy(*arguments, **settings):
        called.append(settings)
        return improve(*arguments, **settings)

    monkeypatch.setattr("laegd.evaluation.calls.LARGEST_POLISH", largest)
    monkeypatch.setattr("laegd.evaluation.gadsg.improve", spy)
    polished = solver.with_settings(decode=replace(solver.settings.decode, polish_rounds=5), certify=False)
    plain, cheaper = solver.with_settings(certify=False), []
    for one, before, after in zip(instances, plain.solve(instances), polished.solve(instances), strict=True):
        assert violations(one, after) == []
        assert after.cost <= before.cost * (1 + 1e-6)
        changed = int((after.server != before.server).sum())
        cheaper.append(after.cost < before.cost * (1 - 1e-6))
        assert (changed > 0) == cheaper[-1] and changed <= 2 * 5
    assert any(cheaper)
    assert called == ([] if largest else [{"max_changes": 5}] * len(instances))


def test_shares_of_the_network_are_feasible_and_closed_form_ones_are_cheaper(solver, instances):
    """On the very assignment that was found, the closed form costs at most what the network's shares cost."""
    by_model = solver.with_settings(decode=replace(solver.settings.decode, allocation="model"), certify=False)
    for one, plan in zip(instances, by_model.solve(instances), strict=True):
        assert plan.feasible and violations(one, plan) == []
        closed = plan_cost(one.costs, plan.server, optimal_shares(one.costs, plan.server))
        assert float(closed) <= plan.cost * (1 + 1e-9)


def test_instances_of_several_scales_come_back_in_order_as_if_alone(network, instances):
    """A mixed call gives each instance what a call of its scale gives it."""
    other = drawn("gs2_gu5_au3", COUNT, 5)
    plain = network.with_settings(certify=False)
    mixed = [(instances if i % 2 else other)[i] for i in range(COUNT)]
    alone, alone_other = plain.solve(instances), plain.solve(other)
    assert same(plain.solve(mixed), [(alone if i % 2 else alone_other)[i] for i in range(COUNT)])
    assert [len(plan.server) for plan in plain.solve(mixed)] == [one.num_users for one in mixed]


def test_an_instance_gets_its_plan_wherever_it_stands(solver, instances):
    """Turned round, alone, twice in a call: what names a random stream is the network, not its position."""
    plain = solver.with_settings(certify=False)
    plans = plain.solve(instances)
    assert same(plain.solve(list(instances)[::-1])[::-1], plans)
    assert same(plain.solve([instances[3]]), plans[3:4])
    assert same(plain.solve([instances[0], instances[3], instances[3]]), [plans[0], plans[3], plans[3]])


def test_batches_do_not_change_plans(network, instances, monkeypatch):
    """Solved four at a time or all at once: the same plans."""
    plain = network.with_settings(certify=False)
    parts = plain.solve(instances)
    monkeypatch.setattr("laegd.evaluation.calls.EDGES_PER_BATCH", EDGES_PER_BATCH)
    assert same(parts, plain.solve(instances))


@given(st.lists(st.integers(0, 200), min_size=1, max_size=60), st.integers(1, 8))
def test_parts_of_a_batch_have_about_as_many_edges(num_edges, hand):
    """Full parts differ by no more than the instances themselves; nobody is lost."""
    counts = np.array(num_edges)
    order = dealt(counts, hand)
    assert sorted(order) == list(range(len(counts)))
    full = counts[order][: len(counts) // hand * hand].reshape(-1, hand).sum(1)
    assert len(full) == 0 or full.max() - full.min() <= counts.max() - counts.min()


@pytest.mark.parametrize("lanes", [1, 3])
def test_plans_do_not_depend_on_how_many_programs_run_at_a_time(solver, instances, monkeypatch, lanes):
    """One after the other or three together: the same plans."""
    plain = solver.with_settings(certify=False)
    plans = plain.solve(instances)
    monkeypatch.setattr("laegd.evaluation.calls.num_lanes", lambda: lanes)
    assert same(plans, plain.solve(instances))


@pytest.mark.skipif(not MAPS_HELD.exists(), reason="needs Linux")
@pytest.mark.slow
def test_any_number_of_scales_leaves_memory_maps(monkeypatch, tmp_path):
    """Each scale's programs hold some; XLA crashes where a process holds all that it may."""

    def held():
        return len(MAPS_HELD.read_text().splitlines())

    def solve(num_users):
        return solver.solve(drawn(f"gs2_gu{num_users}_au1", 1, seed=3))[0].cost

    solver = random_belief(PlanConfig(num_samples=3))
    jax.clear_caches()
    before = held()
    cost = solve(3)
    of_a_scale = held() - before
    assert of_a_scale > 0
    (tmp_path / "max_map_count").write_text(str(2 * (before + of_a_scale)))
    monkeypatch.setattr(parallel, "MAPS_ALLOWED", tmp_path / "max_map_count")
    for num_users in range(4, 10):  # half as many maps each as the first: kept, four times as many in all
        solve(num_users)
        assert held() < before + 3 * of_a_scale  # room for the heap's
    assert solve(3) == cost


@chance_first
def test_user_that_nobody_can_serve_is_named(solver):
    """Out of reach and too slow at home: no plan, by name, and the other instances are not disturbed."""
    lost = user("lost", x_m=5000.0, capacity_flops=1e9)  # 4 s at home against 2 s
    bad = instance([server("a"), server("b")], [user("near"), lost])
    good = instance([server("a"), server("b")], [user("near"), user("too")])
    answer, fine = solver.solve([bad, good])
    assert (answer.feasible, answer.unserved, answer.cost, answer.gap) == (False, ("lost",), np.inf, None)
    assert fine.feasible and violations(good, fine) == []


def test_users_that_do_not_fit_together_are_named(chance):
    """Three users that each need over half of the only server; who could be served at home is not named."""
    # 12e9 FLOP/s: 14e9 FLOP within 2 s and a little transmission need a share above 14 / 24.
    users = [user(name, workload_flop=14e9, capacity_flops=1e9) for name in "abc"]
    (answer,) = chance.solve([instance([server("s")], [*users, user("home")])])
    assert not answer.feasible and answer.unserved == ("a", "b", "c")


def test_networks_without_users_servers_or_hap_are_answered(chance):
    """Nothing to place: an empty plan of cost 0; no server: everyone at home; no HAP: as any other."""
    nobody, alone, ground = chance.solve(
        [instance([server("s")], []), instance([], [user("u")]), instance([server("s")], [user("u"), user("v")])]
    )
    assert (nobody.cost, nobody.feasible, len(nobody.server)) == (0.0, True, 0)
    assert alone.feasible and alone.server.tolist() == [LOCAL]
    assert ground.feasible
    (helpless,) = chance.solve([instance([], [user("u", capacity_flops=1e9)])])
    assert (helpless.feasible, helpless.unserved) == (False, ("u",))
    assert chance.solve([]) == []


def test_exact_shares_repairs_rounding_in_float64():
    """Shares that overfill a server by float32's rounding, or miss a floor by it, end feasible and hardly changed."""
    batch = drawn("gs3_gu7_au5", 20, 3)
    plans = ExactSolver().solve(batch)
    chosen = np.stack([plan.server for plan in plans])
    share = np.stack([plan.share for plan in plans])
    rng = np.random.default_rng(0)
    rough = share * (1 + rng.uniform(-3e-7, 3e-7, share.shape))
    exact = exact_shares(batch.costs, chosen, rough)
    assert exact.dtype == np.float64
    assert is_feasible(batch.costs, chosen, exact).all()
    load = (exact[..., None] * (chosen[..., None] == np.arange(batch.costs.covered.shape[-1]))).sum(1)
    assert (load <= 1 + 1e-12).all()
    np.testing.assert_allclose(exact, share, atol=2e-6)
    assert (exact[chosen == LOCAL] == 0).all()


@pytest.fixture
def copy(run, tmp_path):
    """A copy of the run to damage."""
    return Path(shutil.copytree(run, tmp_path / "run"))


def edit_meta(folder, change):
    """Rewrites the settings beside the parameters."""
    (path,) = folder.glob("checkpoints/[0-9]*/meta/metadata")
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


DAMAGES = [
    (shutil.rmtree, "Expected a run folder with checkpoints/, got none", "no folder"),
    (lambda run: shutil.rmtree(run / "checkpoints"), "Expected a run folder with checkpoints/, got none", "no run"),
    (
        lambda run: (shutil.rmtree(run / "checkpoints"), (run / "checkpoints").mkdir()),
        "Expected a checkpoint, got none",
        "empty",
    ),
    (
        lambda run: next(run.glob("checkpoints/[0-9]*/meta/metadata")).write_text('{"format": "laegd-r'),
        "Expected a laegd-run/2 checkpoint",
        "truncated",
    ),
    (
        lambda run: edit_meta(run, lambda meta: meta | {"format": "laegd-run/9"}),
        "format: Expected laegd-run/2, got 'laegd-run/9'",
        "format",
    ),
    (
        lambda run: edit_meta(run, lambda meta: {k: v for k, v in meta.items() if k != "normalisation"}),
        "got: 'normalisation'",
        "no normalisation",
    ),
    (
        lambda run: edit_meta(
            run, lambda meta: meta | {"features": meta["features"] | {"edge": [*meta["features"]["edge"], "colour"]}}
        ),
        r"features: Expected the columns that this laegd computes, got .*'colour'",
        "other features",
    ),
    (
        lambda run: edit_meta(
            run, lambda meta: meta | {"normalisation": meta["normalisation"] | {"edge_std": [1.0, 1.0]}}
        ),
        r"edge_std: Expected 8 finite numbers, got \(1.0, 1.0\)",
        "other normalisation",
    ),
    (
        lambda run: edit_meta(
            run, lambda meta: meta | {"config": meta["config"] | {"model": meta["config"]["model"] | {"hidden": 32}}}
        ),
        r"params\['embed_time'\]\['bias'\]: Expected shape \(32,\), got \(16,\)\. The network has changed\. Train",
        "other network",
    ),
    (lambda run: shutil.rmtree(next(run.glob("checkpoints/[0-9]*/params"))), "Expected a laegd-run/2", "no params"),
]


@pytest.mark.parametrize("damage, message", [row[:2] for row in DAMAGES], ids=[row[2] for row in DAMAGES])
def test_bad_run_folder_is_refused_in_one_line(copy, damage, message):
    """What is wrong, where, and what to do; of a run that has no digests of its files, as older ones."""
    for digest in copy.glob("checkpoints/*.sha256"):
        digest.unlink()
    damage(copy)
    with pytest.raises(ValueError, match=message) as error:
        load(copy)
    assert str(copy) in str(error.value) and "\n" not in str(error.value)


def test_more_candidates_than_memory_holds_are_refused(solver, instances, monkeypatch):
    """Before anything is drawn; the limit is that of the network at hand, for one sample."""
    candidates = solver.settings.sampler.num_beliefs * len(solver.settings.decode.thresholds)
    monkeypatch.setattr("laegd.evaluation.calls.MAX_BELIEFS", candidates * 6 * 3 - 1)
    said = f"sampler, decode: Expected at most {candidates - 1} candidates at a time .*, got {candidates}"
    with pytest.raises(ValueError, match=said):
        solver.solve(instances)


def test_networks_with_more_edges_than_memory_holds_are_refused(network, instances, monkeypatch):
    """Edges count, times the width of the network, not users and servers."""
    most, hidden = int(instances.costs.covered.sum(axis=(1, 2)).max()), network.loaded.config.model.hidden
    monkeypatch.setattr("laegd.evaluation.calls.MAX_HIDDEN", most * hidden)
    assert len(network.solve(instances)) == len(instances)
    monkeypatch.setattr("laegd.evaluation.calls.MAX_HIDDEN", most * hidden - 1)
    said = (
        f"users, servers: Expected at most {most - 1} pairs in reach for a network of width {hidden}, got {most}. Use"
    )
    with pytest.raises(ValueError, match=said):
        network.solve(instances)


@chance_first
def test_samples_of_large_networks_are_drawn_in_several_calls(solver, instances, monkeypatch):
    """Where samples share no call of the network, plans are those of all samples at once."""
    sampler = replace(solver.settings.sampler, share_first_half=False)
    alone = solver.with_settings(num_samples=7, sampler=sampler, certify=False)
    whole = alone.solve(instances)
    candidates = sampler.num_beliefs * len(solver.settings.decode.thresholds)
    for most in (1, 3):  # samples per call; with 3 the last call has two of the one before
        monkeypatch.setattr("laegd.evaluation.calls.MAX_BELIEFS", most * candidates * 6 * 3)
        assert same(alone.solve(instances), whole)


LARGEST = """
import resource, sys, jax, numpy as np
from laegd.evaluation.calls import MAX_BELIEFS, MAX_HIDDEN
from laegd.evaluation.gadsg import load
from laegd.problem.instance import InstanceBatch
from laegd.problem.objective import violations
from laegd.scenario.generator import Scale, ScenarioConfig, draw
config = ScenarioConfig(gs_coverage_radius_m=float(sys.argv[2]))
(instance,) = InstanceBatch.from_scenarios(draw(config, Scale.parse(sys.argv[1]), 1, np.random.default_rng(0)))
network = load("default", certify=False, num_samples=2)
jax.block_until_ready(jax.numpy.zeros(1) + 1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
hidden = instance.costs.covered.sum() * network.loaded.config.model.hidden
beliefs = instance.costs.covered.size * network.settings.sampler.num_beliefs
assert max(hidden / MAX_HIDDEN, beliefs / MAX_BELIEFS) > 0.99
(plan,) = network.solve([instance])
assert plan.unserved or violations(instance, plan) == []
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "radius_m"), [("gs255_gu300_au212", 1e5), ("gs708_gu500_au386", 900.0)])
def test_the_largest_networks_that_are_taken_are_planned_in_a_gigabyte(scale, radius_m):
    """As many pairs in reach as the network takes, and as many pairs as candidates of one sample leave room for."""
    command = [sys.executable, "-c", LARGEST, scale, str(radius_m)]
    assert float(subprocess.run(command, check=True, capture_output=True, text=True).stdout) < 1.0


def test_bad_plan_settings_are_named(network):
    """Samples and sampling steps are checked where the solver is built."""
    with pytest.raises(ValueError, match="num_samples: Expected at least 1, got 0"):
        network.with_settings(num_samples=0)
    sampler = replace(network.settings.sampler, num_steps=500)
    with pytest.raises(ValueError, match="num_steps: Expected 1 to 200 sampling steps, got 500"):
        network.with_settings(sampler=sampler)
    with pytest.raises(ValueError, match="seed: Expected a seed from 0"):
        network.with_settings(seed=-1)


SOLVE = """
import sys, numpy as np, jax
from pathlib import Path
from laegd.evaluation.gadsg import load
from laegd.graphs.dataset import Dataset
assert jax.local_device_count() == int(sys.argv[4])
data = Dataset.open(Path(sys.argv[2])).read_all()
plans = load(sys.argv[1], certify=False).solve(data.instances)
np.savez(sys.argv[3], server=[p.server for p in plans], cost=[p.cost for p in plans])
"""


@pytest.mark.slow
def test_two_devices_sample_like_one(run, data_root, tmp_path):
    """An odd number of instances on one and on two devices: the same assignments, costs equal to rounding."""
    from laegd.graphs.dataset import Recipe, generate

    generate(Recipe("gs2_gu4_au2", 11, seed=8, labels="none"), tmp_path / "data")
    for devices in (1, 2):
        environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)}
        arguments = [run, tmp_path / "data", tmp_path / f"{devices}.npz", devices]
        subprocess.run([sys.executable, "-c", SOLVE, *map(str, arguments)], env=environment, check=True)
    one, two = (np.load(tmp_path / f"{devices}.npz") for devices in (1, 2))
    np.testing.assert_array_equal(one["server"], two["server"])
    np.testing.assert_allclose(one["cost"], two["cost"], rtol=1e-9)


def test_drawn_batch_is_solved_as_its_instances_are(network, instances):
    """A batch and the list of its instances get the same plans."""
    plain = network.with_settings(certify=False)
    assert same(plain.solve(instances), plain.solve(list(instances)))
