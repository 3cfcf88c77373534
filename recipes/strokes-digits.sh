#!/usr/bin/env bash
# strokes-digits: the preset `small`, on handwritten digits. Half an hour on one core.
# DIGITS names a file in MNIST's format: 7,000 digits for training, 1,000 others for measuring. Empty: drawn digits.
source "$(dirname "$0")/common.sh" "$@"
: "${DIGITS?set DIGITS to a file of digits in the MNIST format}"

world digits "$data/digits" ${DIGITS:+--digits "$DIGITS" --digit-range 0:7000} --clips 4000 --size 64 --frames 20 \
  --seed 11 --test-share 0.02
world digits "$data/digits-test" ${DIGITS:+--digits "$DIGITS" --digit-range 7000:8000} --clips 40 --size 64 \
  --frames 32 --seed 12 --test-share 0.99
train "$runs/strokes-digits" strokes "$data/digits" --preset small --precision bf16

pack "$runs/strokes-digits" strokes-digits --world digits
evaluate "$runs/strokes-digits" "$data/digits-test"
