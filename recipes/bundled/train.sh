#!/usr/bin/env bash
# Train the bundled embedder and separation model: train.sh DATA OUT (see README.md). About three hours on four cores.
set -euo pipefail
data=$1 out=$2
cd "$(dirname "$0")/../.."
# glibc's allocator gives memory back after every step and takes it again; keeping it halves the time
export MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=17179869184 MALLOC_TOP_PAD_=268435456
export OMP_NUM_THREADS=1 # processes instead of threads: no waiting at barriers

python scripts/train_speaker.py --speech "$data/librispeech/train" --validation "$data/librispeech/dev" \
    --noise "$data/noise/kitchen.wav" --rirs "$out/rirs.npz" --config configs/speaker-cpu.yaml --out "$out/speaker"

turns="$data/ami/annotations/only_words/rttms"
simulation="data.simulation={speech: $data/librispeech/train, validation_speech: $data/librispeech/dev, \
turn_taking: [$turns/train], noise: [$data/noise/kitchen.wav], room_cache: $out/rooms.npz}"
common=(--config configs/cpu-small.yaml trainer.devices=3 trainer.strategy=ddp trainer.threads=1 "$simulation")
pairs=data.simulation.pairs

# 1. short chunks, little reverberation, all levels count (1000 steps were made)
pixit train -o "$out/stage1" "${common[@]}" data.duration_s=2.5 data.batch_size=2 data.pairs_per_epoch=1500 \
    trainer.max_steps=1000 objective.level_weight=0.3 $pairs.reverb_probability=0.25 \
    $pairs.channel_probability=0.1 $pairs.full_overlap_probability=0.2 \
    "$pairs.speaker_counts=[[1,1,0.45],[2,1,0.15],[2,0,0.2],[1,0,0.15],[3,0,0.05]]"

# 2. longer chunks and larger batches (900 steps)
pixit train -o "$out/stage2" --init "$out/stage1/model" "${common[@]}" data.duration_s=3 data.batch_size=3 \
    data.pairs_per_epoch=2700 trainer.max_steps=900 objective.level_weight=0.3 optimizer.warmup_steps=50 \
    trainer.ema_decay=0.995 $pairs.reverb_probability=0.35 $pairs.channel_probability=0.1 \
    "$pairs.speaker_counts=[[1,1,0.5],[2,1,0.3],[2,0,0.1],[1,0,0.05],[3,0,0.05]]"

# 3. more overlap; separation weighs more, and what is clean already earns nothing more (1400 steps)
pixit train -o "$out/stage3" --init "$out/stage2/model" "${common[@]}" data.duration_s=4 data.batch_size=2 \
    data.pairs_per_epoch=2400 trainer.max_steps=1400 objective.level_weight=0.2 objective.separation_weight=0.3 \
    objective.max_si_sdr_db=20 optimizer.learning_rate=1.2e-3 optimizer.warmup_steps=50 trainer.ema_decay=0.995 \
    $pairs.reverb_probability=0.4 $pairs.channel_probability=0.15 $pairs.full_overlap_probability=0.1 \
    "$pairs.speaker_counts=[[1,1,0.4],[2,1,0.55],[1,0,0.05]]"

# 4. windows of full length; real meetings join in (1400 steps)
pixit train -o "$out/stage4" --init "$out/stage3/model" "${common[@]}" --database "$data/ami/database.yml" \
    data.duration_s=5 data.batch_size=2 data.real_share=0.15 data.pairs_per_epoch=2100 data.validation_pairs=90 \
    trainer.max_steps=1400 trainer.monitor=val/loss trainer.ema_decay=0.99 optimizer.learning_rate=1e-3 \
    optimizer.warmup_steps=30 objective.level_weight=0.2 objective.separation_weight=0.3 objective.max_si_sdr_db=20 \
    $pairs.reverb_probability=0.45 $pairs.channel_probability=0.15 $pairs.full_overlap_probability=0.1 \
    "$pairs.snr_db=[8,45]" "$pairs.speaker_counts=[[1,1,0.3],[2,1,0.4],[2,0,0.15],[1,0,0.1],[3,0,0.05]]"

python scripts/make_bundle.py --model "$out/stage4/model" --embedder "$out/speaker/model" \
    --settings pixit/bundled/separator.yaml --out "$out/bundle"
python scripts/evaluate_separator.py --separator "$out/bundle" --speech "$data/librispeech/dev" --turns "$turns/dev" \
    --noise "$data/noise/kitchen.wav" --out "$out/results.json" \
    --real "$data/ami/clips/dev00.flac" "$data/ami/clips/development.rttm" \
    --real "$data/ami/clips/dev01.flac" "$data/ami/clips/development.rttm" \
    --real "$data/telephone/sample.wav" "$data/telephone/sample.rttm"
