"""Train the bundled speaker embedder from a folder of utterances per speaker; the model is OUT/model.

If it is killed, it continues where it was when it is started again with the same arguments.

python scripts/train_speaker.py --speech librispeech/train --validation librispeech/dev \
    --noise noise/kitchen.wav --out speaker --config configs/speaker-cpu.yaml [key=value …]
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixit.audio import open_audio
from pixit.checkpoints import save_model
from pixit.config import load_settings
from pixit.evaluation.verification import (
    Crops,
    draw_crops,
    embed_crops,
    mean_clustering_purity,
    trial_error_rate,
)
from pixit.models.embedders import SpeakerEncoder
from pixit.simulation.pool import SUFFIXES, SpeakerPool
from pixit.simulation.rooms import NoiseBank, RoomBank
from pixit.training.crops import CropSampler, augment
from pixit.training.speaker import SpeakerTrainingSettings, train_speaker_encoder
from pixit.types import PixitError

Signal = NDArray[np.float32]
SAMPLE_RATE_HZ = 16000
CROPS_S = (1.5, 3.0)
log = logging.getLogger("train_speaker")


def main() -> None:
    """Parse, train, write the encoder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--speech", type=Path, required=True, help="folder with a folder of utterances per speaker"
    )
    parser.add_argument("--validation", type=Path, required=True, help="the same of other speakers")
    parser.add_argument("--noise", type=Path, nargs="*", default=[], help="recordings of noise")
    parser.add_argument("--rirs", type=Path, help=".npz file that keeps room responses from run to run")
    parser.add_argument("--config", type=Path, help="YAML file of differences from the defaults")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        train(arguments)
    except PixitError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def train(arguments: argparse.Namespace) -> None:
    """Train as the command line says."""
    settings = load_settings(SpeakerTrainingSettings, arguments.config, arguments.overrides)
    arguments.out.mkdir(parents=True, exist_ok=True)
    voices = SpeakerPool.from_folders([arguments.speech], SAMPLE_RATE_HZ)
    noises = NoiseBank([read_signal(path) for path in arguments.noise], seed=settings.seed)
    rooms = RoomBank(seed=settings.seed, sample_rate_hz=SAMPLE_RATE_HZ, cache=arguments.rirs)
    sampler = CropSampler(voices, rooms, noises, settings.crops)
    validation = validation_sets(read_speech(arguments.validation), noises, settings)
    log.info("%d speakers, %d classes", len(voices), sampler.num_classes)
    start_s = time.monotonic()

    def report(step: int, encoder: SpeakerEncoder, loss: float) -> None:
        scores = {name: score(encoder, crops) for name, crops in validation.items()}
        log.info("step %d, %.0f s, loss %.3f, %s", step, time.monotonic() - start_s, loss, json.dumps(scores))
        provenance = {"settings": settings.model_dump(mode="json"), "step": step, "validation": scores}
        save_model(encoder, arguments.out / "model", provenance)

    train_speaker_encoder(sampler, settings, arguments.out / "training.pt", report)


def read_speech(folder: Path) -> dict[str, list[Signal]]:
    """Read all utterances of all speakers."""
    speakers = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    if not speakers:
        raise PixitError(f"{folder}: expected a folder with a folder of utterances per speaker")
    return {
        speaker.name: [read_signal(path) for path in sorted(speaker.rglob("*")) if path.suffix in SUFFIXES]
        for speaker in speakers
    }


def read_signal(path: Path) -> Signal:
    """Read a file whole."""
    return open_audio(path, SAMPLE_RATE_HZ).read()


def validation_sets(
    speech: dict[str, list[Signal]], noises: NoiseBank, settings: SpeakerTrainingSettings
) -> dict[str, Crops]:
    """Draw crops of two lengths, as they are and badly separated from others."""
    sets = {}
    for crop_s in CROPS_S:
        rng = np.random.default_rng(0)
        crops = draw_crops(speech, round(crop_s * SAMPLE_RATE_HZ), 3, rng)
        intruders = np.roll(crops.waveforms, len(crops.speakers) // 2, axis=0)
        length = crops.waveforms.shape[1]
        background = np.stack([noises.draw([length], rng)[0] for _ in intruders])
        augmented = augment(crops.waveforms, intruders, background, settings.crops, SAMPLE_RATE_HZ, rng)
        sets[f"{crop_s} s"] = crops
        sets[f"{crop_s} s augmented"] = Crops(augmented, crops.speakers, crops.utterances)
    return sets


def score(encoder: SpeakerEncoder, crops: Crops) -> dict[str, float]:
    """Return equal error rate and clustering purity."""
    embeddings = embed_crops(encoder, crops.waveforms)
    purity = mean_clustering_purity(embeddings, crops, np.random.default_rng(0))
    return {"eer": round(trial_error_rate(embeddings, crops), 4), "purity": round(purity, 4)}


if __name__ == "__main__":
    main()
