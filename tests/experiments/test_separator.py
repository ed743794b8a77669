from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from pyannote.core import Annotation, Segment
from pyannote.metrics.diarization import DiarizationErrorRate

from pixit.audio import Audio, Track, TrackWriter
from pixit.evaluation.separation.metrics import si_sdr
from pixit.experiments.separator import Trial, evaluate_separator, score_meeting
from pixit.results import Separation
from pixit.simulation.simulate import SimulatedMeeting
from pixit.types import PixitError, Turn

REPOSITORY = Path(__file__).resolve().parents[2]
RATE_HZ = 8000
TURNS = (Turn(0.0, 6.0, "ann"), Turn(4.0, 10.0, "bob"))  # 2 s together, 4 s alone each


def make_meeting(seed: int = 0) -> SimulatedMeeting:
    rng = np.random.default_rng(seed)
    references = rng.normal(0, 0.1, (2, 10 * RATE_HZ)).astype(np.float32)
    references[0, 6 * RATE_HZ :] = 0
    references[1, : 4 * RATE_HZ] = 0
    noise = rng.normal(0, 0.01, 10 * RATE_HZ).astype(np.float32)
    return SimulatedMeeting(references.sum(0) + noise, references, noise, TURNS, ("ann", "bob"), RATE_HZ)


class Answers:
    """Gives tracks and turns that are known, whatever it hears."""

    name = "answers"

    def __init__(self, tracks: dict[str, Any], turns: dict[str, tuple[float, float]]) -> None:
        self.tracks, self.turns = tracks, turns

    def __call__(self, audio: Audio) -> Separation:
        temporary = tempfile.TemporaryDirectory()
        tracks = {}
        for name, samples in self.tracks.items():
            path = Path(temporary.name) / f"{name}.w64"
            with TrackWriter(path, audio.sample_rate_hz, "w64") as writer:
                writer.write(np.asarray(samples, np.float32))
            tracks[name] = Track.open(path)
        diarization = Annotation(uri=audio.uri)
        for name, (start_s, end_s) in self.turns.items():
            diarization[Segment(start_s, end_s), name] = name
        return Separation(
            audio.uri, diarization, tracks, audio.sample_rate_hz, audio.num_samples, {}, temporary
        )


def test_a_meeting_is_scored_as_by_hand() -> None:
    meeting = make_meeting()
    leaky = meeting.references + 0.1 * meeting.references[::-1]
    # the tracks come in the other order, and one speaker is said to stop a second early
    trial = score_meeting(
        Answers({"x": leaky[1], "y": leaky[0]}, {"x": (4.0, 10.0), "y": (0.0, 5.0)}),  # type: ignore[arg-type]
        meeting,
    )
    overlap = slice(4 * RATE_HZ, 6 * RATE_HZ)
    alone = [slice(0, 4 * RATE_HZ), slice(6 * RATE_HZ, None)]
    in_overlap = [si_sdr(leaky[k, overlap], meeting.references[k, overlap]) for k in range(2)]
    before = [si_sdr(meeting.mixture[overlap], meeting.references[k, overlap]) for k in range(2)]
    assert trial.si_sdr_db("overlap") == pytest.approx(in_overlap, abs=0.01)
    gains = [after - mixed for after, mixed in zip(in_overlap, before, strict=True)]
    assert trial.si_sdr_db("overlap", improvement=True) == pytest.approx(gains, abs=0.01)
    expected = [si_sdr(leaky[k, alone[k]], meeting.references[k, alone[k]]) for k in range(2)]
    assert trial.si_sdr_db("single") == pytest.approx(expected, abs=0.01)
    assert trial.diarization.missed_s == pytest.approx(1.0)
    assert trial.diarization.der == pytest.approx(1 / 12)
    assert trial.separation is not None
    assert {row.speaker: row.track for row in trial.separation.speakers} == {"ann": "y", "bob": "x"}


