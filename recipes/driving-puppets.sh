#!/usr/bin/env bash
# driving-puppets: the preset `small`, its last stage on puppets alone. Half a day on two cores.
# WEIZMANN and the weights' detours: see driving-weizmann.sh.
source "$(dirname "$0")/common.sh" "$@"
WEIZMANN=${WEIZMANN:?set WEIZMANN to the folder of strips}

world puppets "$data/puppets" --clips 1000 --size 64 --seed 1 --jobs 2 --actions wave1,wave2,jack,bend,walk
world puppets "$data/puppets10" --clips 1000 --size 64 --seed 2 --jobs 2
prepare "$WEIZMANN" "$data/weizmann" --layout weizmann --hold-out subject=4 --licence research "${joints[@]}"
train "$runs/driving-base" driving "$data/weizmann@250" "$data/puppets" "$data/puppets10" --preset small \
  --stages keypoint_supervision,frozen_detector,joint,joint2
train "$runs/driving-puppets" driving "$data/puppets" --from "$runs/driving-base" --stages puppets

pack "$runs/driving-puppets" driving-puppets --world puppets --action wave2
evaluate "$runs/driving-puppets" "$data/puppets"
