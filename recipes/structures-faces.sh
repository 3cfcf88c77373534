#!/usr/bin/env bash
# structures-faces: made faces show six expressions, or those of a video. Three hours on one core.
source "$(dirname "$0")/common.sh" "$@"

world faces "$data/faces" --clips 500 --size 64 --frames 40 --seed 1
world faces "$data/faces5" --clips 1500 --size 64 --frames 40 --seed 5 --test-share 0
train "$runs/structures-faces-plain" structures "$data/faces" "$data/faces5" --preset small-faces --workers 1 \
  --stages forecast
features
train "$runs/structures-faces-vgg" structures "$data/faces" "$data/faces5" --preset perceptual-faces --workers 1 \
  --from "$runs/structures-faces-plain" --stages forecast "${vgg[@]}"
train "$runs/structures-faces" structures "$data/faces" "$data/faces5" --preset small-faces --workers 1 \
  --from "$runs/structures-faces-vgg" --stages refinement

pack "$runs/structures-faces" structures-faces --world faces --action surprise
evaluate "$runs/structures-faces" "$data/faces" --protocol retargeting
