"""Each term of the objective against slow, obvious code: loops, all permutations, all assignments."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from pixit.training.objective import (
    EPS,
    Losses,
    ObjectiveSettings,
    PairBatch,
    best_permutation,
    heard_mixtures,
    mixit,
    mixtures_of_mixtures,
    pairwise_bce,
    permuted_mean,
    pit_bce,
    pixit_loss,
    si_sdr,
    source_loss,
    source_losses,
    three_mixtures,
)
from pixit.types import LocalOutput

GOLDEN = Path(__file__).parent / "golden" / "mixit_asteroid.npz"
PAPER = ObjectiveSettings()
ONLY_SUMS = ObjectiveSettings(supervised_mixtures="sum", spectral_weight=0.6)
ONLY_SPECTRA = ObjectiveSettings(spectral_weight=1)
ALL_OPTIONS = ObjectiveSettings(max_si_sdr_db=30, level_weight=0.2, silence_weight=0.5, silence_floor_db=-25)
seeds = st.integers(0, 2**32 - 1)


def randn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_si_sdr(estimate: np.ndarray, reference: np.ndarray, max_db: float | None = None) -> float:
    """Le Roux et al. 2019, in NumPy; no lower than -80 dB."""
    estimate, reference = estimate - estimate.mean(), reference - reference.mean()
    target = (estimate @ reference) / (reference @ reference) * reference
    noise = ((estimate - target) ** 2).sum()
    if max_db is not None:
        noise += 10 ** (-max_db / 10) * (target**2).sum()
    return 10 * np.log10((target**2).sum() / noise + EPS)


def slow_source_loss(estimate: Tensor, reference: Tensor, mixture: Tensor, s: ObjectiveSettings) -> float:
    e, r, m = (x.numpy() for x in (estimate, reference, mixture))
    if not r.any():
        residue = ((e - e.mean()) ** 2).sum() / (m @ m)
        return s.silence_weight * 10 * np.log10(residue + 10 ** (s.silence_floor_db / 10))
    e0, r0 = e - e.mean(), r - r.mean()
    error = ((e0 - r0) ** 2).sum()
    if s.max_si_sdr_db is not None:
        error += 10 ** (-s.max_si_sdr_db / 10) * (r0 @ r0)
    snr = 10 * np.log10((r0 @ r0) / error + EPS)
    return -((1 - s.level_weight) * slow_si_sdr(e, r, s.max_si_sdr_db) + s.level_weight * snr)


def slow_mixit(
    estimate: Tensor, mixtures: Tensor, max_db: float | None = None
) -> tuple[float, tuple[int, ...]]:
    """Try every assignment of the sources of one item to its mixtures."""
    best = (np.inf, (-1,))
    for assignment in itertools.product(range(len(mixtures)), repeat=len(estimate)):
        sums = torch.zeros_like(mixtures)
        for source, mixture in zip(estimate, assignment, strict=True):
            sums[mixture] += source
        pairs = zip(sums, mixtures, strict=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            scores = [slow_si_sdr(a.numpy(), b.numpy(), max_db) if a.any() else -80.0 for a, b in pairs]
        best = min(best, (-float(np.mean(scores)), assignment))
    return best


# --- SI-SDR -------------------------------------------------------------------------------------------


@given(seeds, st.sampled_from([None, 20.0]))
def test_si_sdr_is_its_definition(seed: int, max_db: float | None) -> None:
    estimate, reference = randn(seed, 2, 50)
    expected = slow_si_sdr(estimate.numpy(), reference.numpy(), max_db)
    assert si_sdr(estimate, reference, max_db).item() == pytest.approx(expected, abs=1e-3)


@given(seeds, st.floats(0.01, 100), st.floats(0.01, 100), st.floats(-5, 5))
def test_si_sdr_knows_neither_scale_nor_offset(seed: int, scale: float, other: float, offset: float) -> None:
    estimate, reference = randn(seed, 2, 200)
    changed = si_sdr(scale * estimate + offset, -other * reference - offset)
    assert changed.item() == pytest.approx(si_sdr(estimate, reference).item(), abs=1e-2)


def test_si_sdr_never_exceeds_its_ceiling() -> None:
    reference = randn(0, 500)
    assert si_sdr(reference, reference, 30).item() == pytest.approx(30, abs=1e-3)
    assert si_sdr(reference, reference).item() > 75


@pytest.mark.parametrize("num_samples", [8000, 80000])
@pytest.mark.parametrize("level_weight", [0.0, 1.0])
def test_source_losses_are_exact_in_single_precision_up_to_60_db(
    num_samples: int, level_weight: float
) -> None:
    settings = ObjectiveSettings(level_weight=level_weight)
    reference = 0.1 * randn(1, 1, 3, num_samples)
    for wanted_db in (10, 30, 50, 60):
        noise = randn(2, 1, 3, num_samples)
        noise -= (noise * reference).sum(-1, True) / reference.square().sum(-1, True) * reference
        noise *= (
            10 ** (-wanted_db / 20) * reference.norm(dim=-1, keepdim=True) / noise.norm(dim=-1, keepdim=True)
        )
        estimate = (reference + noise).float().requires_grad_()
        losses = source_losses(estimate, reference.float(), reference.sum(1).float(), settings)
        found = losses.diagonal(dim1=1, dim2=2)
        torch.testing.assert_close(-found, torch.full((1, 3), float(wanted_db)), atol=0.01, rtol=0)
        exact = estimate.detach().double().requires_grad_()
        source_loss(exact, reference, reference.sum(1), settings).sum().backward()
        found.sum().backward()
        assert estimate.grad is not None
        assert exact.grad is not None
        assert (estimate.grad - exact.grad).norm() < 2e-3 * exact.grad.norm()


# --- permutations ---------------------------------------------------------------------------------------


@given(seeds, st.integers(1, 4), st.integers(1, 4))
def test_pairwise_bce_is_the_cross_entropy_of_each_pair(seed: int, rows: int, columns: int) -> None:
    logits, activities = 5 * randn(seed, 2, rows, 11), (randn(seed + 1, 2, columns, 11) > 0).double()
    found = pairwise_bce(logits, activities)
    for b, i, j in itertools.product(range(2), range(rows), range(columns)):
        expected = F.binary_cross_entropy_with_logits(logits[b, i], activities[b, j])
        torch.testing.assert_close(found[b, i, j], expected)


@given(seeds, st.integers(1, 5))
def test_best_permutation_is_that_of_brute_force(seed: int, size: int) -> None:
    costs = randn(seed, 3, size, size)
    best, permutation = best_permutation(costs)
    for b in range(3):
        options = {
            p: sum(costs[b, p[k], k].item() for k in range(size)) / size
            for p in itertools.permutations(range(size))
        }
        expected = min(options, key=lambda p: options[p])
        assert tuple(permutation[b].tolist()) == expected
        assert best[b].item() == pytest.approx(options[expected])
    torch.testing.assert_close(permuted_mean(costs, permutation), best)


@given(seeds, st.integers(1, 4))
def test_pit_bce_is_brute_force_and_knows_no_order(seed: int, speakers: int) -> None:
    logits, activities = 3 * randn(seed, 2, speakers, 9), (randn(seed + 1, 2, speakers, 9) > 0).double()
    loss, permutation = pit_bce(logits, activities)
    for b in range(2):
        options = [
            F.binary_cross_entropy_with_logits(logits[b, list(order)], activities[b]).item()
            for order in itertools.permutations(range(speakers))
        ]
        assert loss[b].item() == pytest.approx(min(options))
        matched = F.binary_cross_entropy_with_logits(logits[b, permutation[b]], activities[b])
        assert loss[b].item() == pytest.approx(matched.item())
    shuffled = activities[:, torch.randperm(speakers, generator=torch.Generator().manual_seed(seed))]
    torch.testing.assert_close(pit_bce(logits, shuffled)[0], loss)


@given(seeds, st.sampled_from([PAPER, ALL_OPTIONS]))
def test_source_losses_are_the_formula_for_each_pair(seed: int, settings: ObjectiveSettings) -> None:
    estimate, reference, mixture = randn(seed, 2, 3, 40), randn(seed + 1, 2, 3, 40), randn(seed + 2, 2, 40)
    reference[0, 1] = reference[1, 0] = reference[1, 2] = 0
    found = source_losses(estimate, reference, mixture, settings)
    for b, i, k in itertools.product(range(2), range(3), range(3)):
        expected = slow_source_loss(estimate[b, i], reference[b, k], mixture[b], settings)
        assert found[b, i, k].item() == pytest.approx(expected, abs=1e-3)
    matched = source_loss(estimate, reference, mixture, settings)
    torch.testing.assert_close(matched, found.diagonal(dim1=1, dim2=2))


def test_waveforms_that_do_not_count_cost_nothing() -> None:
    estimate, reference = randn(0, 2, 3, 40).requires_grad_(), randn(1, 2, 3, 40)
    losses = source_losses(estimate, reference, reference.sum(1), ONLY_SPECTRA)
    assert torch.equal(losses, torch.zeros(2, 3, 3).double())
    assert not losses.requires_grad  # nothing was computed of them


# --- MixIT ----------------------------------------------------------------------------------------------


@hypothesis_settings(max_examples=40)
@given(seeds, st.integers(1, 4), st.integers(2, 3), st.sampled_from([None, 15.0]))
def test_mixit_is_the_best_of_all_assignments(
    seed: int, sources: int, mixtures: int, max_db: float | None
) -> None:
    estimate, targets = randn(seed, 2, sources, 40), randn(seed + 1, 2, mixtures, 40)
    loss, assignment = mixit(estimate, targets, ObjectiveSettings(max_si_sdr_db=max_db))
    for b in range(2):
        expected, _ = slow_mixit(estimate[b], targets[b], max_db)
        assert loss[b].item() == pytest.approx(expected, abs=1e-3)
        sums = torch.stack([(estimate[b] * (assignment[b] == m)[:, None]).sum(0) for m in range(mixtures)])
        assert -si_sdr(sums, targets[b], max_db).mean().item() == pytest.approx(expected, abs=1e-3)


@given(seeds, st.integers(1, 6), st.integers(2, 3))
def test_mixit_finds_the_partition_that_made_the_mixtures(seed: int, sources: int, mixtures: int) -> None:
    rng = np.random.default_rng(seed)
    estimate = randn(seed, 3, sources, 100).float()
    truth = torch.from_numpy(rng.integers(mixtures, size=(3, sources)))
    targets = torch.stack([(estimate * (truth == m).unsqueeze(-1)).sum(1) for m in range(mixtures)], dim=1)
    loss, assignment = mixit(estimate, targets)
    assert torch.equal(assignment, truth)
    assert (loss < -60).all()


def test_mixit_is_that_of_asteroid() -> None:
    with np.load(GOLDEN) as golden:
        for case in golden["cases"]:
            read = {key: torch.from_numpy(golden[f"{case}.{key}"]) for key in ("estimate", "mixtures")}
            loss, assignment = mixit(read["estimate"], read["mixtures"])
            np.testing.assert_allclose(loss, golden[f"{case}.loss_per_item"], atol=1e-3)
            np.testing.assert_array_equal(assignment, golden[f"{case}.assignment"])


def test_a_silent_mixture_does_not_count() -> None:
    mixtures = randn(0, 2, 2, 100)
    mixtures[:, 1] = 0
    estimate = torch.stack((mixtures[:, 0], 0.1 * randn(1, 2, 100)), dim=1)
    loss, assignment = mixit(estimate, mixtures)
    torch.testing.assert_close(loss, -si_sdr(estimate[:, 0], mixtures[:, 0]))
    assert (assignment == torch.tensor([0, 1])).all()


# --- mixtures of mixtures -------------------------------------------------------------------------------


def make_batch(
    seed: int, supervised: Iterable[bool], frames: int = 10, samples: int = 60, k: int = 3
) -> PairBatch:
    """Up to K speakers in any rows of the two chunks; references only where they are given."""
    rng = np.random.default_rng(seed)
    has_references = torch.tensor(list(supervised))
    size = len(has_references)
    activities, references = (
        torch.zeros(size, 2, k, frames).double(),
        torch.zeros(size, 2, k, samples).double(),
    )
    for b in range(size):
        first = int(rng.integers(0, k + 1))
        for chunk, count in enumerate((first, int(rng.integers(0, k - first + 1)))):
            for row in rng.choice(k, count, replace=False):
                activities[b, chunk, row] = torch.from_numpy((rng.random(frames) < 0.5).astype(float))
                activities[b, chunk, row, int(rng.integers(frames))] = 1
                references[b, chunk, row] = torch.from_numpy(rng.standard_normal(samples))
    noise = 0.1 * torch.from_numpy(rng.standard_normal((size, 2, samples)))
    mixtures = references.sum(2) + noise
    references[~has_references] = 0
    return PairBatch(mixtures, activities, references, has_references)


def make_output(seed: int, batch: PairBatch) -> LocalOutput:
    size, _, k, frames = batch.activities.shape
    samples = batch.mixtures.shape[-1]
    return LocalOutput(2 * randn(seed, 3 * size, k, frames), randn(seed + 1, 3 * size, k, samples))


@given(seeds)
def test_labels_of_both_are_the_used_rows_of_each(seed: int) -> None:
    batch = make_batch(seed, [True, True, True])
    activities, references = mixtures_of_mixtures(batch.activities, batch.references)
    assert activities.shape == (9, 3, 10)
    assert references.shape == (9, 3, 60)
    for b in range(3):
        for chunk in range(2):
            assert torch.equal(activities[3 * chunk + b], batch.activities[b, chunk])
            assert torch.equal(references[3 * chunk + b], batch.references[b, chunk])
        used = [(c, k) for c in range(2) for k in range(3) if batch.activities[b, c, k].any()]
        for row in range(3):
            if row < len(used):
                assert torch.equal(activities[6 + b, row], batch.activities[b][used[row]])
                assert torch.equal(references[6 + b, row], batch.references[b][used[row]])
            else:
                assert not activities[6 + b, row].any()
                assert not references[6 + b, row].any()


def test_a_reference_whose_speech_meets_no_frame_is_kept() -> None:
    activities, references = torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 20)
    activities[0, 0, 0] = 1
    references[0, 1, 2, 5] = 1
    both = mixtures_of_mixtures(activities, references)
    assert both[0][2, 0].all()
    assert torch.equal(both[1][2, 1], references[0, 1, 2])


def test_the_network_hears_both_chunks_and_their_sum() -> None:
    batch = make_batch(0, [True, False])
    heard = three_mixtures(batch)
    assert heard.shape == (6, 1, 60)
    torch.testing.assert_close(heard[4:], heard[:2] + heard[2:4])
    torch.testing.assert_close(heard[2:4, 0], batch.mixtures[:, 1])


# --- the whole ------------------------------------------------------------------------------------------


def slow_spectral_loss(estimate: np.ndarray, reference: np.ndarray, mixture: np.ndarray) -> float:
    """The formula of `spectral_losses`, one bin after the other."""
    level = np.sqrt((mixture**2).mean() + 1e-12)
    window = np.hanning(513)[:512]

    def bins(signal: np.ndarray) -> np.ndarray:
        signal = np.pad(signal / level, (0, max(0, 512 - len(signal))))
        frames = [signal[a : a + 512] * window for a in range(0, len(signal) - 511, 256)]
        values = np.fft.rfft(frames)
        return values * (np.abs(values) ** 2 + 0.01) ** -0.35

    distance = (np.abs(bins(estimate) - bins(reference)) ** 2).sum()
    return 10 * np.log10(distance / (np.abs(bins(mixture)) ** 2).sum() + 1e-3)


def slow_supervised_loss(
    estimate: Tensor, reference: Tensor, mixture: Tensor, settings: ObjectiveSettings
) -> float:
    waveform = slow_source_loss(estimate, reference, mixture, settings)
    spectral = slow_spectral_loss(estimate.numpy(), reference.numpy(), mixture.numpy())
    if not reference.any():
        spectral *= settings.silence_weight
    return (1 - settings.spectral_weight) * waveform + settings.spectral_weight * spectral


def slow_pixit_loss(output: LocalOutput, batch: PairBatch, settings: ObjectiveSettings) -> Losses:
    activities, references = mixtures_of_mixtures(batch.activities, batch.references)
    mixtures, weight = three_mixtures(batch)[:, 0], settings.separation_weight
    size, k = len(batch.mixtures), batch.activities.shape[2]
    terms: list[tuple[list[float], list[float]]] = [([], []) for _ in range(size)]  # of each pair
    row = 0
    for i in range(3 * size):
        separation, diarization = terms[i % size]
        supervised = bool(batch.has_references[i % size])
        if supervised and settings.supervised_mixtures == "sum" and i < 2 * size:
            continue
        options = []
        for order in itertools.permutations(range(k)):
            logits, sources = output.activity_logits[row, list(order)], output.sources[row, list(order)]
            bce = F.binary_cross_entropy_with_logits(logits, activities[i]).item()
            rows = zip(sources, references[i], strict=True)
            apart = 0.0
            if supervised:
                apart = np.mean([slow_supervised_loss(s, r, mixtures[i], settings) for s, r in rows])
            options.append(((1 - weight) * bce + weight * apart, bce, apart))
        _, bce, apart = min(options)
        diarization.append(bce)
        if supervised:
            separation.append(apart)
        elif i >= 2 * size:
            separation.append(
                slow_mixit(output.sources[row], batch.mixtures[i % size], settings.max_si_sdr_db)[0]
            )
        row += 1
    assert row == len(output.sources)
    parts = tuple(float(np.mean([np.mean(term[part]) for term in terms])) for part in (0, 1))
    total = weight * parts[0] + (1 - weight) * parts[1]
    return Losses(*(torch.tensor(x, dtype=torch.float64) for x in (total, *parts)))


@hypothesis_settings(max_examples=15, deadline=None)
@given(
    seeds,
    st.sampled_from([[True] * 3, [False] * 3, [True, False, False, True], [True], [False]]),
    st.sampled_from([PAPER, ALL_OPTIONS, ONLY_SUMS, ONLY_SPECTRA, ObjectiveSettings(separation_weight=0.05)]),
)
def test_the_objective_is_that_of_slow_code(
    seed: int, supervised: list[bool], settings: ObjectiveSettings
) -> None:
    batch = make_batch(seed, supervised)
    output, heard = make_output(seed, batch), heard_mixtures(batch, settings)
    output = LocalOutput(output.activity_logits[heard], output.sources[heard])
    found, expected = pixit_loss(output, batch, settings), slow_pixit_loss(output, batch, settings)
    for name in ("total", "separation", "diarization"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), atol=1e-3, rtol=1e-4)


@given(seeds, st.sampled_from([[True, False], [False, True, True], [True, False, False, False]]))
@hypothesis_settings(max_examples=10, deadline=None)
def test_simulated_and_real_pairs_weigh_the_same(seed: int, supervised: list[bool]) -> None:
    """A batch of both kinds is the mean of its pairs, each by itself: λ and ``real_share`` mean what they say."""
    batch = make_batch(seed, supervised)
    output, size = make_output(seed, batch), len(supervised)
    whole = pixit_loss(output, batch, ALL_OPTIONS)
    alone = []
    for i in range(size):
        rows = slice(i, None, size)
        pair = PairBatch(*(getattr(batch, f.name)[i : i + 1] for f in dataclasses.fields(batch)))
        own = LocalOutput(output.activity_logits[rows], output.sources[rows])
        alone.append(pixit_loss(own, pair, ALL_OPTIONS))
    for name in ("total", "separation", "diarization"):
        expected = torch.stack([getattr(losses, name) for losses in alone]).mean()
        torch.testing.assert_close(getattr(whole, name), expected)


@given(seeds, st.booleans())
@hypothesis_settings(max_examples=10, deadline=None)
def test_the_objective_knows_no_order_of_speakers_or_sources(seed: int, supervised: bool) -> None:
    batch = make_batch(seed, [supervised, supervised])
    output = make_output(seed, batch)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(3))
    other = LocalOutput(output.activity_logits[:, order], output.sources[:, order])
    swapped = PairBatch(
        batch.mixtures, batch.activities[:, :, order], batch.references[:, :, order], batch.has_references
    )
    expected = pixit_loss(output, batch, PAPER).total
    torch.testing.assert_close(pixit_loss(other, swapped, PAPER).total, expected)


def test_gradients_are_those_of_finite_differences() -> None:
    batch = make_batch(3, [True, False], samples=12, frames=4)
    output = make_output(3, batch)

    def loss(logits: Tensor, sources: Tensor) -> Tensor:
        return pixit_loss(LocalOutput(logits, sources), batch, ALL_OPTIONS).total

    inputs = (output.activity_logits.requires_grad_(), output.sources.requires_grad_())
    assert torch.autograd.gradcheck(loss, inputs)


@pytest.mark.parametrize("settings", [PAPER, ALL_OPTIONS], ids=["paper", "all options"])
@pytest.mark.parametrize("supervised", [True, False], ids=["supervised", "unsupervised"])
@pytest.mark.parametrize(
    ("of_mixtures", "of_references", "of_estimates"),
    [(0, 0, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1), (1, 0, 0), (1e-6, 1e-6, 1e-6), (1, 1, 1e4), (0, 1, 1)],
)
def test_silence_gives_finite_losses_and_gradients(
    settings: ObjectiveSettings,
    supervised: bool,
    of_mixtures: float,
    of_references: float,
    of_estimates: float,
) -> None:
    full = make_batch(5, [supervised] * 2)
    batch = PairBatch(
        (of_mixtures * full.mixtures).float(),
        full.activities.float(),
        (of_references * full.references).float(),
        full.has_references,
    )
    output = make_output(5, batch)
    logits = output.activity_logits.float().requires_grad_()
    sources = (of_estimates * output.sources).float().requires_grad_()
    losses = pixit_loss(LocalOutput(logits, sources), batch, settings)
    losses.total.backward()
    assert abs(losses.total.item()) < 200
    for tensor in (logits, sources):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()


def test_a_perfect_estimate_of_everything_is_the_lowest_loss() -> None:
    batch = make_batch(7, [True, True])
    activities, references = mixtures_of_mixtures(batch.activities, batch.references)
    perfect = LocalOutput(20 * (activities - 0.5), references)
    silent = ObjectiveSettings(max_si_sdr_db=30)
    found = pixit_loss(perfect, batch, silent)
    assert found.diarization < 1e-3
    sounding = (references != 0).any(-1)
    expected = torch.where(sounding, -30.0, silent.silence_weight * silent.silence_floor_db)
    assert found.separation.item() == pytest.approx(expected.mean().item(), abs=0.05)
