#!/usr/bin/env bash
# driving-weizmann: real people and puppets, guided by joints, then the rate falls to its end.
# WEIZMANN names a folder of strips, subjectN_ACTION.png; see docs/data.md. Subject 4 is held out. Needs `make pose`.
#
# The straight way. The shipped weights went the same way with detours (their card and docs/log.md, A to N, have every
# run with its commit): their masks and flow were grown by weights without batch norm in the detector and with a
# narrower generator. This script itself has not been run from its first line to its last.
set -euo pipefail
cd "$(dirname "$0")/.."
WEIZMANN=${WEIZMANN:?set WEIZMANN to the folder of strips}
run() { .venv/bin/stillmotion "$@"; }
both=(data/weizmann@100 data/puppets)
machine=(--threads 2 --precision fp32)

[ -d data/puppets ] || run world puppets data/puppets --clips 1000 --size 64 --seed 1 --jobs 2 \
  --actions wave1,wave2,jack,bend,walk
[ -d data/weizmann ] || run prepare "$WEIZMANN" data/weizmann --layout weizmann --hold-out subject=4 \
  --tracks joints --licence research

# The detector learns joints; then masks, flow and painter at a constant rate, moving pixels counted four times.
[ -d runs/driving-base/model ] || run train driving "${both[@]}" -o runs/driving-base "${machine[@]}" --steps 8000 \
  --set schedule=milestone --set milestone=1.0

# What the shipped weights ended with, exactly: these three runs.
[ -d runs/driving-follow/model ] || run train driving "${both[@]}" --from runs/driving-base -o runs/driving-follow \
  "${machine[@]}" --steps 6500 --set guide_steps=0 --set motion_focus=1 --set mix_weight=3
# The detector learns on with everything else, its batch norm's statistics frozen.
[ -d runs/driving-joint/model ] || run train driving "${both[@]}" --from runs/driving-follow -o runs/driving-joint \
  "${machine[@]}" --steps 2200 --set guide_steps=0 --set hold_detector=0 --set freeze_statistics=true \
  --set learning_rate=4e-4 --set motion_focus=1 --set mix_weight=3 --set separation_weight=0
run train driving data/weizmann --from runs/driving-joint --stages predict -o runs/driving-weizmann "${machine[@]}" \
  --set predict_steps=600

.venv/bin/python recipes/pack.py runs/driving-weizmann driving-weizmann --licence "Apache-2.0, data: research"
run evaluate driving-weizmann data/weizmann -o out/report-driving-weizmann
