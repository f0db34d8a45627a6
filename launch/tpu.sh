#!/usr/bin/env bash
# Trains on all machines of a Cloud TPU slice, whose processes JAX finds by itself.
#   ZONE=us-central2-b launch/tpu.sh SLICE CONFIG RUN [OPTIONS OF laegd train]
#   DRY_RUN=1 launch/tpu.sh ...     # prints the command and does not run it
# DIRECTORY (laegd): the checkout there, with laegd and jax[tpu] installed; PROJECT: the cloud project, if not the default.
# CONFIG is a path there; RUN too, and lies on a file system that all machines of the slice have mounted.
# After a preemption, make the slice again and type the same command: the run goes on where it stopped.
set -euo pipefail
slice=${1:?"name the TPU slice"}
config=${2:?"name a configuration, such as configs/gs3_gu7_au5.toml"}
run=${3:?"name the folder of the run, such as /mnt/shared/runs/gs3"}

train=(laegd train --coordinator auto --config "$config" --workdir "$run" "${@:4}")
remote=$(printf ' %q' "${train[@]}") # quoted once more: a shell there reads it
remote="cd $(printf %q "${DIRECTORY:-laegd}") && exec$remote"
command=(gcloud compute tpus tpu-vm ssh "$slice" --worker=all --command="$remote")
[ -z "${ZONE:-}" ] || command+=(--zone="$ZONE")
[ -z "${PROJECT:-}" ] || command+=(--project="$PROJECT")
if [ -n "${DRY_RUN:-}" ]; then
  printf '%q ' "${command[@]}"
  echo
else
  "${command[@]}"
fi
