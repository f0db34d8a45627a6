"""Values that physics allows, but that are orders of magnitude from what networks have: mostly another unit."""

from collections.abc import Iterator, Sequence

import numpy as np

from laegd.scenario.scenario import Channel, Scenario, Server, User, in_short

USUAL: dict[str, tuple[float, float, str]] = {
    "channel.carrier_hz": (1e6, 1e12, "Hz"),
    "channel.bandwidth_hz": (1e4, 1e11, "Hz"),
    "channel.noise_power_w": (1e-19, 1e-6, "W"),
    "channel.reference_gain": (1e-9, 1.0, "linear, not dB"),
    "scenario.chip_energy_factor": (1e-32, 1e-18, "J s^2 / cycle^3"),
    "server.capacity_flops": (1e7, 1e18, "FLOP/s"),
    "server.active_power_w": (0.1, 1e6, "W"),
    "server.coverage_radius_m": (1.0, 1e7, "m"),
    "user.capacity_flops": (1e5, 1e16, "FLOP/s"),
    "user.transmit_power_w": (1e-4, 10.0, "W, not dBm"),
    "user.workload_flop": (1e3, 1e18, "FLOP"),
    "user.task_bits": (100.0, 1e14, "bits"),
    "user.deadline_s": (1e-4, 1e4, "s"),
    "server.z_m": (-1e4, 5e7, "m"),
    "user.z_m": (-1e4, 5e7, "m"),
}
"""Smallest and largest value of a field that no one wonders at, and its unit: from a sensor to a data centre, from
LoRa to terahertz, from a mine to a geostationary satellite."""


def odd_values(scenario: Scenario) -> Iterator[tuple[str, str]]:
    """Yields fields with odd values, each once, and what to say of them."""
    items: dict[str, Sequence[Channel | Scenario | Server | User]] = {
        "channel": [scenario.channel],
        "scenario": [scenario],
        "server": scenario.servers,
        "user": scenario.users,
    }
    for key, (low, high, unit) in USUAL.items():
        side, field = key.split(".")
        values = np.array([getattr(item, field) for item in items[side]], dtype=float)  # None: nan, never odd
        odd = np.flatnonzero((values < low) | (values > high))
        if len(odd):
            first = items[side][odd[0]]
            name = in_short(first.id) if isinstance(first, Server | User) else side
            more = f" and {len(odd) - 1} more" if len(odd) > 1 else ""
            yield key, f"{field} of {name}{more} is {values[odd[0]]:g}; usual are {low:g} to {high:g} ({unit})"
