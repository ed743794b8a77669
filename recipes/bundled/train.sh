#!/usr/bin/env bash
# Train the bundled separation model: train.sh DATA OUT [STAGE] (see README.md). Call it again to go on where it stopped.
set -euo pipefail
data=$1 out=$2 stage=${3:-all}
cd "$(dirname "$0")/../.."
# glibc's allocator gives memory back after every step and takes it again; keeping it, in huge pages, more than
# halves the time (measured on one core of a Xeon with AMX: 0.15 s a mixture of 2.5 s, 0.087 s with huge pages)
export MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=17179869184 MALLOC_TOP_PAD_=268435456
export GLIBC_TUNABLES=glibc.malloc.hugetlb=1
# beside other work THREADS=1; on a machine that is free THREADS=2 and threads that do not sleep: twice the steps a second
export OMP_NUM_THREADS=${THREADS:-1}
if [ "$OMP_NUM_THREADS" -gt 1 ]; then export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-active}; fi

# bf16 halves the time on processors with AMX or AVX512-BF16; PRECISION=32-true elsewhere
trainer="trainer.threads=$OMP_NUM_THREADS trainer.precision=${PRECISION:-bf16-mixed} trainer.devices=${DEVICES:-1}"
pairs=data.simulation.pairs
turns=$data/ami/annotations/only_words/rttms
# Held out for validation: the dev speakers and every twelfth speaker of each corpus, in the order of their names;
# AMI's development meetings, the responses of rooms whose names begin with living or kitchen, the kitchen's noise,
# and every noise of ESC-10 of its fifth fold (by name: 5-…). The folders of speakers are links.
train=() validation=("$data/librispeech/dev")
share_out() { # NAME FOLDER: links to its speakers, in two folders
    local known=$out/voices/train/$1 held=$out/voices/validation/$1 number=0 place to other
    mkdir -p "$known" "$held"
    while read -r place; do
        number=$((number + 1)) to=$known other=$held
        if [ $((number % 12)) = 0 ]; then to=$held other=$known; fi
        # who has been shared out stays, where others have come in between: nobody may be trained and validated on
        if [ -L "$other/${place##*/}" ] && [ ! -L "$to/${place##*/}" ]; then
            to=$other
        else
            rm -f "$other/${place##*/}"
        fi
        ln -sfn "$place" "$to/${place##*/}"
    done < <(find "$2" -mindepth 1 -maxdepth 1 -type d | sort)
    train+=("$known")
    if [ -n "$(ls "$held")" ]; then validation+=("$held"); fi
}
share_out librispeech "$data/librispeech/train"
for corpus in "$data"/voices/*/; do share_out "$(basename "$corpus")" "$corpus"; done
list() { printf '[%s' "$1" && shift && printf ', %s' "$@" && printf ']'; }
noise=$(find "$data/noise" -name '*.opus' ! -name '5-*' | sort | paste -sd, | sed 's/,/, /g')
other_noise=$(find "$data/noise" -name '5-*.opus' | sort | paste -sd, | sed 's/,/, /g')
rooms=$(find "$data/rir" -name '*.flac' ! -name 'living*' ! -name 'kitchen*' | sort | paste -sd, | sed 's/,/, /g')
other_rooms=$(find "$data/rir" \( -name 'living*' -o -name 'kitchen*' \) | sort | paste -sd, | sed 's/,/, /g')
simulation="data.simulation={
  speech: $(list "${train[@]}"), validation_speech: $(list "${validation[@]}"),
  unlabelled_speech: [$data/voices-unlabelled], unlabelled_share: 0.25,
  turn_taking: [$turns/train], validation_turn_taking: [$turns/dev],
  noise: [$noise], validation_noise: [$data/noise/kitchen.wav, $other_noise],
  rooms: [$rooms], validation_rooms: [$other_rooms], cache: $out/cache}"
common=(--config configs/cpu-small.yaml $trainer model.masker.hid_size=128 optimizer.algorithm=muon "$simulation" data.num_workers=1)

run() { # NAME, the stage before it or none, settings
    local folder=$out/$1 before=$2
    shift 2
    if [ "$stage" != all ] && [ "$stage" != "$(basename "$folder")" ]; then return; fi
    if [ -e "$folder/model" ]; then echo "$folder: done"; return; fi
    if [ -e "$folder/checkpoints/last.ckpt" ]; then
        pixit train -o "$folder" --resume $trainer
    elif [ "$before" = none ]; then
        pixit train -o "$folder" "${common[@]}" "$@"
    else
        pixit train -o "$folder" --init "$out/$before/last" "${common[@]}" "$@"
    fi
    # the averaged weights of the last step, not those of the best one: the validation of so few pairs is noisy
    python recipes/bundled/campaign.py export "$folder" "$folder/last"
}

# 1. plain separation: two voices that overlap all the time, nothing else, 2.5 s
run 1-separation none data.duration_s=2.5 data.batch_size=8 data.pairs_per_epoch=8000 data.validation_pairs=192 \
    trainer.max_steps=7024 trainer.monitor=val/loss trainer.checkpoint_every_steps=250 \
    optimizer.learning_rate=2e-3 optimizer.schedule=constant \
    objective.separation_weight=1 objective.supervised_mixtures=sum objective.spectral_weight=0.7 \
    "$pairs.speaker_counts=[[1,1,1]]" $pairs.full_overlap_probability=1 $pairs.noise_probability=0 \
    $pairs.reverb_probability=0 $pairs.channel_probability=0 $pairs.level_spread_db=2.5 \
    "$pairs.speed=[0.8,1.25]" $pairs.speed_probability=0.9 $pairs.timbre_probability=0.7

# 2. meetings: up to three voices, the turn-taking of AMI, rooms, noise and channels; who speaks when
run 2-meetings 1-separation data.duration_s=3 data.batch_size=8 data.pairs_per_epoch=8000 data.validation_pairs=96 \
    trainer.max_steps=4200 trainer.monitor=val/loss trainer.checkpoint_every_steps=250 \
    optimizer.learning_rate=1.5e-3 objective.separation_weight=0.1 objective.supervised_mixtures=sum \
    objective.spectral_weight=0.7 \
    "$pairs.speaker_counts=[[1,1,0.4],[2,1,0.12],[2,0,0.12],[1,0,0.28],[3,0,0.08]]" \
    $pairs.full_overlap_probability=0.3 $pairs.reverb_probability=0.5 "$pairs.snr_db=[3,40]" \
    "$pairs.speed=[0.8,1.25]" $pairs.speed_probability=0.9 $pairs.timbre_probability=0.7

# 3. the same for longer, with separation weighed more and a lower learning rate
run 3-longer 2-meetings data.duration_s=3 data.batch_size=8 data.pairs_per_epoch=8000 data.validation_pairs=96 \
    trainer.max_steps=40000 trainer.monitor=val/loss trainer.checkpoint_every_steps=250 \
    optimizer.learning_rate=7e-4 optimizer.schedule=constant trainer.ema_decay=0.999 \
    objective.separation_weight=0.25 objective.supervised_mixtures=sum objective.spectral_weight=0.7 \
    "$pairs.speaker_counts=[[1,1,0.36],[2,1,0.2],[2,0,0.1],[1,0,0.2],[3,0,0.08],[0,0,0.06]]" \
    $pairs.full_overlap_probability=0.4 $pairs.reverb_probability=0.5 "$pairs.snr_db=[3,40]" \
    "$pairs.speed=[0.8,1.25]" $pairs.speed_probability=0.9 $pairs.timbre_probability=0.7

# what meetings are like from here on: silence, people who take turns, partial overlap, rooms, noise
# (two chunks of one speaker each, summed, overlap by chance: two thirds of their speech, in meetings it is a fifth)
meetings=("$pairs.speaker_counts=[[2,0,0.32],[3,0,0.18],[1,0,0.2],[1,1,0.15],[2,1,0.09],[0,0,0.06]]"
    $pairs.full_overlap_probability=0.1 $pairs.reverb_probability=0.6 "$pairs.snr_db=[0,40]"
    "$pairs.speed=[0.8,1.25]" $pairs.speed_probability=0.9 $pairs.timbre_probability=0.7)

# 4. real meetings join in (MixIT), whole windows; the learning rate falls to its end
run 4-real 3-longer --database "$data/ami/database.yml" data.real_share=0.1 \
    data.duration_s=5 data.batch_size=6 data.pairs_per_epoch=6000 data.validation_pairs=120 \
    trainer.max_steps=5000 trainer.monitor=val/loss trainer.checkpoint_every_steps=250 \
    optimizer.learning_rate=6e-4 objective.separation_weight=0.15 objective.supervised_mixtures=sum \
    objective.spectral_weight=0.6 objective.max_si_sdr_db=25 "${meetings[@]}"

# 5. the same in larger batches, from a higher rate that falls more slowly
run 5-longer 4-real --database "$data/ami/database.yml" data.real_share=0.15 data.beside_simulated=0.8 \
    data.duration_s=5 data.batch_size=12 data.pairs_per_epoch=6000 data.validation_pairs=160 \
    trainer.max_steps=12000 trainer.monitor=val/loss trainer.checkpoint_every_steps=250 trainer.ema_decay=0.999 \
    optimizer.learning_rate=1e-3 objective.separation_weight=0.2 objective.supervised_mixtures=sum \
    objective.spectral_weight=0.6 objective.max_si_sdr_db=25 "${meetings[@]}"

# 6. the speaker embedder, on what the model makes of mixtures too
if [ "$stage" = all ] || [ "$stage" = 6-speaker ]; then
    speaker=(--data "$out/voices/ami")
    python recipes/bundled/cut_voices.py "$data/ami/database.yml" "$out/voices/ami"
    for folder in "${train[@]}"; do speaker+=(--data "$folder"); done
    for folder in "${validation[@]}"; do speaker+=(--validation "$folder"); done
    while read -r -d , place; do speaker+=(--noise "$place"); done <<< "${noise//, /,},"
    while read -r -d , place; do speaker+=(--room "$place"); done <<< "${rooms//, /,},"
    pixit train-speaker "${speaker[@]}" --separator "$out/5-longer/last" --cache "$out/cache" \
        --config configs/speaker-cpu.yaml -o "$out/6-speaker" \
        --init pixit/bundled/embedder "training.precision=${PRECISION:-bf16-mixed}" training.steps=6000 \
        training.easy_start=0.1 training.crops.session_probability=0.5 \
        training.crops.reverberation_probability=0.7 training.crops.noise_probability=0.8
fi
