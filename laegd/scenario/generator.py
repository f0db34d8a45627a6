"""Draws random networks of one scale. The numbers and their sources: Table I of [1], see each field.

Positions are uniform on a square of as many square kilometres as there are ground servers, the HAP above its centre.
"""

import math
import re
from dataclasses import dataclass, field, fields

import numpy as np
from jaxtyping import Float

from laegd.scenario.range import require_computable_channel, require_in_range
from laegd.scenario.scenario import CHIP_ENERGY_FACTOR, Channel, Nodes, ScenarioBatch, require, require_pairs

_SCALE = re.compile(r"gs([0-9]{1,9})_gu([0-9]{1,9})_au([0-9]{1,9})")
MAX_HAPS = 1000


@dataclass(frozen=True)
class Scale:
    """Numbers of ground servers, ground users and aerial users; written `gs3_gu7_au5`."""

    num_ground_servers: int
    num_ground_users: int
    num_aerial_users: int

    @staticmethod
    def parse(name: str) -> "Scale":
        """Reads a name such as `gs3_gu7_au5`."""
        match = _SCALE.fullmatch(name)
        require(
            match is not None, "scale", "a name such as gs3_gu7_au5", name, "Name it gs<servers>_gu<users>_au<users>."
        )
        assert match is not None
        scale = Scale(*map(int, match.groups()))
        require_pairs("scale", scale.num_users, scale.num_ground_servers)
        return scale

    @property
    def num_users(self) -> int:
        """Ground and aerial users together."""
        return self.num_ground_users + self.num_aerial_users

    def __str__(self) -> str:
        return f"gs{self.num_ground_servers}_gu{self.num_ground_users}_au{self.num_aerial_users}"


@dataclass(frozen=True)
class TruncatedNormal:
    """A normal distribution cut to [low, high]; mean and sd are those before the cut."""

    mean: float
    sd: float
    low: float
    high: float

    def __post_init__(self) -> None:
        ordered = 0 < self.low <= self.high and all(map(math.isfinite, (self.mean, self.sd, self.low, self.high)))
        require(
            ordered and self.sd >= 0, "truncated normal", "0 < low <= high and sd >= 0, all finite", self, "Correct it."
        )

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Float[np.ndarray, "..."]:
        """Draws by the inverse of the distribution function: one uniform number a value, so no draw is rejected."""
        from scipy.special import ndtr, ndtri  # takes a third of a second to load; planning does not need it

        if self.sd == 0 or self.low == self.high:
            return np.full(shape, min(max(self.mean, self.low), self.high))
        lowest, highest = ndtr([(self.low - self.mean) / self.sd, (self.high - self.mean) / self.sd])
        values = self.mean + self.sd * ndtri(lowest + (highest - lowest) * rng.random(shape))
        return np.clip(values, self.low, self.high)


