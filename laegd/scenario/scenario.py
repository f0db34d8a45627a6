"""A scenario: the physical description of one low-altitude network, in SI units.

`Scenario` is what a user reads and writes (JSON, `laegd-scenario/1`), one network, checked when it is built.
`ScenarioBatch` is the same for many networks of one scale, as arrays; the simulator draws it directly.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import msgspec
import numpy as np
from jaxtyping import Bool, Float

from laegd.scenario.checks import (
    MAX_PAIRS,
    MAX_SHOWN,
    decode_json,
    in_short,
    is_finite,
    printable,
    require,
    require_finite,
    require_pairs,
    require_positive,
    settings_to_dict,
)
from laegd.scenario.columns import ArrayLike, columns_of, items_of, server_names

__all__ = [  # noqa: RUF022  # checks too: most modules import them from here
    "MAX_PAIRS", "MAX_SHOWN", "decode_json", "in_short", "printable", "require", "require_finite",
    "require_pairs", "require_positive", "settings_to_dict",
    "CHIP_ENERGY_FACTOR", "SCENARIO_FORMAT", "Channel", "Nodes", "Scenario", "ScenarioBatch", "Server", "User",
    "nodes_of",
]  # fmt: skip

SCENARIO_FORMAT = "laegd-scenario/1"
CHIP_ENERGY_FACTOR = 1e-26  # kappa of Eq. 14, J s^2 / cycle^3; ours, calibrated on Table IV

MAX_NAME = 200  # characters
Identifier = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME)]


def _require_kind(item: "Server | User", kinds: tuple[str, str]) -> None:
    """Raises unless id and type of an item that Python code has built are such as JSON may hold."""
    named = isinstance(item.id, str) and 1 <= len(item.id) <= MAX_NAME
    require(named, "id", f"a name of 1 to {MAX_NAME} characters", item.id, "Name it.")
    require(item.type in kinds, "type", " or ".join(map(repr, kinds)), item.type, "Use one of them.")


class Channel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Radio parameters that all links of a network share."""

    carrier_hz: float = 1e8
    """Carrier frequency f_c; Table I."""
    bandwidth_hz: float = 1e7
    """Bandwidth B of each link (orthogonal access); Table I, Eq. 12."""
    noise_power_w: float = 7.96159e-13
    """Noise power sigma^2 over the whole bandwidth, not a density; Table I, Eq. 12."""
    reference_gain: float = 1e-3
    """Power gain g_0 at 1 m of ground-to-ground links, linear; Eq. 1."""
    excess_loss_los_db: float = 0.1
    """Excess loss of a line-of-sight path; Table I, Eqs. 2 and 6."""
    excess_loss_nlos_db: float = 21.0
    """Excess loss of a path without line of sight; Table I, Eqs. 2 and 7."""
    los_factor_1: float = 10.0
    """kappa_1 of the line-of-sight probability, degrees; Table I, Eqs. 3 and 8."""
    los_factor_2: float = 0.6
    """kappa_2 of the line-of-sight probability, 1/degree; Table I, Eqs. 3 and 8."""

    def __post_init__(self) -> None:
        for field in ("carrier_hz", "bandwidth_hz", "noise_power_w", "reference_gain"):
            require_positive(field, getattr(self, field))
        for field in ("excess_loss_los_db", "excess_loss_nlos_db", "los_factor_1", "los_factor_2"):
            value = getattr(self, field)
            known = is_finite(value) and bool(value >= 0)
            require(known, field, "a finite number of at least 0", value, "Correct it.")


