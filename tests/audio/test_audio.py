"""Reading and writing audio: exact where it can be, aligned always, and one line for what is no audio."""

from __future__ import annotations

import math
import resource
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
import soxr
import torch

from pixit.audio import AudioFile, MemoryAudio, TrackWriter, open_audio, read_info
from pixit.types import PixitError

RATES = [(8000, 16000), (44100, 16000), (48000, 16000), (96000, 16000), (11025, 16000), (16000, 8000)]


def noise(num_samples: int, num_channels: int = 1, seed: int = 0) -> np.ndarray:
    """16-bit noise (T,) or (T, channels), so that a wav holds it exactly."""
    integers = np.random.default_rng(seed).integers(-9000, 9000, (num_samples, num_channels))
    return (integers / 32768).astype(np.float32).squeeze(axis=1) if num_channels == 1 else integers / 32768


def read_all(
    path: Path, rate_hz: int | None = None, channel: int | None = None, **stretch: int
) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.float32), *AudioFile(path, rate_hz, channel).blocks(**stretch)])


def encode(path: Path, codec: str, signal: np.ndarray, rate_hz: int = 48000, **options: str) -> Path:
    """Write mono audio with ffmpeg."""
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=rate_hz, layout="mono")
        converter = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=rate_hz)
        size = stream.codec_context.frame_size or 1024
        for start in range(0, len(signal), size):
            frame = av.AudioFrame.from_ndarray(signal[None, start : start + size], "fltp", "mono")
            frame.sample_rate, frame.pts = rate_hz, start
            for converted in converter.resample(frame):
                container.mux(stream.encode(converted))
        container.mux(stream.encode(None))
    return path


# Reading -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["wav", "flac", "aiff", "w64"])
@pytest.mark.parametrize("block_samples", [1, 999, 1 << 18])
def test_lossless_formats_are_exact(tmp_path: Path, suffix: str, block_samples: int) -> None:
    path = tmp_path / f"a.{suffix}"
    signal = noise(2500)
    soundfile.write(path, signal, 16000, subtype="PCM_16")
    blocks = list(AudioFile(path).blocks(block_samples))
    assert all(block.dtype == np.float32 and 0 < len(block) <= block_samples for block in blocks)
    np.testing.assert_array_equal(np.concatenate(blocks), signal)
    np.testing.assert_array_equal(soundfile.read(path, dtype="float32")[0], signal)


def test_channels(tmp_path: Path) -> None:
    path = tmp_path / "eight.wav"
    signal = noise(3000, num_channels=8)
    soundfile.write(path, signal, 16000)
    assert read_info(path).num_channels == 8
    np.testing.assert_allclose(read_all(path), signal.mean(axis=1), atol=1e-7)
    np.testing.assert_array_equal(read_all(path, channel=7), signal[:, 7].astype(np.float32))
    for channel in (8, -1, 1.0):
        with pytest.raises(PixitError, match=rf"eight: has no channel {channel}; expected one of 0 to 7"):
            read_all(path, channel=channel)


@pytest.mark.parametrize(("source_hz", "target_hz"), RATES)
def test_streamed_resampling_equals_one_shot(tmp_path: Path, source_hz: int, target_hz: int) -> None:
    path = tmp_path / "a.wav"
    signal = noise(source_hz + 123)
    soundfile.write(path, signal, source_hz)
    expected = soxr.resample(signal, source_hz, target_hz)
    for block_samples in (101, 4096, 1 << 18):
        streamed = read_all(path, target_hz, block_samples=block_samples)
        assert len(streamed) == round(len(signal) * target_hz / source_hz)
        np.testing.assert_allclose(streamed, expected[: len(streamed)], atol=1e-6)


@pytest.mark.parametrize(("source_hz", "target_hz"), [*RATES, (16000, 16000), (192000, 8000)])
@pytest.mark.parametrize("num_samples", [1, 2, 3, 5, 17, 1001])
def test_length_is_exact(source_hz: int, target_hz: int, num_samples: int) -> None:
    audio = MemoryAudio(noise(num_samples)[None], source_hz, target_hz)
    assert audio.num_samples == max(1, round(num_samples * target_hz / source_hz))
    assert sum(map(len, audio.blocks(7))) == len(audio.read()) == audio.num_samples


