"""The objective of PixIT, to be read beside the paper (Kalda et al., Odyssey 2024, section 2).

A training item is a pair of chunks ``x1``, ``x2`` of one recording that share no speaker and hold at most K
speakers together. The network hears three mixtures, ``x1``, ``x2`` and the mixture of mixtures ``x1 + x2``:

- **Diarization**: permutation-invariant binary cross-entropy on all three (`pit_bce`).
- **Separation, unsupervised** (real meetings): the sources of ``x1 + x2`` are assigned to ``x1`` or ``x2``, and
  the best of the 2^K assignments counts (`mixit`, MixIT of Wisdom et al., NeurIPS 2020).
- **Separation, supervised** (simulated meetings): permutation-invariant SI-SDR against the references, on all
  three (`source_loss`). This goes beyond the paper.

The loss is ``separation_weight · separation + (1 - separation_weight) · diarization`` (the paper's λ = 0.5), each
the mean over the pairs of a batch; within a pair it is the mean over the mixtures that have such a term, so that a
simulated pair weighs as much as a real one. Functions take ``(estimate, reference)``.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from pixit.config import Settings
from pixit.types import LocalOutput

EPS = 1e-8
SIZE, COMPRESSION, FLOOR = (
    512,
    0.3,
    1e-3,
)  # of spectra: samples, exponent, the share that earns nothing more


class ObjectiveSettings(Settings):
    """How the terms of the objective are weighed; the defaults are the paper's."""

    separation_weight: float = Field(
        0.5, ge=0, le=1, description="λ: weight of separation, 1 - λ of diarization"
    )
    max_si_sdr_db: float | None = Field(None, description="SI-SDR above which a source earns no more")
    level_weight: float = Field(0.0, ge=0, le=1, description="share of (scale-dependent) SNR beside SI-SDR")
    silence_weight: float = Field(0.3, ge=0, description="weight of a decibel left in a silent source")
    silence_floor_db: float = Field(-20.0, lt=0, description="level below the mixture that counts as silent")
    spectral_weight: float = Field(
        0.0, ge=0, le=1, description="share of the distance of compressed spectra in supervised separation"
    )
    supervised_mixtures: Literal["all", "sum"] = Field(
        "all", description="what the network hears of a simulated pair: x1, x2 and x1 + x2, or x1 + x2 alone"
    )


@dataclass(frozen=True)
class PairBatch:
    """A batch of pairs of chunks, as the data sets deliver it.

    ``mixtures`` (B, 2, T); ``activities`` (B, 2, K, F), 0 or 1, unused rows zero; clean ``references`` in the
    order of the activities, (B, 2, K, T), zero where there are none; and who has them, (B,).
    """

    mixtures: Tensor
    activities: Tensor
    references: Tensor
    has_references: Tensor


@dataclass(frozen=True)
class Losses:
    """The terms of the objective, each a scalar."""

    total: Tensor
    separation: Tensor
    diarization: Tensor


def three_mixtures(batch: PairBatch) -> Tensor:
    """Return what the network hears: ``x1``, ``x2`` and ``x1 + x2``, stacked along the batch, (3B, 1, T)."""
    x1, x2 = batch.mixtures.unbind(1)
    return torch.cat((x1, x2, x1 + x2)).unsqueeze(1)


def heard_mixtures(batch: PairBatch, settings: ObjectiveSettings) -> Tensor:
    """Return which of `three_mixtures` the network is to hear, (3B,).

    All of a real pair, for MixIT. The chunks of a simulated pair can be left out (``supervised_mixtures="sum"``):
    the sum has references of its own, and a step then costs a third.
    """
    heard = torch.ones(3, len(batch.mixtures), dtype=torch.bool, device=batch.mixtures.device)
    if settings.supervised_mixtures == "sum":
        heard[:2] = ~batch.has_references
    return heard.flatten()


