"""A training of the speaker embedder from beginning to end: speech in, the best encoder on unseen speakers out."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydantic import Field

from pixit.audio import open_audio
from pixit.checkpoints import load_model, save_model
from pixit.checkpoints.native import provenance_of
from pixit.checkpoints.roles import check_role
from pixit.config import Settings, load_settings
from pixit.evaluation.verification import (
    Crops,
    draw_crops,
    embed_crops,
    mean_clustering_purity,
    trial_error_rate,
)
from pixit.files import write_text
from pixit.memory import keep_memory
from pixit.models.embedders import SpeakerEncoder
from pixit.simulation.pool import SpeakerPool, check_apart, find_speakers
from pixit.simulation.rooms import NoiseBank, RoomBank, measured_rooms, read_noises
from pixit.training.crops import CropSampler, augment
from pixit.training.plda import fit_plda
from pixit.training.run import absolute, absolute_name, last_parts
from pixit.training.speaker import SpeakerTrainingSettings, train_speaker_encoder
from pixit.types import LocalModel, PixitError

SAMPLE_RATE_HZ = 16000
VALIDATION_S = (1.5, 3.0)


class SpeakerRun(Settings):
    """What a training of an embedder is made of, as ``run.yaml`` in its folder keeps it."""

    speech: tuple[Path, ...] = Field(
        min_length=1, description="folders or CSV lists of utterances per speaker"
    )
    validation: tuple[Path, ...] = Field(
        min_length=1, description="the same, of speakers who are not in `speech`"
    )
    noise: tuple[Path, ...] = Field((), description="recordings of noise, or folders of them")
    rooms: tuple[Path, ...] = Field((), description="measured room responses, or folders of them")
    separator: str | None = Field(None, description="model whose separated sources are heard too")
    init: str | None = Field(None, description="embedder whose weights are trained on; by default a new one")
    cache: Path | None = Field(None, description="folder that keeps decoded speech and rooms between runs")
    training: SpeakerTrainingSettings = SpeakerTrainingSettings()


def train_speaker(run: SpeakerRun, output: Path, tell: Callable[[str], None] = lambda _: None) -> Path:
    """Train an embedder in the folder `output`, or go on with the training that is there.

    ``model`` is the encoder with the lowest mean EER over the validation sets so far, in the end with the PLDA that
    clustering takes; ``metrics.csv`` has every
    validation, ``state.pt`` what a resumption needs.

    Parameters
    ----------
    tell
        Called with a line for each validation.

    Returns
    -------
    Path
        The folder of the model.

    Raises
    ------
    PixitError
        If speech is missing or unreadable, a speaker is in both kinds of it, or the folder holds another training.
    """
    run = _with_absolute_paths(run)
    _check_folder(run, output)
    check_apart(run.speech, run.validation)
    encoder = _load_encoder(run)
    keep_memory()
    settings, sampler = run.training, make_sampler(run)
    sets = validation_sets(run.validation, sampler.noises, settings, sampler.model)
    tell(
        f"{len(sampler.pool)} speakers, {sampler.num_classes} classes; validation on {_count(sets)} other speakers"
    )
    # not before all is read: what cannot be trained on must not keep the folder from a training that can
    write_text(output / "run.yaml", yaml.safe_dump(_tree(run), sort_keys=False))
    log, exported = _Log(output / "metrics.csv"), output / "model"
    started_s = time.monotonic()

    def report(step: int, encoder: SpeakerEncoder, loss: float) -> None:
        scores = {name: score(encoder, crops) for name, crops in sets.items()}
        mean = float(np.mean([rates["eer"] for rates in scores.values()]))
        is_best = log.is_best(step, mean) or not exported.exists()
        if is_best:
            named = last_parts(run.model_dump(mode="json"))
            provenance = {"settings": named, "step": step, "validation": scores}
            save_model(encoder, exported, provenance)
        log.add(step, loss, mean, scores)  # after the model: a row says that its model is kept
        rates = ", ".join(f"{name} {100 * found['eer']:.1f} %" for name, found in scores.items())
        best = " (best)" if is_best else ""
        tell(f"step {step}, {time.monotonic() - started_s:.0f} s: loss {loss:.2f}, EER {rates}{best}")

    last = train_speaker_encoder(sampler, settings, output / "state.pt", report, encoder)
    if (
        not log.has(settings.steps) or not exported.exists()
    ):  # no step was left to make, but its validation was
        report(settings.steps, last, np.nan)
    if settings.plda_crops:
        _add_plda(exported, sampler, settings)
        tell(f"the best state has a PLDA, of {settings.plda_crops} crops")
    return exported


def _add_plda(folder: Path, sampler: CropSampler, settings: SpeakerTrainingSettings) -> None:
    """Put a PLDA into the embedder of a folder, if it has none."""
    encoder = load_model(folder)
    assert isinstance(encoder, SpeakerEncoder), "it was written here"
    if encoder.plda is not None:
        return
    encoder.plda = fit_plda(encoder, sampler, settings.plda_crops, settings.seed)
    save_model(encoder, folder, dict(provenance_of(encoder)))


def make_sampler(run: SpeakerRun) -> CropSampler:
    """Return the source of a training's crops: its speakers in its rooms and noises, through its separator."""
    settings, cache = run.training, run.cache
    voices = SpeakerPool.from_folders(run.speech, SAMPLE_RATE_HZ, cache=cache, balance=settings.balance)
    noises = NoiseBank(read_noises(run.noise, SAMPLE_RATE_HZ), seed=settings.seed)
    place = cache / f"speaker-rooms-{settings.seed}.npz" if cache is not None else None
    measured = measured_rooms(run.rooms, SAMPLE_RATE_HZ)
    rooms = RoomBank(seed=settings.seed, sample_rate_hz=SAMPLE_RATE_HZ, cache=place, measured=measured)
    return CropSampler(voices, rooms, noises, settings.crops, _load_separator(run.separator))


