#!/usr/bin/env bash
# Trains a configuration as a Slurm job, which goes on by itself after its time limit or a preemption.
#   sbatch launch/slurm/train.sh CONFIG RUN [OPTIONS OF laegd train]
#   sbatch --nodes=2 --ntasks-per-node=4 --gpus-per-node=4 launch/slurm/train.sh configs/gs3_gu7_au5.toml runs/gs3
# One task per GPU; a single task uses all devices that it sees. Account, partition, time, GPUs: as options of sbatch.
#SBATCH --job-name=laegd-train
#SBATCH --ntasks=1 --cpus-per-task=4
#SBATCH --time=04:00:00
#SBATCH --requeue --signal=TERM@120 --open-mode=append
set -euo pipefail
config=${1:?"name a configuration, such as configs/gs3_gu7_au5.toml"}
run=${2:?"name the folder of the run, such as runs/gs3; all nodes must see it"}

# Slurm sends SIGTERM to the tasks, not to this shell; they save and leave with 75. srun returns the highest code of its
# tasks, so no task may be killed while it leaves: it has two minutes from the end of the first.
code=0
srun --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" --kill-on-bad-exit=0 --wait=120 \
  laegd train --config "$config" --workdir "$run" "${@:3}" || code=$?
[ $code -ne 75 ] || scontrol requeue "$SLURM_JOB_ID" # 75: interrupted, run me again; ends this shell
exit $code
