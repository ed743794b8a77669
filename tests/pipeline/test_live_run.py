"""Streams from source to result: what the machine has no time for, what is on disk at every moment, how it ends."""

from __future__ import annotations

import os
import resource
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from torch import Tensor

from pixit.audio.blocks import Source
from pixit.audio.sources import open_source
from pixit.formats.rttm import read_rttm
from pixit.pipeline.backlog import Backlog
from pixit.pipeline.live import Update
from pixit.pipeline.live_run import LiveRun, Moment
from pixit.pipeline.recorder import StreamRecorder
from pixit.pipeline.settings import StreamingSettings
from pixit.pipeline.streaming import StreamingSeparator
from pixit.pipeline.turns import TurnChange
from pixit.results import Separation
from pixit.types import LocalOutput, PixitError

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "stream_for_hours.py"
FAKES = runpy.run_path(str(SCRIPT))
RATE_HZ = 1000


class Slow(FAKES["Halves"]):  # type: ignore[misc]
    pause_s = 0.0

    def forward(self, waveforms: Tensor) -> LocalOutput:
        time.sleep(self.pause_s)
        return super().forward(waveforms)


def make(pause_s: float = 0.0, **settings: Any) -> StreamingSeparator:
    model = Slow()
    model.pause_s = pause_s
    chosen = StreamingSettings(**{"step_s": 0.5, **settings})
    return StreamingSeparator(model, FAKES["Sign"](), chosen, device="cpu", name="fake")


def make_sound(seconds: float) -> NDArray[np.float32]:
    """Two people in turn, 2 s each; the second begins after 2 s."""
    rng = np.random.default_rng(0)
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    sound = rng.uniform(0.1, 0.5, len(time_s)) * np.where(time_s % 4 < 2, 1, -1)
    return np.where(time_s % 2 < 1.6, sound, 0).astype(np.float32)


class Live(Source):
    """Blocks of 0.1 s, faster than they were spoken."""

    is_live = True

    def __init__(
        self, sound: NDArray[np.float32], pause_s: float = 0.0, error: Exception | None = None
    ) -> None:
        super().__init__("call", RATE_HZ)
        self.sound, self.pause_s, self.error = sound, pause_s, error

    def _blocks(self) -> Iterator[Any]:
        for start in range(0, len(self.sound), 100):
            time.sleep(self.pause_s)
            yield self.sound[start : start + 100, None]
        if self.error is not None:
            raise self.error


class AtOnce(Live):
    """What is not live: it waits."""

    is_live = False


# --- what there is no time for --------------------------------------------------------------------------


def advance(run: LiveRun, *seconds: float) -> list[Moment]:
    """Give a run so many seconds of sound at a time, as if their blocks had come while it was busy."""
    found, position = [], 0
    for length in seconds:
        part = run.source.sound[position : position + round(length * RATE_HZ), None]  # type: ignore[attr-defined]
        position += len(part)
        if moment := run._advance([part[start : start + 100] for start in range(0, len(part), 100)]):
            found.append(moment)
    return found


