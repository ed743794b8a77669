#!/usr/bin/env bash
# Measure a training under way on 24 meetings: measure.sh DATA OUT STAGE [CHUNKS_BEFORE] [--set key=value …]
# Adds a row to campaign.csv beside this file, and draws campaign.png anew. Voices, rooms and noises are those held out.
set -euo pipefail
data=$1 out=$2 stage=$3 before=${4:-0}
shift $(($# < 4 ? $# : 4))
cd "$(dirname "$0")/../.."
here=recipes/bundled work=$out/measured/$stage
mkdir -p "$work"
python $here/campaign.py export "$out/$stage" "$work/model"
speech=(--speech "$data/librispeech/dev")
for folder in "$out"/voices/validation/*/; do if [ -n "$(ls "$folder")" ]; then speech+=(--speech "$folder"); fi; done
python scripts/evaluate_separator.py --model "$work/model" "${speech[@]}" \
    --turns "$data/ami/annotations/only_words/rttms/dev" --noise "$data/noise/kitchen.wav" "$data"/noise/esc10/*/5-*.opus \
    --room "$data"/rir/living* "$data"/rir/kitchen* --threads "${THREADS:-1}" --out "$work/results.json" "$@"
python $here/campaign.py note $here/campaign.csv "$work/model" "$work/results.json" --stage "$stage" --chunks-before "$before"
python $here/campaign.py plot $here/campaign.csv $here/campaign.png
