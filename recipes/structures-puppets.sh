#!/usr/bin/env bash
# structures-puppets: made people follow poses. Seventy minutes on one core.
source "$(dirname "$0")/common.sh" "$@"

world puppets "$data/puppets" --clips 3000 --size 64 --seed 1 --jobs 2 --actions wave1,wave2,jack,bend,walk
world puppets "$data/puppets10" --clips 1500 --size 64 --seed 2 --jobs 2
train "$runs/structures-puppets" structures "$data/puppets" "$data/puppets10" --preset small --workers 1

pack "$runs/structures-puppets" structures-puppets --world puppets --action wave2
evaluate "$runs/structures-puppets" "$data/puppets10"
