"""How well an embedder distinguishes voices: equal error rate, and purity after clustering."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from torch import Tensor

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
    thresholds, inverse = np.unique(scores, return_inverse=True)
    num_same = np.bincount(inverse, weights=same, minlength=len(thresholds))
    num_different = np.bincount(inverse, weights=~same, minlength=len(thresholds))
    # accepted is what scores above the threshold, which stands below the lowest score and then above each
    missed = np.concatenate([[0], np.cumsum(num_same)]) / num_same.sum()
    false_alarm = 1 - np.concatenate([[0], np.cumsum(num_different)]) / num_different.sum()
    crossing = np.argmin(np.abs(missed - false_alarm))
    return float((missed[crossing] + false_alarm[crossing]) / 2)


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
