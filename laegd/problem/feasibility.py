"""Whether the users that cannot run locally fit on the servers: the only way an instance can have no feasible plan.

Source: [1] GADSG, Eqs. 22-24 (deadlines as floors mu on the shares). A user that misses its deadline locally must be
offloaded, and a set of users fits on a server if and only if its floors sum to at most 1. That is a packing problem
with few items, each with few places. Greedy packing answers most instances; a complete search decides the rest, but for
rare ones that no program decides in a moment.
"""

import time
from contextlib import suppress

import numpy as np
from jaxtyping import Bool, Float, Int

from laegd.problem.instance import LOCAL, Costs
from laegd.problem.objective import SHARE_TOLERANCE

_CAPACITY = 1.0 + SHARE_TOLERANCE
_NODE_LIMIT = 2_000  # tree nodes of 20 microseconds; past them an integer program is quicker
_PATIENCE_S = 1.0  # HiGHS may search without end, and hears no signal meanwhile


def pack(
    costs: Costs,
    preference: Float[np.ndarray, "user server"] | None = None,
    otherwise: Int[np.ndarray, "user"] | None = None,
) -> Int[np.ndarray, "user"] | None:
    """Packs the users that must offload.

    Args:
        costs: of one instance, without a leading axis.
        preference: servers with a larger value are tried first, a heuristic; None: those with the most room first.
        otherwise: the answer where the preference leads nowhere within a moment; None: what is found without it.

    Returns:
        The server of each user, LOCAL for every user that may stay; None if there is no feasible plan, which `conflict`
        then proves, or none was found within a moment.
    """
    if preference is not None:
        packed = pack_each(costs, preference[None], otherwise)
        return None if packed is None else packed[0]
    with suppress(_Undecided):
        return _pack_users(costs, np.flatnonzero(~costs.local_allowed))
    return None


def pack_each(
    costs: Costs,
    preference: Float[np.ndarray, "cand user server"],
    otherwise: Int[np.ndarray, "user"] | None = None,
) -> Int[np.ndarray, "cand user"] | None:
    """Packs as `pack` does, by several preferences."""
    must, packed = np.flatnonzero(~costs.local_allowed), []
    for wanted in preference:
        try:
            found = _pack_users(costs, must, wanted)
        except _Undecided:
            found = otherwise = pack(costs) if otherwise is None else otherwise
        if found is None:
            return None
        packed.append(found)
    return np.array(packed)


def conflict(costs: Costs) -> tuple[int, ...]:
    """Returns all users that cannot be served: alone, or together with others; empty if there are none.

    Empty too where nothing is proved within a moment.

    Args:
        costs: of one instance, without a leading axis.
    """
    alone = np.flatnonzero(~costs.local_allowed & ~costs.usable.any(axis=-1))
    return tuple(sorted(int(user) for users in (alone, *crowds(costs)) for user in users))


def crowds(costs: Costs) -> list[Int[np.ndarray, "user"]]:
    """Returns groups of users of whom each could be served, but not all: no others depend on their servers alone.

    Empty where nothing is proved within a moment.

    Args:
        costs: of one instance, without a leading axis.
    """
    left = np.flatnonzero(~costs.local_allowed & costs.usable.any(axis=-1))
    found = []
    with suppress(_Undecided):
        while _pack_users(costs, left) is None:
            servers = costs.usable[_irreducible(costs, left)].any(axis=0)
            confined = ~costs.usable[left][:, ~servers].any(axis=1)
            found.append(left[confined])
            left = left[~confined]
    return found


def _irreducible(costs: Costs, users: Int[np.ndarray, "user"]) -> list[int]:
    """Drops users from some that do not fit, as far as a moment shows that the others do not fit either."""
    # users with many options are dropped first, so that what remains is easy to understand
    kept, deadline = users.tolist(), time.perf_counter() + _PATIENCE_S
    for user in users[np.argsort(-costs.usable[users].sum(axis=-1), kind="stable")].tolist():
        rest = np.array([other for other in kept if other != user], dtype=np.int64)
        with suppress(_Undecided):
            if _pack_users(costs, rest, deadline=deadline) is None:
                kept.remove(user)
    return kept


def packable(costs: Costs) -> Bool[np.ndarray, "instance"]:
    """Tells which instances of a batch have a feasible plan; False too where `pack` finds none within a moment.

    Args:
        costs: of a batch, with one leading axis.
    """
    must = ~costs.local_allowed  # [instance user]
    stranded = (must & ~costs.usable.any(axis=-1)).any(axis=-1)
    packed = np.asarray(~must.any(axis=-1))
    for by_room in (True, False):
        open_ = np.flatnonzero(~packed & ~stranded)
        if len(open_):
            packed[open_] = _greedy(Costs(*(values[open_] for values in costs)), by_room)
    for i in np.flatnonzero(~packed & ~stranded):
        packed[i] = pack(Costs(*(values[i] for values in costs))) is not None
    return packed


def _greedy(costs: Costs, by_room: bool) -> np.ndarray:
    """Packs all instances at once, users with the fewest servers and largest floors first; True: a packing found."""
    must, usable = ~costs.local_allowed, costs.usable
    num_options = usable.sum(axis=-1)
    smallest = np.where(usable, costs.min_share, np.inf).min(axis=-1, initial=np.inf)
    order = np.lexsort((-smallest, num_options, ~must), axis=-1)  # [instance user]
    room = np.full((len(must), costs.min_share.shape[-1]), _CAPACITY)
    packed, rows = np.ones(len(must), dtype=bool), np.arange(len(must))
    for position in range(int(must.sum(axis=-1).max(initial=0))):
        user = order[:, position]
        floor = costs.min_share[rows, user]  # [instance server]
        fits = usable[rows, user] & (floor <= room)
        score = np.where(fits, room - floor if by_room else -floor, -np.inf)
        server = score.argmax(axis=-1)
        active, fits_any = must[rows, user], fits.any(axis=-1)
        packed &= fits_any | ~active
        taken = active & fits_any
        room[rows[taken], server[taken]] -= floor[rows[taken], server[taken]]
    return packed


