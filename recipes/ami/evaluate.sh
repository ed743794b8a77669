#!/usr/bin/env bash
# The paper's table: evaluate.sh PREPARED MODEL OUT (see README.md). Repeat it after an interruption.
# PROTOCOL, SUBSET and RECOGNIZER may name others than the test set of AMI-SDM and Whisper small.en; EMBEDDER another
# one than that of pyannote's pipelines: EMBEDDER= is that of MODEL, or the bundled one.
set -euo pipefail
prepared=$1 model=$2 out=$3
protocol=${PROTOCOL:-AMI-SDM.SpeakerDiarization.only_words} subset=${SUBSET:-test}
embedder=${EMBEDDER-pyannote/wespeaker-voxceleb-resnet34-LM}
networks=(--model "$model" ${embedder:+--embedder "$embedder"})
data=(--database "$prepared/database.yml" --protocol "$protocol" --subset "$subset")

# 1. a folder of tracks and RTTM for each meeting
pixit separate "$prepared/audio/${protocol%%.*}/$subset" "${networks[@]}" -o "$out/separated"

# 2. diarization error rate: no collar, overlap scored
pixit evaluate diarization "${data[@]}" "$out/separated" -o "$out/diarization.csv"

# 3. cpWER with words recognised on the tracks, and on the recording as the diarization cuts it up
pixit evaluate cpwer "${data[@]}" --references "$prepared/references/$subset.stm" "${networks[@]}" \
    --recognizer "${RECOGNIZER:-whisper:small.en}" --language en --work "$out" -o "$out/cpwer.csv"
