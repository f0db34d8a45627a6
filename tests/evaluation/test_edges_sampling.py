"""Networks as solvers at the edges: whatever they have learnt, plans are sound, and nothing on the way is NaN."""

from dataclasses import replace

import hypothesis.strategies as st
import jax
import numpy as np
import pytest
import wild
from checks import check, check_against_optimum
from hypothesis import given, settings
from runs import TINY

from laegd.decoding.decode import DecodeConfig, problem_of
from laegd.decoding.explore import Actions
from laegd.evaluation.gadsg import GADSG, PlanConfig
from laegd.graphs.encode import Normalisation, encode
from laegd.problem.instance import Instance, InstanceBatch
from laegd.solvers.exact import ExactSolver
from laegd.training.checkpoint import Loaded
from laegd.training.step import Belief, PlanInput, Stream, create_state, make_decoder, make_explorer, make_planner

# Run-time type checks draw random numbers while networks are drawn, which Hypothesis takes for the strategy's doing.
pytestmark = pytest.mark.filterwarnings(
    "error",
    "ignore::hypothesis.errors.HypothesisDeprecationWarning",
    "ignore:.*was not trained on",  # these networks are meant to be strange
)

PLAIN = DecodeConfig()
POLISHED = DecodeConfig(polish_rounds=3, polish_top=2)
OWN_SHARES = DecodeConfig(allocation="model")
SAMPLES = 4
USERS, SERVERS = 5, 3
COUNT = 4
"""Networks of one call; always of one size, so that programs are compiled once."""


def normalisation(spread: float = 1.0) -> Normalisation:
    """What a data set of usual networks would give; a small spread makes features large."""
    plain = Normalisation.fit([])
    return replace(
        plain,
        node_std=tuple(std * spread for std in plain.node_std),
        edge_std=tuple(std * spread for std in plain.edge_std),
    )


def untrained(learner: str, batch: InstanceBatch, weights: float = 1.0, spread: float = 1.0) -> Loaded:
    """A network of random weights, drawn as before training and scaled."""
    config = replace(TINY, learner=learner, model=replace(TINY.model, num_layers=1))
    params = create_state(config, encode(batch, normalisation(spread))).params
    return Loaded(config, normalisation(spread), jax.tree.map(lambda leaf: weights * leaf, params), 0)


def batch_of(scenarios) -> InstanceBatch:
    return InstanceBatch.stack([Instance.from_scenario(scenario) for scenario in scenarios])


def networks(num_users: int = USERS, num_servers: int = SERVERS):
    """Wild networks of one scale."""
    one = wild.scenarios((num_users, num_users), (num_servers, num_servers))
    return st.lists(one, min_size=COUNT, max_size=COUNT)


def solvers_for(batch: InstanceBatch, decoding: DecodeConfig, certify: bool = True) -> list[GADSG]:
    """Chance and both kinds of network."""
    settings = PlanConfig(SAMPLES, TINY.sampler, decoding, certify=certify)
    solvers = [GADSG(None, settings, "random-belief"), GADSG(untrained("diffusion", batch), settings, "gadsg")]
    if decoding.allocation == "optimal":
        solvers.append(GADSG(untrained("grlo", batch), settings, "grlo"))
    return solvers


def check_all(scenarios, decoding: DecodeConfig) -> None:
    batch = batch_of(scenarios)
    exact = ExactSolver().solve(batch)
    for solver in solvers_for(batch, decoding):
        for scenario, plan, best in zip(scenarios, solver.solve(batch), exact, strict=True):
            assert plan.feasible == best.feasible
            check_against_optimum(scenario, plan)
            assert not plan.feasible or plan.cost >= best.cost * (1 - 1e-9)