def pixit_loss(output: LocalOutput, batch: PairBatch, settings: ObjectiveSettings) -> Losses:
    """Return the objective; `output` is what the network says of the `heard_mixtures` of the batch."""
    num_pairs, weight = len(batch.mixtures), settings.separation_weight
    heard = heard_mixtures(batch, settings)
    activities, references = mixtures_of_mixtures(batch.activities, batch.references)
    activities, references, mixtures = activities[heard], references[heard], three_mixtures(batch)[heard, 0]
    pair = torch.arange(num_pairs, device=heard.device).repeat(3)[heard]  # to which each mixture belongs
    supervised, unsupervised = batch.has_references[pair], ~batch.has_references

    bce = pairwise_bce(output.activity_logits, activities)  # (M, K, K), M mixtures heard
    supervision = output.sources[supervised], references[supervised], mixtures[supervised]
    spectral = spectral_losses(*supervision, settings)
    with torch.no_grad():
        joint = (1 - weight) * bce
        joint[supervised] += weight * (spectral + source_losses(*supervision, settings))
        _, permutation = best_permutation(joint)
    diarization = mean_over_pairs(permuted_mean(bce, permutation), pair, num_pairs)

    chosen = permutation[supervised]
    matched = torch.take_along_dim(supervision[0], chosen.unsqueeze(-1), dim=1)
    waveform_terms = source_loss(matched, *supervision[1:], settings).mean(1)
    real_terms, _ = mixit(output.sources[-num_pairs:][unsupervised], batch.mixtures[unsupervised], settings)
    terms = torch.cat((waveform_terms + permuted_mean(spectral, chosen), real_terms))
    of = torch.cat((pair[supervised], unsupervised.nonzero().squeeze(1)))
    separation = mean_over_pairs(terms, of, num_pairs)
    return Losses(weight * separation + (1 - weight) * diarization, separation, diarization)


def mean_over_pairs(terms: Tensor, pair: Tensor, num_pairs: int) -> Tensor:
    """Return the mean over pairs of the mean of each pair's terms; `pair` (M,) says whose a term (M,) is."""
    return (terms / pair.bincount(minlength=num_pairs)[pair]).sum() / num_pairs


def mixtures_of_mixtures(activities: Tensor, references: Tensor) -> tuple[Tensor, Tensor]:
    """Return the labels of ``x1``, ``x2``, ``x1 + x2``, stacked along the batch, (3B, K, F) and (3B, K, T).

    Of activities (B, 2, K, F) and references (B, 2, K, T) at most K rows are in use, in both chunks together.
    """
    rows = activities.flatten(1, 2), references.flatten(1, 2)  # (B, 2K, …)
    used = (rows[0] != 0).any(-1) | (rows[1] != 0).any(-1)
    order = torch.argsort(~used, dim=1, stable=True)[:, : activities.shape[2]]  # the rows in use come first
    both = [torch.take_along_dim(row, order.unsqueeze(-1), dim=1) for row in rows]
    return torch.cat((*activities.unbind(1), both[0])), torch.cat((*references.unbind(1), both[1]))


def si_sdr(estimate: Tensor, reference: Tensor, max_db: float | None = None) -> Tensor:
    """Return the scale-invariant SDR in dB over the last axis (Le Roux et al., "SDR – half-baked?", 2019).

    Means are removed, and (…, T) are broadcast against each other. `max_db` is a soft ceiling, the threshold
    τ of MixIT (Wisdom et al. 2020, eq. 2).

    Examples
    --------
    >>> reference = torch.tensor([1.0, -1.0, 1.0, -1.0])
    >>> noise = torch.tensor([0.1, 0.1, -0.1, -0.1])
    >>> si_sdr(3 * (reference + noise), reference)  # whatever the scale
    tensor(20.0000)
    """
    estimate, reference = _centred(estimate), _centred(reference)
    power = reference.square().sum(-1, keepdim=True) + EPS
    target = (estimate * reference).sum(-1, keepdim=True) * reference / power
    noise = (estimate - target).square().sum(-1)
    return _ratio_db(target.square().sum(-1), noise, max_db)


def _centred(signal: Tensor) -> Tensor:
    return signal - signal.mean(-1, keepdim=True)


def _ratio_db(signal: Tensor, noise: Tensor, max_db: float | None) -> Tensor:
    if max_db is not None:
        noise = noise + 10 ** (-max_db / 10) * signal
    return 10 * torch.log10(signal / (noise + EPS) + EPS)


