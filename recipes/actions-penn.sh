#!/usr/bin/env bash
# actions-penn: six actions of real people out of 30 clips. An hour on two cores.
# PENN names a folder of strips, ACTION_NUMBER.png; see docs/data.md. The numbers 6 and 7 of each action are held out.
source "$(dirname "$0")/common.sh" "$@"

world puppets "$data/puppets" --clips 3000 --size 64 --seed 1 --jobs 2 --actions wave1,wave2,jack,bend,walk
prepare "${PENN:?set PENN to the folder of strips}" "$data/penn-all" --layout penn-strips --size 64 --licence research
# Those in which a pose network finds somebody know their joints; puppets know their motion.
prepare "$PENN" "$data/penn" --layout penn-strips --size 64 --licence research "${joints[@]}"
train "$runs/actions-pairs" actions "$data/penn-all@40" "$data/penn@40" "$data/puppets" --preset small --stages truth \
  --from driving-weizmann --parts detector,generator --workers 1
train "$runs/actions-penn" actions "$data/penn-all" --preset people --stages motion \
  --from "$runs/actions-pairs" --parts detector,generator

pack "$runs/actions-penn" actions-penn --licence "Apache-2.0, data: research" --world puppets --action wave2
evaluate "$runs/actions-penn" "$data/penn-all"