class _Undecided(Exception):
    """A search gave up; nothing is proved."""


class _TreeSearch:
    """Depth-first search for one packing: the user with the fewest servers left goes next."""

    def __init__(self, floor: np.ndarray, usable: np.ndarray, preference: np.ndarray | None, deadline: float) -> None:
        self.deadline = deadline
        self.floor = np.where(usable, floor, np.inf)  # [user server]
        self.preference = preference
        self.nodes_left = _NODE_LIMIT

    def run(self) -> np.ndarray | None:
        server = np.full(len(self.floor), LOCAL, dtype=np.int64)
        room = np.full(self.floor.shape[1], _CAPACITY)
        return server if self._place(server, room, np.arange(len(self.floor))) else None

    def _place(self, server: np.ndarray, room: np.ndarray, users: np.ndarray) -> bool:
        if self.nodes_left == 0 or time.perf_counter() > self.deadline:
            raise _Undecided
        self.nodes_left -= 1
        while len(users):
            fits = self.floor[users] <= room  # [user server]
            options = fits.sum(axis=1)
            if options.min() == 0:
                return False
            if self.preference is None:
                # a server with room for everyone who could still come to it takes them: nobody else loses by that
                roomy = np.where(fits, self.floor[users], 0.0).sum(axis=0) <= room
                settled = (fits & roomy).any(axis=1)
                if settled.any():
                    server[users[settled]] = (fits & roomy).argmax(axis=1)[settled]
                    users = users[~settled]
                    continue
            break
        if not len(users):
            return True
        smallest = np.where(fits, self.floor[users], np.inf).min(axis=1)
        first = np.lexsort((-smallest, options))[0]
        user, rest = users[first], np.delete(users, first)
        candidates = np.flatnonzero(fits[first])
        score = room - self.floor[user] if self.preference is None else self.preference[user]
        for s in candidates[np.argsort(-score[candidates], kind="stable")]:
            left = room.copy()
            left[s] -= self.floor[user, s]
            server[user] = s
            if self._place(server, left, rest):
                return True
        return False


def _pack_users(
    costs: Costs, users: np.ndarray, preference: np.ndarray | None = None, deadline: float | None = None
) -> np.ndarray | None:
    """Packs these users; None proves that they do not fit; raises _Undecided, with a preference sooner than without."""
    now = time.perf_counter()
    deadline = now + _PATIENCE_S if deadline is None else deadline
    server = np.full(len(costs.local_allowed), LOCAL, dtype=np.int64)
    if not len(users):
        return server
    floor, usable = costs.min_share[users], costs.usable[users]
    if not usable.any(axis=-1).all() or _exceeds_room(floor, usable):
        return None
    wanted = None if preference is None else preference[users]
    try:
        packed = _TreeSearch(floor, usable, wanted, now + 0.5 * (deadline - now)).run()
    except (_Undecided, RecursionError) as error:
        if wanted is not None:
            raise _Undecided from error
        packed = _integer_program(floor, usable, deadline)
    if packed is None:
        return None
    server[users] = packed
    return server


def _exceeds_room(floor: np.ndarray, usable: np.ndarray) -> bool:
    """Proves at once that users do not fit, where even their smallest floors exceed what all servers hold."""
    smallest = np.where(usable, floor, np.inf).min(axis=1)
    return bool(smallest.sum() > _CAPACITY * usable.any(axis=0).sum())


def _integer_program(floor: np.ndarray, usable: np.ndarray, deadline: float) -> np.ndarray | None:
    """Packs by integer programming; sets that fit only up to the solver's own tolerance are cut off."""
    # Loaded where it is needed, which few networks do: half a second that does not count as searching.
    loading = time.perf_counter()
    from scipy.optimize import LinearConstraint, milp
    from scipy.sparse import coo_array, vstack

    deadline += time.perf_counter() - loading
    user, server = np.nonzero(usable)
    (num_users, num_servers), edges = floor.shape, np.arange(len(user))
    rows = vstack(
        [
            coo_array((floor[user, server], (server, edges)), shape=(num_servers, len(user))),
            coo_array((np.ones(len(user)), (user, edges)), shape=(num_users, len(user))),
        ]
    ).tocsr()
    lower = np.concatenate([np.zeros(num_servers), np.ones(num_users)])
    upper = np.concatenate([np.full(num_servers, _CAPACITY), np.ones(num_users)])
    while (left := deadline - time.perf_counter()) > 0:
        limits = LinearConstraint(rows, lower, upper)  # pyright: ignore[reportArgumentType]
        answer = milp(
            np.zeros(len(user)), integrality=1, bounds=(0, 1), constraints=limits, options={"time_limit": left}
        )
        if answer.x is None:
            if answer.status == 2:  # proved infeasible
                return None
            raise _Undecided
        x = answer.x > 0.5
        full = np.bincount(server[x], floor[user, server][x], num_servers) > _CAPACITY
        if not full.any():
            packed = np.full(num_users, LOCAL, dtype=np.int64)
            packed[user[x]] = server[x]
            return packed
        cuts = [(x & (server == s)).astype(float) for s in np.flatnonzero(full)]
        rows = vstack([rows, np.array(cuts)]).tocsr()
        lower = np.concatenate([lower, np.full(len(cuts), -np.inf)])
        upper = np.concatenate([upper, [cut.sum() - 1 for cut in cuts]])
    raise _Undecided