def test_where_windows_wait_the_newest_is_heard_and_nothing_is_lost_within_the_latency() -> None:
    run = LiveRun(make(latency_s=2.0), Live(make_sound(60)))
    moments = advance(run, 5.0, *[0.5] * 4, *[1.5] * 10, *[0.5] * 30)
    assert run.num_windows == 10 + 4 + 30 + 30
    assert run.num_skipped == 9 + 20
    # the first 5 s came at once: only their last window was heard, which begins at 3 s
    assert run.gaps == [(0.0, 3.0)]
    told = [note for moment in moments for note in moment.notes]
    assert any("slower than the sound: a step of 5.0 s" in note for note in told)
    assert any("keeps up again: a step of 0.5 s" in note for note in told)
    assert len(told) <= 4
    position = 0
    for moment in moments:
        assert moment.update.start_samples == position
        position = moment.update.end_samples
        assert moment.final_s == pytest.approx(max(0, moment.heard_s // 0.5 * 0.5 - 1.5))


def test_beyond_the_latency_gaps_are_silent_told_and_marked() -> None:
    run = LiveRun(make(latency_s=1.0), Live(make_sound(60)))
    moments = advance(run, *[0.5] * 8, 3.0, *[0.5] * 8)
    # the window that ends at 7 s gives out nothing before 6 s, the one before it ended at 4 s
    assert run.gaps == [(4.0, 6.0)]
    notes = [note for moment in moments for note in moment.notes]
    assert sum("nobody listened from" in note for note in notes) == 1
    (gap,) = [moment for moment in moments if moment.update.gaps]
    tracks, start = gap.update.tracks, gap.update.start_samples
    for track in tracks.values():
        assert not track[4000 - start : 6000 - start].any()


def test_blocks_that_are_longer_than_a_step_are_heard_whole_unless_they_are_late() -> None:
    sound = make_sound(16)
    run = LiveRun(make(latency_s=0.5), Live(sound))
    blocks = [sound[start : start + 1000, None] for start in range(0, len(sound), 1000)]
    for block in blocks[:10]:
        run._advance([block])
    assert (run.num_windows, run.num_skipped, run.gaps) == (20, 0, [])
    moment = run._advance(list(blocks[10:13]))  # two came while it was busy
    assert moment is not None
    assert (run.num_windows, run.num_skipped, run.gaps) == (26, 4, [(10.0, 12.0)])
    for block in blocks[13:]:
        run._advance([block])
    assert (run.num_windows, run.num_skipped) == (32, 4)


@pytest.mark.parametrize("pause_s", [0.05, 0.3])
def test_a_slow_machine_keeps_time(pause_s: float, tmp_path: Path) -> None:
    """A window takes 5 or 30 times as long as the step: 0.1 s come every 2 ms."""
    sound = make_sound(40)
    recorder = StreamRecorder(tmp_path, "call", RATE_HZ)
    run = LiveRun(make(pause_s, latency_s=1.0), Live(sound, 0.002), recorder)
    moments = list(run)
    assert moments[-1].update.end_samples == len(sound)
    assert run.num_windows == 80
    assert run.num_skipped > 20
    assert any("slower than the sound" in note for moment in moments for note in moment.notes)
    result = Separation.load(tmp_path / "call")
    assert result.num_samples == len(sound)
    assert result.settings["windows"]["skipped"] == run.num_skipped
    if pause_s == 0.3:
        assert run.gaps
        assert "the machine was too slow" in result.settings["warnings"][0]
        assert result.settings["gaps_s"] == [list(gap) for gap in run.gaps]


def test_what_is_not_live_waits_for_a_slow_machine() -> None:
    sound = make_sound(6)
    run = LiveRun(make(0.02), AtOnce(sound))
    moments = list(run)
    assert (run.num_skipped, run.gaps) == (0, [])
    expected = make()
    plain = [expected.push(sound), expected.finish()]
    for name in expected.speakers:
        empty = np.zeros(0, np.float32)
        found = np.concatenate([moment.update.tracks.get(name, empty) for moment in moments])
        whole = np.concatenate([update.tracks.get(name, empty) for update in plain])
        np.testing.assert_array_equal(found[-len(whole) :], whole[-len(found) :])


def test_the_backlog_of_live_sound_is_bounded_and_what_is_lost_is_silence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pixit.pipeline.backlog.WAITING_S", 3.0)
    source = Live(make_sound(60))
    with Backlog(source) as backlog:
        backlog._thread.join(10)
        parts = backlog.take()
        assert parts is not None
        assert sum(len(part) for part in parts if not isinstance(part, int)) <= 3 * RATE_HZ
        assert parts[-1] == 57 * RATE_HZ
        assert backlog.take() is None
    run = LiveRun(make(), source)
    moment = run._advance(parts)
    assert moment is not None
    assert moment.heard_s == 60
    assert "57.0 s of sound were lost" in moment.notes[0]


def test_the_backlog_of_other_sound_is_one_block() -> None:
    with Backlog(AtOnce(make_sound(60))) as backlog:
        total = 0
        while (parts := backlog.take()) is not None:
            assert len(parts) == 1
            total += len(parts[0])  # type: ignore[arg-type]
    assert total == 60 * RATE_HZ


# --- how it ends ----------------------------------------------------------------------------------------


def test_a_result_is_as_any_other(tmp_path: Path) -> None:
    sound = make_sound(10)
    soundfile.write(tmp_path / "call.wav", sound, RATE_HZ, "FLOAT")
    recorder = StreamRecorder(tmp_path / "live", "call", RATE_HZ)
    run = LiveRun(make(), open_source(tmp_path / "call.wav"), recorder)
    moments = list(run)
    assert run.folder == tmp_path / "live" / "call"
    result = Separation.load(run.folder)
    assert result.speakers == ["SPEAKER_00", "SPEAKER_01"]
    for number, speaker in enumerate(result.speakers):
        whole = np.concatenate(
            [
                moment.update.tracks.get(
                    speaker, np.zeros(moment.update.end_samples - moment.update.start_samples)
                )
                for moment in moments
            ]
        )
        np.testing.assert_allclose(np.asarray(result.tracks[speaker]), whole, atol=1 / 2**15)
        assert not whole[: 1000 * number].any()
    told = sorted(line for moment in moments for line in moment.rttm)
    assert told == sorted((run.folder / "call.rttm").read_text().splitlines())
    assert {path.name for path in run.folder.iterdir()} == {
        *("call.rttm", "call.json", "timeline.png", "SPEAKER_00.wav", "SPEAKER_01.wav")
    }
    assert result.settings["model"] == "fake"


def test_silence_is_a_result_too(tmp_path: Path) -> None:
    run = LiveRun(make(), AtOnce(np.zeros(5000, np.float32)), StreamRecorder(tmp_path, "call", RATE_HZ))
    list(run)
    result = Separation.load(tmp_path / "call")
    assert (result.speakers, result.num_samples, len(result.turns)) == ([], 5000, 0)


def test_nothing_at_all_is_a_result_too(tmp_path: Path) -> None:
    run = LiveRun(make(), AtOnce(np.zeros(0, np.float32)), StreamRecorder(tmp_path, "call", RATE_HZ))
    assert [moment.final_s for moment in run] == [0]
    assert Separation.load(tmp_path / "call").num_samples == 0


def test_where_the_source_fails_what_came_before_is_finished(tmp_path: Path) -> None:
    source = AtOnce(make_sound(5), error=PixitError("unplugged"))
    run = LiveRun(make(), source, StreamRecorder(tmp_path, "call", RATE_HZ))
    with pytest.raises(PixitError, match="unplugged"):
        list(run)
    assert Separation.load(tmp_path / "call").num_samples == 5000


def test_where_a_block_is_none_what_came_before_is_finished(tmp_path: Path) -> None:
    sound = make_sound(5)
    sound[4321] = np.nan
    run = LiveRun(make(), AtOnce(sound), StreamRecorder(tmp_path, "call", RATE_HZ))
    with pytest.raises(PixitError, match="holds NaN"):
        list(run)
    result = Separation.load(tmp_path / "call")
    assert 4000 <= result.num_samples <= 4321
    assert result.turns[-1].end_s > 3.5


def test_a_stopped_stream_is_finished(tmp_path: Path) -> None:
    source = Live(make_sound(600), 0.01)
    threading.Timer(0.5, source.stop).start()
    run = LiveRun(make(), source, StreamRecorder(tmp_path, "call", RATE_HZ))
    list(run)
    assert 0 < Separation.load(tmp_path / "call").num_samples < 300_000


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no signals")
def test_the_first_interrupt_finishes_and_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    source = Live(make_sound(600), 0.01)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    moments = list(LiveRun(make(), source))
    assert moments[-1].final_s == moments[-1].heard_s < 300
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_events_are_for_programs() -> None:
    events = [event for moment in LiveRun(make(), AtOnce(make_sound(9))) for event in moment.events]
    kinds = [event["event"] for event in events]
    assert kinds.count("opened") == kinds.count("closed") == 5
    assert events[-1]["event"] == "final"
    assert events[-1]["time"] == events[-1]["heard"] == 9.0
    opened = next(event for event in events if event["event"] == "opened")
    assert opened == {"event": "opened", "speaker": "SPEAKER_00", "start": 0.0}


# --- the disk -------------------------------------------------------------------------------------------


def test_of_a_full_disk_whole_lines_are_left(tmp_path: Path) -> None:
    recorder = StreamRecorder(tmp_path, "call", RATE_HZ)
    turns = tuple(TurnChange("closed", "SPEAKER_00", float(n), n + 0.5) for n in range(7))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))  # no file gets longer
    try:
        recorder.write(Update(0, 1, {}, turns))
        recorder.write(Update(1, 2, {}, turns))
        with pytest.raises(PixitError, match="cannot be written"):
            recorder.write(Update(2, 3, {}, turns))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    text = (tmp_path / "call" / "call.rttm").read_text()
    assert text.endswith("\n")
    assert len(text.splitlines()) == 14