class Server(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A server on the ground (GS) or on a high-altitude platform (HAP)."""

    id: Identifier
    type: Literal["HAP", "GS"]
    x_m: float
    y_m: float
    z_m: float
    capacity_flops: float
    """Computing power F, FLOP/s."""
    active_power_w: float
    """Power P_act drawn while computing."""
    coverage_radius_m: float | None
    """Horizontal reach; None covers everyone."""

    def __post_init__(self) -> None:
        _require_kind(self, ("HAP", "GS"))
        for field in ("x_m", "y_m", "z_m"):
            require_finite(field, getattr(self, field))
        for field in ("capacity_flops", "active_power_w"):
            require_positive(field, getattr(self, field))
        if self.coverage_radius_m is not None:
            require_positive("coverage_radius_m", self.coverage_radius_m)


class User(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An aerial (AU) or ground (GU) user with one task."""

    id: Identifier
    type: Literal["AU", "GU"]
    x_m: float
    y_m: float
    z_m: float
    capacity_flops: float
    """Computing power f of the device, FLOP/s."""
    transmit_power_w: float
    workload_flop: float
    """Workload C of the task, FLOP."""
    task_bits: float
    """Input D of the task, bits."""
    delay_weight: float
    """Weight w of delay against energy, 0 to 1; Eq. 15."""
    deadline_s: float
    """Largest tolerable delay tau."""

    def __post_init__(self) -> None:
        _require_kind(self, ("AU", "GU"))
        for field in ("x_m", "y_m", "z_m"):
            require_finite(field, getattr(self, field))
        for field in ("capacity_flops", "transmit_power_w", "workload_flop", "task_bits", "deadline_s"):
            require_positive(field, getattr(self, field))
        weighs = is_finite(self.delay_weight) and bool(0 <= self.delay_weight <= 1)
        require(weighs, "delay_weight", "a number from 0 to 1", self.delay_weight, "Correct it.")


def _require_unique(field: str, items: Sequence[Server] | Sequence[User]) -> None:
    seen: set[str] = set()
    for position, item in enumerate(items):
        require(item.id not in seen, f"{field}[{position}].id", "unique ids", item.id, "Rename one of the two.")
        seen.add(item.id)


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One network: channel, servers and users. Ids are unique among servers and among users."""

    format: Literal["laegd-scenario/1"] = SCENARIO_FORMAT
    channel: Channel
    chip_energy_factor: float
    """kappa of the users' chips, J s^2 / cycle^3; Eq. 14."""
    servers: tuple[Server, ...]
    users: tuple[User, ...]

    def __post_init__(self) -> None:
        require_positive("chip_energy_factor", self.chip_energy_factor)
        require_pairs("users, servers", len(self.users), len(self.servers))
        _require_unique("servers", self.servers)
        _require_unique("users", self.users)

    @staticmethod
    def from_json(text: bytes | str) -> "Scenario":
        """Reads `laegd-scenario/1`; raises ValueError with the path of the first bad field."""
        if not text.strip():
            raise ValueError("Expected a scenario in JSON, got an empty file. Write one with `laegd export`.")
        return decode_json(text, Scenario, f"a {SCENARIO_FORMAT} scenario", "Correct that field.")

    def to_json(self) -> bytes:
        """Writes `laegd-scenario/1`; numbers read back to the same float64."""
        text = msgspec.json.encode(self, enc_hook=lambda number: number.item())  # NumPy's numbers
        return msgspec.json.format(text, indent=1) + b"\n"

    @staticmethod
    def from_arrays(
        *,
        server_xyz_m: ArrayLike,
        server_capacity_flops: ArrayLike,
        server_active_power_w: ArrayLike,
        server_radius_m: ArrayLike = np.inf,
        server_is_hap: ArrayLike = False,
        server_ids: Sequence[str] | None = None,
        user_xyz_m: ArrayLike,
        user_capacity_flops: ArrayLike,
        user_transmit_power_w: ArrayLike,
        user_workload_flop: ArrayLike,
        user_task_bits: ArrayLike,
        user_deadline_s: ArrayLike,
        user_delay_weight: ArrayLike = 0.5,
        user_is_aerial: ArrayLike = False,
        user_ids: Sequence[str] | None = None,
        channel: Channel | None = None,
        chip_energy_factor: float = CHIP_ENERGY_FACTOR,
    ) -> "Scenario":
        """Builds a scenario from columns: a value for each server or user, or one value for all of them.

        Units and ranges are those of `Server` and `User`.

        Args:
            server_xyz_m: Positions, of shape [server, 3].
            server_capacity_flops: Computing power, FLOP/s.
            server_active_power_w: Power drawn while computing.
            server_radius_m: Horizontal reach; inf covers everyone.
            server_is_hap: Whether it is on a high-altitude platform.
            server_ids: Unique names; None: hap, gs1, gs2, ... (hap0, hap1, ... where there are several platforms).
            user_xyz_m: Positions, of shape [user, 3].
            user_capacity_flops: Computing power of the device, FLOP/s.
            user_transmit_power_w: Power of the device's radio.
            user_workload_flop: Workload of the task.
            user_task_bits: Input of the task.
            user_deadline_s: Largest tolerable delay.
            user_delay_weight: Weight of delay against energy, 0 to 1.
            user_is_aerial: Whether it flies.
            user_ids: Unique names; None: u0, u1, ...
            channel: Radio parameters; None: the paper's.
            chip_energy_factor: kappa of the users' chips, J s^2 / cycle^3.

        Raises:
            ValueError: A column has the wrong length, or a value breaks a rule; the message names `users[3].task_bits`.

        Example:
            >>> sites = {"server_xyz_m": [[0, 0, 20]], "server_capacity_flops": 1e10, "server_active_power_w": 120}
            >>> users = {"user_xyz_m": [[9, 0, 2], [0, 7, 2]], "user_capacity_flops": 3e9, "user_transmit_power_w": 0.2}
            >>> tasks = {"user_workload_flop": [4e9, 2e9], "user_task_bits": 4e6, "user_deadline_s": 2}
            >>> scenario = Scenario.from_arrays(**sites, **users, **tasks)
        """
        server = {
            "is_hap": server_is_hap,
            "capacity_flops": server_capacity_flops,
            "active_power_w": server_active_power_w,
            "radius_m": server_radius_m,
        }
        user = {
            "is_aerial": user_is_aerial,
            "capacity_flops": user_capacity_flops,
            "transmit_power_w": user_transmit_power_w,
            "workload_flop": user_workload_flop,
            "task_bits": user_task_bits,
            "delay_weight": user_delay_weight,
            "deadline_s": user_deadline_s,
        }
        servers, users = columns_of("server", server_xyz_m, server), columns_of("user", user_xyz_m, user)
        servers["type"] = ["HAP" if is_hap else "GS" for is_hap in servers.pop("is_hap")]
        servers["coverage_radius_m"] = [None if radius == math.inf else radius for radius in servers.pop("radius_m")]
        users["type"] = ["AU" if is_aerial else "GU" for is_aerial in users.pop("is_aerial")]
        servers["id"] = server_names(servers["type"]) if server_ids is None else list(server_ids)
        users["id"] = [f"u{u}" for u in range(len(users["type"]))] if user_ids is None else list(user_ids)
        return Scenario(
            channel=channel or Channel(),
            chip_energy_factor=chip_energy_factor,
            servers=items_of("server", Server, servers),
            users=items_of("user", User, users),
        )


class Nodes(NamedTuple):
    """Positions and resources of servers and users; leading axes are free (one network, or a batch of them)."""

    server_is_hap: Bool[np.ndarray, "*batch server"]
    server_xyz_m: Float[np.ndarray, "*batch server 3"]
    server_capacity_flops: Float[np.ndarray, "*batch server"]
    server_active_power_w: Float[np.ndarray, "*batch server"]
    server_radius_m: Float[np.ndarray, "*batch server"]  # inf: covers everyone
    user_is_aerial: Bool[np.ndarray, "*batch user"]
    user_xyz_m: Float[np.ndarray, "*batch user 3"]
    user_capacity_flops: Float[np.ndarray, "*batch user"]
    user_transmit_power_w: Float[np.ndarray, "*batch user"]
    user_workload_flop: Float[np.ndarray, "*batch user"]
    user_task_bits: Float[np.ndarray, "*batch user"]
    user_delay_weight: Float[np.ndarray, "*batch user"]
    user_deadline_s: Float[np.ndarray, "*batch user"]


@dataclass(frozen=True)
class ScenarioBatch:
    """Networks of one scale that share channel and chip: `nodes` has one leading axis, `instance`."""

    channel: Channel
    chip_energy_factor: float
    nodes: Nodes

    def __len__(self) -> int:
        return len(self.nodes.server_is_hap)

    def __getitem__(self, index: slice) -> "ScenarioBatch":
        return ScenarioBatch(self.channel, self.chip_energy_factor, Nodes(*(values[index] for values in self.nodes)))

    def scenario(self, index: int) -> Scenario:
        """Returns one network with ids hap, gs1, ... (hap0, hap1, ... where there are several) and u0, u1, ..."""
        columns = {name: values[index] for name, values in self.nodes._asdict().items()}
        return Scenario.from_arrays(**columns, channel=self.channel, chip_energy_factor=self.chip_energy_factor)


def nodes_of(scenario: Scenario) -> Nodes:
    """Returns the arrays of one network, without a leading axis."""
    servers, users = scenario.servers, scenario.users

    def column(items: Sequence[Server] | Sequence[User], field: str) -> np.ndarray:
        return np.array([getattr(item, field) for item in items], dtype=np.float64)

    def xyz(items: Sequence[Server] | Sequence[User]) -> np.ndarray:
        return np.array([(item.x_m, item.y_m, item.z_m) for item in items], dtype=np.float64).reshape(-1, 3)

    return Nodes(
        server_is_hap=np.array([server.type == "HAP" for server in servers], dtype=bool),
        server_xyz_m=xyz(servers),
        server_capacity_flops=column(servers, "capacity_flops"),
        server_active_power_w=column(servers, "active_power_w"),
        server_radius_m=np.array(
            [np.inf if server.coverage_radius_m is None else server.coverage_radius_m for server in servers]
        ).astype(np.float64),
        user_is_aerial=np.array([user.type == "AU" for user in users], dtype=bool),
        user_xyz_m=xyz(users),
        user_capacity_flops=column(users, "capacity_flops"),
        user_transmit_power_w=column(users, "transmit_power_w"),
        user_workload_flop=column(users, "workload_flop"),
        user_task_bits=column(users, "task_bits"),
        user_delay_weight=column(users, "delay_weight"),
        user_deadline_s=column(users, "deadline_s"),
    )
