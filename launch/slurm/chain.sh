#!/usr/bin/env bash
# Submits the whole way to a result: labels of a test set, training, evaluation, each when the one before has succeeded.
#   launch/slurm/chain.sh CONFIG RUN SCALE COUNT SEED DIR OUT [OPTIONS OF laegd train]
#   PARTS=32 TRAIN_OPTIONS="--gpus=1" EVALUATE_OPTIONS="--gpus=1" \
#     launch/slurm/chain.sh configs/gs3_gu7_au5.toml runs/gs3 gs3_gu7_au5 20000 90 data/test-gs3 results/gs3.json
# PARTS: elements of the array of labels (16). GENERATE_OPTIONS, TRAIN_OPTIONS, EVALUATE_OPTIONS: options of sbatch.
# For all three, sbatch itself reads SBATCH_ACCOUNT and SBATCH_PARTITION.
set -euo pipefail
[ $# -ge 7 ] || { sed -n '2,7s/^# \?//p' "$0" >&2; exit 2; }
config=$1 run=$2 scale=$3 count=$4 seed=$5 folder=$6 out=$7
here=$(dirname "$0")

submit() { # variable with options of sbatch, job to wait for or none, script and its arguments: prints the job's number
  local options job
  read -ra options <<<"${!1:-}"
  [ -z "$2" ] || options+=(--dependency="afterok:$2" --kill-on-invalid-dep=yes) # what waits in vain is removed
  job=$(sbatch --parsable ${options[@]+"${options[@]}"} "${@:3}")
  echo "${job%%;*}"
}

GENERATE_OPTIONS="--array=1-${PARTS:-16} ${GENERATE_OPTIONS:-}"
labels=$(submit GENERATE_OPTIONS "" "$here/generate.sh" "$scale" "$count" "$seed" "$folder")
training=$(submit TRAIN_OPTIONS "$labels" "$here/train.sh" "$config" "$run" "${@:8}")
evaluation=$(submit EVALUATE_OPTIONS "$training" "$here/evaluate.sh" "$run" "$folder" "$out")
echo "generate $labels, train $training, evaluate $evaluation"
