#!/usr/bin/env bash
# driving-weizmann, from the common ground: real people first, puppets beside them, the rate falling to its end.
set -euo pipefail
cd "$(dirname "$0")/.."
bash recipes/driving-both.sh
.venv/bin/stillmotion train driving data/weizmann@80 data/puppets --from runs/driving-blend -o runs/driving-weizmann \
  --threads 2 --precision fp32 --steps 2400 --set guide_steps=0 --set hold_detector=2400 \
  --set learning_rate=8e-4 --set motion_focus=1 --set mix_weight=3
.venv/bin/python recipes/pack.py runs/driving-weizmann driving-weizmann --licence "Apache-2.0, data: research"
.venv/bin/stillmotion evaluate driving-weizmann data/weizmann -o out/report-driving-weizmann
