"""Networks at real places: sites and users by latitude and longitude (`places.read_sites` reads them).

Positions come from the places; devices, tasks and the HAP come from `ScenarioConfig`, as in the simulator.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import KDTree

from laegd.scenario.generator import ScenarioConfig
from laegd.scenario.places import Places
from laegd.scenario.scenario import Scenario, Server, User, require
from laegd.scenario.units import metres_from_degrees

MAX_DISTANCE_M = 50_000.0  # the projection to a plane is good to about a percent up to here


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


def _metres(places: Places, centre_deg: tuple[float, float]) -> Float[np.ndarray, "point 2"]:
    # The shorter way round the globe, so that places on both sides of the date line stay neighbours.
    turn_deg = np.remainder(places.longitude_deg - centre_deg[1] + 180.0, 360.0) - 180.0
    return metres_from_degrees(places.latitude_deg, centre_deg[1] + turn_deg, centre_deg)


def mean_degrees(places: Places) -> tuple[float, float]:
    """Returns the mean latitude and longitude; across the date line too."""
    first = float(places.longitude_deg[0])
    turn_deg = np.remainder(places.longitude_deg - first + 180.0, 360.0) - 180.0
    longitude = (first + float(turn_deg.mean()) + 180.0) % 360.0 - 180.0
    return float(places.latitude_deg.mean()), longitude


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
    _, nearest = KDTree(server_xy_m).query(user_xy_m)
    distance_m, _ = KDTree(server_xy_m[chosen]).query(user_xy_m)
    order = rng.permutation(len(user_xy_m))
    served_elsewhere = ~np.isin(nearest, chosen)[order]
    kept = order[np.lexsort((np.where(served_elsewhere, distance_m[order], 0.0), served_elsewhere))[:count]]
    return np.sort(kept)


def _require_near(field: str, xy_m: Float[np.ndarray, "point 2"]) -> None:
    farthest_m = float(np.hypot(*xy_m.T).max(initial=0.0))
    rule = f"places within {MAX_DISTANCE_M / 1e3:.0f} km of the centre"
    require(farthest_m <= MAX_DISTANCE_M, field, rule, f"{farthest_m / 1e3:.0f} km", "Move the centre or take fewer.")


def _count(field: str, wanted: int | None, available: int) -> int:
    wanted = available if wanted is None else wanted
    require(1 <= wanted <= available, field, f"1 to the {available} in the file", wanted, "Correct it.")
    return wanted


def _servers(ids: Sequence[str], xy_m: np.ndarray, radius_m: float, config: ScenarioConfig) -> tuple[Server, ...]:
    taken = set(ids)
    prefix = "hap"
    while any(name.startswith(prefix) for name in taken):
        prefix = "_" + prefix
    names = [prefix] if config.num_haps == 1 else [f"{prefix}{i}" for i in range(config.num_haps)]
    hap_w, ground_w = config.hap_active_power_w, config.gs_active_power_w
    haps = [
        Server(name, "HAP", 0.0, 0.0, config.hap_altitude_m, config.hap_capacity_flops, hap_w, None) for name in names
    ]
    ground = [
        Server(name, "GS", float(x), float(y), 0.0, config.gs_capacity_flops, ground_w, radius_m)
        for name, (x, y) in zip(ids, xy_m, strict=True)
    ]
    return (*haps, *ground)


def _users(
    ids: Sequence[str],
    xy_m: Float[np.ndarray, "user 2"],
    aerial: Bool[np.ndarray, "user"],
    config: ScenarioConfig,
    rng: np.random.Generator,
) -> tuple[User, ...]:
    shape = (len(ids),)
    workload_flop = config.workload_flop.draw(rng, shape)
    capacity_flops = config.user_capacity_flops.draw(rng, shape)
    delay_weight = rng.uniform(config.delay_weight_low, config.delay_weight_high, shape)
    users = [
        User(
            id=ids[u],
            type="AU" if aerial[u] else "GU",
            x_m=float(xy_m[u, 0]),
            y_m=float(xy_m[u, 1]),
            z_m=config.au_altitude_m if aerial[u] else 0.0,
            capacity_flops=float(capacity_flops[u]),
            transmit_power_w=config.au_transmit_power_w if aerial[u] else config.gu_transmit_power_w,
            workload_flop=float(workload_flop[u]),
            task_bits=float(workload_flop[u]) / config.flop_per_bit,
            delay_weight=float(delay_weight[u]),
            deadline_s=config.deadline_s,
        )
        for u in range(len(ids))
    ]
    return tuple(sorted(users, key=lambda user: user.type == "AU"))  # ground users first, as the simulator has them


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
    servers: Places,
    users: Places,
    *,
    rng: np.random.Generator,
    centre_deg: tuple[float, float] | None = None,
    num_servers: int | None = None,
    num_users: int | None = None,
    aerial_share: float = 0.4,
    coverage_radius_m: float | None = None,
    config: ScenarioConfig | None = None,
) -> tuple[Scenario, CoverageReport]:
    """Builds a network from real sites and users, and reports whom the sites reach.

    The sites nearest to the centre become ground servers. The users are drawn at random among those who live there:
    whose nearest site in the file is a chosen one; only where these are too few, the ones nearest to a chosen site fill
    up. This does not depend on the radius, so the count of users out of reach means something and radii compare. Which
    users fly is drawn as well; the HAPs of `config` stand above the centre, the origin of the plane.

    Args:
        servers: Sites to choose from.
        users: Users to choose from.
        rng: Source of every draw.
        centre_deg: Latitude and longitude; None: the mean of the sites.
        num_servers: Ground servers; None: all.
        num_users: Users; None: all.
        aerial_share: Share of users that fly, 0 to 1, rounded to whole users.
        coverage_radius_m: Horizontal reach of ground servers; None: that of `config`.
        config: Devices, tasks and HAPs; None: the defaults.
    """
    config = config or ScenarioConfig()
    radius_m = config.gs_coverage_radius_m if coverage_radius_m is None else float(coverage_radius_m)
    require(
        math.isfinite(radius_m) and radius_m > 0, "coverage_radius_m", "a finite number above 0", radius_m, "Give m."
    )
    require(0 <= aerial_share <= 1, "aerial_share", "a number from 0 to 1", aerial_share, "Use 0.4 for 40 percent.")
    num_servers = _count("num_servers", num_servers, len(servers))
    num_users = _count("num_users", num_users, len(users))
    centre_deg = mean_degrees(servers) if centre_deg is None else centre_deg
    in_range = abs(centre_deg[0]) <= 90 and abs(centre_deg[1]) <= 180
    require(in_range, "centre_deg", "latitude, longitude in degrees", centre_deg, "Latitude comes first.")

    server_xy_m, user_xy_m = _metres(servers, centre_deg), _metres(users, centre_deg)
    chosen = _nearest_servers(server_xy_m, num_servers)
    kept = _choose_users(user_xy_m, server_xy_m, chosen, num_users, rng)
    _require_near("servers", server_xy_m[chosen])
    _require_near("users", user_xy_m[kept])
    aerial = np.zeros(num_users, dtype=bool)
    aerial[rng.permutation(num_users)[: round(aerial_share * num_users)]] = True
    scenario = Scenario(
        channel=config.channel,
        chip_energy_factor=config.chip_energy_factor,
        servers=_servers([servers.ids[s] for s in chosen], server_xy_m[chosen], radius_m, config),
        users=_users([users.ids[u] for u in kept], user_xy_m[kept], aerial, config, rng),
    )
    return scenario, coverage_of(scenario)
