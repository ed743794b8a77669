"""One step of training and what is logged of a validation, against counts by hand."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pixit.models.totatonet import ToTaToNet
from pixit.training.module import (
    MIN_SCORED_S,
    OptimizerSettings,
    PixITModule,
    frame_errors,
    frame_errors_and_gains,
)
from pixit.training.objective import ObjectiveSettings, PairBatch, pixit_loss, si_sdr
from pixit.types import LocalOutput

TINY = {
    "encoder_decoder": {"n_filters": 16, "kernel_size": 64, "stride": 32},
    "masker": {"name": "dprnn", "n_repeats": 1, "bn_chan": 8, "hid_size": 8, "chunk_size": 20},
    "linear": {"hidden_size": 8, "num_layers": 1},
}
TINY_WAVLM = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
}


def make_module(wavlm: dict[str, Any] | None = None, **optimizer: Any) -> PixITModule:
    torch.manual_seed(0)
    model = ToTaToNet(**TINY, wavlm=wavlm)
    return PixITModule(model, ObjectiveSettings(), OptimizerSettings(**optimizer), max_steps=100)


def make_batch(module: PixITModule, supervised: bool = False, num_samples: int = 4000) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    frames = module.model.num_frames(num_samples)
    activities = torch.zeros(2, 2, 3, frames)
    activities[:, 0, 0, : frames // 2] = activities[:, 1, 0] = activities[:, 1, 1, frames // 3 :] = 1
    references = torch.randn(2, 2, 3, num_samples, generator=generator) * activities.any(-1)[..., None]
    return {
        "mixtures": references.sum(2),
        "activities": activities,
        "references": references * supervised,
        "has_references": torch.full((2,), supervised),
    }


# --- counts ---------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.floats(0, 1))
def test_frame_errors_are_those_of_a_count_by_hand(seed: int, density: float, truth: float) -> None:
    rng = np.random.default_rng(seed)
    estimate, reference = rng.random((2, 3, 13)) < density, rng.random((2, 3, 13)) < truth
    expected = dict.fromkeys(("false_alarm", "missed", "confusion", "speech"), 0)
    for b, f in itertools.product(range(2), range(13)):
        said = {k for k in range(3) if estimate[b, k, f]}
        true = {k for k in range(3) if reference[b, k, f]}
        wrong, lost = len(said - true), len(true - said)
        expected["confusion"] += min(wrong, lost)
        expected["false_alarm"] += wrong - min(wrong, lost)
        expected["missed"] += lost - min(wrong, lost)
        expected["speech"] += len(true)
    found = frame_errors(torch.from_numpy(estimate), torch.from_numpy(reference))
    assert {name: int(value) for name, value in found.items()} == expected


@hypothesis_settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_window_errors_are_those_of_pyannote_metrics(seed: int) -> None:
    """With one turn per frame, and logits clear enough for both to choose the same permutation."""
    metrics = pytest.importorskip("pyannote.metrics.diarization")
    core = pytest.importorskip("pyannote.core")
    rng = np.random.default_rng(seed)
    truth = rng.random((3, 12)) < 0.4
    said = truth[rng.permutation(3)] ^ (rng.random((3, 12)) < 0.04)

    def annotation(active: np.ndarray) -> Any:
        result = core.Annotation()
        for k, f in zip(*np.nonzero(active), strict=True):
            result[core.Segment(f, f + 1), k] = f"{k}"
        return result

    metric = metrics.DiarizationErrorRate()
    detail = metric(
        annotation(truth), annotation(said), uem=core.Timeline([core.Segment(0, 12)]), detailed=True
    )
    activities = torch.zeros(1, 2, 3, 12)
    activities[0, 0] = torch.from_numpy(truth)
    logits = torch.from_numpy(np.where(said, 9.0, -9.0)).float()
    silent = torch.full((3, 12), -9.0)
    output = LocalOutput(torch.stack((logits, silent, logits)), torch.zeros(3, 3, 50))
    batch = PairBatch(torch.zeros(1, 2, 50), activities, torch.zeros(1, 2, 3, 50), torch.tensor([False]))
    found = frame_errors_and_gains(output, batch, 16000)
    for ours, theirs in (("missed", "missed detection"), ("false_alarm", "false alarm"), ("speech", "total")):
        assert int(found[ours]) == 2 * detail[theirs]
    assert int(found["confusion"]) == 2 * detail["confusion"]


def test_separation_is_scored_on_the_samples_where_speakers_overlap() -> None:
    """x1: two speakers overlap in the second quarter only; x2: one, all the time; rate 400 Hz, 10 frames of 40."""
    generator = torch.Generator().manual_seed(3)
    activities, references = torch.zeros(2, 2, 3, 10), torch.zeros(2, 2, 3, 400)
    spoken = {(0, 0): (0, 6), (0, 1): (3, 10), (1, 2): (0, 10)}  # chunk, row -> frames
    for (chunk, row), (start, end) in spoken.items():
        activities[:, chunk, row, start:end] = 1
        length = 40 * (end - start)
        references[:, chunk, row, 40 * start : 40 * end] = torch.randn(2, length, generator=generator)
    batch = PairBatch(references.sum(2), activities, references, torch.tensor([True, False]))
    estimates = torch.randn(6, 3, 400, generator=generator)
    x1, x2 = references[0]
    estimates[0, 2] = x1[0] + 0.1 * estimates[0, 2]  # perfect but for noise, in another order
    estimates[0, 0] = 3 * x1[1] + 0.1 * estimates[0, 0]
    estimates[0, 0, 120:240] += 3.5 * x1[0, 120:240]  # worse than the mixture where both speak
    found = frame_errors_and_gains(LocalOutput(torch.zeros(6, 3, 10), estimates), batch, 400)
    # x1: 120 samples of overlap for both; x1 + x2: the first two overlap with the third all the time
    assert (found["overlap_count"], found["single_count"]) == (2 + 3, 2 + 1)

    both = torch.stack((x1[0], x1[1], x2[2]))
    orders = itertools.permutations(range(3))
    best = max(orders, key=lambda order: sum(si_sdr(estimates[4, list(order)], both).tolist()))
    overlap = [(estimates[0, 2], x1[0], x1.sum(0), 120, 240), (estimates[0, 0], x1[1], x1.sum(0), 120, 240)]
    for row, (start, end) in zip(range(3), spoken.values(), strict=True):
        overlap.append((estimates[4, best[row]], both[row], both.sum(0), 40 * start, 40 * end))
    scores = [si_sdr(e[a:b], r[a:b]) for e, r, _, a, b in overlap]
    before = [si_sdr(m[a:b], r[a:b]) for _, r, m, a, b in overlap]
    assert found["overlap_si_sdr"].item() == pytest.approx(sum(scores).item(), abs=1e-3)
    assert found["overlap_gain"].item() == pytest.approx((sum(scores) - sum(before)).item(), abs=1e-3)
    assert scores[1] < before[1]  # though over the whole window that source is better than the mixture
    assert si_sdr(estimates[0, 0], x1[1]) > si_sdr(x1.sum(0), x1[1])

    single = [si_sdr(estimates[0, 2, :120], x1[0, :120]), si_sdr(estimates[0, 0, 240:], x1[1, 240:])]
    single.append(max(si_sdr(e, x2[2]) for e in estimates[2]))
    assert found["single_si_sdr"].item() == pytest.approx(sum(single).item(), abs=1e-3)


def test_snippets_of_speech_are_not_scored() -> None:
    references = torch.randn(1, 2, 3, 400, generator=torch.Generator().manual_seed(0))
    references[:, 1] = references[:, :, 1:] = 0
    activities = torch.zeros(1, 2, 3, 10)
    activities[0, 0, 0, :2] = 1  # 80 samples
    batch = PairBatch(references.sum(2), activities, references, torch.tensor([True]))
    output = LocalOutput(torch.zeros(3, 3, 10), torch.randn(3, 3, 400))
    assert frame_errors_and_gains(output, batch, round(79 / MIN_SCORED_S))["single_count"] == 2
    assert frame_errors_and_gains(output, batch, round(81 / MIN_SCORED_S))["single_count"] == 0


def test_ratios_are_taken_over_the_whole_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not averaged over batches of unlike size."""
    module = make_module()
    logged: dict[str, Tensor] = {}
    monkeypatch.setattr(module, "log_dict", lambda values, **_: logged.update(values))
    monkeypatch.setattr(module, "log", lambda *_, **__: None)
    monkeypatch.setattr(module, "all_gather", lambda value: value)
    batches = [make_batch(module, True), {k: v[:1] for k, v in make_batch(module, True).items()}]
    batches[1]["activities"] = 1 - batches[1]["activities"].roll(1, -1)
    batches[1]["activities"][:, :, 2:] = batches[1]["activities"][:, 1:] = 0
    whole = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
    results = []
    for parts in (batches, [whole]):
        module.on_validation_epoch_start()
        for batch in parts:
            module.validation_step(batch, 0)
        module.on_validation_epoch_end()
        results.append(dict(logged))
    assert set(results[0]) >= {"val/der", "val/loss", "val/si_sdr_gain_db", "val/missed"}
    for name, value in results[0].items():
        torch.testing.assert_close(value, results[1][name], msg=name)
    rates = (results[0][f"val/{name}"] for name in ("missed", "false_alarm", "confusion"))
    assert results[0]["val/der"].item() == pytest.approx(sum(rate.item() for rate in rates))


