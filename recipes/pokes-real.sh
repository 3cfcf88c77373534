#!/usr/bin/env bash
# pokes-real: from pokes-plants, on real people, plants, flowers and robots beside made plants and people, whose motion
# is known. About an hour on two cores. REAL names a folder with the folders weizmann, poked_plants_real, poking_plants,
# plants_gid_256, bair_64, bridge_64 and robot_oxe_64, each with videos or strips; see docs/data.md.
# Held out: subject 4, the tulips, PokingPlants' pp_C2.1_* and every seventh of the other clips.
source "$(dirname "$0")/common.sh" "$@"

real=${REAL:?set REAL to the folder of the real clips}
held_out() { # is this clip of this folder for testing? by name, else every seventh
  case "$1" in
    *yellow_tulip*|pp_C2.1_*|subject4_*) return 0 ;;
    physdreamer_*|pp_*|subject*) return 1 ;;
  esac
  [ $(($2 % 7)) -eq 3 ]
}
world plants "$data/plants" --clips 3000 --size 64 --seed 1 --test-share 0 --jobs 2
world puppets "$data/puppets" --clips 3000 --size 64 --seed 1 --jobs 2 --actions wave1,wave2,jack,bend,walk
sets=()
# How often each clip counts beside one made clip: half of all samples are real.
for item in weizmann@60 poked_plants_real@60 poking_plants@30 plants_gid_256@40 bair_64@30 bridge_64@12 robot_oxe_64@20; do
  name=${item%@*} number=0
  [ -d "$real/$name" ] || continue
  for clip in "$real/$name"/*.png "$real/$name"/*.mp4; do
    [ -f "$clip" ] || continue
    part=train; if held_out "$(basename "$clip")" "$number"; then part=test; fi
    mkdir -p "$data/links/$name/train" "$data/links/$name/test"
    ln -sfn "$(realpath "$clip")" "$data/links/$name/$part/$(basename "$clip")"
    number=$((number + 1))
  done
  prepare "$data/links/$name" "$data/real-$name" --size 64 --licence research
  sets+=("$data/real-$item")
done
train "$runs/pokes-real" pokes "$data/plants" "$data/puppets" "${sets[@]}" --from pokes-plants --steps 6500 --workers 1

pack "$runs/pokes-real" pokes-real --licence "Apache-2.0, data: research" --world plants --action drag
for item in "${sets[@]}"; do evaluate "$runs/pokes-real" "${item%@*}"; break; done  # the first: people
