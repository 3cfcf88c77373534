#!/usr/bin/env bash
# The common ground of driving-puppets and driving-weizmann: keypoints guided by puppets, motion from both data sets.
# WEIZMANN names a folder of strips, subjectN_ACTION.png; see docs/data.md. Subject 4 is held out.
# Measured on 2 cores with AVX2: 7 minutes, then about 3 steps per second.
set -euo pipefail
cd "$(dirname "$0")/.."
WEIZMANN=${WEIZMANN:?set WEIZMANN to the folder of strips}
run() { .venv/bin/stillmotion "$@"; }

[ -d data/puppets ] || run world puppets data/puppets --clips 1000 --size 64 --seed 1 --jobs 2
[ -d data/weizmann ] || run prepare "$WEIZMANN" data/weizmann --layout weizmann --hold-out subject=4 --licence research

# The detector learns the puppets' joints; the 750 steps after it were a trial without the mix loss (docs/log.md, D).
[ -d runs/driving-guide/model ] || run train driving data/weizmann@40 data/puppets -o runs/driving-guide \
  --threads 2 --precision fp32 --steps 750 \
  --set guide_steps=3000 --set hold_detector=20000 --set schedule=milestone --set milestone=1.0 \
  --set heatmap_scale=10 --set mix_weight=0 --set warp_weight=0 --set motion_focus=0

# Motion, with the detector held and a constant rate; what follows lets the rate fall.
[ -d runs/driving-both/model ] || run train driving data/weizmann@40 data/puppets --from runs/driving-guide \
  -o runs/driving-both --threads 2 --precision fp32 --steps 1485 \
  --set guide_steps=0 --set hold_detector=20000 --set schedule=milestone --set milestone=1.0 \
  --set learning_rate=1e-3
