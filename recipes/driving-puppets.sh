#!/usr/bin/env bash
# driving-puppets: the preset `small`, its last stage, `truth`, on puppets alone. Half a day on two cores.
# WEIZMANN and the weights' detours: see driving-weizmann.sh.
source "$(dirname "$0")/common.sh" "$@"

driving_data
train "$runs/driving-base" driving "$data/weizmann@250" "$data/puppets" "$data/puppets10" --preset small \
  --stages keypoint_supervision,frozen_detector,joint,joint2
train "$runs/driving-truth" driving "$data/puppets" "$data/puppets10" --from "$runs/driving-base" --stages truth
train "$runs/driving-puppets" driving "$data/puppets" --from "$runs/driving-truth" --stages keypoint_prediction

pack "$runs/driving-puppets" driving-puppets --world puppets --action wave2
evaluate "$runs/driving-puppets" "$data/puppets"
