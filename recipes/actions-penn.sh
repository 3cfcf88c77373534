#!/usr/bin/env bash
# actions-penn: six actions of real people out of 34 clips. An hour on one core.
# PENN names a folder of strips, ACTION_NUMBER.png; see docs/data.md. The numbers 6 and 7 of each action are held out.
source "$(dirname "$0")/common.sh" "$@"

world puppets "$data/puppets" --clips 3000 --size 64 --seed 1 --jobs 2 --actions wave1,wave2,jack,bend,walk
prepare "${PENN:?set PENN to the folder of strips}" "$data/penn-all" --layout penn-strips --size 64 --licence research
# Those in which a pose network finds somebody know their joints; puppets know their motion.
prepare "$PENN" "$data/penn" --layout penn-strips --size 64 --licence research "${joints[@]}"
train "$runs/actions-fields" actions "$data/penn-all@40" "$data/penn@40" "$data/puppets" --preset small --stages truth \
  --from driving-weizmann --parts detector,generator --workers 1 --steps 6614
train "$runs/actions-penn" actions "$data/penn-all" --preset people --stages motion \
  --from "$runs/actions-fields" --parts detector,generator --steps 2454

pack "$runs/actions-penn" actions-penn --licence "Apache-2.0, data: research" --world puppets --action jack
evaluate "$runs/actions-penn" "$data/penn-all"
