#!/usr/bin/env bash
# strokes-puppets: the preset `people`, on figures that walk, jog and run. About an hour and a half on one core.
# The shipped weights were trained with detours, which their card lists; this is the direct way.
source "$(dirname "$0")/common.sh" "$@"

gaits=(--staging far --actions walk,jog,run --size 64)
world puppets "$data/gaits" "${gaits[@]}" --clips 2000 --frames 20 --seed 22
world puppets "$data/gaits-test" "${gaits[@]}" --clips 60 --frames 24 --seed 31 --test-share 0.99
train "$runs/strokes-puppets" strokes "$data/gaits" --preset people --precision bf16

pack "$runs/strokes-puppets" strokes-puppets --world puppets --action run --staging far
evaluate "$runs/strokes-puppets" "$data/gaits-test"
