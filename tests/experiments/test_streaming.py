"""`pixit benchmark streaming`: each latency is what a stream of that latency alone would have been."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from pixit.cli import cli
from pixit.evaluation.diarization import DiarizationCounts, evaluate_diarization
from pixit.experiments.heard_live import HeardStream, hear_stream, open_for_stream
from pixit.experiments.streaming import Lane, benchmark_streaming, latencies_of, plot, tabulate
from pixit.pipeline.separate import Separator
from pixit.pipeline.settings import SeparationSettings, StreamingSettings
from pixit.pipeline.streaming import StreamingSeparator
from pixit.types import PixitError, Recording, Turn

LATENCIES = (0.5, 1.0, 2.0)


def stream_of(talks: Any, **changes: Any) -> StreamingSeparator:
    settings = StreamingSettings.model_validate({"step_s": 0.5} | changes)
    return StreamingSeparator(talks.Unsure(), talks.Ears(), settings, device="cpu")


def separator_of(talks: Any) -> Separator:
    settings = SeparationSettings.model_validate({"step_s": 0.5, "clustering": {"min_speech_s": 0.3}})
    return Separator(talks.Unsure(), talks.Ears(), settings, device="cpu")


def turns_of(stream: StreamingSeparator, path: Path, size: int) -> list[Turn]:
    """Push a recording in blocks of one size."""
    samples, _ = soundfile.read(path)
    updates = [stream.push(samples[start : start + size]) for start in range(0, len(samples), size)]
    updates.append(stream.finish())
    told = [turn for update in updates for turn in update.turns if turn.kind == "closed"]
    return [Turn(turn.start_s, turn.end_s or 0.0, turn.speaker) for turn in told]


def total(talks: Any, found: dict[str, Any]) -> DiarizationCounts:
    truth = {each.uri: each.turns for each in talks.recordings}
    whole = {each.uri: each.annotated for each in talks.recordings}
    return evaluate_diarization(truth, found, annotated=whole).total


def test_each_latency_is_a_stream_of_its_own_and_the_networks_hear_once(talks: Any) -> None:
    stream = stream_of(talks)
    told: list[str] = []
    lanes = benchmark_streaming(
        separator_of(talks),
        latencies_of(stream, LATENCIES),
        talks.recordings,
        tell=lambda recording, found: told.extend(f"{recording.uri} {name}" for name in found),
    )
    assert [lane.latency_s for lane in lanes] == [*LATENCIES, None]
    assert told == [f"{uri} {name}" for uri in ("one", "two") for name in ("0.5 s", "1 s", "2 s", "offline")]
    for lane in lanes[:-1]:
        alone = {
            each.uri: turns_of(stream_of(talks, latency_s=lane.latency_s), each.audio, 333)
            for each in talks.recordings
        }
        assert lane.counts == total(talks, alone)
        assert len(lane.delays_s) == 2 * 40  # a window each half second
        assert lane.elapsed_s == pytest.approx(sum(lane.delays_s))
        assert lane.duration_s == 40
    offline = {each.uri: separator_of(talks).diarize(each.audio).diarization for each in talks.recordings}
    assert lanes[-1].counts == total(talks, offline)
    assert lanes[-1].counts.der < lanes[0].counts.der  # waiting brings something
    assert stream.model.num_heard == 2 * 40  # type: ignore[attr-defined]


def test_the_end_of_a_recording_of_whole_steps_counts(talks: Any, tmp_path: Path) -> None:
    """Its last window is full before the recording has ended, and who talks up to its last sample is right."""
    times_s = np.arange(4 * 1000) / 1000
    soundfile.write(tmp_path / "whole.wav", 0.1 * np.sin(2 * np.pi * 100 * times_s), 1000)
    recording = Recording("whole", tmp_path / "whole.wav", (Turn(0.0, 4.0, "low"),), ((0.0, 4.0),))
    lanes = benchmark_streaming(separator_of(talks), latencies_of(stream_of(talks), LATENCIES), [recording])
    for lane in lanes[:-1]:
        alone = turns_of(stream_of(talks, latency_s=lane.latency_s), recording.audio, 333)
        assert alone[-1].end_s == 4.0
        expected = evaluate_diarization({"whole": recording.turns}, {"whole": alone}, {"whole": [(0.0, 4.0)]})
        assert lane.counts == expected.total


def test_latencies_are_those_that_the_networks_can_have(talks: Any) -> None:
    assert list(latencies_of(stream_of(talks))) == [0.5, 1.0, 2.0]  # the window has two seconds
    assert list(latencies_of(stream_of(talks, step_s=1.0))) == [1.0, 2.0]
    assert list(latencies_of(stream_of(talks), [1.5, 0.7, 1.5])) == [0.7, 1.5]
    with pytest.raises(PixitError, match="a latency of 3 s; expected the step"):
        latencies_of(stream_of(talks), [3.0])
    networks = talks.Unsure()
    networks.window_samples = 400
    short = StreamingSeparator(networks, talks.Ears(), StreamingSettings(step_s=0.2), device="cpu")
    with pytest.raises(PixitError, match=r"a step of 0\.2 s: name latencies from it to the window, 0\.4 s"):
        latencies_of(short)


def test_the_table_and_the_plot_say_what_was_measured(tmp_path: Path) -> None:
    counts = DiarizationCounts(total_s=100.0, missed_s=10.0, jaccard_errors=1.0, jaccard_speakers=4)
    delays = tuple(np.linspace(0.0, 0.1, 101))
    lanes = [Lane(0.5, counts, 200.0, 20.0, delays), Lane(None, DiarizationCounts(total_s=100.0), 200.0, 2.0)]
    live, whole = tabulate(lanes).values()
    expected = {"latency_s": 0.5, "der_percent": 10.0, "jer_percent": 25.0, "real_time_factor": 0.1}
    assert {key: live[key] for key in expected} == expected
    assert (live["delay_median_ms"], live["delay_99_ms"]) == pytest.approx((50.0, 99.0))
    assert (whole["latency_s"], whole["der_percent"], whole["delay_99_ms"]) == ("offline", 0.0, None)
    plot(lanes, tmp_path / "live.png")
    assert (tmp_path / "live.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("latency_s", [0.5, 1.1, None])
def test_what_was_heard_once_is_a_stream_again(talks: Any, tmp_path: Path, latency_s: float | None) -> None:
    """With other settings of the clustering, latencies, and the room in the tracks."""
    stream = stream_of(talks)
    path = talks.recordings[0].audio
    hear_stream(stream, open_for_stream(stream, talks.recordings[0]), lambda *_: None).save(
        tmp_path / "heard.npz"
    )
    heard = HeardStream.load(tmp_path / "heard.npz")
    different = set()
    for clustering in ({}, {"max_speakers": 1}, {"tau_active": 0.9, "rho_update": 0.5}):
        live = stream_of(talks, latency_s=latency_s, clustering=clustering)
        found = heard.decide(stream, live.settings).itertracks(yield_label=True)
        turns = sorted((segment.start, segment.end, name) for segment, _, name in found)
        alone = [(turn.start_s, turn.end_s, turn.speaker) for turn in turns_of(live, path, 400)]
        assert turns == sorted(alone)
        different.add(tuple(turns))
    assert len(different) == 3
    (tmp_path / "heard.npz").write_bytes(b"PK")
    with pytest.raises(PixitError, match="damaged"):
        HeardStream.load(tmp_path / "heard.npz")


@pytest.fixture
def run(talks: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setattr(Separator, "from_pretrained", lambda *_: separator_of(talks))
    monkeypatch.setattr(StreamingSeparator, "from_pretrained", lambda *names: stream_of(talks, **names[-1]))
    monkeypatch.chdir(tmp_path)
    given = ["--recordings", str(talks.folder / "audio"), "--references", str(talks.folder / "rttm")]
    return lambda *arguments: CliRunner().invoke(cli, ["benchmark", "streaming", *given, *arguments])


def test_the_command_writes_table_and_plot(run: Callable[..., Result], tmp_path: Path) -> None:
    done = run("--latency", "1", "--latency", "2", "-o", "live.csv", "--plot", "live.png")
    assert done.exit_code == 0, done.output
    with (tmp_path / "live.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["latency_s"] for row in rows] == ["1.0", "2.0", "offline"]
    assert float(rows[0]["delay_99_ms"]) >= float(rows[0]["delay_median_ms"]) > 0
    assert (tmp_path / "live.png").read_bytes().startswith(b"\x89PNG")
    assert "offline" in done.stdout
    assert run("--latency", "7").exit_code == 2
    assert run("--set", "clustering.threshold=1").exit_code == 2  # that is none of a stream
