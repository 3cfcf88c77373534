# Sourced by every recipe: source "$(dirname "$0")/common.sh" "$@"
#
#   recipes/NAME.sh            makes data/, trains in runs/ and packs into the zoo
#   recipes/NAME.sh --smoke D  the same commands in the folder D, with few clips and two steps per stage; what CI runs
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=. few=() short=() zoo=() joints=(--tracks joints)
if [ "${1:-}" = --smoke ]; then
  root=${2:?--smoke needs a folder}
  few=(--clips 4 --frames 18 --test-share 0.5) short=(--steps 2 --threads 1 --precision fp32) zoo=(--zoo "$root/zoo") joints=()
fi
data=$root/data runs=$root/runs
stillmotion() { "${PYTHON:-.venv/bin/python}" -m stillmotion "$@"; }
world() { [ -d "$2" ] || stillmotion world "$@" "${few[@]}"; }
prepare() { [ -d "$2" ] || stillmotion prepare "$@"; }
train() { # the run's folder comes first
  local run=$1; shift
  [ -d "$run/model" ] || stillmotion train "$@" -o "$run" "${short[@]}"
}
pack() { "${PYTHON:-.venv/bin/python}" recipes/pack.py "$@" "${zoo[@]}"; }
evaluate() { stillmotion evaluate "$@" -o "$root/out/report-$(basename "$1")"; }
