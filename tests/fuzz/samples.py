"""Whole files, as a user or a command writes them."""

import json
import sys
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parents[1]
REFERENCE = TESTS / "data" / "reference"

EXPERIMENT = b"""
learner = "diffusion"
[model]
hidden = 16
num_layers = 2
num_heads = 2
directed = false
encoder = "attention"
[diffusion]
num_steps = 200
schedule = "linear"
[sampler]
num_steps = 2
[decode]
thresholds = [0.5, 0.25]
polish_rounds = 1
[training]
steps = 6
batch_size = 16
learning_rate = 1e-3
ema_decay = 0.99
seed = 3
[grlo]
num_actions = 8
value_weight = 0.5
[[data.train]]
scale = "gs2_gu4_au2"
count = 60
seed = 1
scenario = {deadline_s = 1.5, num_haps = 2}
[[data.validation]]
scale = "gs2_gu4_au2"
count = 10
seed = 2
"""
SIMULATOR = b"""
num_haps = 2
deadline_s = 1.5
delay_weight_low = 0.2
delay_weight_high = 0.9
gs_capacity_flops = 1.2e10
chip_energy_factor = 1e-26
workload_flop = {mean = 4.5e9, sd = 2.5e9, low = 1.2e9, high = 7e9}
[channel]
carrier_hz = 1e8
excess_loss_nlos_db = 21.0
"""
SITES = b"SITE_ID,LATITUDE,LONGITUDE\n10,-37.815,144.970\n11,-37.818,144.965\n12,-37.812,144.961\n"
PEOPLE = b'Latitude;Longitude;name\n-37,8155;144,9705;"a"\n-37.8170;144.9660;b\n\n-37.8181;144.9649;c\n'


@cache
def scenario_text() -> bytes:
    """A network of two ground servers and six users."""
    document = json.loads((REFERENCE / "gs2_gu4_au2_0.json").read_text())["scenario"]
    return json.dumps(document).encode()


def scenarios(folder: Path) -> list[bytes]:
    document = json.loads(scenario_text())
    few = {**document, "users": document["users"][:2], "servers": document["servers"][:2]}
    alone = {**document, "servers": []}
    return [json.dumps(one).encode() for one in (few, document, few, alone)]


def result_files(folder: Path) -> list[bytes]:
    sys.path.append(str(TESTS / "evaluation"))
    from result_files import results, sweep

    return [json.dumps(results(("gadsg", "exact"))).encode(), json.dumps(sweep()).encode()]
