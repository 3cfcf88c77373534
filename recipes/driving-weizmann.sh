#!/usr/bin/env bash
# driving-weizmann, from the common ground: real people first, puppets beside them, the detector learning on.
set -euo pipefail
cd "$(dirname "$0")/.."
bash recipes/driving-both.sh
.venv/bin/stillmotion train driving data/weizmann@80 data/puppets --from runs/driving-both -o runs/driving-weizmann \
  --threads 2 --precision fp32 --steps 5000 --set guide_steps=0 \
  --set hold_detector=2500 --set learning_rate=1e-3 --set motion_focus=4
.venv/bin/python recipes/pack.py runs/driving-weizmann driving-weizmann --licence "Apache-2.0 (weights); see the card for the data"
.venv/bin/stillmotion evaluate driving-weizmann data/weizmann -o out/report-driving-weizmann
