#!/usr/bin/env bash
# structures-faces: made faces show six expressions, or those of a video. An hour and a half on one core.
source "$(dirname "$0")/common.sh" "$@"

world faces "$data/faces" --clips 500 --size 64 --frames 40 --seed 1
train "$runs/structures-faces" structures "$data/faces" --preset small-faces --workers 1

pack "$runs/structures-faces" structures-faces --world faces --action surprise
evaluate "$runs/structures-faces" "$data/faces" --protocol retargeting