def validation_sets(
    places: Sequence[Path], noises: NoiseBank, settings: SpeakerTrainingSettings, model: LocalModel | None
) -> dict[str, Crops]:
    """Cut crops of two lengths from unseen speakers: as they are, and mixed with others and separated."""
    speech = {
        f"{number}-{name}": [open_audio(path, SAMPLE_RATE_HZ).read() for path in paths]
        for number, place in enumerate(places)  # two may have the same name
        for name, paths in find_speakers(place).items()
    }
    sets = {}
    always = settings.crops.model_copy(update={"separated_probability": 1.0})
    for length_s in VALIDATION_S:
        rng = np.random.default_rng(0)
        crops = draw_crops(speech, round(length_s * SAMPLE_RATE_HZ), 3, rng)
        others = np.roll(crops.waveforms, len(crops.speakers) // 2, axis=0)
        background = np.stack([noises.draw([others.shape[1]], rng)[0] for _ in others])
        separated = augment(crops.waveforms, others, background, always, SAMPLE_RATE_HZ, rng, model)
        sets[f"{length_s} s"] = crops
        sets[f"{length_s} s separated"] = Crops(separated, crops.speakers, crops.utterances)
    return sets


def score(encoder: SpeakerEncoder, crops: Crops) -> dict[str, float]:
    """Return equal error rate, and purity when crops of a few speakers are clustered."""
    embeddings = embed_crops(encoder, crops.waveforms)
    purity = mean_clustering_purity(embeddings, crops, np.random.default_rng(0))
    return {"eer": round(trial_error_rate(embeddings, crops), 4), "purity": round(purity, 4)}


class _Log:
    """``metrics.csv``: a row a validation; knows the best one, from the rows of before a resumption too."""

    def __init__(self, path: Path) -> None:
        self.path, self.rows = path, []
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                self.rows = list(csv.DictReader(file))

    def has(self, step: int) -> bool:
        """Say whether a step has been validated."""
        return any(int(row["step"]) == step for row in self.rows)

    def is_best(self, step: int, mean: float) -> bool:
        """Say whether no step before has such a low mean EER."""
        return mean < min((float(row["eer"]) for row in self.rows if int(row["step"]) < step), default=np.inf)

    def add(self, step: int, loss: float, mean: float, scores: dict[str, dict[str, float]]) -> None:
        """Add a row, in place of those of the same step or later."""
        self.rows = [row for row in self.rows if int(row["step"]) < step]
        row = {"step": str(step), "loss": f"{loss:.4f}", "eer": f"{mean:.5f}"}
        for name, found in scores.items():
            row |= {f"{kind} {name}": f"{value:.4f}" for kind, value in found.items()}
        self.rows.append(row)
        lines = [",".join(row), *(",".join(kept.values()) for kept in self.rows)]
        write_text(self.path, "\n".join(lines) + "\n")


def _with_absolute_paths(run: SpeakerRun) -> SpeakerRun:
    named = {"separator": absolute_name(run.separator), "init": absolute_name(run.init)}
    return SpeakerRun.model_validate(absolute(run.model_dump() | named))


def _tree(run: SpeakerRun) -> dict[str, Any]:
    """Return what ``run.yaml`` holds: all but what belongs to the machine."""
    return run.model_dump(mode="json", exclude={"cache"})


def _check_folder(run: SpeakerRun, output: Path) -> None:
    """Raise PixitError if the folder holds another training."""
    path = output / "run.yaml"
    if not path.exists():
        return
    kept, asked = _tree(_with_absolute_paths(load_settings(SpeakerRun, path))), _tree(run)
    if differing := [key for key in asked if kept[key] != asked[key]]:
        raise PixitError(
            f"{path}: is of a training with another {', '.join(differing)}; choose another folder"
        )


def _load_separator(name: str | None) -> LocalModel | None:
    if name is None:
        return None
    model: LocalModel = check_role(load_model(name), "separating model", name)
    if model.sample_rate_hz != SAMPLE_RATE_HZ:
        raise PixitError(f"{name}: found {model.sample_rate_hz} Hz, expected {SAMPLE_RATE_HZ} Hz")
    return model


def _load_encoder(run: SpeakerRun) -> SpeakerEncoder | None:
    if run.init is None:
        return None
    if run.training.encoder:
        raise PixitError("settings: an embedder has its sizes: give init or training.encoder, not both")
    encoder = check_role(load_model(run.init), "embedder", run.init)
    if not isinstance(encoder, SpeakerEncoder) or encoder.sample_rate_hz != SAMPLE_RATE_HZ:
        raise PixitError(
            f"{run.init}: found {type(encoder).__name__} for {encoder.sample_rate_hz} Hz, expected a SpeakerEncoder "
            f"for {SAMPLE_RATE_HZ} Hz: no other is trained here"
        )
    encoder.plda = None  # of what it was before
    return encoder


def _count(sets: dict[str, Crops]) -> int:
    return len({*next(iter(sets.values())).speakers.tolist()})