@pytest.mark.parametrize(("source_hz", "target_hz"), RATES)
def test_resampling_has_no_delay(source_hz: int, target_hz: int) -> None:
    times = np.arange(source_hz) / source_hz
    sine = np.sin(2 * np.pi * 300 * times).astype(np.float32)
    resampled = MemoryAudio(sine[None], source_hz, target_hz).read()
    expected = np.sin(2 * np.pi * 300 * np.arange(target_hz) / target_hz)
    middle = slice(target_hz // 10, -target_hz // 10)
    np.testing.assert_allclose(resampled[middle], expected[middle], atol=1e-3)
    impulse = np.zeros((1, source_hz), np.float32)
    impulse[0, source_hz // 5] = 1
    assert MemoryAudio(impulse, source_hz, target_hz).read().argmax() == target_hz // 5


@pytest.mark.parametrize("target_hz", [None, 8000, 16000, 44100])
@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "m4a"])
def test_chunks_equal_the_whole(tmp_path: Path, suffix: str, target_hz: int | None) -> None:
    path, signal = tmp_path / f"a.{suffix}", noise(3 * 22050 + 1)
    if suffix == "m4a":
        encode(path, "aac", signal, rate_hz=22050)
    else:
        soundfile.write(path, signal, 22050)
    for audio in (AudioFile(path, target_hz), MemoryAudio(signal[None], 22050, target_hz)):
        whole = audio.read()
        n = audio.num_samples
        assert len(whole) == n == sum(map(len, audio.blocks(5000)))
        for start, stop in [(0, 10), (1, 2), (n // 2, n // 2 + 4000), (n - 3, n), (n // 3, n), (7, 7)]:
            np.testing.assert_allclose(audio.read(start, stop), whole[start:stop], atol=2e-6)
        for start, stop in [(-1, 5), (0, n + 1), (6, 5)]:
            with pytest.raises(PixitError, match="outlast"):
                audio.read(start, stop)


def test_a_chunk_reads_only_its_stretch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(60 * 16000), 16000)
    num_read = []
    read = soundfile.SoundFile.read
    monkeypatch.setattr(
        soundfile.SoundFile, "read", lambda *args, **kw: num_read.append(len(x := read(*args, **kw))) or x
    )
    assert len(AudioFile(path, 8000).read(8000 * 30, 8000 * 31)) == 8000
    assert sum(num_read) < 4 * 16000


def test_a_stretch_of_a_file(tmp_path: Path) -> None:
    path, signal = tmp_path / "a.wav", noise(16000)
    soundfile.write(path, signal, 16000)
    np.testing.assert_array_equal(read_all(path, start=4000, stop=8000), signal[4000:8000])
    np.testing.assert_array_equal(read_all(path, start=14400), signal[14400:])


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp3", "mp3"), ("a.m4a", "aac"), ("a.mkv", "aac"), ("a.webm", "libopus"), ("a.opus", "libopus")],
)
def test_compressed_formats_are_aligned(tmp_path: Path, name: str, codec: str) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec} encoder")
    signal = 0.3 * np.sin(2 * np.pi * np.cumsum(np.linspace(200, 2000, 96000)) / 48000)  # a sweep
    path = encode(tmp_path / name, codec, signal.astype(np.float32))
    info = read_info(path)
    assert (info.sample_rate_hz, info.num_channels) == (48000, 1)
    assert info.duration_s == pytest.approx(2, abs=0.1)
    audio = AudioFile(path, 16000)
    decoded = audio.read()
    assert len(decoded) == audio.num_samples == pytest.approx(32000, abs=1024)
    reference = soxr.resample(signal, 48000, 16000)[2000:30000]
    shifts = range(-20, 21)
    likeness = [np.dot(decoded[2000 + shift : 30000 + shift], reference) for shift in shifts]
    assert shifts[int(np.argmax(likeness))] == 0
    assert max(likeness) == pytest.approx(np.dot(reference, reference), rel=0.05)


def test_ogg_vorbis_is_aligned_and_as_long_as_its_source(tmp_path: Path) -> None:
    signal = noise(40001)
    soundfile.write(tmp_path / "a.ogg", signal, 16000)
    decoded = AudioFile(tmp_path / "a.ogg").read()
    np.testing.assert_allclose(decoded, soundfile.read(tmp_path / "a.ogg", dtype="float32")[0], atol=1e-5)
    assert np.dot(decoded, signal) > 0.8 * np.dot(signal, signal)


