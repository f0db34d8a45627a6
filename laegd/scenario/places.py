"""Named places on the globe or on a plane: positions, what is known of each, and sites that stand together."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float, Int

from laegd.scenario.scenario import require
from laegd.scenario.units import metres_from_degrees

SAME_PLACE_M = 1.0  # sites as near to each other as this are reported


@dataclass(frozen=True)
class Places:
    """Named points on the globe; ids are unique."""

    ids: tuple[str, ...]
    latitude_deg: Float[np.ndarray, "point"]
    longitude_deg: Float[np.ndarray, "point"]
    values: Mapping[str, Float[np.ndarray, "point"]] = field(default_factory=dict)
    """What is known of each point by field of `Server` or `User`; nan: not known."""

    def __post_init__(self) -> None:
        _require_alike(self.ids, self.latitude_deg, self.longitude_deg, *self.values.values())
        for name, values, limit in (
            ("latitude_deg", self.latitude_deg, 90),
            ("longitude_deg", self.longitude_deg, 180),
        ):
            inside = np.abs(values) <= limit
            require(bool(inside.all()), name, f"-{limit:.0f} to {limit:.0f}", values[~inside].tolist(), "Give degrees.")

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class PlanarPlaces:
    """Named points on a plane in metres; ids are unique."""

    ids: tuple[str, ...]
    x_m: Float[np.ndarray, "point"]
    y_m: Float[np.ndarray, "point"]
    values: Mapping[str, Float[np.ndarray, "point"]] = field(default_factory=dict)
    """What is known of each point by field of `Server` or `User`; nan: not known."""

    def __post_init__(self) -> None:
        _require_alike(self.ids, self.x_m, self.y_m, *self.values.values())
        finite = bool(np.isfinite(self.x_m).all() and np.isfinite(self.y_m).all())
        require(finite, "x_m, y_m", "finite numbers", (self.x_m, self.y_m), "Give metres.")

    def __len__(self) -> int:
        return len(self.ids)


def _require_alike(ids: tuple[str, ...], *columns: np.ndarray) -> None:
    sizes = (len(ids), *map(len, columns))
    require(len(set(sizes)) == 1, "places", "as many ids as latitudes and longitudes", sizes, "Give one of each.")
    require(len(set(ids)) == len(ids), "ids", "unique ids", ids, "Rename the repeated ones.")


AnyPlaces = Places | PlanarPlaces


def metres_from(places: AnyPlaces, centre: tuple[float, float]) -> Float[np.ndarray, "point 2"]:
    """Returns the places in metres east and north of the centre: latitude and longitude, or x and y."""
    if isinstance(places, PlanarPlaces):
        return np.stack([places.x_m, places.y_m], axis=-1) - np.array(centre)
    # The shorter way round the globe, so that places on both sides of the date line stay neighbours.
    turn_deg = np.remainder(places.longitude_deg - centre[1] + 180.0, 360.0) - 180.0
    return metres_from_degrees(places.latitude_deg, centre[1] + turn_deg, centre)


def mean_degrees(places: Places) -> tuple[float, float]:
    """Returns the mean latitude and longitude; across the date line too."""
    first = float(places.longitude_deg[0])
    turn_deg = np.remainder(places.longitude_deg - first + 180.0, 360.0) - 180.0
    longitude = (first + float(turn_deg.mean()) + 180.0) % 360.0 - 180.0
    return float(places.latitude_deg.mean()), longitude


def centre_of(places: AnyPlaces) -> tuple[float, float]:
    """Returns the mean place: latitude and longitude, or x and y."""
    if isinstance(places, PlanarPlaces):
        return float(places.x_m.mean()), float(places.y_m.mean())
    return mean_degrees(places)


def co_located(places: AnyPlaces, within_m: float = SAME_PLACE_M) -> list[Int[np.ndarray, "member"]]:
    """Groups sites that stand together: each site, in order, takes all later ones within a distance.

    Returns:
        Positions of the sites of each group of two or more, in ascending order.
    """
    from scipy.spatial import KDTree

    near = KDTree(xy_m := metres_from(places, centre_of(places))).query_ball_point(xy_m, within_m, return_sorted=True)
    taken, groups = np.zeros(len(places), dtype=bool), []
    for site, others in enumerate(near):
        if not taken[site]:
            group = np.array([other for other in others if not taken[other]])
            taken[group] = True
            groups.append(group)
    return [group for group in groups if len(group) > 1]


def merge_sites(places: AnyPlaces, within_m: float) -> AnyPlaces:
    """Makes one site of those that stand together: place and id of the first, the largest reach, powers added up."""
    require(math.isfinite(within_m) and within_m >= 0, "merge_sites_m", "at least 0", within_m, "Give metres.")
    kept = np.ones(len(places), dtype=bool)
    values = {name: column.copy() for name, column in places.values.items()}
    for group in co_located(places, within_m):
        kept[group[1:]] = False
        for name, column in values.items():
            known = column[group][~np.isnan(column[group])]
            if len(known):
                join = {"coverage_radius_m": np.max, "capacity_flops": np.sum, "active_power_w": np.sum}.get(name)
                column[group[0]] = join(known) if join else known[0]
    ids = tuple(name for name, stays in zip(places.ids, kept, strict=True) if stays)
    position = ("x_m", "y_m") if isinstance(places, PlanarPlaces) else ("latitude_deg", "longitude_deg")
    columns = {name: getattr(places, name)[kept] for name in position}
    return replace(places, ids=ids, values={name: column[kept] for name, column in values.items()}, **columns)
