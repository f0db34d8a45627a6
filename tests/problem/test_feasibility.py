"""Packing of the users that must offload, against brute force over all placements."""

import builtins
import itertools

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from laegd.problem import feasibility
from laegd.problem.feasibility import conflict, crowds, pack, pack_each, packable
from laegd.problem.instance import LOCAL, Costs, InstanceBatch
from laegd.scenario.generator import Scale, ScenarioConfig, draw


def costs_of_floors(floor, local_allowed=None) -> Costs:
    """Costs of one instance from its floors [user, server]; 0 marks a pair that cannot be used."""
    floor = np.array(floor, dtype=float)
    user, covered = np.ones(len(floor)), floor > 0
    allowed = np.zeros(len(floor), dtype=bool) if local_allowed is None else np.array(local_allowed)
    pair = np.where(covered, 1.0, 0.0)
    return Costs(user, user, user, allowed, covered, pair, pair, pair, pair, pair, pair, floor)


def fits(costs: Costs, users) -> bool:
    """Tries every placement of these users."""
    num_servers = costs.min_share.shape[1]
    for places in itertools.product(range(num_servers), repeat=len(users)):
        load = np.zeros(num_servers)
        for user, server in zip(users, places, strict=True):
            load[server] += costs.min_share[user, server] if costs.usable[user, server] else np.inf
        if (load <= 1 + 1e-9).all():
            return True
    return False


