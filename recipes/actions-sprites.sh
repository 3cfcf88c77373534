#!/usr/bin/env bash
# actions-sprites: game characters in six actions and from four sides. An hour on two cores; the pictures are in examples/sprites.
source "$(dirname "$0")/common.sh" "$@"

characters=667; [ "$root" = . ] || characters=30
prepare examples/sprites "$data/sprites" --layout "sprites=$characters" --size 64
train "$runs/actions-keypoints" actions "$data/sprites" --preset sprites --stages unlabelled --workers 1 \
  --from driving-puppets --parts detector,generator
train "$runs/actions-sprites" actions "$data/sprites" --preset sprites --stages motion \
  --from "$runs/actions-keypoints" --parts detector,generator

pack "$runs/actions-sprites" actions-sprites --licence "CC BY-SA 3.0 / GPL 3.0"
evaluate "$runs/actions-sprites" "$data/sprites"
