#!/usr/bin/env bash
# structures-penn: real people follow poses; from structures-puppets, whose puppets go on beside them. An hour.
# PENN names a folder of strips, ACTION_NUMBER.png; see docs/data.md. The numbers 6 and 7 of each action are held out.
source "$(dirname "$0")/common.sh" "$@"

world puppets "$data/puppets10" --clips 1500 --size 64 --seed 2 --jobs 2
prepare "${PENN:?set PENN to the folder of strips}" "$data/penn" --layout penn-strips --size 64 --licence research \
  "${joints[@]}"
penn=("$data/penn@40") tested=$data/penn
[ ${#joints[@]} -gt 0 ] || penn=() tested=$data/puppets10 # no joints are looked for in the smoke test
clips=("${penn[@]}" "$data/puppets10")
train "$runs/structures-penn-plain" structures "${clips[@]}" --preset small-people --workers 1 --stages forecast \
  --from structures-puppets --parts forecast
features
train "$runs/structures-penn-vgg" structures "${clips[@]}" --preset perceptual-people --workers 1 --stages forecast \
  --from "$runs/structures-penn-plain" "${vgg[@]}"
train "$runs/structures-penn" structures "${clips[@]}" --preset small-people --workers 1 \
  --from "$runs/structures-penn-vgg" --stages refinement,pose_prediction

pack "$runs/structures-penn" structures-penn --licence "Apache-2.0, data: research" --world puppets --action wave2
evaluate "$runs/structures-penn" "$tested"
