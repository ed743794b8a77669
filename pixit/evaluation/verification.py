"""How well an embedder distinguishes voices: trials of two recordings, and purity after clustering."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from torch import Tensor

from pixit.files import read_text, write_text
from pixit.types import PixitError

Signal = NDArray[np.float32]


@dataclass(frozen=True)
class Crops:
    """Crops (C, T) with the number of their speaker and of their utterance, both (C,)."""

    waveforms: Signal
    speakers: NDArray[np.int64]
    utterances: NDArray[np.int64]


def draw_crops(
    speech: Mapping[str, Sequence[Signal]], crop_samples: int, per_utterance: int, rng: np.random.Generator
) -> Crops:
    """Cut crops out of all utterances that are long enough, where they are not mostly pause.

    Raises
    ------
    PixitError
        If fewer than two speakers have an utterance of that length.
    """
    waveforms, speakers, utterances, count = [], [], [], 0
    for index, speaker in enumerate(sorted(speech)):
        for utterance in speech[speaker]:
            count += 1
            if len(utterance) < crop_samples:
                continue
            starts = rng.integers(len(utterance) - crop_samples + 1, size=4 * per_utterance)
            pieces = [utterance[start : start + crop_samples] for start in starts]
            pieces.sort(key=lambda piece: -float(np.square(piece).mean()))
            waveforms += pieces[:per_utterance]
            speakers += [index] * per_utterance
            utterances += [count] * per_utterance
    if len(set(speakers)) < 2:
        raise PixitError(
            f"validation speech: found {len(set(speakers))} speakers with utterances of {crop_samples} "
            "samples or more, expected 2 or more; add longer utterances"
        )
    return Crops(np.stack(waveforms), np.array(speakers), np.array(utterances))


def embed_crops(embed: Callable[[Tensor], Tensor], waveforms: Signal, batch_size: int = 32) -> Signal:
    """Embed crops (C, T) -> (C, D)."""
    with torch.inference_mode():
        parts = [embed(part) for part in torch.from_numpy(waveforms).split(batch_size)]
    return torch.cat(parts).numpy()


def trial_error_rate(embeddings: Signal, crops: Crops) -> float:
    """Return the equal error rate of the cosine over all pairs of crops from different utterances."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    first, second = np.triu_indices(len(unit), k=1)
    kept = crops.utterances[first] != crops.utterances[second]
    first, second = first[kept], second[kept]
    scores = np.sum(unit[first] * unit[second], axis=1)
    return equal_error_rate(scores, crops.speakers[first] == crops.speakers[second])


def equal_error_rate(scores: NDArray[np.floating], same: NDArray[np.bool_]) -> float:
    """Return the rate at which as many equal pairs are rejected as different pairs are accepted.

    Parameters
    ----------
    scores
        Likeness of each pair, (P,).
    same
        Whether it is one speaker, (P,); both kinds must occur.
    """
    _, missed, false_alarm = error_rates(scores, same)
    crossing = np.argmin(np.abs(missed - false_alarm))
    return float((missed[crossing] + false_alarm[crossing]) / 2)


def error_rates(
    scores: NDArray[np.floating], same: NDArray[np.bool_]
) -> tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.floating]]:
    """Return thresholds, and the rates of misses and of false alarms where what scores above them is accepted.

    The thresholds (Q + 1,) are -inf and the Q different scores: everything is accepted first, nothing at last.
    """
    thresholds, inverse = np.unique(scores, return_inverse=True)
    num_same = np.bincount(inverse, weights=same, minlength=len(thresholds))
    num_different = np.bincount(inverse, weights=~same, minlength=len(thresholds))
    missed = np.concatenate([[0], np.cumsum(num_same)]) / num_same.sum()
    false_alarm = 1 - np.concatenate([[0], np.cumsum(num_different)]) / num_different.sum()
    return np.concatenate([[-np.inf], thresholds]), missed, np.maximum(false_alarm, 0)


@dataclass(frozen=True)
class VerificationScores:
    """How well scores tell trials of one speaker from trials of two.

    Parameters
    ----------
    eer, threshold
        Equal error rate, and the score above which a trial is accepted there.
    min_dcf
        Least normalised detection cost (NIST; costs of 1, the prior as asked for).
    tar_at_1_far
        Share of the trials of one speaker that are accepted where 1 % of the others are.
    accuracy
        Share of all trials that are decided rightly at the threshold of the EER.
    same, different
        Numbers of trials.
    """

    eer: float
    threshold: float
    min_dcf: float
    tar_at_1_far: float
    accuracy: float
    same: int
    different: int


def check_prior(prior: float) -> None:
    """Raise a `PixitError` if the probability of one speaker leaves no room for either outcome."""
    if not 0 < prior < 1:
        raise PixitError(f"prior: found {prior}; expected a probability between 0 and 1, as 0.05")


