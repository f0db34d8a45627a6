#!/usr/bin/env bash
# Draws and labels a data set as a Slurm array, each element a part of it; the last one to end writes the manifest.
#   sbatch --array=1-16 launch/slurm/generate.sh SCALE COUNT SEED DIR [OPTIONS OF laegd generate]
#   sbatch --array=1-16 launch/slurm/generate.sh gs3_gu7_au5 20000 90 data/test-gs3
# Count elements from 1. Parts that are finished are not made again, so the same command also repairs.
#SBATCH --job-name=laegd-generate
#SBATCH --ntasks=1 --cpus-per-task=4
#SBATCH --time=04:00:00
#SBATCH --requeue --signal=TERM@120 --open-mode=append
set -euo pipefail
scale=${1:?"name a scale, such as gs3_gu7_au5"}
count=${2:?"give the number of instances"}
seed=${3:?"give a seed"}
folder=${4:?"name the folder of the data set; all nodes must see it"}

code=0
srun --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" laegd generate --scale "$scale" --count "$count" --seed "$seed" \
  --out "$folder" --shard "${SLURM_ARRAY_TASK_ID:-1}/${SLURM_ARRAY_TASK_COUNT:-1}" \
  --workers "${SLURM_CPUS_PER_TASK:-1}" "${@:5}" || code=$?
[ $code -ne 75 ] || scontrol requeue "$SLURM_JOB_ID" # 75: interrupted, run me again; ends this shell
exit $code
