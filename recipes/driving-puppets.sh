#!/usr/bin/env bash
# driving-puppets, from the common ground: puppets alone.
set -euo pipefail
cd "$(dirname "$0")/.."
bash recipes/driving-both.sh
.venv/bin/stillmotion train driving data/puppets --from runs/driving-both -o runs/driving-puppets \
  --threads 2 --precision fp32 --steps STEPS_PUPPETS SETTINGS_PUPPETS
.venv/bin/python recipes/pack.py runs/driving-puppets driving-puppets
.venv/bin/stillmotion evaluate driving-puppets data/puppets -o out/report-driving-puppets