def test_first_audio_stream_of_a_video(tmp_path: Path) -> None:
    path = tmp_path / "talk.mp4"
    tone = (0.5 * np.sin(np.arange(8192) * 0.1)).astype(np.float32)
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=10, width=32, height=32)
        audio = container.add_stream("aac", rate=16000, layout="mono")
        container.mux(video.encode(av.VideoFrame(32, 32, "yuv420p")))
        for start in range(0, len(tone), 1024):
            frame = av.AudioFrame.from_ndarray(tone[None, start : start + 1024], "fltp", "mono")
            frame.sample_rate, frame.pts = 16000, start
            container.mux(audio.encode(frame))
        for stream in (video, audio):
            container.mux(stream.encode(None))
    decoded = read_all(path)
    np.testing.assert_allclose(decoded[2000:6000], tone[2000:6000], atol=0.05)


def test_flac_without_a_length_and_wav_from_a_pipe(tmp_path: Path) -> None:
    signal = noise(20000)
    flac, wav = tmp_path / "a.flac", tmp_path / "a.wav"
    soundfile.write(flac, signal, 16000)
    data = bytearray(flac.read_bytes())
    data[21] &= 0xF0  # STREAMINFO: 36 bits of total samples, 0 for unknown
    data[22:26] = bytes(4)
    flac.write_bytes(data)
    soundfile.write(wav, signal, 16000)
    data = bytearray(wav.read_bytes())
    data[40:44] = struct.pack("<I", 0xFFFFFFFF)
    wav.write_bytes(data)
    for path in (flac, wav):
        audio = AudioFile(path)
        assert audio.num_samples == 20000
        np.testing.assert_array_equal(audio.read(), signal)


@pytest.mark.real
def test_real_recording(shared_data: Path) -> None:
    path = shared_data / "telephone" / "sample.wav"
    expected, rate_hz = soundfile.read(path, dtype="float32")
    np.testing.assert_array_equal(read_all(path, block_samples=12345), expected)
    audio = AudioFile(path)
    assert (audio.sample_rate_hz, audio.num_samples, audio.uri) == (rate_hz, len(expected), "sample")
    np.testing.assert_allclose(
        AudioFile(path, 8000).read(), soxr.resample(expected, rate_hz, 8000), atol=1e-6
    )


# Bad input ---------------------------------------------------------------------------------------------


def refused(path: Path, pattern: str, **kwargs) -> None:
    """Reading must end in one line that names the file."""
    with pytest.raises(PixitError, match=pattern) as caught:
        read_all(path, **kwargs)
    assert "\n" not in str(caught.value)
    assert path.stem in str(caught.value)


def test_what_is_no_audio_file(tmp_path: Path) -> None:
    refused(tmp_path / "missing.wav", "No such file")
    refused(tmp_path, "directory")
    files = {
        "empty.wav": (b"", "empty file"),
        "text.txt": (b"hello world\n" * 100, "no audio"),
        "random.wav": (np.random.default_rng(0).bytes(50000), "not audio"),
        "zeros.m4a": (bytes(50000), "not audio"),
        "bytes.raw": (np.random.default_rng(1).bytes(5000), "audio"),
        "list.m3u8": (b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n", "audio"),
        "one_byte.mp3": (b"x", "not audio"),
    }
    for name, (data, pattern) in files.items():
        (tmp_path / name).write_bytes(data)
        refused(tmp_path / name, pattern)


def test_zero_samples(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "none.wav", np.zeros(0), 16000)
    refused(tmp_path / "none.wav", "no samples")
    with pytest.raises(PixitError, match="shape"):
        MemoryAudio(np.zeros((1, 0)), 16000)


@pytest.mark.parametrize("suffix", ["wav", "aiff", "flac", "rf64"])
def test_truncated(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, noise(32000), 16000, format=suffix)
    path.write_bytes(path.read_bytes()[:20000])
    refused(path, r"after 0\.\d\d s of the 2\.00 s")


def test_truncated_by_a_hair_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(32000), 16000)
    path.write_bytes(path.read_bytes()[:-100])
    assert AudioFile(path).num_samples == 31950


