#!/usr/bin/env bash
# The common ground of driving-puppets and driving-weizmann: what was run, in order, on 2026-11-21 (docs/log.md, C to H).
# WEIZMANN names a folder of strips, subjectN_ACTION.png; see docs/data.md. Subject 4 is held out.
#
# It grew while it was trained. Runs marked "by hand" were stopped with Ctrl-C at the step given, their schedules being
# longer; --minutes stops them near it. Since then the painter has a loss of its own from the start and the blend three
# ways, so one run with the preset's settings should do what guide, both, parts, flow and paint did. That was not tried.
set -euo pipefail
cd "$(dirname "$0")/.."
WEIZMANN=${WEIZMANN:?set WEIZMANN to the folder of strips}
run() { .venv/bin/stillmotion "$@"; }
train() {
  local name=$1
  shift
  [ -d "runs/$name/model" ] || run train driving "$@" -o "runs/$name" --threads 2 --precision fp32
}
constant=(--set schedule=milestone --set milestone=1.0)
held=(--set guide_steps=0 --set hold_detector=20000)

[ -d data/puppets ] || run world puppets data/puppets --clips 1000 --size 64 --seed 1 --jobs 2
[ -d data/weizmann ] || run prepare "$WEIZMANN" data/weizmann --layout weizmann --hold-out subject=4 --licence research

# The detector learns the puppets' joints. The 750 steps after it were a trial without the mix loss.
train driving-guide data/weizmann@40 data/puppets --steps 750 "${constant[@]}" \
  --set guide_steps=3000 --set hold_detector=20000 --set heatmap_scale=10 --set mix_weight=0 --set warp_weight=0 \
  --set motion_focus=0 --set paint_weight=0

# Masks and flow.
train driving-both data/weizmann@40 data/puppets --from runs/driving-guide --steps 1485 "${constant[@]}" "${held[@]}" \
  --set learning_rate=1e-3 --set paint_weight=0
train driving-parts data/weizmann@80 data/puppets --from runs/driving-both --steps 5000 --minutes 8 "${held[@]}" \
  --set learning_rate=1e-3 --set motion_focus=4 --set paint_weight=0 # by hand, step 1,659
train driving-flow data/weizmann@80 data/puppets --from runs/driving-parts --steps 3600 --minutes 3 "${held[@]}" \
  --set learning_rate=8e-4 --set motion_focus=1 --set mix_weight=3 --set paint_weight=0 # by hand, step 500

# A fresh painter with a loss of its own, then the blend's third way.
train driving-paint data/weizmann@80 data/puppets --from runs/driving-flow --parts detector,generator.dense_motion \
  --steps 3600 --minutes 5 "${held[@]}" \
  --set learning_rate=1e-3 --set motion_focus=2 --set mix_weight=3 # by hand, step 795
train driving-blend data/weizmann@80 data/puppets --from runs/driving-paint --steps 3400 --minutes 11 "${held[@]}" \
  --set learning_rate=1e-3 --set motion_focus=1 --set mix_weight=3 # by hand, step 1,854
