#!/usr/bin/env bash
# Starts N processes of one training, evaluation or sweep on this machine, without a scheduler.
#   launch/processes.sh 2 laegd train --config configs/gs3_gu7_au5.toml --workdir runs/gs3
# Over several machines with a shared file system: the same on each, with its share of the ranks.
#   COORDINATOR=node1:12345 TOTAL=4 FIRST=0 launch/processes.sh 2 laegd train ...   # on node1, which rank 0 is on
#   COORDINATOR=node1:12345 TOTAL=4 FIRST=2 launch/processes.sh 2 laegd train ...   # on node2
# SIGTERM, a closed terminal as SIGTERM, and Ctrl-C go to all processes. When one fails, the others have GRACE_S (30) seconds to leave by themselves,
# then get SIGTERM, and after as long again SIGKILL. Returns when all have ended, with the code of the first that failed.
set -euo pipefail
number=${1:?"give the number of processes"}
shift
[ $# -gt 0 ] || { echo "name the command to start, such as laegd train ..." >&2; exit 2; }
first=${FIRST:-0} total=${TOTAL:-$number} grace=${GRACE_S:-30}
coordinator=${COORDINATOR:-127.0.0.1:$((20000 + $$ % 12000))} # below the ports that the system gives to clients

set -m # a process group each, so that Ctrl-C reaches them through this script alone, once
pids=()
tell() { for pid in ${pids[@]+"${pids[@]}"}; do kill "-$1" "$pid" 2>/dev/null || true; done; }
trap 'tell TERM' TERM HUP
trap 'tell INT' INT
for ((rank = first; rank < first + number; rank++)); do
  "$@" --coordinator "$coordinator" --num-processes "$total" --process-id "$rank" </dev/null &
  pids+=($!)
done
set +m

code=0 failed=0 told=""
while [ ${#pids[@]} -gt 0 ]; do
  running=()
  for pid in "${pids[@]}"; do
    if kill -0 "$pid" 2>/dev/null; then
      running+=("$pid")
      continue
    fi
    ended=0
    wait "$pid" || ended=$?
    [ $ended -eq 0 ] || [ $code -ne 0 ] || { code=$ended failed=$SECONDS; }
  done
  pids=(${running[@]+"${running[@]}"})
  if [ $code -ne 0 ] && [ "$told" != KILL ] && [ $((SECONDS - failed)) -ge "$grace" ]; then
    if [ -z "$told" ]; then told=TERM failed=$SECONDS; else told=KILL; fi
    tell $told
  fi
  sleep 0.2 || true # a signal to the whole group, such as Ctrl-C, ends it too
done
exit $code
