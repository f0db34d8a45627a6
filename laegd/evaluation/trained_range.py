"""Whether a model was trained on networks like this one: every number beside the range of its training sets.

The sets' recipes stand in a model's settings, in run folders and packed files alike, so that models of any age have
them. Planning elsewhere is allowed: plans are valid everywhere, but what a model has not seen it may do badly.
"""

import warnings
from collections.abc import Iterator, Sequence

import numpy as np

from laegd.graphs.dataset import Recipe
from laegd.problem.instance import InstanceBatch
from laegd.scenario.generator import Scale
from laegd.scenario.scenario import Channel
from laegd.training.cluster import rank

LEEWAY = 1.1  # a factor by which a number may leave the range: a tenth more or less is no other kind of network

Range = tuple[float, float]


def tell_untrained(name: str, recipes: Sequence[Recipe], batch: InstanceBatch) -> list[str]:
    """Warns, on rank 0, of numbers of these networks on which the model was not trained; returns what it says of."""
    found = list(untrained(recipes, batch))
    if found and rank() == 0:
        warnings.warn(
            f"{name} was not trained on {'; '.join(found)}. Its plans are valid, but may cost more than they need: "
            "compare with the method certified, or train a model on such networks.",
            stacklevel=4,
        )
    return found


def untrained(recipes: Sequence[Recipe], batch: InstanceBatch) -> Iterator[str]:
    """Yields fields out of the range of the training sets, with a value and the range."""
    trained = [_trained(recipe) for recipe in recipes]
    for field, values in _given(batch).items():
        low, high = min(one[field][0] for one in trained), max(one[field][1] for one in trained)
        outside = values[(values < low / LEEWAY) | (values > high * LEEWAY)]
        if outside.size:
            seen = f"{low:g}" if low == high else f"{low:g} to {high:g}"
            yield f"{field} {outside.flat[0]:g} (but {seen})"


def _given(batch: InstanceBatch) -> dict[str, np.ndarray]:
    """Returns the numbers of networks, by field."""
    nodes, channel = batch.nodes, batch.channel
    hap, aerial = nodes.server_is_hap, nodes.user_is_aerial
    values = {
        "number of HAPs": hap.sum(axis=-1),
        "number of ground servers": (~hap).sum(axis=-1),
        "number of ground users": (~aerial).sum(axis=-1),
        "number of aerial users": aerial.sum(axis=-1),
        "capacity_flops of HAPs": nodes.server_capacity_flops[hap],
        "capacity_flops of ground servers": nodes.server_capacity_flops[~hap],
        "active_power_w of HAPs": nodes.server_active_power_w[hap],
        "active_power_w of ground servers": nodes.server_active_power_w[~hap],
        "coverage_radius_m of HAPs": nodes.server_radius_m[hap],
        "coverage_radius_m of ground servers": nodes.server_radius_m[~hap],
        "z_m of HAPs": nodes.server_xyz_m[hap][:, 2],
        "z_m of aerial users": nodes.user_xyz_m[aerial][:, 2],
        "transmit_power_w of ground users": nodes.user_transmit_power_w[~aerial],
        "transmit_power_w of aerial users": nodes.user_transmit_power_w[aerial],
        "capacity_flops of users": nodes.user_capacity_flops,
        "workload_flop": nodes.user_workload_flop,
        "task_bits": nodes.user_task_bits,
        "delay_weight": nodes.user_delay_weight,
        "deadline_s": nodes.user_deadline_s,
    }
    if channel is not None:
        values |= {field: np.array([getattr(channel, field)]) for field in Channel.__struct_fields__}
    return values


def _trained(recipe: Recipe) -> dict[str, Range]:
    """Returns the ranges of a training set, by field."""
    scale, config = Scale.parse(recipe.scale), recipe.scenario
    workload, capacity, flop_per_bit = config.workload_flop, config.user_capacity_flops, config.flop_per_bit
    points = {
        "number of HAPs": config.num_haps,
        "number of ground servers": scale.num_ground_servers,
        "number of ground users": scale.num_ground_users,
        "number of aerial users": scale.num_aerial_users,
        "capacity_flops of HAPs": config.hap_capacity_flops,
        "capacity_flops of ground servers": config.gs_capacity_flops,
        "active_power_w of HAPs": config.hap_active_power_w,
        "active_power_w of ground servers": config.gs_active_power_w,
        "coverage_radius_m of HAPs": np.inf,
        "coverage_radius_m of ground servers": config.gs_coverage_radius_m,
        "z_m of HAPs": config.hap_altitude_m,
        "z_m of aerial users": config.au_altitude_m,
        "transmit_power_w of ground users": config.gu_transmit_power_w,
        "transmit_power_w of aerial users": config.au_transmit_power_w,
        "deadline_s": config.deadline_s,
    } | {field: getattr(config.channel, field) for field in Channel.__struct_fields__}
    return {field: (float(value), float(value)) for field, value in points.items()} | {
        "capacity_flops of users": (capacity.low, capacity.high),
        "workload_flop": (workload.low, workload.high),
        "task_bits": (workload.low / flop_per_bit, workload.high / flop_per_bit),
        "delay_weight": (config.delay_weight_low, config.delay_weight_high),
    }
