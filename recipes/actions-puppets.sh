#!/usr/bin/env bash
# actions-puppets: ten actions of made people. Stage 1 goes on from driving-puppets for an hour; the motion takes a quarter.
# Its classifier: `python recipes/action_network.py data/puppets10 --beside data/treadmill data/front --steps 6000 --minutes 14`.
source "$(dirname "$0")/common.sh" "$@"

world puppets "$data/puppets10" --clips 1500 --size 64 --seed 2 --jobs 2
world puppets "$data/treadmill" --clips 1500 --size 64 --seed 4 --staging treadmill --test-share 0
world puppets "$data/front" --clips 1500 --size 64 --seed 6 --jobs 2 --staging front \
  --actions walk,jog,run,bend,squat,jack,wave2
world puppets "$data/puppets10-test" --clips 120 --size 64 --seed 15 --test-share 0.99
train "$runs/actions-puppets" actions "$data/puppets10" "$data/treadmill" "$data/front" --preset small \
  --stages truth,motion --from driving-puppets --parts detector,generator

pack "$runs/actions-puppets" actions-puppets --world puppets --action jack
evaluate "$runs/actions-puppets" "$data/puppets10-test"
