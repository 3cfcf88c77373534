#!/usr/bin/env bash
# driving-weizmann: real people and puppets; the preset `people` holds every stage. A day on two cores.
# WEIZMANN names a folder of strips, subjectN_ACTION.png; see docs/data.md. Subject 4 is the validation person. Needs `make pose`.
#
# The shipped weights took these stages with detours (their card and docs/log.md, A to W, have every run): their masks and
# flow came from weights without batch norm in the detector and with a narrower generator.
source "$(dirname "$0")/common.sh" "$@"

driving_data
train "$runs/driving-people" driving "$data/weizmann@250" "$data/puppets" "$data/puppets10" --preset people \
  --stages keypoint_supervision,frozen_detector,joint,joint2,bold,varied,bold2,varied2,bold3,varied3
# Two thirds of each batch people for the look, a third puppets, whose motion is known.
train "$runs/driving-truth" driving "$data/weizmann@250" "$data/puppets" --from "$runs/driving-people" --stages truth
train "$runs/driving-weizmann" driving "$data/weizmann" --from "$runs/driving-truth" --stages keypoint_prediction

pack "$runs/driving-weizmann" driving-weizmann --licence "Apache-2.0, data: research" --world puppets --action wave2
evaluate "$runs/driving-weizmann" "$data/weizmann"
