"""Bad input, through Python and the command line: a right result, or one clear line and nothing half-written."""

from __future__ import annotations

import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner, Result
from pyannote.core import Annotation, Segment, Timeline

import pixit
from pixit import PixitError, Separator
from pixit.audio import open_audio, read_info
from pixit.checkpoints import load_model, save_model
from pixit.cli import cli
from pixit.models.embedders import SpeakerEncoder

RATE_HZ = 16000

SETTINGS = "step_s: 0.5\nactivity: {min_local_s: 0.02}\nclustering: {min_speaker_s: 0.2, min_speech_s: 0.2}\n"


@pytest.fixture(scope="module")
def pretrained(tiny_separator: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny separator, with settings for the shortest speech."""
    folder = tmp_path_factory.mktemp("pretrained") / "separator"
    shutil.copytree(tiny_separator, folder)
    (folder / "separator.yaml").write_text(SETTINGS)
    return folder


@pytest.fixture(scope="module")
def separator(pretrained: Path) -> Separator:
    return Separator.from_pretrained(pretrained, device="cpu")


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own for temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def run(pretrained: Path, tmp_path: Path, temporary: Path) -> Iterator[Callable[..., Result]]:
    """Call ``pixit separate`` with some arguments, writing to ``tmp_path/out``; nothing temporary may stay."""

    def call(*arguments: str | Path, model: Path = pretrained) -> Result:
        words = ["separate", "--model", str(model), "-o", str(tmp_path / "out"), *map(str, arguments)]
        return CliRunner().invoke(cli, words)

    gc.freeze()  # what is there already need not be searched each time
    yield call
    gc.collect()  # the trace of click's exit holds the frame of the test, and so its results
    gc.unfreeze()
    assert list(temporary.iterdir()) == []


def noise(duration_s: float, rate_hz: int = RATE_HZ, channels: int = 1, level: float = 0.1) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(0, level, (round(duration_s * rate_hz), channels)).astype(np.float32)


def write(path: Path, samples: np.ndarray, rate_hz: int = RATE_HZ, subtype: str | None = None) -> Path:
    soundfile.write(path, samples, rate_hz, subtype)
    return path


def assert_one_line(result: Result, *words: str | Path) -> None:
    """Exit code 2, and one line on the standard error that has all `words`."""
    assert result.exit_code == 2, result.output
    lines = result.stderr.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("pixit: error: ")
    for word in words:
        assert str(word) in lines[0]


def files_in(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*")) if folder.exists() else []


# --- what cannot be read ------------------------------------------------------------------------------


def make_bad_recordings(folder: Path) -> dict[str, tuple[Path, str]]:
    """Name -> file, and a word that its error has."""
    good = write(folder / "good.wav", noise(3)).read_bytes()
    bad = {
        "empty.wav": (b"", "empty"),
        "header_only.wav": (good[:44], "no samples"),
        "text.wav": (b"this is a shopping list\n" * 50, "is not audio"),
        "picture.mp3": (b"\x89PNG\r\n\x1a\n" + bytes(500), "audio"),
        "random.flac": (np.random.default_rng(0).bytes(5000), "audio"),
    }
    found = {}
    for name, (content, word) in bad.items():
        (folder / name).write_bytes(content)
        found[name] = (folder / name, word)
    (folder / "folder.wav").mkdir()
    holes = noise(3)
    holes[30_000] = np.nan
    found["nan.wav"] = (write(folder / "nan.wav", holes, subtype="FLOAT"), "1.875 s")
    holes[30_000] = np.inf
    found["infinite.wav"] = (write(folder / "infinite.wav", holes, subtype="FLOAT"), "infinite")
    found["missing.wav"] = (folder / "missing.wav", "No such file")
    return found


BAD = [
    "empty.wav",
    "header_only.wav",
    "text.wav",
    "picture.mp3",
    "random.flac",
    "nan.wav",
    "infinite.wav",
    "missing.wav",
]


@pytest.mark.parametrize("name", BAD)
def test_unreadable_recording(
    name: str, separator: Separator, run: Callable[..., Result], tmp_path: Path
) -> None:
    path, word = make_bad_recordings(tmp_path)[name]
    with pytest.raises(PixitError, match=word) as error:
        separator(path)
    assert "\n" not in str(error.value)
    assert_one_line(run(path), path.stem, word)
    assert files_in(tmp_path / "out") == []


def encode(path: Path, samples: np.ndarray) -> Path:
    """Write a file of any of the formats that recordings come in."""
    codecs = {".mkv": "pcm_s16le", ".m4a": "aac"}
    if path.suffix not in codecs:
        formats = {".opus": ("OGG", "OPUS"), ".mp3": ("MP3", "MPEG_LAYER_III"), ".ogg": ("OGG", "VORBIS")}
        container, subtype = formats.get(path.suffix, (None, None))
        soundfile.write(path, samples, RATE_HZ, subtype, format=container)
        return path
    options = {"movflags": "faststart"} if path.suffix == ".m4a" else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codecs[path.suffix], rate=RATE_HZ, layout="mono")
        size = stream.codec_context.frame_size or 1024
        convert = av.AudioResampler(stream.codec_context.format, "mono", RATE_HZ, frame_size=size)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), "flt", "mono")
        frame.sample_rate = RATE_HZ
        for part in [*convert.resample(frame), *convert.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg", "opus", "mkv", "m4a"])
def test_a_recording_that_is_cut_off(
    suffix: str, separator: Separator, run: Callable[..., Result], tmp_path: Path
) -> None:
    """One rule for all formats: what is there is separated, the loss is told, and the command ends with status 2."""
    whole = encode(tmp_path / f"whole.{suffix}", noise(3))
    assert separator(whole).settings["loss"] is None
    path = tmp_path / f"short.{suffix}"
    path.write_bytes(whole.read_bytes()[: int(0.7 * whole.stat().st_size)])
    result = separator(path)
    assert 0.5 < result.duration_s < 2.5
    assert f"is truncated or damaged after {result.duration_s:.2f} s" in result.settings["loss"]
    assert result.settings["warnings"] == [f"{result.settings['loss']}; what is there was separated"]
    for _ in range(2):  # when it is separated, and when it is done
        assert_one_line(run(path), path, "truncated", "what is there was separated")
    saved = pixit.Separation.load(tmp_path / "out" / "short")
    assert saved.num_samples == result.num_samples
    with pytest.raises(PixitError, match="truncated"):  # but for training, references and the like
        list(open_audio(path).blocks())


def test_a_bad_recording_does_not_stop_the_others(run: Callable[..., Result], tmp_path: Path) -> None:
    good = write(tmp_path / "good one.wav", noise(1.3))
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"")
    odd = write(tmp_path / "odd.wav", noise(1.3))
    content = bytearray(odd.read_bytes())
    content[20] = 3  # floating point numbers of 16 bits: there is no such codec
    odd.write_bytes(content)
    result = run(bad, odd, good)
    first, second = result.stderr.splitlines()
    assert result.exit_code == 2
    assert first.startswith(f"pixit: error: {bad}: is an empty file")
    assert second.startswith(f"pixit: error: {odd}: holds no audio that can be decoded")
    assert f"2 of 3 recordings failed or are not whole: {bad}, {odd}\n" in result.stdout
    assert {name.split("/")[0] for name in files_in(tmp_path / "out")} == {"good_one"}


def test_a_folder_without_recordings(run: Callable[..., Result], tmp_path: Path) -> None:
    empty = tmp_path / "no recordings"
    empty.mkdir()
    assert_one_line(run(empty), empty)
    assert files_in(tmp_path / "out") == []


# --- what is odd, but a recording ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("samples", "rate_hz"),
    [
        (noise(0.2), 16000),  # shorter than a window
        (noise(1.0), 16000),
        (noise(2.51), 8000),
        (noise(2.51, 96000), 96000),
        (noise(1.7, 44100), 44100),
        (noise(2.3, channels=8), 16000),
        (np.clip(noise(2.3, level=3.0), -1, 1), 16000),  # clipped
        (np.ones((20_000, 1), np.float32), 16000),  # as loud as can be
        (noise(2.3, level=1e-3), 16000),
    ],
    ids=["short", "window", "8k", "96k", "44.1k", "8channels", "clipped", "constant", "quiet"],
)
def test_odd_recordings(
    samples: np.ndarray, rate_hz: int, separator: Separator, run: Callable[..., Result], tmp_path: Path
) -> None:
    path = write(tmp_path / "odd.wav", samples, rate_hz)
    length = max(1, round(len(samples) * RATE_HZ / rate_hz))
    result = separator(path)
    assert result.num_samples == length
    assert len(result.tracks) >= 1
    assert result.sources.data.shape == (length, len(result.tracks))
    assert np.isfinite(result.sources.data).all()
    outcome = run(path)
    assert outcome.exit_code == 0, outcome.output
    written = tmp_path / "out" / "odd"
    tracks = [f"{speaker}.wav" for speaker in result.tracks]
    assert sorted(p.name for p in written.iterdir()) == sorted(
        [*tracks, "odd.json", "odd.rttm", "timeline.png"]
    )
    assert {soundfile.info(written / track).frames for track in tracks} == {length}
    duration_s = length / RATE_HZ
    for line in (written / "odd.rttm").read_text().splitlines():
        start_s, turn_s = map(float, line.split()[3:5])
        assert 0 <= start_s < start_s + turn_s <= duration_s + 1e-6


def test_tracks_of_an_odd_recording_sum_to_it(separator: Separator, tmp_path: Path) -> None:
    """Everybody talks all the time, as far as this model is concerned."""
    samples = noise(3.3)
    result = separator({"waveform": torch.from_numpy(samples.T), "sample_rate": RATE_HZ})
    np.testing.assert_allclose(result.sources.data.sum(axis=1), samples[:, 0], atol=1e-3)


@pytest.mark.parametrize("num_samples", [1, 2, 100, 5_000, 40_000])
def test_silence_has_no_speakers(
    num_samples: int, separator: Separator, run: Callable[..., Result], tmp_path: Path
) -> None:
    """Though this model believes that everybody talks."""
    path = write(tmp_path / "silent.wav", np.zeros(num_samples))
    result = separator(path, num_speakers=2)
    assert (result.tracks, len(result.diarization), result.num_samples) == ({}, 0, num_samples)
    outcome = run(path)
    assert outcome.exit_code == 0, outcome.output
    written = tmp_path / "out" / "silent"
    assert sorted(p.name for p in written.iterdir()) == ["silent.json", "silent.rttm", "timeline.png"]
    assert (written / "silent.rttm").read_text() == ""


@pytest.mark.parametrize("num_samples", [1, 3, 40, 200])
def test_a_few_loud_samples(
    num_samples: int, separator: Separator, run: Callable[..., Result], tmp_path: Path
) -> None:
    path = write(tmp_path / "click.wav", np.full(num_samples, 0.5))
    result = separator(path)
    assert result.num_samples == num_samples
    assert {track.num_samples for track in result.tracks.values()} <= {num_samples}
    assert run(path).exit_code == 0


def test_no_samples_in_memory(separator: Separator) -> None:
    with pytest.raises(PixitError, match="waveform"):
        separator({"waveform": torch.zeros(1, 0), "sample_rate": RATE_HZ})


@pytest.mark.parametrize("source", [{}, {"waveform": torch.zeros(1, 5)}, {"audio": 3}, 7, None])
def test_no_recording_at_all(source: Any, separator: Separator) -> None:
    with pytest.raises(PixitError, match="expected a path"):
        separator(source)


# --- numbers and settings -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--num-speakers", "0"], ["speakers"]),
        (["--min-speakers", "3", "--max-speakers", "2"], ["between 3 and 2"]),
        (["--channel", "1"], ["no channel 1"]),
        (["--channel", "-1"], ["no channel -1"]),
        (["--step", "0"], ["step_s"]),
        (["--step", "7"], ["step"]),
        (["--step", "nan"], ["step_s"]),
        (["--batch-size", "0"], ["batch_size"]),
        (["--set", "clustering.treshold=0.5"], ["did you mean 'threshold'"]),
        (["--set", "nonsense"], ["key=value"]),
        (["--set", "stitching.collar_s=1e9"], ["stitching.collar_s", "less than or equal to 60"]),
        (["--set", "activity.min_duration_on_s=inf"], ["min_duration_on_s", "finite number"]),
        (["--set", "step_s=" + "9" * 5000], ["step_s"]),
        (["--device", "abacus"], ["abacus"]),
        (["--device", "meta"], ["device 'meta': cannot be used"]),
        (["--device", ""], ["device ''"]),
        (["--device", "privateuseone"], ["device 'privateuseone'"]),
        (["--stream", "1"], ["no audio stream 1; expected 0"]),
        (["--stream", "-1"], ["no audio stream -1"]),
        (["--channels-are-speakers"], ["has one channel"]),
        (["--step", "inf"], ["step_s"]),
        (["--step", "1e300"], ["step_s"]),
        (["--batch-size", "99999999999999999999"], ["batch_size"]),
        (["--num-speakers", "99999999999999999999"], ["at most 10000"]),
        (["--set", "activity.min_local_s=.inf"], ["min_local_s"]),
        (["--set", "activity.min_local_s=1e300"], ["min_local_s"]),
        (["--set", "activity.min_duration_off_s=.nan"], ["min_duration_off_s"]),
        (["--set", "clustering.max_vectors=99999999999999"], ["max_vectors"]),
        (["--set", "stitching.collar_s=1e9"], ["collar_s"]),
        (["--set", "stitching.leakage_removal_db=.inf"], ["leakage_removal_db"]),
    ],
)
def test_bad_options(
    options: list[str], words: list[str], run: Callable[..., Result], tmp_path: Path
) -> None:
    path = write(tmp_path / "good.wav", noise(1.5))
    assert_one_line(run(path, *options), *words)
    assert files_in(tmp_path / "out") == []


# --- where nothing can be written ---------------------------------------------------------------------


def test_a_file_in_place_of_the_output_folder(run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    assert_one_line(run(write(tmp_path / "good.wav", noise(1.5))), tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


def test_a_file_in_place_of_the_result(run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "good").write_text("mine")
    assert_one_line(run(write(tmp_path / "good.wav", noise(1.5))), "good")
    assert files_in(tmp_path / "out") == ["good"]
    assert (tmp_path / "out" / "good").read_text() == "mine"


def test_a_folder_of_somebody_else_in_place_of_the_result(run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "out" / "good").mkdir(parents=True)
    (tmp_path / "out" / "good" / "thesis.txt").write_text("mine")
    path = write(tmp_path / "good.wav", noise(1.5))
    for options in ([], ["--overwrite"]):
        assert_one_line(run(path, *options), "good")
        assert files_in(tmp_path / "out") == ["good", "good/thesis.txt"]


@contextmanager
def full_disk(after_bytes: int) -> Iterator[None]:
    """Let no file grow beyond so many bytes; no compiled module either, which would stay behind, cut off."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    resource.setrlimit(resource.RLIMIT_FSIZE, (after_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        sys.dont_write_bytecode = before


@pytest.mark.parametrize(("after_bytes", "file"), [(10_000, "temporary file"), (300_000, "SPEAKER_00")])
def test_a_full_disk(after_bytes: int, file: str, run: Callable[..., Result], tmp_path: Path) -> None:
    """Full while the windows wait (130 kB of them), and while the tracks are made (640 kB each)."""
    path = write(tmp_path / "good.wav", np.concatenate([noise(1.0), np.zeros((9 * RATE_HZ, 1), np.float32)]))
    with full_disk(after_bytes):
        result = run(path)
    assert_one_line(result, file, "cannot be written")
    assert files_in(tmp_path / "out") == []


@pytest.mark.parametrize("format", ["wav", "flac"])
def test_a_disk_that_is_full_when_the_result_is_saved(
    format: str, separator: Separator, tmp_path: Path
) -> None:
    result = separator(write(tmp_path / "good.wav", noise(1.5)))
    for after_bytes in (0, 5_000):
        with full_disk(after_bytes), pytest.raises(PixitError, match="cannot be written"):
            result.save(tmp_path / "out", format)
        assert files_in(tmp_path / "out") == []
    assert result.save(tmp_path / "out", format).is_dir()  # there is room again


def test_no_room_for_temporary_files(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "good.wav", noise(1.5))
    monkeypatch.setattr("shutil.disk_usage", lambda place: type("Usage", (), {"free": 1000}))
    assert_one_line(run(path), "free", "TMPDIR")
    assert files_in(tmp_path / "out") == []


@pytest.mark.parametrize("step", ["segmentation", "separations"])
def test_interrupted(
    step: str, run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while windows are separated, and while tracks are made."""

    def interrupt(hook: Any, file: Any, name: str) -> Callable[..., None]:
        def tell(completed: int, total: int) -> None:
            if name == step and completed > 1:
                raise KeyboardInterrupt

        return tell

    monkeypatch.setattr("pixit.pipeline.separate._progress", interrupt)
    result = run(write(tmp_path / "good.wav", noise(3)))
    assert result.exit_code == 130
    assert result.stderr.splitlines() == ["interrupted"]
    assert files_in(tmp_path / "out") == []


# --- checkpoints --------------------------------------------------------------------------------------


def damage_weights(folder: Path) -> None:
    weights = folder / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-10] ^= 0xFF
    weights.write_bytes(content)


def truncate_weights(folder: Path) -> None:
    weights = folder / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])


def swap(folder: Path) -> None:
    (folder / "model").rename(folder / "other")
    (folder / "embedder").rename(folder / "model")
    (folder / "other").rename(folder / "embedder")


def poison(folder: Path) -> None:
    model: Any = load_model(folder / "model")
    torch.nn.init.constant_(model.classifier.weight, torch.nan)
    save_model(model, folder / "model", {})


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damage_weights, ["model.safetensors", "damaged"]),
        (truncate_weights, ["model.safetensors", "damaged"]),
        (lambda folder: (folder / "model" / "model.safetensors").unlink(), ["model.safetensors"]),
        (lambda folder: (folder / "model" / "config.json").write_text("{"), ["config.json", "JSON"]),
        (lambda folder: (folder / "embedder" / "config.json").unlink(), ["embedder"]),
        (lambda folder: shutil.rmtree(folder / "embedder"), ["embedder"]),
        (swap, ["SpeakerEncoder", "expected a model"]),
        (poison, ["NaN", "damaged"]),
        (lambda folder: (folder / "separator.yaml").write_text("stepp_s: 1"), ["did you mean 'step_s'"]),
        (lambda folder: (folder / "separator.yaml").write_text("[1"), ["separator.yaml"]),
    ],
    ids=[
        "bit",
        "truncated",
        "no_weights",
        "json",
        "no_config",
        "no_embedder",
        "swapped",
        "nan",
        "key",
        "yaml",
    ],
)
def test_damaged_checkpoint(
    damage: Callable[[Path], None],
    words: list[str],
    run: Callable[..., Result],
    pretrained: Path,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(pretrained, folder)
    damage(folder)
    assert_one_line(run(write(tmp_path / "good.wav", noise(1.5)), model=folder), *words)
    assert files_in(tmp_path / "out") == []


@pytest.mark.parametrize("name", ["missing/folder/here", "recording.wav"])
def test_no_checkpoint_at_all(name: str, run: Callable[..., Result], tmp_path: Path) -> None:
    recording = write(tmp_path / "recording.wav", noise(1.5))
    model = tmp_path / name
    assert_one_line(run(recording, model=model), model.name)
    assert files_in(tmp_path / "out") == []


def test_an_embedder_of_another_sample_rate(
    run: Callable[..., Result], pretrained: Path, tmp_path: Path
) -> None:
    voice = SpeakerEncoder(8, num_mels=16, base_channels=2, blocks_per_stage=1, sample_rate_hz=8000)
    other = save_model(voice, tmp_path / "other", {})
    path = write(tmp_path / "good.wav", noise(1.5))
    assert_one_line(run(path, "--embedder", other), "8000 Hz", "16000 Hz")
    assert files_in(tmp_path / "out") == []


# --- a real conversation ------------------------------------------------------------------------------


@pytest.mark.real
def test_telephone_conversation(shared_data: Path) -> None:
    """The bundled model on two real speakers: not a measure of quality, only that nothing is badly wrong."""
    if not (Path(pixit.__file__).parent / "bundled" / "separator.yaml").exists():
        pytest.skip("no bundled model")
    metrics = pytest.importorskip("pyannote.metrics.diarization")
    path = shared_data / "telephone" / "sample.wav"
    result = Separator.from_pretrained(device="cpu")(path)
    reference = Annotation(uri="sample")
    for line in (shared_data / "telephone" / "sample.rttm").read_text().splitlines():
        start_s, duration_s, speaker = float(line.split()[3]), float(line.split()[4]), line.split()[7]
        reference[Segment(start_s, start_s + duration_s), speaker] = speaker
    whole = Timeline([Segment(0, result.duration_s)])
    rate = metrics.DiarizationErrorRate()(reference, result.diarization, uem=whole)
    assert len(result.tracks) == 2 or rate < 0.6
    mixture = open_audio(path).read()
    tracks = result.sources.data.sum(axis=1)
    assert tracks.shape == mixture.shape
    for turn in result.diarization.get_timeline().support():
        inside = slice(round(turn.start * RATE_HZ), round(turn.end * RATE_HZ))
        error = np.square(tracks[inside] - mixture[inside]).sum() / np.square(mixture[inside]).sum()
        assert error < 0.1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes in folders")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.wav")
    with pytest.raises(PixitError, match=r"x\.wav: is a pipe"):
        read_info(tmp_path / "x.wav")


def test_a_name_that_is_not_utf8_is_told(tmp_path: Path) -> None:
    with pytest.raises(PixitError, match=r"bad\\udcff\.wav': the name is not valid UTF-8"):
        read_info(tmp_path / "bad\udcff.wav")


@pytest.mark.parametrize("duration", ["inf", "nan", "1e9"])
def test_meetings_without_end_are_not_begun(duration: str, tmp_path: Path) -> None:
    words = ["simulate", "--speech", str(tmp_path), "--turns", str(tmp_path), "--duration", duration]
    assert_one_line(CliRunner().invoke(cli, words), "duration_s")


def test_names_that_are_too_long_for_files_are_cut(tmp_path: Path) -> None:
    for name in ("m" * 300, "m" * 299 + "n"):
        (tmp_path / f"{name[-1]}.rttm").write_text(f"SPEAKER {name} 1 0 1 <NA> <NA> ann <NA> <NA>\n")
    out = tmp_path / "out"
    done = CliRunner().invoke(cli, ["export", str(tmp_path), "--to", "csv", "-o", str(out)])
    assert done.exit_code == 0, done.output
    assert {len(path.stem) for path in out.iterdir()} == {200}
    assert len(list(out.iterdir())) == 2
