"""Files that are damaged, cut off or made to do harm: sound, or one line that names the file; never anything else."""

from __future__ import annotations

import os
import struct
import tracemalloc
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from pixit.audio import AudioFile, read_info
from pixit.audio.decode import decode_from
from pixit.types import PixitError

RATE_HZ = 16000
ROUNDS = int(os.environ.get("PIXIT_FUZZ_ROUNDS", "8"))
"""Damaged files of each format; a long run by hand takes a few thousand."""

SOUNDFILE = {
    "wav": ("WAV", "PCM_16"),
    "float.wav": ("WAV", "FLOAT"),
    "flac": ("FLAC", "PCM_16"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
}
FFMPEG = {"m4a": "aac", "mkv": "aac", "pcm.mkv": "pcm_s16le", "bare.mp3": "mp3", "webm": "libopus"}


def noise(num_samples: int = RATE_HZ) -> np.ndarray:
    return (0.2 * np.random.default_rng(0).standard_normal(num_samples)).astype(np.float32)


def mux(path: Path, codec: str, signals: list[np.ndarray], **options: str) -> Path:
    """Write a mono stream for each signal."""
    rate_hz = 48000 if codec == "libopus" else RATE_HZ
    with av.open(str(path), "w", options=options) as container:
        streams = [container.add_stream(codec, rate=rate_hz, layout="mono") for _ in signals]
        for stream, signal in zip(streams, signals, strict=True):
            frame = av.AudioFrame.from_ndarray(signal[None], "fltp", "mono")
            frame.sample_rate = RATE_HZ
            size = stream.codec_context.frame_size or 1024
            convert = av.AudioResampler(stream.codec_context.format, "mono", rate_hz, frame_size=size)
            for part in [*convert.resample(frame), *convert.resample(None)]:
                container.mux(stream.encode(part))
            container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    """Give an undamaged file of a format."""
    folder, made = tmp_path_factory.mktemp("whole"), {}

    def give(name: str) -> bytes:
        if name not in made:
            path = folder / f"whole.{name}"
            if name in FFMPEG:
                options = {"write_xing": "0"} if name == "bare.mp3" else {}
                mux(path, FFMPEG[name], [noise(3 * RATE_HZ)], **options)
            else:
                container, subtype = SOUNDFILE[name]
                soundfile.write(path, noise(3 * RATE_HZ), RATE_HZ, subtype, format=container)
            made[name] = path.read_bytes()
        return made[name]

    return give


def damage(content: bytes, rng: np.random.Generator) -> bytes:
    """Change, flip, remove or insert bytes, mostly in the header."""
    damaged = bytearray(content)
    span = min(len(damaged), int(rng.choice([64, 256, 1024, len(damaged)])))
    first = 0 if rng.random() < 0.7 else len(damaged) - span
    place = first + int(rng.integers(max(1, span - 4)))
    match int(rng.integers(4)):
        case 0:
            for _ in range(rng.integers(1, 8)):
                damaged[first + int(rng.integers(span))] = int(rng.integers(256))
        case 1:
            damaged[place] ^= 1 << int(rng.integers(8))
        case 2:
            del damaged[place : place + int(rng.integers(1, 200))]
            damaged[place:place] = rng.bytes(int(rng.integers(0, 200)))
        case 3:
            extreme = [b"\xff\xff\xff\xff", bytes(4), b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f"]
            damaged[place : place + 4] = extreme[int(rng.integers(4))]
    return bytes(damaged)


def outcome(path: Path, partial: bool, most_s: float = 100) -> str:
    """Read a file, but no more of it than a damaged header may promise; what else comes fails the test."""
    num_samples = 0
    try:
        for block in AudioFile(path, RATE_HZ, 0, path.name, partial=partial).blocks():
            assert np.isfinite(block).all()
            num_samples += len(block)
            if num_samples > most_s * RATE_HZ:
                break
    except PixitError as error:
        return str(error)
    return "sound"


@pytest.mark.parametrize("name", [*SOUNDFILE, *FFMPEG])
def test_a_damaged_file_gives_sound_or_one_line(
    name: str, whole: Callable[[str], bytes], tmp_path: Path
) -> None:
    path = tmp_path / f"damaged.{name}"
    for seed in range(ROUNDS):
        path.write_bytes(damage(whole(name), np.random.default_rng([seed, len(name)])))
        found = outcome(path, partial=bool(seed % 2))
        assert found == "sound" or (path.name in found and "\n" not in found), (seed, found)


@pytest.mark.parametrize(("place", "value", "message"), [(20, 3, "no audio"), (20, 0x7777, "no audio")])
def test_a_codec_that_does_not_exist(place: int, value: int, message: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.wav"
    soundfile.write(path, noise(), RATE_HZ)
    content = bytearray(path.read_bytes())
    content[place : place + 2] = struct.pack("<H", value)
    path.write_bytes(content)
    with pytest.raises(PixitError, match=f"{path}: .*{message}"):
        read_info(path)


@pytest.mark.parametrize("num_channels", [8, 9, 33])
def test_any_number_of_channels(num_channels: int, tmp_path: Path) -> None:
    """PyAV's table of planes ends after 8: reading beyond it crashed."""
    path = tmp_path / "many.mkv"
    signals = np.random.default_rng(0).integers(-9000, 9000, (num_channels, 4000)).astype(np.int16)
    soundfile.write(tmp_path / "many.wav", signals.T, RATE_HZ)
    with av.open(str(tmp_path / "many.wav")) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    last = AudioFile(path, channel=num_channels - 1)
    assert last.num_channels == num_channels
    np.testing.assert_array_equal(last.read(), signals[-1] / np.float32(32768))


@pytest.mark.parametrize("rate_hz", [0, 1, 2**31 - 1, 2**32 - 1])
def test_a_sample_rate_that_cannot_be(rate_hz: int, tmp_path: Path) -> None:
    path = tmp_path / "rate.wav"
    soundfile.write(path, noise(), RATE_HZ)
    content = bytearray(path.read_bytes())
    content[24:28] = struct.pack("<I", rate_hz)
    path.write_bytes(content)
    with pytest.raises(PixitError, match="rate"):
        AudioFile(path)


# --- what is missing at the end -------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*SOUNDFILE, *FFMPEG])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_file_that_is_cut_off(
    name: str, share: float, whole: Callable[[str], bytes], tmp_path: Path
) -> None:
    path, content = tmp_path / f"a.{name}", whole(name)
    path.write_bytes(content)
    complete = AudioFile(path, RATE_HZ, partial=True)
    assert (complete.num_samples >= 3 * RATE_HZ, complete.loss) == (True, None)
    np.testing.assert_array_equal(complete.read(), AudioFile(path, RATE_HZ).read())
    path.write_bytes(content[: int(share * len(content))])
    if name == "m4a":  # its index is at the end
        with pytest.raises(PixitError, match="not audio"):
            AudioFile(path, partial=True)
        return
    with pytest.raises(PixitError, match=r"is truncated or damaged after \d\.\d\d s.*; copy it again"):
        AudioFile(path).read()
    left = AudioFile(path, RATE_HZ, partial=True)
    assert len(left.read()) == left.num_samples < complete.num_samples
    assert f"is truncated or damaged after {left.num_samples / RATE_HZ:.2f} s" in str(left.loss)
    with pytest.raises(PixitError, match="lasts"):
        left.read(0, complete.num_samples)
    np.testing.assert_allclose(left.read(1000, 3000), complete.read(1000, 3000), atol=2e-2)


def test_a_tag_at_the_end_of_an_mp3_is_no_loss(whole: Callable[[str], bytes], tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    for name in ("mp3", "bare.mp3"):
        for tag in (b"TAG" + bytes(125), b"APETAGEX" + bytes(24)):
            path.write_bytes(whole(name) + tag)
            audio = AudioFile(path, partial=True)
            assert (audio.num_samples >= 3 * RATE_HZ, audio.loss) == (True, None)


def test_sound_that_ends_before_its_pictures_is_no_loss(tmp_path: Path) -> None:
    path = tmp_path / "talk.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=10, width=32, height=32)
        audio = container.add_stream("pcm_s16le", rate=RATE_HZ, layout="mono")
        for start in range(0, RATE_HZ, 320):
            samples = (noise()[None, start : start + 320] * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(samples, "s16", "mono")
            frame.sample_rate, frame.pts = RATE_HZ, start
            container.mux(audio.encode(frame))
        for _ in range(50):  # 5 s, and sound for one of them
            container.mux(video.encode(av.VideoFrame(32, 32, "yuv420p")))
        for stream in (video, audio):
            container.mux(stream.encode(None))
    found = AudioFile(path, partial=True)
    assert (found.num_samples, found.loss) == (RATE_HZ, None)
    path.write_bytes(path.read_bytes()[:30_000])  # most of the sound, and hardly a picture
    found = AudioFile(path, partial=True)
    assert found.num_samples <= RATE_HZ
    assert "of the 5.00 s that its header promises" in str(found.loss)


# --- gaps in the middle -------------------------------------------------------------------------------------


ALAC_FRAME = 4096
LOSSLESS = {"mkv": ("pcm_s16le", "s16"), "mp4": ("alac", "s16p")}


def mux_pieces(path: Path, pieces: list[tuple[int, np.ndarray]], with_pictures: bool = False) -> Path:
    """Write pieces of sound, each from its own sample on, beside pictures from the start if asked for."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=10, width=32, height=32) if with_pictures else None
        codec, kind = LOSSLESS[path.suffix[1:]]
        audio = container.add_stream(codec, rate=RATE_HZ, layout="mono")
        audio.codec_context.format = kind
        audio.time_base = Fraction(1, RATE_HZ)
        if video is not None:
            for _ in range(40):
                container.mux(video.encode(av.VideoFrame(32, 32, "yuv420p")))
            container.mux(video.encode(None))
        for start, samples in pieces:
            for first in range(0, len(samples), ALAC_FRAME):
                part = samples[None, first : first + ALAC_FRAME]
                frame = av.AudioFrame.from_ndarray(part, kind, "mono")
                frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, start + first, Fraction(1, RATE_HZ)
                container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    return path


def pcm(num_samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-9000, 9000, num_samples).astype(np.int16)


def placed(pieces: list[tuple[int, np.ndarray]]) -> np.ndarray:
    """Return the sound of pieces, with silence where there is none."""
    sound = np.zeros(max(start + len(samples) for start, samples in pieces), np.float32)
    for start, samples in pieces:
        sound[start : start + len(samples)] = samples / np.float32(32768)
    return sound


@pytest.mark.parametrize("ending", LOSSLESS)
@pytest.mark.parametrize("block_samples", [700, 1 << 20])
def test_a_gap_is_silence(ending: str, block_samples: int, tmp_path: Path) -> None:
    starts, sizes = (0, 6 * ALAC_FRAME, 8 * ALAC_FRAME + 800), (4 * ALAC_FRAME, 2 * ALAC_FRAME, 3000)
    pieces = [(start, pcm(size, start)) for start, size in zip(starts, sizes, strict=True)]
    path = mux_pieces(tmp_path / f"a.{ending}", pieces)
    expected = np.concatenate([placed(pieces[:2]), pieces[2][1] / np.float32(32768)])  # 0.05 s are no gap
    audio = AudioFile(path, partial=True)
    assert (audio.num_samples, audio.loss) == (len(expected), None)
    np.testing.assert_array_equal(np.concatenate(list(audio.blocks(block_samples))), expected)


@pytest.mark.parametrize("ending", LOSSLESS)
def test_sound_that_begins_after_its_pictures_is_as_late(ending: str, tmp_path: Path) -> None:
    pieces = [(8000, pcm(32000))]
    path = mux_pieces(tmp_path / f"a.{ending}", pieces, with_pictures=True)
    np.testing.assert_array_equal(AudioFile(path, partial=True).read(), placed(pieces))
    alone = mux_pieces(tmp_path / f"alone.{ending}", pieces)  # it begins where the file does
    assert len(AudioFile(alone).read()) == 32000


@pytest.mark.parametrize("name", FFMPEG)
def test_without_a_gap_nothing_is_put_in(
    name: str, whole: Callable[[str], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"a.{name}"
    path.write_bytes(whole(name))
    found = AudioFile(path).read()
    monkeypatch.setattr("pixit.audio.decode.Gap.fill", lambda *_: ())
    np.testing.assert_array_equal(found, AudioFile(path).read())


@pytest.mark.parametrize("promised_s", [2.5, 1e9])
def test_time_stamps_that_cannot_be_are_passed_by(promised_s: float, tmp_path: Path) -> None:
    """Sound that goes on after the end that is promised, or after a year."""
    pieces = [(0, pcm(16000)), (RATE_HZ * (3600 if promised_s < 3 else 86_400 * 365), pcm(16000, 1))]
    path = mux_pieces(tmp_path / "a.mkv", pieces)
    content = path.read_bytes()
    place = content.index(b"\x44\x89\x88") + 3  # Duration, in milliseconds
    path.write_bytes(content[:place] + struct.pack(">d", 1000 * promised_s) + content[place + 8 :])
    expected = np.concatenate([samples for _, samples in pieces]) / np.float32(32768)
    np.testing.assert_array_equal(AudioFile(path, partial=True).read(), expected)


def test_a_gap_of_an_hour_is_made_block_by_block(tmp_path: Path) -> None:
    pieces = [(0, pcm(16000)), (3600 * RATE_HZ, pcm(16000, 1))]
    audio = AudioFile(mux_pieces(tmp_path / "a.mkv", pieces))
    tracemalloc.start()
    try:
        assert sum(len(block) for block in audio.blocks(RATE_HZ)) == 3601 * RATE_HZ
        assert tracemalloc.get_traced_memory()[1] < 4e6  # all of it takes 230 MB
    finally:
        tracemalloc.stop()


def test_a_file_that_grows_while_it_is_read_is_read_as_far_as_it_was(tmp_path: Path) -> None:
    samples = pcm(3 * RATE_HZ)
    soundfile.write(tmp_path / "a.wav", samples[:RATE_HZ], RATE_HZ)
    info = read_info(tmp_path / "a.wav")
    soundfile.write(tmp_path / "a.wav", samples, RATE_HZ)
    found = np.concatenate(list(decode_from(info, 0, 10_000)))[:, 0]
    np.testing.assert_array_equal(found, samples[:RATE_HZ] / np.float32(32768))


# --- audio streams --------------------------------------------------------------------------------------


def test_one_of_several_streams(tmp_path: Path) -> None:
    signals = [np.full(RATE_HZ, level, np.float32) for level in (0.125, 0.25)]
    path = mux(tmp_path / "two.mkv", "pcm_s16le", signals)
    for asked, taken in ((None, 0), (0, 0), (1, 1)):
        audio = AudioFile(path, stream=asked)
        assert (audio.stream, audio.asked_stream, audio.num_streams) == (taken, asked, 2)
        np.testing.assert_allclose(audio.read(), signals[taken], atol=1e-4)
    for number in (2, -1):
        with pytest.raises(PixitError, match=rf"two\.mkv: has no audio stream {number}; expected 0 to 1"):
            AudioFile(path, stream=number)
    soundfile.write(tmp_path / "one.wav", signals[0], RATE_HZ)
    assert AudioFile(tmp_path / "one.wav", stream=0).num_streams == 1
    with pytest.raises(PixitError, match=r"one\.wav: has no audio stream 1; expected 0"):
        AudioFile(tmp_path / "one.wav", stream=1)
