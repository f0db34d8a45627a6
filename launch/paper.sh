#!/usr/bin/env bash
# The paper's tables and figures, from nothing: trains every method that learns on every scale, evaluates all methods,
# sweeps models over scales and shifted settings, measures curves, and writes docs/results.md with its pictures.
#   launch/paper.sh                   # all eight scales
#   launch/paper.sh gs3_gu7_au5       # one row of the tables
# Every step goes on where it was interrupted, and what is finished is not done again: data sets lie in data, runs in
# runs/paper, results in results/paper. JOBS=4 trains four runs at a time; the default is two.
# shellcheck disable=SC2016,SC2046,SC2086 # lists of methods and scales, none with a space, are split on purpose
set -euo pipefail
scales=("$@")
[ $# -gt 0 ] || scales=(gs2_gu4_au2 gs2_gu5_au3 gs3_gu6_au4 gs3_gu7_au5 gs6_gu14_au10 gs6_gu16_au11 gs9_gu19_au12 gs9_gu20_au13)
figures="gs2_gu5_au3 gs3_gu6_au4 gs6_gu14_au10 gs9_gu19_au12" # of the paper's Figs. 4 and 5; there GDSG-both too
mkdir -p runs/paper results/paper

train() { # method, scale: the same settings, seeds and data for all, but for what makes the method
  local settings=() run="runs/paper/$1-$2"
  case $1 in
    gadsg) ;;
    gadsg-directed) settings=(--set model.directed=true) ;;
    gdsg) settings=(--set model.encoder=convolution --set model.directed=true) ;;
    gdsg-both) settings=(--set model.encoder=convolution) ;;
    gdsg-both-wide) settings=(--set model.encoder=convolution --set model.hidden=40) ;; # as many parameters as gadsg
    grlo) settings=(--set learner=grlo) ;;
  esac
  [ -e "$run/finished" ] && return
  # Freed memory is kept, not given back to the system after every step: a fifth to a third of the CPU time of training.
  MALLOC_ARENA_MAX=1 MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=2147483647 \
    laegd train --config "configs/paper/$2.toml" --workdir "$run" --data data ${settings[@]+"${settings[@]}"}
  touch "$run/finished"
}
export -f train

learned() { # scale: the methods that are trained there
  echo gadsg gdsg grlo
  case " $figures " in *" $1 "*) echo gdsg-both ;; esac
}

test_set() { # folder, scale, count, settings of the simulator or none: seed 90 is used nowhere else
  [ -e "data/$1/manifest.json" ] || laegd generate --scale "$2" --count "$3" --seed 90 --out "data/$1" ${4:+--config "$4"}
}

for method in gadsg gdsg grlo gdsg-both gdsg-both-wide; do # one after the other: no two runs make one data set at once
  for scale in "${scales[@]}"; do
    case " $(learned "$scale" | xargs) " in *" ${method%-wide} "*) echo "$method $scale" ;; esac
  done | xargs -r -P "${JOBS:-2}" -L 1 bash -euc 'train "$0" "$1"'
done
for scale in "${scales[@]}"; do
  case $scale in gs2* | gs3*) count=500 ;; *) count=250 ;; esac
  test_set "test-$scale" "$scale" "$count"
  methods=$(learned "$scale" | xargs)
  [ -e "results/paper/$scale.json" ] || laegd evaluate --data "data/test-$scale" --out "results/paper/$scale.json" \
    --checkpoint $(printf "runs/paper/%s-$scale " $methods) --workers 2 \
    --methods "re,ao,mcmf,mcmf-search,random-belief,${methods// /,},exact@0.01,exact@0.1,exact@1,exact"
done
[ $# -eq 0 ] || exit 0

[ -e results/paper/wide.json ] || laegd sweep --checkpoint $(printf "runs/paper/gdsg-both-wide-%s " $figures) \
  --data $(printf "data/test-%s " $figures) --out results/paper/wide.json

[ -e results/paper/sweep.json ] || laegd sweep --checkpoint runs/paper/{gadsg,gdsg}-gs* \
  --data "${scales[@]/#/data/test-}" --out results/paper/sweep.json

shifts=()
for settings in configs/shifts/*.toml; do
  shifts+=("test-gs3_gu6_au4-$(basename "$settings" .toml)")
  test_set "${shifts[-1]}" gs3_gu6_au4 500 "$settings"
done
for scale in gs3_gu8_au2 gs3_gu2_au8; do # 20 % and 80 % of ten users in the air, where gs3_gu6_au4 has 40 %
  shifts+=("test-$scale")
  test_set "test-$scale" "$scale" 500
done
[ -e results/paper/shifts.json ] || laegd sweep --data data/test-gs3_gu6_au4 "${shifts[@]/#/data/}" \
  --checkpoint runs/paper/{gadsg,gdsg,gdsg-both,grlo}-gs3_gu6_au4 --methods ao --out results/paper/shifts.json

python benchmarks/curves.py --out results/paper/curves.json
python benchmarks/paper.py
