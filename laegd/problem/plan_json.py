"""Plans as users read and write them: JSON, `laegd-plan/1`. Numbers read back to the same float64."""

from collections.abc import Collection
from typing import Annotated, Literal

import msgspec
import numpy as np

from laegd.problem.instance import LOCAL, Instance, Plan
from laegd.problem.plan_frame import user_columns
from laegd.scenario.scenario import decode_json, require

PLAN_FORMAT = "laegd-plan/1"

Share = Annotated[float, msgspec.Meta(ge=0)]


class UserRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One user's part of a plan."""

    id: str
    server: str | None
    """None: the task runs on the user's own device."""
    share: Share
    delay_s: float | None
    energy_j: float | None
    cost: float | None


class PlanFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """A plan file; None where a number is not known or the plan is infeasible."""

    format: Literal["laegd-plan/1"]
    method: str
    cost: float | None
    lower_bound: float | None
    gap: float | None
    feasible: bool
    seconds: Annotated[float, msgspec.Meta(ge=0)]
    unserved: tuple[str, ...] = ()
    made_from: str = ""
    """Digest of scenario, method and settings, by which `laegd solve` recognises what it has planned before."""
    users: tuple[UserRow, ...]


def plan_to_json(instance: Instance, plan: Plan, made_from: str = "") -> bytes:
    """Writes `laegd-plan/1`: method, cost, bound and gap, and each user's server, share, delay, energy and cost.

    Example:
        >>> Path("plan.json").write_bytes(laegd.plan_to_json(instance, plan))
        >>> plan = laegd.plan_from_json(instance, Path("plan.json").read_bytes())
    """
    columns = user_columns(instance, plan)
    users = tuple(
        UserRow(
            name,
            None if plan.server[u] == LOCAL else instance.server_ids[plan.server[u]],
            float(plan.share[u]),
            float(columns.delay_s[u]),
            float(columns.energy_j[u]),
            float(columns.cost[u]),
        )
        for u, name in enumerate(instance.user_ids)
    )
    document = PlanFile(
        format=PLAN_FORMAT,
        method=plan.method,
        cost=plan.cost if plan.feasible else None,
        lower_bound=plan.lower_bound if plan.feasible else None,
        gap=plan.gap,
        feasible=plan.feasible,
        seconds=plan.seconds,
        unserved=plan.unserved,
        made_from=made_from,
        users=users,
    )
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def plan_from_json(instance: Instance, text: bytes | str) -> Plan:
    """Reads `laegd-plan/1` for this instance; raises ValueError with the path of the first bad field."""
    if not text.strip():
        raise ValueError("Expected a plan in JSON, got an empty file. Write one with `laegd solve`.")
    document = decode_json(text, PlanFile, f"a {PLAN_FORMAT} plan", "Correct that field.")
    server, share = _assignment(instance, document.users)
    require(
        (document.cost is not None) == document.feasible,
        "cost",
        "a number if and only if the plan is feasible",
        document.cost,
        "Correct `cost` or `feasible`.",
    )
    user_ids = set(instance.user_ids)
    for position, name in enumerate(document.unserved):
        _require_known(f"unserved[{position}]", name, user_ids, "user")
    return Plan(
        document.method,
        server,
        share,
        np.inf if document.cost is None else document.cost,
        document.feasible,
        document.seconds,
        document.lower_bound,
        document.unserved,
    )


def _require_known(field: str, name: str, known: Collection[str], kind: str) -> None:
    require(
        name in known, field, f"the id of a {kind} of the scenario", name, "Use the scenario the plan was made for."
    )


def _assignment(instance: Instance, rows: tuple[UserRow, ...]) -> tuple[np.ndarray, np.ndarray]:
    server_index = {name: s for s, name in enumerate(instance.server_ids)}
    user_index = {name: u for u, name in enumerate(instance.user_ids)}
    server, share = np.full(instance.num_users, LOCAL, dtype=np.int64), np.zeros(instance.num_users)
    seen: set[str] = set()
    for position, row in enumerate(rows):
        _require_known(f"users[{position}].id", row.id, user_index, "user")
        require(row.id not in seen, f"users[{position}].id", "each user once", row.id, "Remove one of the two.")
        seen.add(row.id)
        share[user_index[row.id]] = row.share
        if row.server is not None:
            _require_known(f"users[{position}].server", row.server, server_index, "server")
            server[user_index[row.id]] = server_index[row.server]
    missing = [name for name in instance.user_ids if name not in seen]
    require(not missing, "users", "every user of the scenario", f"none for {missing[:3]}", "Add the missing users.")
    return server, share
