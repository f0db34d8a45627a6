"""Networks at real places: sites and users of tables (`place_tables.read_places` reads them).

Positions come from the places, and whatever else the tables tell: reach, altitude, devices, tasks. The rest, and the
HAP, come from `ScenarioConfig`, as in the simulator.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from laegd.scenario.generator import ScenarioConfig
from laegd.scenario.places import AnyPlaces, Places, centre_of, metres_from
from laegd.scenario.scenario import Scenario, Server, User, require

MAX_DISTANCE_M = 50_000.0  # the projection to a plane is good to about a percent up to here
MIN_FLIGHT_M = 10.0  # a user with a known altitude above this flies
AERIAL_SHARE = 0.4

_Values = Mapping[str, Float[np.ndarray, "point"]]


@dataclass(frozen=True)
class CoverageReport:
    """Who is reached in a network at real places; reach is the horizontal radius, not whether a deadline is met."""

    num_servers: int
    """Ground servers in the network."""
    num_haps: int
    num_users: int
    num_aerial: int
    without_ground_server: tuple[str, ...]
    """Ids of the users that no ground server reaches."""
    without_server: tuple[str, ...]
    """Ids of the users that no server at all reaches; empty where there is a HAP, which reaches everyone."""

    def __str__(self) -> str:
        return (
            f"{self.num_servers} ground servers, {self.num_haps} HAPs, {self.num_users} users, "
            f"{self.num_aerial} of them aerial; "
            f"{len(self.without_ground_server)} users are reached by no ground server, "
            f"{len(self.without_server)} by no server at all"
        )


def _nearest_servers(xy_m: Float[np.ndarray, "server 2"], count: int) -> Int[np.ndarray, "chosen"]:
    return np.sort(np.argsort(np.hypot(*xy_m.T), kind="stable")[:count])


def _choose_users(
    user_xy_m: Float[np.ndarray, "user 2"],
    server_xy_m: Float[np.ndarray, "server 2"],
    chosen: Int[np.ndarray, "chosen"],
    count: int,
    rng: np.random.Generator,
) -> Int[np.ndarray, "kept"]:
    """Draws users among those whose nearest site is a chosen one; fills up with those nearest to a chosen site."""
    from scipy.spatial import KDTree

    _, nearest = KDTree(server_xy_m).query(user_xy_m)
    distance_m, _ = KDTree(server_xy_m[chosen]).query(user_xy_m)
    order = rng.permutation(len(user_xy_m))
    served_elsewhere = ~np.isin(nearest, chosen)[order]
    kept = order[np.lexsort((np.where(served_elsewhere, distance_m[order], 0.0), served_elsewhere))[:count]]
    return np.sort(kept)


def _require_near(field: str, xy_m: Float[np.ndarray, "point 2"], in_degrees: bool) -> None:
    farthest_m = float(np.hypot(*xy_m.T).max(initial=0.0))
    rule = f"places within {MAX_DISTANCE_M / 1e3:.0f} km of the centre"
    remedy = "Move the centre or take fewer"
    remedy += "; numbers that are metres need --crs metres." if in_degrees else "."
    require(farthest_m <= MAX_DISTANCE_M, field, rule, f"{farthest_m / 1e3:.0f} km", remedy)


def _count(field: str, wanted: int | None, available: int) -> int:
    wanted = available if wanted is None else wanted
    require(1 <= wanted <= available, field, f"1 to the {available} in the file", wanted, "Correct it.")
    return wanted


def _known(values: _Values, name: str, default: Float[np.ndarray, "point"]) -> Float[np.ndarray, "point"]:
    """Returns a column of a table with defaults where it is missing or empty."""
    column = values.get(name)
    return default if column is None else np.where(np.isnan(column), default, column)


def _servers(
    ids: Sequence[str], xy_m: np.ndarray, values: _Values, radius_m: float, config: ScenarioConfig
) -> tuple[Server, ...]:
    taken = set(ids)
    prefix = "hap"
    while any(name.startswith(prefix) for name in taken):
        prefix = "_" + prefix
    names = [prefix] if config.num_haps == 1 else [f"{prefix}{i}" for i in range(config.num_haps)]
    hap_w, ground_w = config.hap_active_power_w, config.gs_active_power_w
    haps = [
        Server(name, "HAP", 0.0, 0.0, config.hap_altitude_m, config.hap_capacity_flops, hap_w, None) for name in names
    ]
    defaults = {
        "z_m": 0.0,
        "capacity_flops": config.gs_capacity_flops,
        "active_power_w": ground_w,
        "coverage_radius_m": radius_m,
    }
    columns = {name: _known(values, name, np.full(len(ids), value)) for name, value in defaults.items()}
    ground = [
        Server(
            id=name,
            type="GS",
            x_m=float(xy_m[s, 0]),
            y_m=float(xy_m[s, 1]),
            **{field: float(column[s]) for field, column in columns.items()},
        )
        for s, name in enumerate(ids)
    ]
    return (*haps, *ground)


def _users(
    ids: Sequence[str],
    xy_m: Float[np.ndarray, "user 2"],
    values: _Values,
    aerial: Bool[np.ndarray, "user"],
    config: ScenarioConfig,
    rng: np.random.Generator,
) -> tuple[User, ...]:
    shape = (len(ids),)
    workload_flop = config.workload_flop.draw(rng, shape)
    capacity_flops = config.user_capacity_flops.draw(rng, shape)
    delay_weight = rng.uniform(config.delay_weight_low, config.delay_weight_high, shape)
    # Of workload and input the known one gives the other.
    workload_flop = _known(values, "task_bits", workload_flop / config.flop_per_bit) * config.flop_per_bit
    workload_flop = _known(values, "workload_flop", workload_flop)
    columns = {
        "z_m": _known(values, "z_m", np.where(aerial, config.au_altitude_m, 0.0)),
        "capacity_flops": _known(values, "capacity_flops", capacity_flops),
        "transmit_power_w": _known(
            values, "transmit_power_w", np.where(aerial, config.au_transmit_power_w, config.gu_transmit_power_w)
        ),
        "workload_flop": workload_flop,
        "task_bits": _known(values, "task_bits", workload_flop / config.flop_per_bit),
        "delay_weight": _known(values, "delay_weight", delay_weight),
        "deadline_s": _known(values, "deadline_s", np.full(shape, config.deadline_s)),
    }
    users = [
        User(
            id=ids[u],
            type="AU" if aerial[u] else "GU",
            x_m=float(xy_m[u, 0]),
            y_m=float(xy_m[u, 1]),
            **{field: float(column[u]) for field, column in columns.items()},
        )
        for u in range(len(ids))
    ]
    return tuple(sorted(users, key=lambda user: user.type == "AU"))  # ground users first, as the simulator has them


def _who_flies(
    altitude_m: Float[np.ndarray, "user"], aerial_share: float | None, rng: np.random.Generator
) -> Bool[np.ndarray, "user"]:
    """Returns who flies: users known to be high up, and a share, drawn, of those whose altitude is not known."""
    unknown = np.isnan(altitude_m)
    given = "no share where the altitude of every user is known"
    require(aerial_share is None or bool(unknown.any()), "aerial_share", given, aerial_share, "Leave it out.")
    share = AERIAL_SHARE if aerial_share is None else aerial_share
    require(0 <= share <= 1, "aerial_share", "a number from 0 to 1", share, "Use 0.4 for 40 percent.")
    aerial = altitude_m > MIN_FLIGHT_M
    order = rng.permutation(len(altitude_m))
    order = order[unknown[order]]
    aerial[order[: round(share * len(order))]] = True
    return aerial


def coverage_of(scenario: Scenario) -> CoverageReport:
    """Counts whom the servers reach."""
    ground = [server for server in scenario.servers if server.type == "GS"]

    def unreached(servers: Sequence[Server]) -> tuple[str, ...]:
        return tuple(
            user.id
            for user in scenario.users
            if not any(
                server.coverage_radius_m is None
                or math.hypot(user.x_m - server.x_m, user.y_m - server.y_m) <= server.coverage_radius_m
                for server in servers
            )
        )

    return CoverageReport(
        num_servers=len(ground),
        num_haps=len(scenario.servers) - len(ground),
        num_users=len(scenario.users),
        num_aerial=sum(user.type == "AU" for user in scenario.users),
        without_ground_server=unreached(ground),
        without_server=unreached(scenario.servers),
    )


def scenario_from_places(
    servers: AnyPlaces,
    users: AnyPlaces,
    *,
    rng: np.random.Generator,
    centre: tuple[float, float] | None = None,
    num_servers: int | None = None,
    num_users: int | None = None,
    aerial_share: float | None = None,
    coverage_radius_m: float | None = None,
    config: ScenarioConfig | None = None,
) -> tuple[Scenario, CoverageReport]:
    """Builds a network from real sites and users, and reports whom the sites reach.

    The sites nearest to the centre become ground servers. The users are drawn at random among those who live there:
    whose nearest site in the file is a chosen one; only where these are too few, the ones nearest to a chosen site fill
    up. This does not depend on the radius, so the count of users out of reach means something and radii compare. What
    is known of a place stands; the rest is drawn or the default. The HAPs of `config` stand above the centre, the
    origin of the plane.

    Args:
        servers: Sites to choose from.
        users: Users to choose from, on the same globe or plane.
        rng: Source of every draw.
        centre: Latitude and longitude in degrees, or x and y in metres; None: the mean of the sites.
        num_servers: Ground servers; None: all.
        num_users: Users; None: all.
        aerial_share: Share of the users of unknown altitude that fly, 0 to 1, rounded to whole users; None: 0.4.
            Others fly above `MIN_FLIGHT_M`.
        coverage_radius_m: Horizontal reach of the ground servers of unknown reach; None: that of `config`.
        config: Devices, tasks and HAPs; None: the defaults.
    """
    config = config or ScenarioConfig()
    in_degrees = isinstance(servers, Places)
    require(isinstance(users, type(servers)), "users", "places of the servers' kind", type(users).__name__, "Use one.")
    num_servers = _count("num_servers", num_servers, len(servers))
    num_users = _count("num_users", num_users, len(users))
    centre = centre_of(servers) if centre is None else centre
    _require_centre(centre, in_degrees)
    server_xy_m, user_xy_m = metres_from(servers, centre), metres_from(users, centre)
    chosen = _nearest_servers(server_xy_m, num_servers)
    kept = _choose_users(user_xy_m, server_xy_m, chosen, num_users, rng)
    _require_near("servers", server_xy_m[chosen], in_degrees)
    _require_near("users", user_xy_m[kept], in_degrees)
    of_servers = {name: column[chosen] for name, column in servers.values.items()}
    of_users = {name: column[kept] for name, column in users.values.items()}
    radius_m = _default_radius_m(of_servers, coverage_radius_m, config)
    aerial = _who_flies(of_users.get("z_m", np.full(num_users, np.nan)), aerial_share, rng)
    scenario = Scenario(
        channel=config.channel,
        chip_energy_factor=config.chip_energy_factor,
        servers=_servers([servers.ids[s] for s in chosen], server_xy_m[chosen], of_servers, radius_m, config),
        users=_users([users.ids[u] for u in kept], user_xy_m[kept], of_users, aerial, config, rng),
    )
    return scenario, coverage_of(scenario)


def _require_centre(centre: tuple[float, float], in_degrees: bool) -> None:
    if in_degrees:
        in_range = abs(centre[0]) <= 90 and abs(centre[1]) <= 180
        require(in_range, "centre", "latitude, longitude in degrees", centre, "Latitude comes first.")
    else:
        require(all(map(math.isfinite, centre)), "centre", "x, y in metres", centre, "Give finite numbers.")


def _default_radius_m(values: _Values, coverage_radius_m: float | None, config: ScenarioConfig) -> float:
    """Returns the reach of servers whose table does not tell it."""
    if coverage_radius_m is None:
        return config.gs_coverage_radius_m
    sound = math.isfinite(coverage_radius_m) and coverage_radius_m > 0
    require(sound, "coverage_radius_m", "a finite number above 0", coverage_radius_m, "Give m.")
    unknown = np.isnan(values.get("coverage_radius_m", np.full(1, np.nan))).any()
    given = "no radius where the table has the reach of every server"
    require(bool(unknown), "coverage_radius_m", given, coverage_radius_m, "Leave it out, or remove the column.")
    return float(coverage_radius_m)
