#!/usr/bin/env bash
# driving-puppets, from driving-weizmann: a short training on puppets alone.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -d runs/driving-joint2/model ] || bash recipes/driving-weizmann.sh
.venv/bin/stillmotion train driving data/puppets --from runs/driving-joint2 -o runs/driving-puppets --threads 1 \
  --precision bf16 --steps 700 --set guide_steps=0 --set hold_detector=0 --set freeze_statistics=true \
  --set learning_rate=4e-4 --set motion_focus=1 --set mix_weight=3 --set separation_weight=0.2
.venv/bin/python recipes/pack.py runs/driving-puppets driving-puppets
.venv/bin/stillmotion evaluate driving-puppets data/puppets -o out/report-driving-puppets
