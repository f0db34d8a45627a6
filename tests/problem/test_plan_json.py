"""Plan files: what is written reads back, and every bad file is refused with the field at fault."""

import json

import numpy as np
import pytest

from laegd.problem.instance import LOCAL, Instance, InstanceBatch
from laegd.problem.objective import infeasible_plan, make_plan
from laegd.problem.plan_json import plan_from_json, plan_to_json
from laegd.scenario.generator import Scale, ScenarioConfig, draw


@pytest.fixture(scope="module")
def instance() -> Instance:
    """Three users of which the first can be offloaded to the HAP."""
    scenarios = draw(ScenarioConfig(), Scale.parse("gs2_gu2_au1"), 50, np.random.default_rng(0))
    batch = InstanceBatch.from_scenarios(scenarios)
    return next(one for one in batch if one.costs.local_allowed.all() and one.costs.usable[0, 0])


@pytest.fixture
def plan(instance):
    """The first user on the HAP, the others local; with a lower bound that no short decimal equals."""
    return make_plan(instance, np.array([0, LOCAL, LOCAL]), "test", 0.1 + 0.2, 1.0 / 3.0)


def test_a_plan_reads_back_exactly(instance, plan):
    """Every number is the same float64."""
    back = plan_from_json(instance, plan_to_json(instance, plan))
    assert (back.server == plan.server).all() and (back.share == plan.share).all()
    for field in ("method", "cost", "feasible", "seconds", "lower_bound", "gap", "unserved"):
        assert getattr(back, field) == getattr(plan, field), field


def test_rows_hold_delay_energy_and_cost_of_each_user(instance, plan):
    """With the whole server, delay and energy are transmission plus execution at full load."""
    document, costs = json.loads(plan_to_json(instance, plan)), instance.costs
    first, second, _ = document["users"]
    assert document["format"] == "laegd-plan/1"
    assert (first["id"], first["server"], first["share"]) == (instance.user_ids[0], "hap", 1.0)
    assert first["delay_s"] == pytest.approx(costs.transmit_delay_s[0, 0] + costs.execute_delay_s[0, 0])
    assert first["energy_j"] == pytest.approx(costs.transmit_energy_j[0, 0] + costs.execute_energy_j[0, 0])
    assert second["server"] is None
    assert second["delay_s"] == costs.local_delay_s[1]
    assert sum(row["cost"] for row in document["users"]) == pytest.approx(document["cost"])


def test_an_infeasible_plan_has_no_numbers_and_names_the_users(instance):
    """Cost, bound and gap are null; the users that cannot be served together are listed."""
    text = plan_to_json(instance, infeasible_plan(instance, "test", (instance.user_ids[1],)))
    document = json.loads(text)
    assert [document[key] for key in ("cost", "lower_bound", "gap", "feasible")] == [None, None, None, False]
    back = plan_from_json(instance, text)
    assert (back.cost, back.feasible, back.unserved) == (np.inf, False, (instance.user_ids[1],))


def changed(text: bytes, **fields) -> bytes:
    return json.dumps(json.loads(text) | fields).encode()


def row_changed(text: bytes, **fields) -> bytes:
    document = json.loads(text)
    document["users"][0] |= fields
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda text: b"", "got an empty file"),
        (lambda text: b"  \n", "got an empty file"),
        (lambda text: b"\xff\xfe", "Expected a laegd-plan/1 plan"),
        (lambda text: text[:-20], "Expected a laegd-plan/1 plan"),
        (lambda text: b"[]", "Expected a laegd-plan/1 plan"),
        (lambda text: changed(text, format="laegd-plan/2"), r"laegd-plan/2.*\$\.format"),
        (lambda text: changed(text, cost="low"), r"\$\.cost"),
        (lambda text: changed(text, colour=1), "colour"),
        (lambda text: changed(text, cost=None), "cost: Expected a number if and only if"),
        (lambda text: changed(text, feasible=False), "cost: Expected a number if and only if"),
        (lambda text: changed(text, unserved=["nobody"]), r"unserved\[0\]: .*'nobody'"),
        (lambda text: changed(text, users=[]), "users: Expected every user"),
        (lambda text: row_changed(text, id="nobody"), r"users\[0\].id: .*'nobody'"),
        (lambda text: row_changed(text, id="u1"), r"users\[1\].id: Expected each user once, got 'u1'"),
        (lambda text: row_changed(text, server="gs9"), r"users\[0\].server: .*'gs9'"),
        (lambda text: row_changed(text, share=-0.5), r"\$\.users\[0\]\.share"),
    ],
)
def test_a_bad_file_is_refused_with_the_field_at_fault(instance, plan, spoil, message):
    """Every branch of the reader's checks raises ValueError."""
    with pytest.raises(ValueError, match=message):
        plan_from_json(instance, spoil(plan_to_json(instance, plan)))
