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
evaluate() { stillmotion evaluate "$@" -y -o "$root/out/report-$(basename "$1")"; }
features() { # sets `vgg`: where VGG-16 lies, for presets with feature similarity
  vgg=(--set features.network=random-vgg16) # of the smoke test, which downloads nothing
  [ ${#short[@]} -eq 0 ] || return 0
  [ -d "$data/vgg16" ] || stillmotion weights vgg16 -o "$data/vgg16"
  vgg=(--set "features.file=$data/vgg16")
}
driving_data() { # people and puppets, for both models of `driving`
  local strips=${WEIZMANN:?set WEIZMANN to the folder of strips}
  world puppets "$data/puppets" --clips 3000 --size 64 --seed 1 --jobs 2 --actions wave1,wave2,jack,bend,walk
  world puppets "$data/puppets10" --clips 1500 --size 64 --seed 2 --jobs 2
  prepare "$strips" "$data/weizmann" --layout weizmann --hold-out subject=4 --licence research "${joints[@]}"
}