def test_truncated_m4a(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.m4a", "aac", noise(480000))
    path.write_bytes(path.read_bytes()[:-3000])
    refused(path, "not audio")  # its index, at the end, is gone
    path = encode(tmp_path / "b.m4a", "aac", noise(480000), movflags="faststart")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(path, r"truncated or damaged after \d")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(tmp_path: Path, value: float) -> None:
    signal = noise(16000)
    signal[8000] = value
    soundfile.write(tmp_path / "bad.wav", signal, 16000, subtype="FLOAT")
    refused(tmp_path / "bad.wav", r"NaN or infinite samples, first at 0\.500 s", block_samples=999)
    with pytest.raises(PixitError, match="waveform: holds NaN"):
        MemoryAudio(signal[None], 16000, 8000).read()


@pytest.mark.parametrize("rate_hz", [8000, 16000, 96000])
@pytest.mark.parametrize("num_samples", [1, 16000])
def test_silence_and_single_samples(tmp_path: Path, rate_hz: int, num_samples: int) -> None:
    soundfile.write(tmp_path / "quiet.wav", np.zeros(num_samples), rate_hz)
    signal = read_all(tmp_path / "quiet.wav", 16000)
    assert len(signal) == max(1, round(num_samples * 16000 / rate_hz))
    assert not signal.any()


# Opening -----------------------------------------------------------------------------------------------


def test_open_audio(tmp_path: Path) -> None:
    path, stereo = tmp_path / "my talk.wav", noise(2000, 2)
    soundfile.write(path, stereo, 16000)
    tensor = torch.from_numpy(stereo.T)
    sources = [
        path,
        str(path),
        {"audio": path},
        {"waveform": tensor, "sample_rate": 16000, "uri": "my talk"},
        {"waveform": tensor.bfloat16().requires_grad_(), "sample_rate": 16000, "uri": "my talk"},
        {"waveform": stereo.T, "sample_rate": 16000, "audio": "elsewhere.wav", "uri": "my talk"},
    ]
    for source in sources:
        audio = open_audio(source)
        assert (audio.uri, audio.num_samples, audio.sample_rate_hz) == ("my talk", 2000, 16000)
        np.testing.assert_allclose(audio.read(), stereo.mean(axis=1), atol=2e-3)
        again = open_audio(audio, 8000, channel=1)
        assert (again.uri, again.num_samples, again.channel) == ("my talk", 1000, 1)
        assert (audio.num_samples, audio.channel) == (2000, "mean")
    assert open_audio({"waveform": tensor, "sample_rate": 16000}).uri == "waveform"
    assert open_audio({"audio": path, "uri": "x", "channel": 1}).channel == 1
    assert open_audio({"audio": path, "channel": 1}, channel=0).channel == 0


@pytest.mark.parametrize(
    "source",
    [
        3,
        {},
        {"waveform": np.zeros((1, 5))},
        {"uri": "x"},
        {"audio": 3},
        {"waveform": np.zeros(5), "sample_rate": 16000},
        {"waveform": np.zeros((1, 5), np.int16), "sample_rate": 16000},
        {"waveform": torch.zeros(1, 5, dtype=torch.int16), "sample_rate": 16000},
        {"waveform": np.zeros((1, 5)), "sample_rate": 0},
    ],
)
def test_open_audio_refuses(source: object) -> None:
    with pytest.raises(PixitError, match="expected"):
        open_audio(source)


# Writing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format", "subtype", "found"),
    [("wav", None, "PCM_16"), ("flac", None, "PCM_16"), ("w64", None, "FLOAT"), ("wav", "FLOAT", "FLOAT")],
)
def test_tracks_are_read_back_exactly(tmp_path: Path, format: str, subtype: str | None, found: str) -> None:
    path, signal = tmp_path / f"track.{format}", noise(5000)
    with TrackWriter(path, 16000, format, subtype) as writer:
        for block in np.split(signal, [1, 1, 4000]):
            writer.write(block)
    assert (writer.num_samples, writer.clipped_samples) == (5000, 0)
    assert soundfile.info(path).subtype == found
    np.testing.assert_array_equal(AudioFile(path).read(), signal)


def test_clipping_is_counted(tmp_path: Path) -> None:
    loud = np.array([1.0, -1.0, 1.5, -7, 0.5], np.float32)
    with TrackWriter(tmp_path / "a.wav", 16000) as writer:
        writer.write(loud)
    assert writer.clipped_samples == 2
    written = soundfile.read(tmp_path / "a.wav", dtype="int16")[0]
    assert written.tolist() == [32767, -32768, 32767, -32768, 16384]
    with TrackWriter(tmp_path / "a.w64", 16000, "w64") as writer:
        writer.write(loud)
    assert writer.clipped_samples == 0
    np.testing.assert_array_equal(AudioFile(tmp_path / "a.w64").read(), loud)