@settings(max_examples=3, deadline=None, derandomize=True, database=None)
@given(networks())
def test_networks_of_any_weights_plan_wild_networks_within_every_constraint(scenarios):
    """Chance, denoiser and actor: sound plans, refused only where none exists, never below the certified optimum."""
    check_all(scenarios, PLAIN)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_users", "num_servers", "decoding"),
    [(1, 1, PLAIN), (4, 0, PLAIN), (USERS, SERVERS, POLISHED), (USERS, SERVERS, OWN_SHARES)],
    ids=["alone", "no servers", "polished", "own shares"],
)
def test_networks_of_any_weights_plan_many_wild_networks_within_every_constraint(num_users, num_servers, decoding):
    """The same on other scales, a user alone and no servers included, with local search and own shares."""

    @settings(max_examples=10, deadline=None, derandomize=True, database=None)
    @given(networks(num_users, num_servers))
    def checked(scenarios):
        check_all(scenarios, decoding)

    checked()


def padded_with_servers(scenario):
    """The same network with servers that nobody reaches, so that it has as many as the others here."""
    count = len(scenario.servers)
    far = [wild.server(s, "GS", 1e5) for s in range(count, SERVERS)]
    return wild.network([*scenario.servers, *far], scenario.users)


def test_servers_that_are_exactly_full_are_planned():
    """Floors that sum to one to the last bits fit, also where float32 rounds their sum above one."""
    scenarios = [padded_with_servers(wild.full_server(USERS, ulps)) for ulps in (-2, 0, 1, 2)]
    batch = batch_of(scenarios)
    for solver in solvers_for(batch, PLAIN):
        for scenario, plan in zip(scenarios, solver.solve(batch), strict=True):
            check(scenario, plan)
            assert plan.feasible


def on_one_device(tree):
    """Adds the leading axis of devices."""
    return jax.tree.map(lambda values: np.asarray(values)[None], tree)


def said(loaded: Loaded, batch: InstanceBatch):
    """What the network says of a batch, all of its arrays, and the decoded plans."""
    graph = encode(batch, loaded.normalisation)
    graph = graph.with_room(int(graph.num_edges.max()))  # the form in which plans are made
    assert all(np.isfinite(values).all() for values in jax.tree.leaves(graph))
    inputs = on_one_device(
        PlanInput(graph, jax.device_get(problem_of(batch.costs)), np.arange(len(batch), dtype=np.int32))
    )
    draw, decoder = make_planner(loaded.config, TINY.sampler, PLAIN, SAMPLES)
    answer = draw((loaded.params, Stream(np.uint32(0))), inputs)
    return answer, decoder(None, (answer, inputs.problem))


def extreme() -> InstanceBatch:
    """Networks of which every other one has a HAP alone, and users of all sizes."""
    users = [
        wild.user(u, x_m=10.0**u, workload_flop=10.0 ** (4 * u - 6), capacity_flops=1e9, deadline_s=1e9)
        for u in range(USERS)
    ]
    hap = padded_with_servers(wild.network([wild.server(0, "HAP")], users))
    return batch_of([hap, padded_with_servers(wild.full_server(USERS))] * 2)


@pytest.mark.parametrize("learner", ["diffusion", "grlo"])
@pytest.mark.parametrize(("weights", "spread"), [(1.0, 1.0), (0.0, 1.0), (1e4, 1.0), (1.0, 1e-6), (1e5, 1e-6)])
def test_large_weights_and_features_never_give_nan(learner, weights, spread):
    """Weights ten thousand times as large, features a million standard deviations off: beliefs stay probabilities."""
    answer, decoded = said(untrained(learner, extreme(), weights, spread), extreme())
    for values in map(np.asarray, jax.tree.leaves(answer)):
        assert (values >= 0).all() and (values <= 1 + 1e-6).all()  # false of NaN
    assert not any(np.isnan(values).any() for values in jax.tree.leaves(decoded))


