#!/usr/bin/env bash
# actions-puppets: ten actions of made people. Stage 1 is that of driving-puppets; the motion takes a quarter of an hour.
source "$(dirname "$0")/common.sh" "$@"

world puppets "$data/puppets10" --clips 1500 --size 64 --seed 2 --jobs 2
world puppets "$data/puppets10-test" --clips 120 --size 64 --seed 15 --test-share 0.99
train "$runs/actions-puppets" actions "$data/puppets10" --preset small --stages motion \
  --from driving-puppets --parts detector,generator

pack "$runs/actions-puppets" actions-puppets --world puppets --action jack
evaluate "$runs/actions-puppets" "$data/puppets10-test"
