"""Verification and identification with an embedder whose answers are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner
from torch import Tensor

from pixit.cli import cli
from pixit.experiments.speakers import (
    evaluate_identification,
    evaluate_verification,
    gather_trials,
    load_embedder,
    loudest_crop,
)
from pixit.simulation.pool import find_speakers
from pixit.types import PixitError

RATE_HZ = 16000


class Pitch:
    """Embeds a tone as a direction that turns with its frequency."""

    sample_rate_hz, embedding_size, clustering_threshold = RATE_HZ, 2, 0.5

    def __call__(self, waveforms: Tensor, weights: Tensor | None = None) -> Tensor:
        power = torch.fft.rfft(waveforms).abs()
        hz = power.argmax(-1) * RATE_HZ / waveforms.shape[-1]
        angles = hz / 1000
        return (
            torch.stack((angles.cos(), angles.sin()), 1)
            * torch.where(power.amax(-1) > 0, 3.0, torch.nan)[:, None]
        )


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speech")
    for speaker, hz in (("low", 200), ("middle", 700), ("high", 1500)):
        (folder / speaker).mkdir()
        for number in range(3):
            time_s = np.arange(RATE_HZ) / RATE_HZ
            tone = 0.1 * np.sin(2 * np.pi * (hz + 10 * number) * time_s)
            soundfile.write(folder / speaker / f"{number}.wav", tone, RATE_HZ)
    return folder


def test_voices_that_are_apart_are_verified_and_identified(speech: Path) -> None:
    scores = evaluate_verification(Pitch(), gather_trials(speech))
    assert (scores.eer, scores.accuracy, scores.tar_at_1_far) == (0, 1, 1)
    assert (scores.same, scores.different) == (9, 27)
    assert np.cos(0.5) - 0.05 < scores.threshold < 1
    found = evaluate_identification(Pitch(), find_speakers(speech))
    assert (found.top_1, found.top_5, found.tests, found.speakers) == (1, 1, 6, 3)


def test_voices_that_are_mixed_up_are_not(speech: Path, tmp_path: Path) -> None:
    lines = []
    for trial in gather_trials(speech):  # every answer is turned round
        lines.append(f"{int(not trial.same)} {trial.first} {trial.second}\n")
    (tmp_path / "trials.txt").write_text("".join(lines))
    assert evaluate_verification(Pitch(), gather_trials(tmp_path / "trials.txt")).eer == 1
    swapped = find_speakers(speech)
    swapped["low"][1:], swapped["high"][1:] = swapped["high"][1:], swapped["low"][1:]
    assert evaluate_identification(Pitch(), swapped).top_1 == pytest.approx(2 / 6)


def test_a_drawn_list_is_kept(speech: Path, tmp_path: Path) -> None:
    trials = gather_trials(speech, num_trials=6, seed=3, keep=tmp_path / "kept.txt")
    assert gather_trials(tmp_path / "kept.txt") == trials
    assert trials != gather_trials(speech, num_trials=6, seed=4)


def test_the_loudest_crop_is_taken() -> None:
    signal = np.concatenate([np.full(50, 0.1), np.full(20, 0.5), np.full(50, 0.1)]).astype(np.float32)
    np.testing.assert_array_equal(loudest_crop(signal, 20), np.full(20, 0.5, np.float32))
    assert len(loudest_crop(signal, 500)) == 120


def test_bad_input_is_told(speech: Path, tmp_path: Path) -> None:
    with pytest.raises(PixitError, match="found 3 speakers and 0 recordings beyond the 3 enrolled"):
        evaluate_identification(Pitch(), find_speakers(speech), num_enrolled=3)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for name in ("a/1", "a/2", "b/1"):
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(RATE_HZ), RATE_HZ)
    with pytest.raises(PixitError, match=r"1\.wav: is silent"):
        evaluate_verification(Pitch(), gather_trials(tmp_path))


@pytest.mark.parametrize("crop_s", [0.0, 1e-9, -1.0, float("nan"), float("inf")])
def test_a_crop_holds_a_sample_at_least(speech: Path, crop_s: float) -> None:
    with pytest.raises(PixitError, match=r"crop_s: found .* expected a number of seconds above 0"):
        evaluate_verification(Pitch(), gather_trials(speech), crop_s)
    with pytest.raises(PixitError, match=r"crop_s: found .* expected a number of seconds above 0"):
        evaluate_identification(Pitch(), find_speakers(speech), crop_s=crop_s)


@pytest.mark.parametrize("prior", [0.0, 1.0, 1.5, float("nan")])
def test_a_prior_is_a_probability(speech: Path, prior: float) -> None:
    with pytest.raises(PixitError, match=r"prior: found .* expected a probability between 0 and 1"):
        evaluate_verification(Pitch(), gather_trials(speech), prior=prior)


@pytest.mark.parametrize("num_enrolled", [0, -1])
def test_a_voice_is_enrolled_by_a_recording_at_least(speech: Path, num_enrolled: int) -> None:
    with pytest.raises(PixitError, match=r"num_enrolled: found .* expected 1 recording at least"):
        evaluate_identification(Pitch(), find_speakers(speech), num_enrolled)


@pytest.mark.parametrize(
    "options",
    [
        *("verification --crop 0", "verification --prior 1.5", "verification --seed -1"),
        *("verification --pairs 0", "identification --enrol 0", "identification --crop -1"),
    ],
)
def test_options_have_ranges(speech: Path, options: str) -> None:
    command, *option = options.split()
    done = CliRunner().invoke(cli, ["evaluate", command, str(speech), *option], catch_exceptions=False)
    assert done.exit_code == 2
    assert f"Invalid value for '{option[0]}'" in done.stderr


def test_a_model_is_no_embedder() -> None:
    from pixit.pipeline import separate

    with pytest.raises(PixitError, match="expected an embedder"):
        load_embedder(Path(separate.__file__).parents[1] / "bundled" / "model", "cpu")


@pytest.mark.parametrize("command", ["verification", "identification"])
def test_commands_print_a_table(speech: Path, tmp_path: Path, command: str) -> None:
    result = CliRunner().invoke(
        cli, ["evaluate", command, str(speech), "--crop", "0.5", "--quiet", "-o", str(tmp_path / "x.json")]
    )
    assert result.exit_code == 0, result.output
    assert {"verification": "EER %", "identification": "among five %"}[command] in result.output
    assert (tmp_path / "x.json").exists()


def test_folders_without_recordings_are_no_speakers(speech: Path) -> None:
    expected = find_speakers(speech)
    (speech / "empty").mkdir()
    (speech / ".ipynb_checkpoints").mkdir()
    assert find_speakers(speech) == expected
