"""The range in which a problem can be computed: no delay, energy or cost overflows float64, and no rate is 0.

A scenario file may hold any finite number. No physical value in SI units comes near these bounds.
"""

import numpy as np

from laegd.scenario.scenario import Channel, Nodes, require

SMALLEST, LARGEST = 1e-40, 1e30
MAX_LOSS_DB, MAX_LOS_FACTOR = 300.0, 1000.0  # of a path's excess loss; of kappa_1 and kappa_2


def require_computable(channel: Channel, chip_energy_factor: float, nodes: Nodes) -> None:
    """Raises ValueError that names the first number out of range; of a network, or of a batch of them."""
    require_in_range("chip_energy_factor", chip_energy_factor)
    require_computable_channel(channel)
    for name, values in nodes._asdict().items():
        if values.dtype != np.bool_:
            low, high = _bounds(name)
            for place in np.argwhere(~((low <= values) & (values <= high)))[:1]:  # NaN is out of range too
                require_in_range(_field(name, place.tolist()), float(values[tuple(place)]), low, high)


def require_computable_channel(channel: Channel) -> None:
    """Raises ValueError that names the first number out of range."""
    for field in channel.__struct_fields__:
        loss, factor = field.startswith("excess_loss"), field.startswith("los_factor")
        high = MAX_LOSS_DB if loss else MAX_LOS_FACTOR if factor else LARGEST
        require_in_range(f"channel.{field}", getattr(channel, field), 0.0 if loss or factor else SMALLEST, high)


def require_in_range(field: str, value: float, low: float = SMALLEST, high: float = LARGEST) -> None:
    """Raises ValueError unless the value lies between the bounds."""
    expected = f"a number from {low:g} to {high:g} to compute with"
    require(low <= value <= high, field, expected, value, "Give it in the unit of its name.")


def _bounds(name: str) -> tuple[float, float]:
    if name.endswith("_xyz_m"):
        return -LARGEST, LARGEST
    if name == "user_delay_weight":
        return 0.0, 1.0
    return SMALLEST, np.inf if name == "server_radius_m" else LARGEST


def _field(name: str, place: list[int]) -> str:
    """Returns users[3].x_m for user_xyz_m at [3, 0], with the instance before it where there are several."""
    side, _, field = name.partition("_")
    if field == "xyz_m":
        field = f"{'xyz'[place.pop()]}_m"
    *instance, position = place
    batch = f"instance {instance[0]}: " if instance else ""
    return f"{batch}{side}s[{position}].{'coverage_' if field == 'radius_m' else ''}{field}"
