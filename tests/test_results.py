from __future__ import annotations

import copy
import gc
import itertools
import json
import pickle
import sys
import tempfile
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from pyannote.core import Annotation, Segment

from pixit.audio import Samples, Track, TrackWriter
from pixit.corrections import rename_saved
from pixit.report.timeline import clock
from pixit.results import Separation
from pixit.types import PixitError

RATE_HZ = 8000


def tone(num_samples: int, frequency_hz: float, level: float = 0.5) -> Samples:
    times_s = np.arange(num_samples) / RATE_HZ
    return (level * np.sin(2 * np.pi * frequency_hz * times_s)).astype(np.float32)


def write_track(folder: Path, name: str, samples: Samples) -> Track:
    path = folder / f"{name}.w64"
    with TrackWriter(path, RATE_HZ, "w64") as writer:
        writer.write(samples)
    return Track.open(path)


def make_separation(folder: Path, uri: str = "meeting", duration_s: float = 3.0) -> Separation:
    num_samples = round(duration_s * RATE_HZ)
    tracks = {
        f"SPEAKER_{number:02d}": write_track(folder, f"{number}", tone(num_samples, 200 * (number + 1)))
        for number in range(2)
    }
    diarization = Annotation(uri=uri)
    diarization[Segment(0.1234, 0.4 * duration_s), "a"] = "SPEAKER_00"
    diarization[Segment(0.3 * duration_s, duration_s), "b"] = "SPEAKER_01"
    return Separation(uri, diarization, tracks, RATE_HZ, num_samples, {"step_s": 1.0, "nested": {"x": [1]}})


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# --- tracks -----------------------------------------------------------------------------------------------


def test_track_reads_stretches_blocks_and_all(tmp_path: Path) -> None:
    samples = tone(5000, 300, level=1.7)  # a float track has no ceiling
    track = write_track(tmp_path, "x", samples)
    assert (len(track), track.sample_rate_hz) == (5000, RATE_HZ)
    np.testing.assert_array_equal(track.read(100, 250), samples[100:250])
    np.testing.assert_array_equal(np.concatenate(list(track.blocks(77))), samples)
    np.testing.assert_array_equal(np.asarray(track), samples)
    assert np.asarray(track, dtype=np.float64).dtype == np.float64


@pytest.mark.parametrize("num_samples", [1, 7, 1000, 3333])
@pytest.mark.parametrize("num_points", [1, 10, 2000])
def test_envelope_is_that_of_each_stretch(tmp_path: Path, num_samples: int, num_points: int) -> None:
    samples = np.random.default_rng(0).normal(size=num_samples).astype(np.float32)
    low, high = write_track(tmp_path, "x", samples).envelope(num_points)
    edges = np.linspace(0, num_samples, min(num_points, num_samples) + 1).astype(int)
    stretches = [samples[start:end] for start, end in itertools.pairwise(edges)]
    np.testing.assert_array_equal(low, [min(0, s.min()) for s in stretches])
    np.testing.assert_array_equal(high, [max(0, s.max()) for s in stretches])


# --- the result -------------------------------------------------------------------------------------------


def test_unpacks_as_pyannote(tmp_path: Path) -> None:
    separation = make_separation(tmp_path)
    diarization, sources = separation
    assert diarization is separation.diarization
    assert sources.data.shape == (24000, 2)
    assert sources.data.dtype == np.float32
    assert sources.labels == separation.speakers == ["SPEAKER_00", "SPEAKER_01"]
    np.testing.assert_array_equal(sources.data[:, 1], np.asarray(separation.tracks["SPEAKER_01"]))
    window = sources.sliding_window
    assert (window.start, window.duration, window.step) == (0.0, 1 / RATE_HZ, 1 / RATE_HZ)


def test_a_track_outlives_its_result_and_its_folder_does_not_outlive_it() -> None:
    temporary = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    folder = Path(temporary.name)
    separation = make_separation(folder)
    separation.temporary = None
    kept = Separation(
        "x", separation.diarization, separation.tracks, RATE_HZ, separation.num_samples, temporary=temporary
    ).tracks["SPEAKER_00"]
    del temporary, separation
    gc.collect()
    assert len(kept.read()) == 24000
    del kept
    gc.collect()
    assert not folder.exists()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("format", ["wav", "flac"])
