"""The signals of a recording, read in step block by block, and who talks in each block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixit.audio import AudioFile, Samples
from pixit.evaluation.separation.metrics import Products
from pixit.files import file_name
from pixit.types import Hook, PixitError, Turn

LENGTH_TOLERANCE_S = 1.0
"""A track is padded with silence, or cut, up to so much; one that differs more is of another recording."""


class SignalFiles:
    """Signals of one recording at one rate and of one length, which are read in step, block by block.

    Rates other than `sample_rate_hz` are resampled to it; what is shorter than `num_samples` is padded with
    silence, what is longer is cut.
    """

    def __init__(self, files: Sequence[AudioFile], sample_rate_hz: int, num_samples: int) -> None:
        self._files = [file.at(sample_rate_hz) for file in files]
        self.sample_rate_hz = sample_rate_hz
        self.num_samples = num_samples

    def blocks(
        self, block_samples: int, step: str = "reading", hook: Hook | None = None
    ) -> Iterator[tuple[int, Samples]]:
        """Yield the first sample and the signals (P, n) of each block; `hook` hears of the progress as `step`."""
        for start in range(0, self.num_samples, block_samples):
            stop = min(start + block_samples, self.num_samples)
            block = np.zeros((len(self._files), stop - start), np.float32)
            for row, file in zip(block, self._files, strict=True):
                end = min(stop, file.num_samples)
                if start < end:
                    row[: end - start] = file.read(start, end)
            yield start, block
            if hook is not None:
                hook(step, None, total=self.num_samples, completed=stop)


def check_length(file: AudioFile, duration_s: float, other: str) -> None:
    """Raise a `PixitError` if a file's length differs by more than `LENGTH_TOLERANCE_S` from another's."""
    if abs(file.duration_s - duration_s) > LENGTH_TOLERANCE_S:
        raise PixitError(
            f"{file.info.path}: lasts {file.duration_s:.2f} s, but {other} {duration_s:.2f} s; "
            "expected the same recording"
        )


def sounds(path: Path) -> bool:
    """Whether a file holds more than silence."""
    products = Products(1)
    for block in AudioFile(path).blocks():
        products.add(block[None])
    return not products.is_silent(0)


class TalkMasks:
    """Who talks at which sample; `is_matched` says whether any turn is of one of `speakers`.

    The first rows are those of `speakers`, names as the files have them; rows of others who talk follow.
    """

    def __init__(self, turns: Sequence[Turn], speakers: Sequence[str], sample_rate_hz: int) -> None:
        rows = {name: row for row, speaker in enumerate(speakers) for name in (file_name(speaker), speaker)}
        self.is_matched = any(turn.speaker in rows for turn in turns)
        others = sorted({turn.speaker for turn in turns} - set(rows))
        rows |= {speaker: len(speakers) + index for index, speaker in enumerate(others)}
        self._num_rows = len(speakers) + len(others)
        edges = [
            (
                rows[turn.speaker],
                *(max(0, round(time_s * sample_rate_hz)) for time_s in (turn.start_s, turn.end_s)),
            )
            for turn in turns
        ]
        self._edges = np.array(edges, np.int64).reshape(-1, 3)

    def read(self, start: int, stop: int) -> NDArray[np.bool_]:
        """Return who talks at the samples [start, stop), (rows, n)."""
        talking = np.zeros((self._num_rows, stop - start), bool)
        near = (self._edges[:, 1] < stop) & (self._edges[:, 2] > start)
        for row, first, last in self._edges[near]:
            talking[row, max(0, first - start) : last - start] = True
        return talking


class Scene:
    """The signals of a recording as rows: references (at least one), then tracks, then the mixture.

    The mixture is the sum of the references by default. `masks` says who talks, in the order of the
    references; None without turns. A `PixitError` if rates of references differ, or lengths do not fit.
    """

    def __init__(
        self,
        references: Mapping[str, Path],
        tracks: Mapping[str, Path],
        mixture: Path | AudioFile | None = None,
        turns: Sequence[Turn] | None = None,
    ) -> None:
        self.names = [*references, *tracks]
        self.reference_rows = range(len(references))
        self.track_rows = range(len(references), len(self.names))
        self.mixture_row = len(self.names)
        sources = [AudioFile(path) for path in references.values()]
        files = [*sources, *(AudioFile(path) for path in tracks.values())]
        self.sample_rate_hz = sources[0].sample_rate_hz
        for file in sources:
            if file.sample_rate_hz != self.sample_rate_hz:
                raise PixitError(
                    f"{file.info.path}: has {file.sample_rate_hz} Hz, {sources[0].info.path} "
                    f"{self.sample_rate_hz} Hz; expected one rate of all references of a recording"
                )
        longest = max(sources, key=lambda file: file.num_samples)
        self._sums_references = mixture is None
        if mixture is not None:
            mixture = AudioFile(mixture) if isinstance(mixture, Path) else mixture
            files.append(mixture)
            check_length(longest, mixture.duration_s, "its mixture")
            longest = mixture.at(self.sample_rate_hz)
        for file in files[len(sources) : self.mixture_row]:
            check_length(file, longest.duration_s, str(longest.info.path))
        self._files = SignalFiles(files, self.sample_rate_hz, longest.num_samples)
        self.masks = None if turns is None else TalkMasks(turns, list(references), self.sample_rate_hz)

    def blocks(
        self, block_samples: int, step: str, hook: Hook | None
    ) -> Iterator[tuple[Samples, NDArray[np.bool_] | None]]:
        """Yield the signals (P, n) of each block, and who talks in it."""
        for start, block in self._files.blocks(block_samples, step, hook):
            if self._sums_references:
                block = np.concatenate([block, block[self.reference_rows].sum(axis=0, keepdims=True)])
            yield block, None if self.masks is None else self.masks.read(start, start + block.shape[1])
