#!/usr/bin/env bash
# strokes-puppets: people walk, jog or run along a stroke; how far its points lie apart decides which.
#
# UNFINISHED: what it makes glides and does not step, and is not shipped. recipes/checkpoints/strokes-puppets is as far as
# it got, docs/log.md says what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
run() { .venv/bin/stillmotion "$@"; }

[ -d data/gaits ] || run world puppets data/gaits --far --actions walk,jog,run --clips 2000 --size 64 --frames 20 --seed 22
[ -d data/gaits-test ] || run world puppets data/gaits-test --far --actions walk,jog,run --clips 60 --size 64 --frames 24 \
  --seed 31 --test-share 0.99
# E1 and G learn to paint; then P alone, from true states, and from its own.
held=(--set hold_painter=true --set state_weight=2 --set autoencode_weight=0 --set painted_weight=0)
[ -d runs/gaits-paint/model ] || run train strokes data/gaits -o runs/gaits-paint --preset people --precision bf16 \
  --set paint_steps=2000 --set learning_rate=1.5e-3 --steps 1
[ -d runs/gaits-forced/model ] || run train strokes data/gaits --from runs/gaits-paint --parts encoder,decoder,motion \
  -o runs/gaits-forced --preset people --precision bf16 "${held[@]}" --set teacher_forcing=true --set batch=16 \
  --set learning_rate=5e-4 --steps 110
[ -d runs/strokes-puppets/model ] || run train strokes data/gaits --from runs/gaits-forced -o runs/strokes-puppets \
  --preset people --precision bf16 "${held[@]}" --set learning_rate=3e-4 --steps 1000

run evaluate runs/strokes-puppets data/gaits-test --protocol strokes -o out/report-strokes-puppets