# --- a step ---------------------------------------------------------------------------------------------


def test_a_step_is_the_objective_of_the_three_mixtures(monkeypatch: pytest.MonkeyPatch) -> None:
    module = make_module()
    monkeypatch.setattr(module, "log_dict", lambda *_, **__: None)
    monkeypatch.setattr(module, "log", lambda *_, **__: None)
    batch = make_batch(module, supervised=True)
    x1, x2 = batch["mixtures"].unbind(1)
    output = module.model(torch.stack((*x1, *x2, *(x1 + x2))).unsqueeze(1))
    expected = pixit_loss(output, PairBatch(**batch), ObjectiveSettings()).total
    torch.testing.assert_close(module.training_step(batch, 0), expected)


def test_mixed_precision_stays_out_of_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scalar products in bfloat16 are good for some 20 dB."""
    module = make_module()
    monkeypatch.setattr(module, "log_dict", lambda *_, **__: None)
    monkeypatch.setattr(module, "log", lambda *_, **__: None)
    batch = make_batch(module)
    estimate = torch.zeros(6, 3, 4000)
    estimate[4:, 0], estimate[4:, 1] = batch["mixtures"][:, 0], batch["mixtures"][:, 1]
    estimate += 1e-3 * torch.randn(6, 3, 4000, generator=torch.Generator().manual_seed(0))
    output = LocalOutput(torch.zeros(6, 3, batch["activities"].shape[-1]), estimate)

    class Perfect(nn.Module):
        def forward(self, _: Tensor) -> LocalOutput:
            return output

    module.model = Perfect()
    expected = pixit_loss(output, PairBatch(**batch), ObjectiveSettings()).total
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(module.training_step(batch, 0), expected)
    assert expected < -20


# --- optimizer ------------------------------------------------------------------------------------------


def groups_of(module: PixITModule) -> dict[str, dict[str, Any]]:
    return {group["name"]: group for group in module.configure_optimizers()["optimizer"].param_groups}  # type: ignore[index]


def test_one_group_without_wavlm() -> None:
    module = make_module()
    groups = groups_of(module)
    assert list(groups) == ["rest"]
    assert groups["rest"]["lr"] == pytest.approx(3e-4)
    assert len(groups["rest"]["params"]) == len(list(module.model.parameters()))


def test_wavlm_has_a_learning_rate_of_its_own() -> None:
    pytest.importorskip("transformers")
    module = make_module(TINY_WAVLM, wavlm_learning_rate=2e-6)
    groups = groups_of(module)
    assert groups["wavlm"]["lr"] == pytest.approx(2e-6)
    assert groups["rest"]["lr"] == pytest.approx(3e-4)
    wavlm = {id(p) for p in module.model.wavlm.parameters() if p.requires_grad}
    assert {id(p) for p in groups["wavlm"]["params"]} == wavlm
    both = [id(p) for group in groups.values() for p in group["params"]]
    assert sorted(both) == sorted(id(p) for p in module.model.parameters() if p.requires_grad)


def test_a_learning_rate_of_zero_freezes_wavlm(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    module = make_module(TINY_WAVLM, wavlm_learning_rate=0)
    monkeypatch.setattr(module, "log_dict", lambda *_, **__: None)
    monkeypatch.setattr(module, "log", lambda *_, **__: None)
    assert list(groups_of(module)) == ["rest"]
    module.training_step(make_batch(module), 0).backward()
    assert all(p.grad is None for p in module.model.wavlm.parameters())
    assert all(p.grad is not None for p in module.model.masker.parameters())


def test_wavlm_is_in_evaluation_mode_while_the_rest_trains() -> None:
    pytest.importorskip("transformers")
    module = make_module(TINY_WAVLM).train()
    module.on_train_start()
    assert not any(part.training for part in module.model.wavlm.modules())
    assert module.model.masker.training


@pytest.mark.parametrize("apart", [True, False])
def test_the_gradients_of_wavlm_and_of_the_rest_are_limited_each_by_itself(apart: bool) -> None:
    """As pyannote.audio's two optimizers are clipped; a joint norm lets the one take from the other."""
    module = make_module(clip_apart=apart)
    slow, fast = (nn.Parameter(torch.zeros(4)) for _ in range(2))
    slow.grad, fast.grad = torch.full((4,), 6.0), torch.full((4,), 8.0)  # norms of 12 and 16, of both 20
    optimizer = torch.optim.SGD([{"params": [slow], "name": "wavlm"}, {"params": [fast], "name": "rest"}])
    module.configure_gradient_clipping(optimizer, 5.0)
    norms = [float(parameter.grad.norm()) for parameter in (slow, fast)]
    assert norms == pytest.approx([5, 5] if apart else [3, 4], rel=1e-5)
    module.configure_gradient_clipping(optimizer, None)  # no limit
    assert float(slow.grad.norm()) == norms[0]