def test_the_figures_are_those_of_all_meetings_together(tmp_path: Path) -> None:
    meetings = [make_meeting(seed) for seed in range(3)]
    perfect = {"x": (0.0, 6.0), "y": (4.0, 10.0)}
    only = Answers({"x": meetings[0].mixture}, {"x": (0.0, 10.0)})
    seen: list[Trial] = []
    scores = evaluate_separator(only, meetings, tell=seen.append)  # type: ignore[arg-type]
    assert tuple(seen) == scores.simulated
    figures = scores.summary()["simulated"]
    metric = DiarizationErrorRate()
    for _ in meetings:
        reference, found = Annotation(), Annotation()
        for index, turn in enumerate(TURNS):
            reference[Segment(turn.start_s, turn.end_s), index] = turn.speaker
        found[Segment(0, 10)] = "x"
        metric(reference, found)
    assert figures["der"] == pytest.approx(abs(metric))
    assert figures["missed"] == pytest.approx(metric["missed detection"] / metric["total"])
    assert (figures["recordings"], figures["speaker_count_accuracy"]) == (3, 0)
    assert (figures["speakers"], figures["found_speakers"]) == (6, 3)
    assert (figures["missing_tracks"], figures["surplus_tracks"]) == (3, 0)
    missing = [v for trial in seen for v in trial.si_sdr_db("overlap", improvement=True)]
    assert sorted(missing)[1:] != []
    assert 0.0 in missing, "a missing track is the recording"
    rows = scores.table().values()
    assert [row["recording"] for row in rows] == ["meeting_00", "meeting_01", "meeting_02", "ALL SIMULATED"]
    assert rows[-1]["der_percent"] == pytest.approx(100 * figures["der"])
    tracks = dict(zip(perfect, meetings[0].references, strict=True))
    best = evaluate_separator(Answers(tracks, perfect), meetings[:1]).summary()["simulated"]  # type: ignore[arg-type]
    assert (best["der"], best["speaker_count_accuracy"]) == (0, 1)
    assert best["si_sdr_overlap_db"] == best["si_sdr_single_median_db"] == 100


def test_real_recordings_are_scored_from_end_to_end(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "talk.wav", np.full(10 * RATE_HZ, 0.1), RATE_HZ)
    rttm = tmp_path / "all.rttm"
    rttm.write_text(
        "SPEAKER other 1 0 9 <NA> <NA> z <NA> <NA>\n"
        "SPEAKER talk 1 0 4 <NA> <NA> ann <NA> <NA>\nSPEAKER talk 1 4 4 <NA> <NA> bob <NA> <NA>\n"
    )
    answers = Answers({}, {"x": (0.0, 4.0), "y": (4.0, 10.0)})
    scores = evaluate_separator(answers, real=[(tmp_path / "talk.wav", rttm)])  # type: ignore[arg-type]
    figures = scores.summary()
    assert "simulated" not in figures
    assert figures["real"]["talk"]["der"] == pytest.approx(2 / 8), "what follows the last turn counts"
    assert (figures["real"]["talk"]["speakers"], figures["real"]["talk"]["found_speakers"]) == (2, 2)
    assert scores.table().values()[0]["single_db"] is None
    soundfile.write(tmp_path / "unknown.wav", np.full(RATE_HZ, 0.1), RATE_HZ)
    with pytest.raises(PixitError, match="unknown"):
        evaluate_separator(answers, real=[(tmp_path / "unknown.wav", rttm)])  # type: ignore[arg-type]


def test_the_script_measures_a_separator(tmp_path: Path) -> None:
    examples = REPOSITORY / "examples"
    command = [sys.executable, "scripts/evaluate_separator.py", "--set", "step_s=5", "--threads", "1"]
    command += ["--real", str(examples / "meeting.flac"), str(examples / "meeting.rttm")]
    out = tmp_path / "results.json"
    done = subprocess.run(
        [*command, "--out", str(out)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    assert report["settings"]["step_s"] == 5
    assert 0 < report["real"]["meeting"]["der"] < 1
    wrong = subprocess.run(
        [*command, "--model", str(tmp_path / "none")],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