def source_loss(estimate: Tensor, reference: Tensor, mixture: Tensor, settings: ObjectiveSettings) -> Tensor:
    """Return the loss of the waveform of each estimated source with its own reference, (B, K), in dB.

    A reference that sounds asks for SI-SDR (and SNR, by ``level_weight``); a silent one asks for a low level,
    as its SI-SDR is not defined. Estimate and reference are (B, K, T) or (B, 1, T), the mixture is (B, T).
    """
    if settings.spectral_weight == 1:
        return estimate.new_zeros(torch.broadcast_shapes(estimate.shape, reference.shape)[:-1])
    silent = (reference == 0).all(-1)
    estimate, reference = _centred(estimate), _centred(reference)
    power = reference.square().sum(-1) + EPS
    scale = (estimate * reference).sum(-1) / power
    target = scale.square() * power  # power of the estimate along the reference
    noise = (estimate - scale.unsqueeze(-1) * reference).square().sum(-1)
    score = _ratio_db(target, noise, settings.max_si_sdr_db)  # as in `si_sdr`
    if settings.level_weight:
        snr = _ratio_db(power, noise + (scale - 1).square() * power, settings.max_si_sdr_db)  # orthogonal
        score = (1 - settings.level_weight) * score + settings.level_weight * snr
    level = mixture.square().sum(-1, keepdim=True) + EPS
    residue_db = 10 * torch.log10((target + noise) / level + 10 ** (settings.silence_floor_db / 10))
    return (1 - settings.spectral_weight) * torch.where(silent, settings.silence_weight * residue_db, -score)


def source_losses(
    estimate: Tensor, reference: Tensor, mixture: Tensor, settings: ObjectiveSettings
) -> Tensor:
    """Return `source_loss` of every estimated source with every reference, (B, K, K), estimates in rows."""
    # One by one, to save memory. Scalar products would be quicker, but err by 1 dB from 50 dB on in float32.
    losses = [source_loss(estimate, r.unsqueeze(1), mixture, settings) for r in reference.unbind(1)]
    return torch.stack(losses, -1)


def spectral_losses(
    estimate: Tensor, reference: Tensor, mixture: Tensor, settings: ObjectiveSettings
) -> Tensor:
    """Return the distance of compressed spectra of every source from every reference, (B, K, K), in dB.

    ``10 log10(Σ |c(E) - c(R)|² / Σ |c(X)|²)``, weighed by the settings; ``c`` is the short-time spectrum with
    its magnitudes to the power of 0.3, its phase kept (Ephrat et al., "Looking to listen at the cocktail
    party", 2018). It leaves the plateau of SI-SDR sooner, whose gradient is that of the loudest bins while
    all sources are poor. It is defined for silent references, and asks for the level.
    """
    if settings.spectral_weight == 0 or len(estimate) == 0:
        return estimate.new_zeros(*estimate.shape[:2], reference.shape[1])
    scale = 1 / (mixture.square().mean(-1) + 1e-12).sqrt()[:, None, None]
    sources = _compressed_spectra(estimate * scale)
    # Apart from the estimates: what is given needs no gradient, which costs twice as much as the spectra.
    given = _compressed_spectra(torch.cat((reference, mixture.unsqueeze(1)), dim=1) * scale)
    targets, whole = given[:, :-1], given[:, -1:]
    powers = sources.square().sum(-1).unsqueeze(2) + targets.square().sum(-1).unsqueeze(1)
    distance = (powers - 2 * sources @ targets.mT).clamp_min(0)
    losses = 10 * torch.log10(distance / (whole.square().sum(-1, keepdim=True) + 1e-8) + FLOOR)
    weights = torch.where((reference == 0).all(-1), settings.silence_weight, 1.0) * settings.spectral_weight
    return weights.unsqueeze(1) * losses


