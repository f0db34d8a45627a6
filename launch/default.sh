#!/usr/bin/env bash
# Remakes the network that ships with laegd, from nothing, and measures it: data, training in two parts, the file,
# docs/models.md's tables.
#   launch/default.sh runs/default
# Goes on where it was interrupted. Two cores: about two and a half hours.
set -euo pipefail
run=${1:?"name the folder of the run, such as runs/default"}
# Freed memory is kept, not given back to the system after every step: a fifth to a third of the CPU time of training.
export MALLOC_ARENA_MAX=1 MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=2147483647
laegd train --config configs/default.toml --workdir "$run-first" --data data
laegd pack "$run-first" --out "$run-first.npz" --overwrite
laegd train --config configs/default_refined.toml --set training.start_from="$run-first.npz" --workdir "$run" --data data
laegd pack "$run" --out "$run.npz" --overwrite
python benchmarks/models.py --data data --run-folder "$run.npz"