@st.composite
def packings(draw):
    """Random packings near the limit of what fits."""
    num_users, num_servers = draw(st.integers(0, 6)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    floor = rng.uniform(0.1, 0.9, (num_users, num_servers)) * (rng.random((num_users, num_servers)) < 0.7)
    return costs_of_floors(floor, rng.random(num_users) < 0.2)


@settings(max_examples=300, deadline=None)
@given(packings(), st.booleans())
def test_packing_agrees_with_brute_force(costs, preferring):
    """A packing is found if and only if one exists; it places every user that must offload, and no other."""
    must = np.flatnonzero(~costs.local_allowed)
    preference = np.arange(costs.min_share.size, dtype=float).reshape(costs.min_share.shape) if preferring else None
    server = pack(costs, preference)
    assert (server is not None) == fits(costs, must)
    assert packable(Costs(*(values[None] for values in costs))).tolist() == [server is not None]
    if server is not None:
        assert ((server == LOCAL) == costs.local_allowed).all()
        load = np.zeros(costs.min_share.shape[1])
        for user in must:
            assert costs.usable[user, server[user]]
            load[server[user]] += costs.min_share[user, server[user]]
        assert (load <= 1 + 1e-9).all()


@settings(max_examples=200, deadline=None)
@given(packings())
def test_all_users_that_cannot_be_served_are_named(costs):
    """The others fit without them; alone each lacks a server, or shares all of its servers with a crowd too large."""
    users, must = conflict(costs), np.flatnonzero(~costs.local_allowed)
    assert bool(users) != fits(costs, must)
    assert fits(costs, [user for user in must if user not in users])
    groups, usable = crowds(costs), costs.usable
    assert sorted(users) == sorted([u for u in must if not usable[u].any()] + [u for group in groups for u in group])
    for group in groups:
        assert not fits(costs, group)
        servers = usable[group].any(axis=0)
        others = [user for user in must if user not in users]
        assert all(usable[user, ~servers].any() for user in others)


def test_floors_that_sum_to_one_fit():
    """0.1 added ten times is not 1 in floating point, and counts as 1 all the same."""
    assert pack(costs_of_floors([[0.1]] * 10)) is not None
    assert pack(costs_of_floors([[0.1]] * 10 + [[1e-6]])) is None


def test_users_without_a_server_are_told_from_those_that_fit():
    """Users 1 and 4 have none; the others fit: 0.5 and 0.4 on one server, 0.9 on the other."""
    costs = costs_of_floors([[0.5, 0.5], [0.0, 0.0], [0.9, 0.9], [0.4, 0.4], [0.0, 0.0]])
    assert pack(costs) is None
    assert conflict(costs) == (1, 4)


def test_the_preferred_server_is_taken_where_it_fits():
    """User 0 prefers server 1; user 1 prefers it too and no longer fits."""
    costs = costs_of_floors([[0.6, 0.6], [0.7, 0.7]])
    server = pack(costs, np.array([[0.1, 0.9], [0.2, 0.3]]))
    assert server is not None
    assert sorted(server.tolist()) == [0, 1]
    alone = pack(costs_of_floors([[0.2, 0.2], [0.3, 0.3]]), np.array([[0.1, 0.9], [0.8, 0.3]]))
    assert alone is not None
    assert alone.tolist() == [1, 0]


def test_networks_without_users_or_servers_are_answered():
    """No users: nothing to pack. No servers: only users that must offload are a problem."""
    assert pack(costs_of_floors(np.zeros((0, 2)))).tolist() == []
    assert pack(costs_of_floors(np.zeros((2, 0)), [True, True])).tolist() == [LOCAL, LOCAL]
    assert conflict(costs_of_floors(np.zeros((2, 0)), [True, False])) == (1,)


@pytest.mark.parametrize("preferring", [False, True])
def test_the_integer_program_takes_over_from_the_tree_and_agrees(monkeypatch, preferring):
    """With no tree node allowed, 60 random packings get the same answers."""
    rng = np.random.default_rng(0)
    cases = [costs_of_floors(rng.uniform(0.2, 0.7, (6, 3)) * (rng.random((6, 3)) < 0.8)) for _ in range(60)]
    preference = rng.random((6, 3)) if preferring else None
    expected = [pack(case, preference) is not None for case in cases]
    monkeypatch.setattr(feasibility, "_NODE_LIMIT", 0)
    found = [pack(case, preference) for case in cases]
    assert [server is not None for server in found] == expected
    assert 5 < sum(expected) < 55
    for case, server in zip(cases, found, strict=True):
        if server is not None:
            load = np.bincount(server, case.min_share[np.arange(6), server], 3)
            assert (load <= 1 + 1e-9).all()


def test_the_integer_program_does_not_overfill_within_its_own_tolerance(monkeypatch):
    """Floors that exceed a server by 1e-7, less than HiGHS's tolerance, do not fit."""
    monkeypatch.setattr(feasibility, "_NODE_LIMIT", 0)
    assert pack(costs_of_floors([[0.5], [0.5 + 1e-7]])) is None
    assert pack(costs_of_floors([[0.5], [0.5]])) is not None


def test_loading_the_integer_program_does_not_count_as_searching(monkeypatch, clock):
    """Two users of a half fit on a server, though the solver takes longer to load than a search may last."""
    load = builtins.__import__

    def slowly(name, *arguments, **keywords):
        if name == "scipy.optimize":
            clock.sleep(1.5)
        return load(name, *arguments, **keywords)

    monkeypatch.setattr(feasibility, "_NODE_LIMIT", 0)
    monkeypatch.setattr(builtins, "__import__", slowly)
    packed = pack(costs_of_floors([[0.5], [0.5]]))
    assert packed is not None and packed.tolist() == [0, 0]


@pytest.fixture
def hard(monkeypatch) -> Costs:
    """Sixty users for twenty servers, which three of a mean size would just fill: ten minutes of search and more."""
    monkeypatch.setattr(feasibility, "_PATIENCE_S", 0.1)
    floor = np.random.default_rng(1).uniform(0.24, 0.46, 60)
    return costs_of_floors(np.repeat(19.9 * floor[:, None] / floor.sum(), 20, axis=1))


def test_a_packing_that_nobody_decides_is_given_up(hard):
    """Neither a plan nor a proof is claimed; a packing that is known stands in for one that a preference asks for."""
    assert pack(hard) is None
    assert conflict(hard) == ()
    assert not packable(Costs(*(values[None] for values in hard))).any()
    preference, known = np.random.default_rng(2).random((2, 60, 20)), np.arange(60) % 20
    assert pack_each(hard, preference) is None
    assert (pack_each(hard, preference, known) == known).all()


def test_a_crowd_is_named_where_nobody_decides_about_its_parts(hard):
    """Users too many for the servers: a proof at once, whoever of them could be left out."""
    more = costs_of_floors(np.concatenate([hard.min_share, np.full((3, 20), 0.4)]))
    users = conflict(more)
    assert users and more.min_share[list(users), 0].sum() > 20


def test_a_batch_is_judged_like_its_instances():
    """The greedy proofs of a whole batch agree with the complete search on each instance."""
    batch = InstanceBatch.from_scenarios(
        draw(ScenarioConfig(), Scale.parse("gs6_gu14_au10"), 300, np.random.default_rng(5))
    )
    found = packable(batch.costs)
    assert found.tolist() == [pack(one.costs) is not None for one in batch]
    assert 0 < (~found).sum() < 60
