"""What tracks show without references: their sum against the mixture, levels, clipping, leakage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixit.audio import AudioFile, Samples
from pixit.evaluation.separation.metrics import Products, ratio_db
from pixit.evaluation.separation.signals import SignalFiles, TalkMasks, check_length
from pixit.evaluation.tables import Column, Table
from pixit.types import Hook, PixitError, Turn

BLOCK_S = 10.0
MIN_LEAKAGE_S = 1.0
FULL_SCALE = 1 - 2**-15
"""A sample of this size is at the end of the 16-bit scale: clipped."""

COLUMNS = (
    Column("recording", "recording"),
    Column("track", "track"),
    Column("residual_db", "residual dB"),
    Column("fitted_residual_db", "fitted dB"),
    Column("rms_dbfs", "RMS dBFS"),
    Column("peak_dbfs", "peak dBFS"),
    Column("clipped_samples", "clipped"),
    Column("crosstalk_db", "crosstalk dB"),
    Column("leakage_db", "leakage dB"),
)


@dataclass(frozen=True)
class TrackStatistics:
    """Level of one signal, and how much of the others is in it.

    Parameters
    ----------
    rms_dbfs, peak_dbfs
        Relative to ±1: a full-scale sine has an RMS of -3.01 dBFS. Silence is at `-LIMIT_DB`.
    clipped_samples
        Samples at the end of the 16-bit scale or beyond.
    crosstalk_db
        Largest squared correlation with another track of the recording, in dB; None without others.
    leakage_db
        Level of the track against the mixture where others speak and its own speaker does not; None without
        turns, or with less than a second of that.
    """

    rms_dbfs: float
    peak_dbfs: float
    clipped_samples: int
    crosstalk_db: float | None = None
    leakage_db: float | None = None


@dataclass(frozen=True)
class MixtureStatistics:
    """How the tracks of a recording make up its mixture.

    Parameters
    ----------
    recording
        Its name.
    mixture
        Level of the mixture.
    tracks
        Track -> statistics.
    residual_db
        Power of the mixture less the sum of the tracks, against the power of the mixture, in dB: 0 without
        tracks, `-LIMIT_DB` if the sum is exact.
    fitted_residual_db
        The same with the best gain for each track, for systems that leave the scale free.
    """

    recording: str
    mixture: TrackStatistics
    tracks: dict[str, TrackStatistics]
    residual_db: float
    fitted_residual_db: float


def measure_tracks(
    mixture: Path | AudioFile,
    tracks: Mapping[str, Path],
    turns: Sequence[Turn] | None = None,
    recording: str = "recording",
    hook: Hook | None = None,
) -> MixtureStatistics:
    """Measure the tracks of one recording against its mixture, in memory that does not grow with its length.

    Parameters
    ----------
    mixture
        What was separated, of a path the mean of its channels; tracks of another rate are resampled to its rate.
    tracks
        Name -> file.
    turns
        Who spoke when, with the names of the tracks (as the RTTM of a result has them): for the leakage.
    recording, hook
        Name, and progress callback: ``hook("levels", None, total=, completed=)``.

    Raises
    ------
    PixitError
        If a file cannot be read, a track's length differs by more than a second, or the turns name none of them.
    """
    source = AudioFile(mixture) if isinstance(mixture, Path) else mixture.at(mixture.source_rate_hz)
    files = [AudioFile(path) for path in tracks.values()]
    for file in files:
        check_length(file, source.duration_s, str(source.info.path))
    signals = SignalFiles([source, *files], source.sample_rate_hz, source.num_samples)
    masks = None if turns is None else TalkMasks(turns, list(tracks), source.sample_rate_hz)
    if masks is not None and turns and tracks and not masks.is_matched:
        raise PixitError(
            f"{recording}: no speaker of the RTTM ({turns[0].speaker!r} …) is one of the tracks "
            f"({next(iter(tracks))!r} …); for the leakage give the RTTM that came with them"
        )
    levels, leaks = _Levels(len(tracks) + 1), [Products(len(tracks) + 1) for _ in tracks]
    for start, block in signals.blocks(round(BLOCK_S * source.sample_rate_hz), "levels", hook):
        levels.add(block)
        if masks is not None:
            talking = masks.read(start, start + block.shape[1])
            for index, leak in enumerate(leaks):
                leak.add(block[:, talking.any(axis=0) & ~talking[index]])
    statistics = {}
    for row, (name, leak) in enumerate(zip(tracks, leaks, strict=True), start=1):
        is_enough = leak.num_samples >= MIN_LEAKAGE_S * source.sample_rate_hz
        leakage_db = ratio_db(float(leak.raw[row, row]), float(leak.raw[0, 0])) if is_enough else None
        statistics[name] = levels.statistics(row, leakage_db)
    return MixtureStatistics(recording, levels.statistics(0), statistics, *_residuals_db(levels.products.raw))


class _Levels:
    """Running levels of the signals of a recording: the mixture, then the tracks."""

    def __init__(self, num_signals: int) -> None:
        self.products = Products(num_signals)
        self._peaks = np.zeros(num_signals)
        self._clipped = np.zeros(num_signals, np.int64)

    def add(self, block: Samples) -> None:
        self.products.add(block)
        sizes = np.abs(block)
        self._peaks = np.maximum(self._peaks, sizes.max(axis=1))
        self._clipped += (sizes >= FULL_SCALE).sum(axis=1)

    def statistics(self, row: int, leakage_db: float | None = None) -> TrackStatistics:
        power = float(self.products.raw[row, row]) / max(1, self.products.num_samples)
        return TrackStatistics(
            ratio_db(power, 1.0),
            ratio_db(float(self._peaks[row]) ** 2, 1.0),
            int(self._clipped[row]),
            self._crosstalk_db(row) if row else None,
            leakage_db,
        )

    def _crosstalk_db(self, row: int) -> float | None:
        products = self.products.centred
        others = [other for other in range(1, len(products)) if other != row]
        if not others or self.products.is_silent(row):
            return None
        return max(
            ratio_db(products[row, other] ** 2, products[row, row] * products[other, other])
            for other in others
        )


def _residuals_db(products: NDArray[np.float64]) -> list[float]:
    """Return how far the sum of the tracks is from the mixture, as they are and each with its best gain.

    The mixture is the first of the scalar products (P, P), the tracks are the others.
    """
    gains = np.linalg.lstsq(products[1:, 1:], products[1:, 0], rcond=1e-12)[0]
    weights = [np.concatenate([[1.0], -tracks]) for tracks in (np.ones(len(gains)), gains)]
    return [ratio_db(max(0.0, float(w @ products @ w)), float(products[0, 0])) for w in weights]


def statistics_table(statistics: Sequence[MixtureStatistics]) -> Table:
    """Return a row for each track, and one for each mixture."""
    rows = []
    for item in statistics:
        for name, track in [*item.tracks.items(), ("(mixture)", item.mixture)]:
            rows.append({"recording": item.recording, "track": name, **vars(track)})
        rows[-1] |= {"residual_db": item.residual_db, "fitted_residual_db": item.fitted_residual_db}
    return Table("Tracks against their mixture", COLUMNS, rows)