def test_what_is_there_is_not_overwritten_unasked(tmp_path: Path) -> None:
    def record(overwrite: bool) -> None:
        list(LiveRun(make(), AtOnce(make_sound(5)), StreamRecorder(tmp_path, "call", RATE_HZ, overwrite)))

    record(False)
    with pytest.raises(PixitError, match="exists already"):
        record(False)
    (tmp_path / "call" / "notes.txt").write_text("mine")
    with pytest.raises(PixitError, match=r"holds notes.txt, which is not part of the result"):
        record(True)
    (tmp_path / "call" / "notes.txt").unlink()
    (tmp_path / "call" / "call.json").unlink()  # as a stream that was killed leaves it
    (tmp_path / "call" / ".tracks").write_text("SPEAKER_00.wav\nSPEAKER_01.wav\n")
    (tmp_path / "call" / ".pixit-half").write_text("half of the picture")
    (tmp_path / "call" / ".mine").write_text("mine")
    with pytest.raises(PixitError, match=r"holds \.mine, which is not part of the result"):
        record(True)
    (tmp_path / "call" / ".mine").unlink()
    record(True)
    assert Separation.load(tmp_path / "call").num_samples == 5000
    Separation.load(tmp_path / "call").rename({"SPEAKER_00": "Ann"})
    record(True)
    assert Separation.load(tmp_path / "call").speakers == ["SPEAKER_00", "SPEAKER_01"]
    assert not (tmp_path / "call" / "Ann.wav").exists()
    (tmp_path / "call" / ".description").mkdir()  # as one leaves it that is killed at its very end
    record(True)
    assert not (tmp_path / "call" / ".tracks").exists()
    (tmp_path / "call" / "call.json").unlink()
    (tmp_path / "call" / "SPEAKER_01.wav").unlink()
    with pytest.raises(PixitError, match=r"holds SPEAKER_00.wav, which is not part of the result"):
        record(True)  # who knows whose it is


