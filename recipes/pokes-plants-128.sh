#!/usr/bin/env bash
# pokes-plants-128: pokes-plants trained on at 128 pixels, preset `small-128`. An hour on one core.
source "$(dirname "$0")/common.sh" "$@"

world plants "$data/plants128" --clips 700 --size 128 --seed 61 --test-share 0 --jobs 2
world plants "$data/plants128-test" --clips 40 --size 128 --seed 12 --test-share 0.99
train "$runs/pokes-plants-128" pokes "$data/plants128" --preset small-128 --from pokes-plants --workers 1

pack "$runs/pokes-plants-128" pokes-plants-128 --world plants --action drag
evaluate "$runs/pokes-plants-128" "$data/plants128-test"
