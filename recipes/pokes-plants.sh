#!/usr/bin/env bash
# pokes-plants: the preset `small`, on made plants that are dragged, plucked and pushed. About an hour on two cores.
source "$(dirname "$0")/common.sh" "$@"

world plants "$data/plants" --clips 3000 --size 64 --seed 1 --test-share 0 --jobs 2
world plants "$data/plants-test" --clips 120 --size 64 --seed 12 --test-share 0.99
train "$runs/pokes-plants" pokes "$data/plants" --preset small --workers 1

pack "$runs/pokes-plants" pokes-plants --world plants --action drag
evaluate "$runs/pokes-plants" "$data/plants-test"
