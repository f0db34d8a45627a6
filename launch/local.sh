#!/usr/bin/env bash
# One machine, one command: train a configuration (data included) and evaluate it on 2,000 unseen instances.
#   launch/local.sh configs/gs3_gu7_au5.toml gs3_gu7_au5 runs/gs3
set -euo pipefail
config=${1:?"name a configuration, such as configs/gs3_gu7_au5.toml"}
scale=${2:?"name the scale of the test set, such as gs3_gu7_au5"}
run=${3:?"name the folder of the run, such as runs/gs3"}
laegd train --config "$config" --workdir "$run"
laegd generate --scale "$scale" --count 2000 --seed 90 --out "$run/test"
laegd evaluate --checkpoint "$run" --data "$run/test" --out "$run/results.json"
