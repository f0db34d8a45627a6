#!/usr/bin/env bash
# Evaluates a run on a data set as a Slurm job, which goes on by itself after its time limit or a preemption.
#   sbatch launch/slurm/evaluate.sh RUN DIR OUT [OPTIONS OF laegd evaluate]
#   sbatch --gpus=1 launch/slurm/evaluate.sh runs/gs3 data/test-gs3 results/gs3.json --methods gadsg,ao,exact
#SBATCH --job-name=laegd-evaluate
#SBATCH --ntasks=1 --cpus-per-task=4
#SBATCH --time=04:00:00
#SBATCH --requeue --signal=TERM@120 --open-mode=append
set -euo pipefail
run=${1:?"name the folder of a run, such as runs/gs3"}
data=${2:?"name the folder of a data set"}
out=${3:?"name a file for the results, such as results/gs3.json"}

code=0
srun --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" --kill-on-bad-exit=0 --wait=120 \
  laegd evaluate --checkpoint "$run" --data "$data" --out "$out" "${@:4}" || code=$?
[ $code -ne 75 ] || scontrol requeue "$SLURM_JOB_ID" # 75: interrupted, run me again; ends this shell
exit $code
