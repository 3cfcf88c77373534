#!/usr/bin/env bash
# structures-penn: real people follow poses; from structures-puppets, whose puppets go on beside them. Half an hour.
# PENN names a folder of strips, ACTION_NUMBER.png; see docs/data.md. The numbers 6 and 7 of each action are held out.
source "$(dirname "$0")/common.sh" "$@"

world puppets "$data/puppets10" --clips 1500 --size 64 --seed 2 --jobs 2
prepare "${PENN:?set PENN to the folder of strips}" "$data/penn" --layout penn-strips --size 64 --licence research \
  "${joints[@]}"
penn=("$data/penn@40") tested=$data/penn
[ ${#joints[@]} -gt 0 ] || penn=() tested=$data/puppets10 # no joints are looked for in the smoke test
train "$runs/structures-penn" structures "${penn[@]}" "$data/puppets10" --preset small-people --workers 1 \
  --from structures-puppets --parts forecast

pack "$runs/structures-penn" structures-penn --licence "Apache-2.0, data: research" --world puppets --action wave2
evaluate "$runs/structures-penn" "$tested"