def test_a_result_that_was_being_replaced_when_it_was_killed_can_be_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(Exception):
        pass

    unlink, left = Path.unlink, 2

    def mortal(path: Path, missing_ok: bool = False) -> None:
        nonlocal left
        left -= path.parent.name == "call" and path.exists()
        if left < 0:
            raise Killed
        unlink(path, missing_ok)

    list(LiveRun(make(), AtOnce(make_sound(5)), StreamRecorder(tmp_path, "call", RATE_HZ)))
    monkeypatch.setattr(Path, "unlink", mortal)
    with pytest.raises(Killed):
        StreamRecorder(tmp_path, "call", RATE_HZ, True)
    monkeypatch.undo()
    assert len(list((tmp_path / "call").iterdir())) == 4
    StreamRecorder(tmp_path, "call", RATE_HZ, True)
    assert {path.name for path in (tmp_path / "call").iterdir()} == {"call.rttm", ".tracks"}


CHILD = f"""
import runpy, sys
import numpy as np
sys.path.insert(0, {str(SCRIPT.parents[1])!r})
fakes = runpy.run_path({str(SCRIPT)!r})
from pixit.pipeline.recorder import StreamRecorder
from pixit.pipeline.streaming import StreamingSeparator, StreamingSettings
stream = StreamingSeparator(fakes["Halves"](), fakes["Sign"](), StreamingSettings(step_s=0.5), device="cpu")
recorder = StreamRecorder(sys.argv[1], "call", 1000)
rng = np.random.default_rng(0)
for number in range(10 ** 6):
    sound = rng.uniform(0.1, 0.5, 500) * (1 if number < 40 or number % 8 < 4 else -1) * (number % 4 != 3)
    recorder.write(stream.push(sound))
    print(number, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no signals")
def test_killed_at_any_moment_what_was_written_can_be_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    lengths = []
    for attempt in range(5):
        folder = tmp_path / str(attempt)
        child = subprocess.Popen([sys.executable, "-c", CHILD, folder], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        for line in child.stdout:
            if int(line) == 60:
                break
        time.sleep(rng.uniform(0, 0.7))
        child.kill()
        last = [60, *map(int, child.communicate()[0].split())][-1]
        tracks = {path: soundfile.info(path) for path in (folder / "call").glob("*.wav")}
        assert len(tracks) == 2
        frames = [info.frames for info in tracks.values()]
        final = (last + 1) * 500 - 1500
        assert all(final <= length <= final + 500 for length in frames)  # to an update
        for path in tracks:
            assert np.isfinite(soundfile.read(path)[0]).all()
        (turns,) = read_rttm(folder / "call" / "call.rttm").values()
        assert turns
        assert all(0 <= turn.start_s < turn.end_s <= (final + 500) / RATE_HZ for turn in turns)
        assert (folder / "call" / "call.rttm").read_text().endswith("\n")
        lengths.append(final)
    assert len(set(lengths)) > 1
