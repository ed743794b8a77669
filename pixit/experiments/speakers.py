"""How well an embedder knows voices: verification of pairs of recordings, and identification among many."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pixit.audio import Samples, open_audio
from pixit.checkpoints import load_model
from pixit.checkpoints.roles import check_role
from pixit.evaluation.verification import (
    Trial,
    VerificationScores,
    check_prior,
    draw_trials,
    read_trials,
    score_trials,
    write_trials,
)
from pixit.pipeline.compute import pick_device
from pixit.pipeline.parts import BUNDLED
from pixit.simulation.pool import find_speakers
from pixit.types import Embedder, Hook, PixitError


def load_embedder(name: str | Path | None = None, device: str = "auto") -> Embedder:
    """Load a speaker embedder from a folder or the hub; None for the bundled one.

    Raises
    ------
    PixitError
        If it is missing, damaged, or no embedder.
    """
    place = str(name or files("pixit") / BUNDLED / "embedder")
    embedder: Embedder = check_role(load_model(place, device=pick_device(device)), "embedder", place)
    return embedder


def gather_trials(
    place: Path, root: Path | None = None, num_trials: int = 10_000, seed: int = 0, keep: Path | None = None
) -> list[Trial]:
    """Read a list of trials, or draw them from a folder or a CSV file of recordings per speaker.

    Parameters
    ----------
    root, num_trials, seed
        What a list's paths are seen from; how many to draw at most, and the seed.
    keep
        File for the trials that are drawn.

    Raises
    ------
    PixitError
        If there are no trials.
    """
    if not place.is_dir() and place.suffix.lower() != ".csv":
        return read_trials(place, root)
    trials = draw_trials(find_speakers(place), num_trials, np.random.default_rng(seed))
    if keep is not None:
        write_trials(keep, trials)
    return trials


def evaluate_verification(
    embedder: Embedder,
    trials: Sequence[Trial],
    crop_s: float | None = None,
    prior: float = 0.05,
    hook: Hook | None = None,
) -> VerificationScores:
    """Score the cosine of two embeddings over a list of trials.

    Parameters
    ----------
    crop_s
        Take the loudest stretch of so many seconds of each recording; by default all of it.
    prior
        Probability of one speaker, of the detection cost.
    hook
        Progress callback.

    Raises
    ------
    PixitError
        If a recording cannot be read or is silent, the trials are not of both kinds, or `crop_s` holds no sample or
        `prior` is no probability.

    Examples
    --------
    >>> trials = gather_trials(Path("speech"))                          # doctest: +SKIP
    >>> evaluate_verification(load_embedder(), trials, crop_s=3.0).eer  # doctest: +SKIP
    """
    names = sorted({path for trial in trials for path in (trial.first, trial.second)})
    check_prior(prior)
    embeddings = _embed(embedder, names, crop_s, hook)
    scores = np.array([embeddings[trial.first] @ embeddings[trial.second] for trial in trials])
    return score_trials(scores, np.array([trial.same for trial in trials]), prior)


@dataclass(frozen=True)
class IdentificationScores:
    """Closed-set identification.

    Parameters
    ----------
    top_1, top_5
        Share of the tests whose speaker is the nearest, or among the five nearest, of those enrolled.
    tests, speakers
        How many.
    """

    top_1: float
    top_5: float
    tests: int
    speakers: int


def evaluate_identification(
    embedder: Embedder,
    speech: Mapping[str, Sequence[Path]],
    num_enrolled: int = 1,
    crop_s: float | None = None,
    hook: Hook | None = None,
) -> IdentificationScores:
    """Enrol each speaker by the first recordings, and find the speakers of all others.

    Parameters
    ----------
    speech
        Speaker -> recordings; speakers with no recording but the enrolled ones are enrolled only.
    num_enrolled
        Recordings of a speaker whose mean embedding stands for the voice.
    crop_s, hook
        As of `evaluate_verification`.

    Raises
    ------
    PixitError
        If fewer than two speakers are there, none has a recording to test or to enrol, or `crop_s` holds no sample.
    """
    if num_enrolled < 1:
        raise PixitError(f"num_enrolled: found {num_enrolled}; expected 1 recording at least for each voice")
    tests = [(name, path) for name, paths in speech.items() for path in paths[num_enrolled:]]
    if len(speech) < 2 or not tests:
        raise PixitError(
            f"speech: found {len(speech)} speakers and {len(tests)} recordings beyond the {num_enrolled} enrolled of "
            "each; expected 2 and 1 at least"
        )
    embeddings = _embed(embedder, sorted({path for paths in speech.values() for path in paths}), crop_s, hook)
    names = list(speech)
    centres = np.stack([np.sum([embeddings[p] for p in speech[n][:num_enrolled]], axis=0) for n in names])
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    likeness = np.stack([embeddings[path] for _, path in tests]) @ centres.T  # (tests, speakers)
    own = likeness[np.arange(len(tests)), [names.index(name) for name, _ in tests]]
    ranks = np.sum(likeness > own[:, None], axis=1)
    return IdentificationScores(float(np.mean(ranks < 1)), float(np.mean(ranks < 5)), len(tests), len(names))


def _embed(
    embedder: Embedder, paths: Iterable[Path], crop_s: float | None, hook: Hook | None
) -> dict[Path, NDArray[np.float32]]:
    """Return a unit embedding of each recording."""
    if crop_s is not None and not (math.isfinite(crop_s) and round(crop_s * embedder.sample_rate_hz) > 0):
        raise PixitError(f"crop_s: found {crop_s} s; expected a number of seconds above 0, as 3")
    places, embeddings = list(paths), {}
    show = partial(hook, "embeddings", None, total=len(places)) if hook is not None else None
    for number, path in enumerate(places, 1):
        signal = open_audio(path, embedder.sample_rate_hz).read()
        if crop_s is not None:
            signal = loudest_crop(signal, round(crop_s * embedder.sample_rate_hz))
        with torch.inference_mode():
            found = embedder(torch.from_numpy(signal)[None]).cpu().numpy()[0]
        if not np.isfinite(found).all():
            raise PixitError(f"{path}: is silent; expected speech")
        embeddings[path] = found / np.linalg.norm(found)
        if show is not None:
            show(completed=number)
    return embeddings


def loudest_crop(signal: Samples, num_samples: int) -> Samples:
    """Return the stretch of `num_samples` with the most energy; a shorter signal (T,) as it is."""
    if len(signal) <= num_samples:
        return signal
    energy = np.concatenate([[0], np.cumsum(np.square(signal, dtype=np.float64))])
    start = int(np.argmax(energy[num_samples:] - energy[:-num_samples]))
    return signal[start : start + num_samples]
