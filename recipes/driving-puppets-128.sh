#!/usr/bin/env bash
# driving-puppets-128: driving-puppets doubled by recipes/double.py, then `truth` at 128 pixels. An hour on one core.
source "$(dirname "$0")/common.sh" "$@"

world puppets "$data/puppets128" --clips 1200 --size 128 --seed 1 --jobs 2 --actions wave1,wave2,jack,bend,walk
[ -d "$runs/doubled" ] || "${PYTHON:-.venv/bin/python}" recipes/double.py driving-puppets "$runs/doubled"
train "$runs/driving-puppets-128" driving "$data/puppets128" --from "$runs/doubled" --stages truth

pack "$runs/driving-puppets-128" driving-puppets-128 --world puppets --action wave2
evaluate "$runs/driving-puppets-128" "$data/puppets128"
