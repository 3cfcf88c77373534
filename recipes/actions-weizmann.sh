#!/usr/bin/env bash
# actions-weizmann: four actions of real people. Stage 1 is that of driving-weizmann; the motion takes ten minutes.
# WEIZMANN names a folder of strips, subjectN_ACTION.png; see docs/data.md. Subject 4 is the validation person.
source "$(dirname "$0")/common.sh" "$@"

prepare "${WEIZMANN:?set WEIZMANN to the folder of strips}" "$data/weizmann" --layout weizmann --hold-out subject=4 \
  --licence research
train "$runs/actions-weizmann" actions "$data/weizmann" --preset people --stages motion \
  --from driving-weizmann --parts detector,generator

pack "$runs/actions-weizmann" actions-weizmann --licence "Apache-2.0, data: research" --world puppets --action wave2
evaluate "$runs/actions-weizmann" "$data/weizmann"
