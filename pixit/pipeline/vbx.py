"""VBx: Bayesian clustering of speaker embeddings, in the space of a PLDA.

After Landini et al., "Bayesian HMM clustering of x-vector sequences (VBx) in speaker diarization: theory,
implementation and analysis on standard tasks", Computer Speech & Language 71, 2022; without the transitions of the
HMM, as windows overlap and each holds several speakers. Numbers in brackets are those of its equations.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.linalg import LinAlgError, eigh
from scipy.special import logsumexp, softmax

from pixit.files import ARRAY_ERRORS
from pixit.pipeline.cluster import ClusteringSettings, Ints, Numbers, unit
from pixit.types import PixitError, Plda, one_line

TRANSFORM, PLDA = "xvec_transform.npz", "plda.npz"
LARGEST_DIMENSION = 128
MOST_ITERATIONS, LEAST_GAIN = 20, 1e-4
FA, FB = 0.07, 0.8
"""Evidence of an embedding, and weight of the prior, as pyannote.audio has them."""
SHARPNESS = 7.0
"""How sure the first responsibilities are: logit of the cluster that the tree gives."""
SMALLEST_PRIOR = 1e-7
"""Share of the embeddings up to which a speaker has vanished."""


def label_by_vbx(vectors: Numbers, settings: ClusteringSettings, plda: Plda | None = None) -> Numbers:
    """Return how far each speaker is responsible for each vector (n, D): (n, N).

    Clusters of a tree (centroid linkage, ``threshold``) are the first guess; those that explain nothing vanish.
    `plda` is the embedder's; that of the settings comes first. A PixitError without any, or with one that does not
    fit.
    """
    if settings.plda is not None:
        features, variances = read_plda(Path(settings.plda), vectors)
    elif plda is not None:
        features, variances = project(vectors, plda), plda.variances
    else:
        raise PixitError(
            "clustering.method=vbx: needs a PLDA, the embedder has none; give its folder as clustering.plda"
        )
    tree = linkage(unit(vectors), "centroid", "euclidean")
    labels = np.unique(fcluster(tree, settings.threshold, criterion="distance"), return_inverse=True)[1]
    fa, fb = settings.fa or FA, settings.fb or FB
    responsibilities, priors = infer(features, variances, _sure_of(labels), fa, fb)
    return responsibilities[:, priors > SMALLEST_PRIOR]


def refine(vectors: Numbers, labels: Ints, plda: Plda, fa: float, fb: float) -> Ints:
    """Return labels of vectors (n, D) after inference from `labels` (n,); clusters that explain nothing vanish."""
    responsibilities, _ = infer(project(vectors, plda), plda.variances, _sure_of(labels), fa, fb)
    return np.unique(responsibilities.argmax(axis=1), return_inverse=True)[1]


def _sure_of(labels: Ints) -> Numbers:
    """Return the first responsibilities (n, N) for labels (n,)."""
    return np.asarray(softmax(SHARPNESS * np.eye(labels.max() + 1)[labels], axis=1))


def project(vectors: Numbers, plda: Plda) -> Numbers:
    """Return vectors (n, D) in the space of a PLDA, (n, d)."""
    size = np.sqrt(len(plda.centre))
    return np.asarray((size * unit(vectors - plda.centre) - plda.mean) @ plda.basis)


def infer(
    features: Numbers, variances: Numbers, responsibilities: Numbers, fa: float, fb: float
) -> tuple[Numbers, Numbers]:
    """Return the responsibilities (n, N) and the speakers' shares (N,) after variational Bayesian inference.

    Features (n, D) have a within-speaker covariance of one; `variances` (D,) are those between speakers.
    """
    priors = np.full(responsibilities.shape[1], 1 / responsibilities.shape[1])
    scaled = features * np.sqrt(variances)  # (18)
    before = -np.inf
    for _ in range(MOST_ITERATIONS):
        spread = 1 / (1 + fa / fb * responsibilities.sum(axis=0)[:, None] * variances)  # (17): (N, D)
        means = fa / fb * spread * (responsibilities.T @ scaled)  # (16)
        # (23), without what all speakers share
        likelihoods = fa * (scaled @ means.T - 0.5 * (spread + means**2) @ variances)
        joint = likelihoods + np.log(priors + 1e-8)
        evidence = logsumexp(joint, axis=1)
        responsibilities = np.exp(joint - evidence[:, None])
        priors = responsibilities.sum(axis=0) / len(features)
        bound = evidence.sum() + fb / 2 * (np.log(spread) - spread - means**2 + 1).sum()  # (25)
        if bound - before < LEAST_GAIN:
            break
        before = bound
    return responsibilities, priors


def read_plda(folder: Path, vectors: Numbers) -> tuple[Numbers, Numbers]:
    """Return the vectors (n, D) in the space of a PLDA, and its variances between speakers.

    The folder is as pyannote.audio 4 has it: ``xvec_transform.npz`` holds two means and an LDA between them,
    ``plda.npz`` a mean, a transformation and the variances after it.
    """
    centre, lda_centre, lda = _read(folder / TRANSFORM, ("mean1", "mean2", "lda"))
    mean, transform, between = _read(folder / PLDA, ("mu", "tr", "psi"))
    try:
        if (between <= 0).any():
            raise ValueError("a variance is not above 0")
        reduced = np.sqrt(lda.shape[0]) * unit(vectors - centre) @ lda - lda_centre
        reduced = np.sqrt(lda.shape[1]) * unit(reduced)
        # the two covariances made diagonal together, that within speakers to one
        within = np.linalg.inv(transform.T @ transform)
        across = np.linalg.inv((transform.T / between) @ transform)
        variances, directions = eigh(across, within)
        chosen = np.argsort(-variances)[:LARGEST_DIMENSION]
        return (reduced - mean) @ directions[:, chosen], variances[chosen]
    except (ValueError, IndexError, LinAlgError) as error:
        raise PixitError(
            f"{folder}: is no PLDA for embeddings of {vectors.shape[1]} numbers ({one_line(error)}); expected that "
            "of the embedder"
        ) from None


def _read(path: Path, names: tuple[str, ...]) -> list[Numbers]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found: list[Numbers] = [np.asarray(arrays[name], np.float64) for name in names]
        if not all(np.isfinite(array).all() for array in found):
            raise ValueError("it holds NaN or infinite values")
        return found
    except ARRAY_ERRORS as error:
        raise PixitError(
            f"{path}: cannot be read ({one_line(error)}); expected a PLDA as of pyannote.audio 4, {', '.join(names)}"
        ) from None