def test_long_tracks_become_rf64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for num_samples, format in [((1 << 31) - 5000, "WAV"), (1 << 31, "RF64")]:
        path = tmp_path / f"{format}.wav"
        with TrackWriter(path, 16000, num_samples=num_samples) as writer:
            writer.write(noise(10))
        assert soundfile.info(path).format == format
        assert AudioFile(path).num_samples == 10
    monkeypatch.setattr("pixit.audio.tracks.WAV_LIMIT_BYTES", 2000)
    with TrackWriter(tmp_path / "b.wav", 16000) as writer:
        writer.write(noise(1000))
        with pytest.raises(PixitError, match="4 GiB"):
            writer.write(noise(1))


@contextmanager
def full_disk(num_bytes: int) -> Iterator[None]:
    """Let no file grow beyond `num_bytes`."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("format", ["wav", "flac", "w64"])
@pytest.mark.parametrize("num_samples", [10, 3000, 100_000])
def test_full_disk(tmp_path: Path, format: str, num_samples: int) -> None:
    """Wherever the disk fills up, in a block or in the last buffered bytes, it is reported."""

    def write() -> None:
        with full_disk(10), TrackWriter(tmp_path / "full", 16000, format) as writer:
            writer.write(noise(num_samples))

    with pytest.raises(PixitError, match=r"full: cannot be written"):
        write()


def test_bad_tracks(tmp_path: Path) -> None:
    for path in (tmp_path / "missing" / "a.wav", tmp_path):
        with pytest.raises(PixitError, match="cannot be written"):
            TrackWriter(path, 16000)
    for format, subtype in [("mp3", None), ("flac", "FLOAT"), ("wav", "PCM_99")]:
        with pytest.raises(PixitError, match="expected wav, flac or w64"):
            TrackWriter(tmp_path / "a", 16000, format, subtype)
    with TrackWriter(tmp_path / "a.wav", 16000) as writer, pytest.raises(PixitError, match="NaN"):
        writer.write(np.array([0, np.nan], np.float32))


@pytest.mark.parametrize("format", ["wav", "flac"])
def test_samples_are_rounded_to_the_nearest_step(format: str, tmp_path: Path) -> None:
    steps = np.array([-1.4, -1.0, -0.6, -0.4, -1e-5, 0, 1e-5, 0.4, 0.6, 1.0, 1.4], np.float32)
    with TrackWriter(tmp_path / "track", 16000, format) as writer:
        writer.write(steps / 32768)
    found = AudioFile(tmp_path / "track").read() * 32768
    np.testing.assert_array_equal(found, np.rint(steps))


@pytest.mark.parametrize(
    ("waveform", "rate_hz", "message"),
    [
        (np.zeros((1, 10), np.float32), 0, "has a sample rate of 0 Hz; expected 10 to"),
        (np.zeros((1, 10), np.float32), "16000", "expected a sample rate in whole Hz, found '16000'"),
        (np.zeros((1, 10), np.float32), math.nan, "expected a sample rate in whole Hz, found nan"),
        (np.zeros((1, 10), np.float32), math.inf, "expected a sample rate in whole Hz, found inf"),
        (np.zeros((1, 10), np.float32), 16000.5, "expected a sample rate in whole Hz, found 16000.5"),
        (np.zeros((8000, 2), np.float32), 16000, "expected \\(channel, time\\): transpose it"),
    ],
)
def test_implausible_arrays_are_told(waveform: np.ndarray, rate_hz: Any, message: str) -> None:
    with pytest.raises(PixitError, match=message):
        open_audio({"waveform": waveform, "sample_rate": rate_hz}, 16000)


def test_far_too_loud_samples_are_told_where_they_are_read() -> None:
    loud = np.full((1, 100), 1e30, np.float32)
    with pytest.raises(PixitError, match=r"as large as 1e\+30, where 1 is full scale; scale it down"):
        open_audio({"waveform": loud, "sample_rate": 16000}).read()
    unscaled = np.full((1, 100), 2.0**31, np.float32)  # integers that were never scaled
    assert open_audio({"waveform": unscaled, "sample_rate": 16000}).read().max() == 2.0**31


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.wav", "ffconcat version 1.0\nfile secret.flac\n"),
        ("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{folder}/secret.flac\n#EXT-X-ENDLIST\n"),
    ],
)
def test_a_list_of_files_is_no_recording(tmp_path: Path, name: str, text: str) -> None:
    """Whoever may name or send a recording must not get to hear others of this machine."""
    soundfile.write(tmp_path / "secret.flac", np.full(32000, 0.1), 16000)
    (tmp_path / name).write_text(text.format(folder=tmp_path))
    with pytest.raises(PixitError, match="is not audio in a known format"):
        read_info(tmp_path / name)
