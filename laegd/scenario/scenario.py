"""A scenario: the physical description of one low-altitude network, in SI units.

`Scenario` is what a user reads and writes (JSON, `laegd-scenario/1`), one network, checked when it is built.
`ScenarioBatch` is the same for many networks of one scale, as arrays; the simulator draws it directly.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import msgspec
import numpy as np
from jaxtyping import Bool, Float

SCENARIO_FORMAT = "laegd-scenario/1"

Identifier = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Decoded = TypeVar("Decoded")

MAX_PAIRS = 1_000_000  # of a user and a server in one network: every array over them takes 8 MB
MAX_SHOWN = 300  # characters of a value in an error


def require(rule: bool, field: str, expected: str, value: object, remedy: str) -> None:
    """Raises a ValueError that names field, rule, value and remedy unless the rule holds."""
    if not rule:
        raise ValueError(f"{in_short(field)}: Expected {expected}, got {in_short(repr(value))}. {remedy}")


def require_positive(field: str, value: float) -> None:
    """Raises unless the value is finite and above zero."""
    require(math.isfinite(value) and value > 0, field, "a finite number above 0", value, "Give it in SI units.")


def require_finite(field: str, value: float) -> None:
    """Raises unless the value is finite."""
    require(math.isfinite(value), field, "a finite number", value, "Give it in SI units.")


def require_pairs(field: str, num_users: int, num_servers: int, most: int = MAX_PAIRS) -> None:
    """Raises where the arrays over users and servers of one network would not fit into memory."""
    pairs = max(num_users, 1) * max(num_servers, 1)
    expected = f"at most {most:,} pairs of a user and a server"
    require(pairs <= most, field, expected, pairs, "Take fewer users or servers.")


def in_short(text: str) -> str:
    """Returns a text from a file as one line of an error shows it: long ones cut, control characters as escapes."""
    if len(text) > MAX_SHOWN:
        text = f"{text[: MAX_SHOWN // 2]} ... {text[-MAX_SHOWN // 2 :]}"
    return printable(text)


def printable(text: str) -> str:
    """Returns a text with what would move a terminal's cursor as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def decode_json(text: bytes | str, kind: type[Decoded], expected: str, remedy: str) -> Decoded:
    """Reads JSON of a kind; raises ValueError with the path of the first bad field."""
    mark = "\ufeff" if isinstance(text, str) else b"\xef\xbb\xbf"  # byte-order mark, as Windows' editors write it
    try:
        return msgspec.json.decode(text.removeprefix(mark), type=kind)  # pyright: ignore[reportArgumentType]
    except (msgspec.DecodeError, UnicodeError) as error:  # covers ValidationError: wrong type, unknown key, bad value
        reason = in_short(str(error))
    except RecursionError:
        reason = "lists or tables in one another, hundreds deep"
    raise ValueError(f"Expected {expected}, got: {reason.removesuffix('.')}. {remedy}")


def settings_to_dict(settings: Any) -> dict[str, Any]:
    """Returns a settings dataclass as JSON values, nested ones included."""
    # Not msgspec alone: it leaves out fields at their default on dataclasses that it built itself.
    return msgspec.to_builtins(asdict(settings))


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
            require(math.isfinite(value) and value >= 0, field, "a finite number of at least 0", value, "Correct it.")


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
        for field in ("x_m", "y_m", "z_m"):
            require_finite(field, getattr(self, field))
        for field in ("capacity_flops", "transmit_power_w", "workload_flop", "task_bits", "deadline_s"):
            require_positive(field, getattr(self, field))
        require(0 <= self.delay_weight <= 1, "delay_weight", "a number from 0 to 1", self.delay_weight, "Correct it.")


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
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"


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
        one = Nodes(*(values[index] for values in self.nodes))
        num_haps, num_ground = int(one.server_is_hap.sum()), 0
        servers = []
        for s, is_hap in enumerate(one.server_is_hap):
            num_ground += not is_hap
            name = f"gs{num_ground}" if not is_hap else "hap" if num_haps == 1 else f"hap{s - num_ground}"
            radius = float(one.server_radius_m[s])
            servers.append(
                Server(
                    name,
                    "HAP" if is_hap else "GS",
                    *map(float, one.server_xyz_m[s]),
                    capacity_flops=float(one.server_capacity_flops[s]),
                    active_power_w=float(one.server_active_power_w[s]),
                    coverage_radius_m=None if math.isinf(radius) else radius,
                )
            )
        users = tuple(
            User(
                f"u{u}",
                "AU" if one.user_is_aerial[u] else "GU",
                *map(float, one.user_xyz_m[u]),
                capacity_flops=float(one.user_capacity_flops[u]),
                transmit_power_w=float(one.user_transmit_power_w[u]),
                workload_flop=float(one.user_workload_flop[u]),
                task_bits=float(one.user_task_bits[u]),
                delay_weight=float(one.user_delay_weight[u]),
                deadline_s=float(one.user_deadline_s[u]),
            )
            for u in range(len(one.user_is_aerial))
        )
        return Scenario(
            channel=self.channel, chip_energy_factor=self.chip_energy_factor, servers=tuple(servers), users=users
        )


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
