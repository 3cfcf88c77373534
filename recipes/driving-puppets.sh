#!/usr/bin/env bash
# driving-puppets, from driving-weizmann: a short training on puppets alone.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -d runs/driving-joint/model ] || bash recipes/driving-weizmann.sh
.venv/bin/stillmotion train driving data/puppets --from runs/driving-joint -o runs/driving-puppets \
  --threads 2 --precision fp32 --steps 220 --set guide_steps=0 --set hold_detector=9999 --set learning_rate=3e-4 \
  --set motion_focus=1 --set mix_weight=3
.venv/bin/python recipes/pack.py runs/driving-puppets driving-puppets
.venv/bin/stillmotion evaluate driving-puppets data/puppets -o out/report-driving-puppets
