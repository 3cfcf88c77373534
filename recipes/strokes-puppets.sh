#!/usr/bin/env bash
# strokes-puppets: people walk, jog or run along a stroke; how far its points lie apart decides which.
set -euo pipefail
cd "$(dirname "$0")/.."
run() { .venv/bin/stillmotion "$@"; }

[ -d data/gaits ] || run world puppets data/gaits --far --actions walk,jog,run --clips 1600 --size 64 --frames 20 --seed 21
[ -d runs/strokes-puppets/model ] || run train strokes data/gaits -o runs/strokes-puppets --steps 320 --precision bf16

.venv/bin/python recipes/pack.py runs/strokes-puppets strokes-puppets --licence Apache-2.0
run evaluate strokes-puppets data/gaits --protocol strokes -o out/report-strokes-puppets