def test_what_is_saved_is_what_is_loaded(tmp_path: Path, format: str) -> None:
    separation = make_separation(tmp_path)
    folder = separation.save(tmp_path / "out", format)
    assert folder == tmp_path / "out" / "meeting"
    tracks = {f"SPEAKER_00.{format}", f"SPEAKER_01.{format}"}
    assert set(files_of(folder)) == {"meeting.rttm", "meeting.json", "timeline.png"} | tracks
    assert soundfile.info(folder / f"SPEAKER_00.{format}").subtype == "PCM_16"

    loaded = Separation.load(folder)
    assert (loaded.uri, loaded.num_samples, loaded.settings) == ("meeting", 24000, separation.settings)
    for speaker, track in separation.tracks.items():
        np.testing.assert_allclose(np.asarray(loaded.tracks[speaker]), np.asarray(track), atol=1 / 32768)
    turns = [(s.start, s.end, label) for s, _, label in loaded.diarization.itertracks(yield_label=True)]
    assert turns == [(0.123, 1.2, "SPEAKER_00"), (0.9, 3.0, "SPEAKER_01")]

    again = loaded.save(tmp_path / "again", format)
    first, second = files_of(folder), files_of(again)
    third = files_of(Separation.load(again).save(tmp_path / "third", format))
    assert third == second
    del first["timeline.png"], second["timeline.png"]  # the first was drawn before rounding to 16 bits
    assert second == first


def test_rttm_and_json_tell_the_same(tmp_path: Path) -> None:
    folder = make_separation(tmp_path).save(tmp_path / "out")
    described = json.loads((folder / "meeting.json").read_text())
    lines = [line.split() for line in (folder / "meeting.rttm").read_text().splitlines()]
    assert [" ".join(line) for line in lines] == [
        "SPEAKER meeting 1 0.123 1.077 <NA> <NA> SPEAKER_00 <NA> <NA>",
        "SPEAKER meeting 1 0.900 2.100 <NA> <NA> SPEAKER_01 <NA> <NA>",
    ]
    assert described["diarization"] == [
        {"speaker": "SPEAKER_00", "start": 0.123, "end": 1.2},
        {"speaker": "SPEAKER_01", "start": 0.9, "end": 3.0},
    ]
    assert (described["duration"], described["sample_rate"]) == (3.0, RATE_HZ)
    assert described["tracks"]["SPEAKER_01"]["file"] == "SPEAKER_01.wav"


def test_turns_that_vanish_in_rounding_are_dropped_and_none_outlasts_the_recording(tmp_path: Path) -> None:
    separation = make_separation(tmp_path, duration_s=2.0)
    separation.num_samples = 15999  # ends at 1.999875 s, which would round up
    separation.tracks = {"SPEAKER_00": write_track(tmp_path, "short", tone(15999, 100))}
    separation.diarization = Annotation(uri="meeting")
    separation.diarization[Segment(0.5, 0.5004), "a"] = "SPEAKER_00"
    separation.diarization[Segment(1.0, 1.999875), "b"] = "SPEAKER_00"
    folder = separation.save(tmp_path / "out")
    assert (folder / "meeting.rttm").read_text().splitlines() == [
        "SPEAKER meeting 1 1.000 0.999 <NA> <NA> SPEAKER_00 <NA> <NA>"
    ]


def test_same_segment_of_two_speakers_survives(tmp_path: Path) -> None:
    separation = make_separation(tmp_path)
    separation.diarization = Annotation(uri="meeting")
    for speaker in separation.speakers:
        separation.diarization[Segment(0, 1), speaker] = speaker
    loaded = Separation.load(separation.save(tmp_path / "out"))
    assert loaded.diarization == separation.diarization


def test_clipped_samples_and_peak_are_told(tmp_path: Path) -> None:
    samples = np.zeros(100, np.float32)
    samples[10:13] = 1.5, -2.0, 1.0
    track = write_track(tmp_path, "x", samples)
    separation = Separation("loud", Annotation(uri="loud"), {"SPEAKER_00": track}, RATE_HZ, 100)
    folder = separation.save(tmp_path)
    entry = json.loads((folder / "loud.json").read_text())["tracks"]["SPEAKER_00"]
    assert entry == {"file": "SPEAKER_00.wav", "peak": 2.0, "clipped_samples": 2}
    again = Separation.load(folder).save(tmp_path / "again")
    entry = json.loads((again / "loud.json").read_text())["tracks"]["SPEAKER_00"]
    assert entry["clipped_samples"] == 2, "what was limited once stays so"