@pytest.mark.parametrize("learner", ["diffusion", "grlo"])
def test_a_network_that_overflows_still_plans_within_every_constraint(learner):
    """Weights of 1e30 make everything NaN; then the complete search plans, or proves that nobody can."""
    fine = padded_with_servers(wild.full_server(USERS))
    late = wild.network(fine.servers, [wild.changed(user, deadline_s=1e-9) for user in fine.users])
    scenarios = [fine, late, *[padded_with_servers(wild.full_server(USERS, ulps)) for ulps in (-1, 1)]]
    batch = batch_of(scenarios)
    solver = GADSG(untrained(learner, batch, 1e30), PlanConfig(SAMPLES, TINY.sampler, PLAIN, certify=True))
    for scenario, plan in zip(scenarios, solver.solve(batch), strict=True):
        check_against_optimum(scenario, plan)
        assert plan.feasible == (scenario is not late)


@pytest.mark.parametrize("learner", ["diffusion", "grlo"])
def test_graphs_without_a_single_edge_never_give_nan(learner):
    """Nobody in reach of any server: beliefs are probabilities, everyone stays at home."""
    nobody = padded_with_servers(wild.network([], [wild.user(u, x_m=1e4) for u in range(USERS)]))
    batch = batch_of([nobody] * COUNT)
    answer, decoded = said(untrained(learner, batch), batch)
    assert all(np.isfinite(values).all() for values in jax.tree.leaves(answer))
    assert np.isfinite(decoded.cost).all() and (np.asarray(decoded.server) == -1).all()


def test_costs_beyond_float32_are_planned():
    """A run at home that costs 1e39 is not in float32's range: no warning, and whoever can goes to the server."""
    dear = wild.user(0, workload_flop=1e6, task_bits=1e3, capacity_flops=1e30, deadline_s=1e9)
    users = [wild.changed(dear, id=f"u{u}", x_m=100.0 if u else 1e4) for u in range(USERS)]
    scenario = padded_with_servers(wild.network([wild.server(0, "GS")], users))
    batch = batch_of([scenario] * COUNT)
    for solver in solvers_for(batch, PLAIN):
        for plan in solver.solve(batch):
            check(scenario, plan)
            assert plan.feasible


@pytest.mark.parametrize("fill", [0.0, 1.0, np.nan, np.inf])
def test_beliefs_of_any_kind_decode_to_plans_or_none(fill):
    """Equal, certain and even broken beliefs: a plan's numbers are finite, or there is no plan."""
    problem = on_one_device(jax.device_get(problem_of(extreme().costs)))
    belief = np.full((1, COUNT, SAMPLES, USERS, SERVERS), fill, dtype=np.float32)
    for program, said_so in (
        (make_decoder(PLAIN), Belief(belief, belief)),
        (make_explorer(PLAIN), Actions(belief, belief[:, :, 0, :, 0])),
    ):
        decoded = program(None, (said_so, problem))
        assert not any(np.isnan(values).any() for values in jax.tree.leaves(decoded))
        assert (np.isfinite(decoded.cost) == np.asarray(decoded.feasible)).all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:exact. Expected to prove the optimum")  # on a fast machine the sets run out first
def test_networks_plan_five_hundred_users():
    """Costs nine powers of ten apart, three HAPs: sound plans, certified."""
    rng = np.random.default_rng(0)
    servers = [wild.server(s, "HAP" if s < 3 else "GS", float(x)) for s, x in enumerate(rng.uniform(0, 4e3, 8))]
    users = []
    for u in range(500):
        size = 10.0 ** rng.uniform(-9, 0)
        numbers = {"workload_flop": 4e9 * size, "task_bits": 4e6 * size, "deadline_s": 20.0 * size}
        users.append(wild.user(u, str(rng.choice(["GU", "AU"])), float(rng.uniform(0, 5e3)), 0.5, **numbers))
    scenario = wild.network(servers, users)
    batch = batch_of([scenario])
    bound = ExactSolver(time_limit_s=3.0).solve(batch)[0].lower_bound
    for solver in solvers_for(batch, POLISHED, certify=False):
        (plan,) = solver.with_settings(num_samples=2).solve(batch)
        check(scenario, plan)
        assert plan.feasible and plan.cost >= bound * (1 - 1e-9)