def score_trials(
    scores: NDArray[np.floating], same: NDArray[np.bool_], prior: float = 0.05
) -> VerificationScores:
    """Score the likeness of each trial, (P,), against whether it is one speaker, (P,).

    Parameters
    ----------
    prior
        Probability of one speaker, of the detection cost.

    Raises
    ------
    PixitError
        If the trials are not of both kinds, a score is not a number, or `prior` is not between 0 and 1.
    """
    check_prior(prior)
    if same.all() or not same.any():
        kind = "one speaker" if same.any() else "two speakers"
        raise PixitError(f"trials: found {len(same)} of {kind} only; expected both kinds")
    if not np.isfinite(scores).all():
        raise PixitError(f"trials: found {np.count_nonzero(~np.isfinite(scores))} scores that are no numbers")
    thresholds, missed, false_alarm = error_rates(scores, same)
    crossing = int(np.argmin(np.abs(missed - false_alarm)))
    costs = (missed * prior + false_alarm * (1 - prior)) / min(prior, 1 - prior)
    return VerificationScores(
        eer=float((missed[crossing] + false_alarm[crossing]) / 2),
        threshold=float(thresholds[crossing]),
        min_dcf=float(costs.min()),
        tar_at_1_far=float(1 - missed[false_alarm <= 0.01].min()),
        accuracy=float(np.mean((scores > thresholds[crossing]) == same)),
        same=int(same.sum()),
        different=int((~same).sum()),
    )


@dataclass(frozen=True)
class Trial:
    """Two recordings, and whether they are of one speaker."""

    first: Path
    second: Path
    same: bool


def read_trials(path: Path, root: Path | None = None) -> list[Trial]:
    """Read a list of trials: ``1 a.wav b.wav`` as of VoxCeleb, or ``a.wav b.wav target`` as of Kaldi.

    Parameters
    ----------
    root
        What the paths are seen from; by default the folder of the list.

    Raises
    ------
    PixitError
        If the list cannot be read, has another form, or names a recording that is not there.
    """
    kinds = {"1": True, "0": False, "target": True, "nontarget": False}
    lines = read_text(path, "a list of trials").splitlines()
    trials, folder, known = [], root or path.parent, set[Path]()
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        if len(words) == 3 and words[0] in kinds:
            words = [*words[1:], words[0]]
        if len(words) != 3 or words[2] not in kinds:
            raise PixitError(f"{path}, line {number}: found {line[:60]!r}, expected '1 a.wav b.wav' or '0 …'")
        first, second = folder / words[0], folder / words[1]
        for place in (first, second):
            if place not in known and not place.is_file():
                raise PixitError(
                    f"{path}, line {number}: {place} is not a file; say with --root where they are"
                )
            known.add(place)
        trials.append(Trial(first, second, kinds[words[2]]))
    if not trials:
        raise PixitError(f"{path}: holds no trials; expected lines as '1 a.wav b.wav'")
    return trials


def draw_trials(
    speech: Mapping[str, Sequence[Path]], num_trials: int, rng: np.random.Generator
) -> list[Trial]:
    """Draw different trials from speaker -> recordings, half of them of one speaker, and none of one recording.

    Fewer where there are not so many.

    Raises
    ------
    PixitError
        If there are fewer than two speakers, or none with two recordings.
    """
    names = sorted(speech)
    of_one = [name for name in names if len(speech[name]) > 1]
    if len(names) < 2 or not of_one:
        raise PixitError(
            f"speech: found {len(names)} speakers, {len(of_one)} with two recordings; expected 2 and 1 at least"
        )
    found: list[Trial] = []
    for same in (True, False):
        pairs: set[tuple[Path, Path]] = set()
        for _ in range(20 * num_trials):  # enough tries to find nearly all where there are few
            if len(pairs) >= num_trials // 2:
                break
            chosen = [rng.choice(of_one)] * 2 if same else rng.choice(names, 2, replace=False)
            first, second = (speech[name][int(rng.integers(len(speech[name])))] for name in chosen)
            if first != second:
                pairs.add((min(first, second), max(first, second)))
        found += [Trial(first, second, same) for first, second in sorted(pairs)]
    return found


def write_trials(path: Path, trials: Sequence[Trial]) -> None:
    """Write trials as `read_trials` reads them, with absolute paths; a PixitError if one has a space."""
    for place in {place.absolute() for trial in trials for place in (trial.first, trial.second)}:
        if len(str(place).split()) != 1:
            raise PixitError(
                f"{place}: has a space in its name, which a list of trials cannot hold; rename it"
            )
    write_text(path, "".join(f"{t.same:d} {t.first.absolute()} {t.second.absolute()}\n" for t in trials))


def mean_clustering_purity(
    embeddings: Signal, crops: Crops, rng: np.random.Generator, meetings: int = 200, per_speaker: int = 10
) -> float:
    """Cluster the crops of 2 to 4 speakers, again and again, and return the mean purity.

    Agglomerative, cosine, average linkage, number of speakers known.
    """
    purities = []
    for _ in range(meetings):
        present = np.unique(crops.speakers)
        chosen = rng.choice(present, size=min(len(present), int(rng.integers(2, 5))), replace=False)
        rows = np.concatenate(
            [rng.permutation(np.flatnonzero(crops.speakers == speaker))[:per_speaker] for speaker in chosen]
        )
        tree = linkage(embeddings[rows], method="average", metric="cosine")
        purities.append(purity(fcluster(tree, len(chosen), criterion="maxclust"), crops.speakers[rows]))
    return float(np.mean(purities))


def purity(clusters: NDArray[np.integer], speakers: NDArray[np.integer]) -> float:
    """Return the share of items (C,) whose speaker is the commonest one of their cluster."""
    commonest = [np.unique(speakers[clusters == c], return_counts=True)[1].max() for c in np.unique(clusters)]
    return float(np.sum(commonest) / len(speakers))