def test_a_result_that_is_saved_over_itself_goes_on(tmp_path: Path) -> None:
    folder = make_separation(tmp_path).save(tmp_path / "out")
    loaded = Separation.load(folder)
    before = {speaker: track.read() for speaker, track in loaded.tracks.items()}
    for format in ("flac", "wav"):
        loaded.save(tmp_path / "out", format, overwrite=True)
        for speaker, track in loaded.tracks.items():
            assert track.path == folder / f"{speaker}.{format}"
            np.testing.assert_array_equal(track.read(), before[speaker])


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sets no such limit")
def test_a_flac_whose_end_does_not_fit_is_told(tmp_path: Path) -> None:
    import resource

    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 5 * RATE_HZ).astype(np.float32)
    with TrackWriter(tmp_path / "whole.flac", RATE_HZ, "flac") as writer:
        writer.write(noise)
    size, limits = (tmp_path / "whole.flac").stat().st_size, resource.getrlimit(resource.RLIMIT_FSIZE)
    writer = TrackWriter(tmp_path / "cut.flac", RATE_HZ, "flac")
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size - 100, limits[1]))  # as a disk that is full by then
        writer.write(noise)
        with pytest.raises(PixitError, match=r"cut\.flac: cannot be written .*free space"):
            writer.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("num_samples", [1, 16000])
def test_nobody_speaks(tmp_path: Path, num_samples: int) -> None:
    separation = Separation("silence", Annotation(uri="silence"), {}, RATE_HZ, num_samples)
    _, sources = separation
    assert sources.data.shape == (num_samples, 0)
    folder = separation.save(tmp_path)
    assert set(files_of(folder)) == {"silence.rttm", "silence.json", "timeline.png"}
    assert (folder / "silence.rttm").read_text() == ""
    loaded = Separation.load(folder)
    assert (loaded.speakers, len(loaded.diarization), loaded.num_samples) == ([], 0, num_samples)
    texts = [text.get_text() for text in separation.plot().axes[0].texts]
    assert texts == ["no speech found"]


def test_names_become_fit_for_files_and_rttm(tmp_path: Path) -> None:
    separation = make_separation(tmp_path, uri="../my meeting:1")
    names = {"SPEAKER_00": "Zoë B", "SPEAKER_01": "a/b"}
    separation.diarization = separation.diarization.rename_labels(names)
    separation.tracks = {names[speaker]: track for speaker, track in separation.tracks.items()}
    folder = separation.save(tmp_path / "out")
    assert folder == tmp_path / "out" / "__my_meeting_1"
    assert {"Zoë_B.wav", "a_b.wav", "__my_meeting_1.rttm"} <= set(files_of(folder))
    assert "SPEAKER __my_meeting_1 1 0.123 1.077 <NA> <NA> Zoë_B" in next(folder.glob("*.rttm")).read_text()
    loaded = Separation.load(folder)
    assert loaded.speakers == ["Zoë B", "a/b"]
    assert loaded.diarization.labels() == ["Zoë B", "a/b"]
    assert loaded.uri == separation.uri

    separation.tracks = dict(zip(["a/b", "a b"], separation.tracks.values(), strict=True))
    with pytest.raises(PixitError, match="same file name"):
        separation.save(tmp_path / "other")


@pytest.mark.parametrize(("time_s", "text"), [(0, "0:00"), (7.4, "0:07"), (59.6, "1:00"), (3723, "1:02:03")])
def test_clock(time_s: float, text: str) -> None:
    assert clock(time_s) == text


# --- whole or not at all ----------------------------------------------------------------------------------


def test_an_older_result_is_replaced_only_on_demand(tmp_path: Path) -> None:
    first = make_separation(tmp_path)
    folder = first.save(tmp_path / "out", "flac")
    before = files_of(folder)
    with pytest.raises(PixitError, match=r"out/meeting: exists already"):
        first.save(tmp_path / "out")
    assert files_of(folder) == before
    assert first.save(tmp_path / "out", "wav", overwrite=True) == folder
    assert {path.name for path in folder.glob("SPEAKER*")} == {"SPEAKER_00.wav", "SPEAKER_01.wav"}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["meeting"]