@dataclass(frozen=True)
class ScenarioConfig:
    """Settings of the simulator; the defaults are the paper's, or ours where it prints none."""

    num_haps: int = 1
    """High-altitude platforms, all above the centre."""
    workload_flop: TruncatedNormal = TruncatedNormal(4.5e9, 2.5e9, 1.2e9, 7e9)
    """Workload C; Table I."""
    user_capacity_flops: TruncatedNormal = TruncatedNormal(3e9, 1.1e10, 2e9, 6.5e9)
    """Computing power f of a user's device, FLOP/s; Table I times 1000 (as printed every local run takes 180 s)."""
    gs_capacity_flops: float = 1.2e10
    """Computing power F of a ground server, FLOP/s; Table I."""
    hap_capacity_flops: float = 0.5e10
    """Computing power F of a HAP, FLOP/s; Table I."""
    gu_transmit_power_w: float = 0.2
    """Transmit power of a ground user; Table I."""
    au_transmit_power_w: float = 0.15
    """Transmit power of an aerial user; Table I."""
    gs_active_power_w: float = 120.0
    """Active power of a ground server; Table I."""
    hap_active_power_w: float = 30.0
    """Active power of a HAP; Table I."""
    hap_altitude_m: float = 20_000.0
    """Height of the HAP; Table I."""
    au_altitude_m: float = 200.0
    """Height of aerial users; Table I."""
    deadline_s: float = 2.0
    """Deadline tau of every task; Table I."""
    delay_weight_low: float = 0.3
    """Smallest delay weight w, drawn uniformly; Table I."""
    delay_weight_high: float = 0.7
    """Largest delay weight w; Table I."""
    flop_per_bit: float = 1e3
    """Workload per input bit, a in C = a D; ours, the paper prints none."""
    area_km2_per_ground_server: float = 1.0
    """Area of the square, per ground server; ours, the paper prints none."""
    gs_coverage_radius_m: float = 900.0
    """Horizontal reach of a ground server; ours, the paper prints none."""
    chip_energy_factor: float = CHIP_ENERGY_FACTOR
    """kappa of Eq. 14, J s^2 / cycle^3; ours, calibrated on Table IV (as printed, 1.2e10, no unit fits)."""
    channel: Channel = field(default_factory=Channel)
    """Radio parameters of all links."""

    def __post_init__(self) -> None:
        require(self.num_haps >= 0, "num_haps", "at least 0", self.num_haps, "Use 1 for the paper's network.")
        require(self.num_haps <= MAX_HAPS, "num_haps", f"at most {MAX_HAPS}", self.num_haps, "Use fewer.")
        require(
            0 <= self.delay_weight_low <= self.delay_weight_high <= 1,
            "delay_weight_low, delay_weight_high",
            "0 <= low <= high <= 1",
            (self.delay_weight_low, self.delay_weight_high),
            "Correct them.",
        )
        for setting in fields(self):
            value = getattr(self, setting.name)
            if isinstance(value, float) and not setting.name.startswith("delay_weight"):
                positive = math.isfinite(value) and value > 0
                require(positive, setting.name, "a finite number above 0", value, "Give it in the unit of its name.")
                require_in_range(setting.name, value)
        for name in ("workload_flop", "user_capacity_flops"):
            require_in_range(f"{name}.low", getattr(self, name).low)
            require_in_range(f"{name}.high", getattr(self, name).high)
        require_in_range("workload_flop.low / flop_per_bit", self.workload_flop.low / self.flop_per_bit)
        require_in_range("workload_flop.high / flop_per_bit", self.workload_flop.high / self.flop_per_bit)
        require_computable_channel(self.channel)


def draw(config: ScenarioConfig, scale: Scale, count: int, rng: np.random.Generator) -> ScenarioBatch:
    """Draws `count` networks of one scale; feasible or not. Servers: HAPs first; users: ground first, then aerial."""
    num_servers = config.num_haps + scale.num_ground_servers
    num_users = scale.num_users
    side_m = math.sqrt(max(scale.num_ground_servers, 1) * config.area_km2_per_ground_server) * 1e3

    is_hap = np.zeros((count, num_servers), dtype=bool)
    is_hap[:, : config.num_haps] = True
    is_aerial = np.zeros((count, num_users), dtype=bool)
    is_aerial[:, scale.num_ground_users :] = True

    server_xyz_m = np.zeros((count, num_servers, 3))
    server_xyz_m[:, : config.num_haps, 2] = config.hap_altitude_m
    server_xyz_m[:, config.num_haps :, :2] = rng.uniform(-side_m / 2, side_m / 2, (count, scale.num_ground_servers, 2))
    user_xyz_m = np.zeros((count, num_users, 3))
    user_xyz_m[..., :2] = rng.uniform(-side_m / 2, side_m / 2, (count, num_users, 2))
    user_xyz_m[:, scale.num_ground_users :, 2] = config.au_altitude_m

    workload_flop = config.workload_flop.draw(rng, (count, num_users))
    return ScenarioBatch(
        config.channel,
        config.chip_energy_factor,
        Nodes(
            server_is_hap=is_hap,
            server_xyz_m=server_xyz_m,
            server_capacity_flops=np.where(is_hap, config.hap_capacity_flops, config.gs_capacity_flops),
            server_active_power_w=np.where(is_hap, config.hap_active_power_w, config.gs_active_power_w),
            server_radius_m=np.where(is_hap, np.inf, config.gs_coverage_radius_m),
            user_is_aerial=is_aerial,
            user_xyz_m=user_xyz_m,
            user_capacity_flops=config.user_capacity_flops.draw(rng, (count, num_users)),
            user_transmit_power_w=np.where(is_aerial, config.au_transmit_power_w, config.gu_transmit_power_w),
            user_workload_flop=workload_flop,
            user_task_bits=workload_flop / config.flop_per_bit,
            user_delay_weight=rng.uniform(config.delay_weight_low, config.delay_weight_high, (count, num_users)),
            user_deadline_s=np.full((count, num_users), config.deadline_s),
        ),
    )