def _compressed_spectra(signals: Tensor) -> Tensor:
    """Return the real and imaginary parts of compressed spectra, (B, K, bins), of signals (B, K, T)."""
    padded = F.pad(signals.flatten(0, 1), (0, max(0, SIZE - signals.shape[-1])))
    hann = torch.hann_window(SIZE, device=signals.device)
    bins = torch.stft(padded, SIZE, SIZE // 2, window=hann, center=False, return_complex=True)
    real, imaginary = bins.real, bins.imag
    # the constant, 40 dB below a window's mean, bounds the gradient where a bin is silent
    gains = (real.square() + imaginary.square() + 1e-2).pow((COMPRESSION - 1) / 2)
    return torch.stack((real * gains, imaginary * gains), dim=1).flatten(1).unflatten(0, signals.shape[:2])


def pairwise_bce(logits: Tensor, activities: Tensor) -> Tensor:
    """Return the cross-entropy of every row of logits (B, K, F) with every one of activities (B, K', F)."""
    # BCE with logits is softplus(x) - x·y, so that all pairs are one product of matrices.
    return F.softplus(logits).mean(-1, keepdim=True) - logits @ activities.mT / logits.shape[-1]


@cache
def _permutations(size: int) -> Tensor:
    return torch.tensor(list(itertools.permutations(range(size))))


def best_permutation(costs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the cheapest one-to-one assignment of estimates (rows) to references, for costs (B, K, K).

    The mean cost (B,), and for each reference the index of its estimate (B, K). All K! are compared.

    Examples
    --------
    >>> costs = torch.tensor([[[5.0, 1.0], [2.0, 7.0]]])
    >>> best_permutation(costs)  # estimate 1 is of reference 0, and the other way round
    (tensor([1.5000]), tensor([[1, 0]]))
    """
    permutations = _permutations(costs.shape[-1]).to(costs.device)  # (P, K)
    references = torch.arange(costs.shape[-1], device=costs.device)
    best, index = costs[:, permutations, references].mean(-1).min(-1)  # of (B, P)
    return best, permutations[index]


def permuted_mean(costs: Tensor, permutation: Tensor) -> Tensor:
    """Return the mean cost (B,) of costs (B, K, K) under a permutation of `best_permutation`."""
    return torch.take_along_dim(costs, permutation.unsqueeze(1), dim=1).mean((1, 2))


def pit_bce(logits: Tensor, activities: Tensor) -> tuple[Tensor, Tensor]:
    """Return the permutation-invariant cross-entropy (B,) and the permutation (B, K)."""
    return best_permutation(pairwise_bce(logits, activities))


@cache
def _assignments(num_sources: int, num_mixtures: int) -> Tensor:
    """All ways to give each source to one mixture, (A, M, K), 0 or 1."""
    choices = torch.tensor(list(itertools.product(range(num_mixtures), repeat=num_sources)))
    return F.one_hot(choices, num_mixtures).transpose(1, 2).float()


def mixit(
    estimate: Tensor, mixtures: Tensor, settings: ObjectiveSettings | None = None
) -> tuple[Tensor, Tensor]:
    """Return the MixIT loss: negative SI-SDR of the mixtures, under the best assignment of sources to them.

    In dB (B,), and the index of the mixture (B, M, T) to which each source (B, K, T) goes, (B, K). A mixture
    without any sound does not count. The search needs only scalar products of signals: with ``G = S Sᵀ`` and
    ``C = S Xᵀ``, the sum of the sources chosen by ``a`` has power ``aᵀ G a`` and correlation ``aᵀ C`` with a
    mixture. So all M^K assignments cost no more memory than one; the loss is computed for the best alone.
    """
    max_db = settings.max_si_sdr_db if settings is not None else None
    assignments = _assignments(estimate.shape[1], mixtures.shape[1]).to(estimate)  # (A, M, K)
    with torch.no_grad():
        sources, targets = _centred(estimate), _centred(mixtures)
        gram, cross = sources @ sources.mT, sources @ targets.mT  # (B, K, K), (B, K, M)
        power = torch.einsum("amk,bkl,aml->bam", assignments, gram, assignments)
        match = torch.einsum("amk,bkm->bam", assignments, cross).square()
        aligned = match / (targets.square().sum(-1)[:, None] + EPS)  # power along the mixture
        scores = _ratio_db(aligned, (power - aligned).clamp_min(0), max_db).mean(-1)
        best = assignments[scores.argmax(-1)]  # (B, M, K)
    sounding = (mixtures != 0).any(-1)  # (B, M); the SI-SDR of silence is not defined
    scores = si_sdr(best @ estimate, mixtures, max_db) * sounding
    return -scores.sum(-1) / sounding.sum(-1).clamp_min(1), best.argmax(1)