def test_what_pixit_did_not_write_is_never_deleted(tmp_path: Path) -> None:
    separation = make_separation(tmp_path)
    folder = separation.save(tmp_path / "out")
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(PixitError, match=r"holds notes\.txt"):
        separation.save(tmp_path / "out", overwrite=True)
    other = tmp_path / "other" / "meeting"
    other.mkdir(parents=True)
    (other / "thesis.doc").write_text("mine")
    with pytest.raises(PixitError, match="expected the folder of a result"):
        separation.save(tmp_path / "other", overwrite=True)
    assert (folder / "notes.txt").exists()
    assert (other / "thesis.doc").exists()


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), KeyboardInterrupt(), RuntimeError()]
)
def test_an_interrupted_save_leaves_the_old_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    separation = make_separation(tmp_path)
    out = tmp_path / "out"
    folder = separation.save(out)
    before = files_of(folder)

    def fail(self: Separation) -> bytes:
        raise error

    monkeypatch.setattr(Separation, "_repr_png_", fail)
    expected = PixitError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected, match="No space left" if expected is PixitError else None):
        separation.save(out, overwrite=True)
    assert files_of(folder) == before
    separation.uri = "other"
    with pytest.raises(expected):
        separation.save(out)
    assert [path.name for path in out.iterdir()] == ["meeting"]


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PixitError, match=r"file/meeting: cannot be written \(Not a directory\)"):
        make_separation(tmp_path).save(tmp_path / "file")


def cut_json(folder: Path) -> None:
    path = folder / "meeting.json"
    path.write_text(path.read_text()[:100])


def drop_key(folder: Path) -> None:
    path = folder / "meeting.json"
    described = json.loads(path.read_text())
    del described["num_samples"]
    path.write_text(json.dumps(described))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_json, r"meeting\.json: is not the description of a result \(the file: .*"),
        (drop_key, r"meeting\.json: is not the description of a result \(num_samples: field required\)"),
        (lambda folder: (folder / "meeting.json").unlink(), r"meeting\.json: cannot be read"),
        (lambda folder: (folder / "SPEAKER_01.wav").unlink(), r"SPEAKER_01\.wav: cannot be read"),
        (
            lambda folder: soundfile.write(folder / "SPEAKER_00.wav", np.zeros(50), RATE_HZ),
            r"SPEAKER_00\.wav: has 50 samples at 8000 Hz, .* 24000 at 8000 Hz",
        ),
    ],
)
def test_a_damaged_result_is_an_error(tmp_path: Path, damage, message: str) -> None:
    folder = make_separation(tmp_path).save(tmp_path / "out")
    damage(folder)
    with pytest.raises(PixitError, match=message) as caught:
        Separation.load(folder)
    assert "\n" not in str(caught.value)


def test_load_takes_no_track_from_elsewhere(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "secret.wav", np.zeros(24000), RATE_HZ)
    folder = make_separation(tmp_path).save(tmp_path / "out")
    path = folder / "meeting.json"
    path.write_text(path.read_text().replace('"SPEAKER_00.wav"', '"../../secret.wav"'))
    with pytest.raises(PixitError, match=r"is not the description of a result .*SPEAKER_00\.file"):
        Separation.load(folder)


@pytest.mark.parametrize(
    "file", ["../../secret.wav", "..", "", ".pixit-change", "/secret.wav", "C:secret.wav"]
)
def test_no_file_from_elsewhere_is_renamed_or_replaced(tmp_path: Path, file: str) -> None:
    soundfile.write(tmp_path / "secret.wav", np.zeros(24000), RATE_HZ)
    folder = make_separation(tmp_path).save(tmp_path / "out")
    path = folder / "meeting.json"
    path.write_text(path.read_text().replace('"SPEAKER_00.wav"', json.dumps(file)))
    before = files_of(folder)
    for change in (
        lambda: rename_saved(folder, ["SPEAKER_00=Ann"]),
        lambda: make_separation(tmp_path).save(tmp_path / "out", overwrite=True),
    ):
        with pytest.raises(PixitError, match=r"is not the description of a result .*SPEAKER_00\.file"):
            change()
    assert files_of(folder) == before
    assert (tmp_path / "secret.wav").exists()


def test_a_result_loads_from_inside_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_separation(tmp_path).save(tmp_path / "out"))
    assert Separation.load(".").uri == "meeting"


