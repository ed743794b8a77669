"""Sound and pictures of a signal, made in one pass over it, small enough for a page; and the mixture as one.

The signal is cut into clips of ten seconds. Each is compressed on its own, so that a browser decodes only what
is played next, however long the recording is. Waveform and spectrogram are drawn from numbers whose resolution
follows the length: all that a screen can show of a short recording, and a bounded amount of a long one.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixit.audio import Audio, Samples, open_audio
from pixit.diarized import Diarization
from pixit.formats.names import find_recording
from pixit.results import Separation

CLIP_S = 10
MARGIN_S = 0.05  # sound before and after a clip, in which a codec and a window of the spectrogram settle
PEAKS_PER_S, MAX_PEAKS = 250, 1 << 18
COLUMNS_PER_S, MAX_COLUMNS = 100, 1 << 17
WINDOW_SAMPLES = 512
NUM_BINS = 128
SILENCE = 0.5 / 32768  # less than half a step of 16 bits
LOWEST_DB = -120.0  # levels are kept in 255 steps from here to full scale
RANGE_DB = 65.0  # from black to white
TILE_COLUMNS = 2048
JPEG_QUALITY = 55


@dataclass(frozen=True)
class Mixture:
    """The sound of all speakers together."""

    parts: tuple[Audio, ...]  # signals whose sum it is: the recording itself, or the tracks
    origin: str  # what it is, for people

    def blocks(self) -> Iterator[Samples]:
        """Stream the sum as blocks (n,)."""
        for blocks in zip(*(part.blocks() for part in self.parts), strict=True):
            yield sum(blocks[1:], blocks[0])


def find_mixture(result: Diarization, sample_rate_hz: int, audio: Path | None = None) -> Mixture:
    """Take the recording, as `find_recording` finds it, or the sum of the tracks if it is not at hand."""
    recording = find_recording(result, audio)
    if recording is not None:
        return Mixture((recording.at(sample_rate_hz),), recording.info.path.name)
    source = result.settings.get("source")
    own = result.tracks.values() if isinstance(result, Separation) else ()
    tracks = tuple(open_audio(track.path, sample_rate_hz) for track in own)
    missing = (
        f"{Path(source).name} is not at hand" if isinstance(source, str) else "the result names no recording"
    )
    return Mixture(tracks, f"sum of the tracks ({missing})" if tracks else f"none ({missing})")


@dataclass(frozen=True)
class Grid:
    """How a signal is divided: clips for the sound, points for the waveform, columns for the spectrogram."""

    sample_rate_hz: int
    num_samples: int

    @property
    def clip_samples(self) -> int:
        """Length of a clip, without its margins."""
        return CLIP_S * self.sample_rate_hz

    @property
    def margin_samples(self) -> int:
        """Length of the margin before a clip, and of that after it."""
        return max(WINDOW_SAMPLES, round(MARGIN_S * self.sample_rate_hz))

    @property
    def point_samples(self) -> int:
        """Length of the stretch that a point of the waveform stands for."""
        return self._step(PEAKS_PER_S, MAX_PEAKS)

    @property
    def column_samples(self) -> int:
        """Length of the stretch that a column of the spectrogram stands for."""
        return self._step(COLUMNS_PER_S, MAX_COLUMNS)

    def _step(self, per_s: int, most: int) -> int:
        """Return the shortest step that divides a clip evenly and keeps to both limits."""
        least = max(self.sample_rate_hz / per_s, self.num_samples / most)
        steps = (step for step in range(1, self.clip_samples + 1) if self.clip_samples % step == 0)
        return next((step for step in steps if step >= least), self.clip_samples)


def cut_clips(blocks: Iterable[Samples], grid: Grid) -> Iterator[Samples]:
    """Cut a stream of blocks into clips with margins on both sides, zeros beyond the ends of the signal."""
    margin = np.zeros(grid.margin_samples, np.float32)
    step, size = grid.clip_samples, grid.clip_samples + 2 * len(margin)
    waiting = margin
    for block in blocks:
        waiting = np.concatenate([waiting, block])
        while len(waiting) >= size:
            yield waiting[:size]
            waiting = waiting[step:]
    waiting = np.concatenate([waiting, margin])
    while len(waiting) > 2 * len(margin):
        yield waiting[:size]
        waiting = waiting[step:]


def peaks_of(clip: Samples, grid: Grid) -> NDArray[np.float32]:
    """Return the lowest and highest sample of each point of a clip, (points, 2)."""
    core = clip[grid.margin_samples : len(clip) - grid.margin_samples]
    starts = np.arange(0, len(core), grid.point_samples)
    return np.stack([np.minimum.reduceat(core, starts), np.maximum.reduceat(core, starts)], axis=1)


def levels_of(clip: Samples, grid: Grid) -> NDArray[np.uint8]:
    """Return the spectrogram of a clip, (columns, `NUM_BINS`), from `LOWEST_DB` (0) to full scale (255).

    A column is the loudest of the windows in its stretch: a short sound stays visible in a long recording.
    """
    num_core = len(clip) - 2 * grid.margin_samples
    num_columns = -(-num_core // grid.column_samples)
    per_column = -(-2 * grid.column_samples // WINDOW_SAMPLES)
    within = np.arange(per_column) * grid.column_samples // per_column
    starts = (np.arange(num_columns)[:, None] * grid.column_samples + within).ravel()
    starts += grid.margin_samples - WINDOW_SAMPLES // 2  # windows are centred
    padded = np.pad(clip, (0, grid.column_samples + WINDOW_SAMPLES))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW_SAMPLES)[starts]
    window = np.hanning(WINDOW_SAMPLES).astype(np.float32)
    spectrum = np.abs(np.fft.rfft(frames * window)[:, 1:]) * (2 / window.sum())  # 1 for a full-scale sine
    loudest = spectrum.reshape(num_columns, per_column, NUM_BINS, -1).max(axis=(1, 3))
    levels_db = 20 * np.log10(np.maximum(loudest, 1e-9))
    return np.clip((1 - levels_db / LOWEST_DB) * 255, 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Scale:
    """What is full height in a waveform and white in a spectrogram: one for all tracks of a recording."""

    peak: float  # a sample of full height
    top: float  # white, in steps of `levels_of`

    @classmethod
    def of(cls, peaks: NDArray[np.float32], levels: NDArray[np.uint8]) -> Scale:
        """Take it from a signal; a few clicks may stick out."""
        heard = levels[levels > 0]
        top = float(np.quantile(heard, 0.999)) if len(heard) else 255.0
        return cls(float(np.quantile(np.abs(peaks), 0.999)) or 1.0, top)


def pack_peaks(peaks: NDArray[np.float32], scale: Scale) -> str:
    """Return the waveform (points, 2) as base64 of 8-bit integers, full height at 127."""
    steps = np.rint(np.clip(peaks / scale.peak, -1, 1) * 127).astype(np.int8)
    return base64.b64encode(steps.tobytes()).decode("ascii")


def pack_levels(levels: NDArray[np.uint8], scale: Scale) -> list[list[str]]:
    """Return the spectrogram (columns, bins) as grey pictures: one of the whole, and tiles of all detail.

    Each is the base64 of a JPEG, high frequencies above. The tiles are left out where the first has it all.
    """
    bottom = scale.top - RANGE_DB / -LOWEST_DB * 255
    grey = np.clip((levels - bottom) / (scale.top - bottom) * 255, 0, 255).astype(np.uint8)
    pooled = -(-len(grey) // TILE_COLUMNS)
    starts = np.arange(0, len(grey), pooled)
    lengths = np.diff(starts, append=len(grey))
    # the mean, not the loudest: over many seconds nearly every bin was loud once
    whole = (np.add.reduceat(grey, starts, axis=0, dtype=np.int64) // lengths[:, None]).astype(np.uint8)
    tiles = [grey[i : i + TILE_COLUMNS] for i in range(0, len(grey), TILE_COLUMNS)] if pooled > 1 else []
    return [[_jpeg(whole)], [_jpeg(tile) for tile in tiles]]


def _jpeg(levels: NDArray[np.uint8]) -> str:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(levels.T[::-1])).save(stream, "JPEG", quality=JPEG_QUALITY)
    return base64.b64encode(stream.getvalue()).decode("ascii")