# --- pictures ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("duration_s", "unit", "labels"),
    [
        (0.5, "s", ["0", "0.1", "0.2"]),
        (30, "s", ["0", "5", "10"]),
        (1800, "min:s", ["0:00", "5:00", "10:00"]),
    ],
)
def test_plot_has_a_lane_for_each_speaker(
    tmp_path: Path, duration_s: float, unit: str, labels: list[str]
) -> None:
    figure = make_separation(tmp_path, duration_s=duration_s).plot()
    figure.canvas.draw()
    axes = figure.axes[0]
    lanes = [text.get_text().splitlines()[0] for text in axes.get_yticklabels()]
    assert lanes == ["SPEAKER_00", "SPEAKER_01"]
    assert axes.get_xlim() == (0, duration_s)
    assert axes.get_xlabel() == unit
    ticks = [text.get_text() for text in axes.get_xticklabels()]
    start = ticks.index(labels[0])
    assert ticks[start : start + 3] == labels
    assert len(ticks) <= 15


def test_hours_are_written_as_hours(tmp_path: Path) -> None:
    separation = Separation("x", Annotation(uri="x"), {}, 1, 3 * 3600)
    figure = separation.plot()
    figure.canvas.draw()
    assert "1:30" in [text.get_text() for text in figure.axes[0].get_xticklabels()]


@pytest.mark.filterwarnings("error")
def test_plot_touches_nothing_global_and_takes_any_name(tmp_path: Path) -> None:
    import matplotlib.pyplot as plt

    before = plt.get_fignums(), dict(plt.rcParams)
    png = make_separation(tmp_path, uri="会議 $x^ & <b>")._repr_png_()
    assert png.startswith(b"\x89PNG")
    assert (plt.get_fignums(), dict(plt.rcParams)) == before


def test_notebooks_show_players_of_short_recordings_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    separation = make_separation(tmp_path, uri="<i>")
    shown = separation._repr_html_()
    assert shown.count("<audio controls") == 2
    assert "data:image/png;base64," in shown
    assert "<i>" not in shown
    monkeypatch.setattr("pixit.results.PLAYER_LIMIT_S", 2.0)
    shown = separation._repr_html_()
    assert "<audio" not in shown
    assert "SPEAKER_01" in shown


def test_saving_and_drawing_take_memory_that_does_not_grow_with_length(tmp_path: Path) -> None:
    peaks = []
    for minutes in (4, 16):  # 16 minutes of two tracks are 61 MB
        separation = make_separation(tmp_path, f"{minutes}", minutes * 60.0)
        separation.save(tmp_path / "warm") if minutes == 4 else None
        gc.collect()
        tracemalloc.start()
        separation.save(tmp_path / "out", "flac")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 1e6


def test_two_threads_may_save_at_once(tmp_path: Path) -> None:
    separations = [make_separation(tmp_path, f"meeting{n}") for n in range(2)]
    threads = [threading.Thread(target=s.save, args=[tmp_path / "out"]) for s in separations]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["meeting0", "meeting1"]


# --- to another process -----------------------------------------------------------------------------------


def test_a_saved_result_is_sent_by_its_folder_and_an_unsaved_one_not_at_all(tmp_path: Path) -> None:
    temporary = tempfile.TemporaryDirectory(dir=tmp_path)
    result = make_separation(Path(temporary.name))
    stays = pickle.loads(pickle.dumps(result))  # its tracks are no temporary ones
    np.testing.assert_array_equal(stays.sources.data, result.sources.data)
    result = Separation(**{**vars(result), "temporary": temporary})
    with pytest.raises(PixitError, match=r"meeting: its tracks are temporary .* save\(\) it"):
        pickle.dumps(result)
    with pytest.raises(PixitError, match=r"0\.w64: is temporary .* save\(\)"):
        pickle.dumps(result.tracks["SPEAKER_00"])
    assert copy.copy(result).tracks == result.tracks
    result.save(tmp_path / "out")
    sent = pickle.dumps(result)
    assert len(sent) < 1000
    del result
    temporary.cleanup()
    received = pickle.loads(sent)
    assert (received.folder, received.speakers) == (
        tmp_path / "out" / "meeting",
        ["SPEAKER_00", "SPEAKER_01"],
    )
    assert received.tracks["SPEAKER_01"].read().any()
    assert pickle.loads(pickle.dumps(received)).diarization == received.diarization
