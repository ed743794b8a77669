"""Score separated tracks of any system against the clean sources: which track is whose, and how good it is.

The rules, which the command line's help and the README repeat:

- **Assignment**: one to one, the highest sum of SI-SDR over the whole recording.
- **Missing**: a speaker without a track, or whose track is silent throughout the stretch that is scored, is
  given the mixture as estimate (an improvement of 0 dB) and counted as missing.
- **Surplus**: sounding tracks beyond the speakers are counted; they score nothing, but what they hold is lost to
  the tracks that are scored.
- **Silent references** have no score; a recording of none has none.
- **Regions**: a speaker's stretches of one kind (alone, or with others, by the RTTM) are joined and scored as one
  signal, if they last a second together.
- SI-SDR is of the whole stretch. SDR, SIR, SAR, PESQ and STOI are means over the segments in which the reference
  sounds for half a second: that long its 20-ms frames are at most 20 dB below its mean power.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixit.audio import AudioFile, Samples
from pixit.evaluation.separation.metrics import Products, active_s, bss_eval, pesq, pesq_mode, stoi
from pixit.evaluation.separation.signals import Scene, sounds
from pixit.types import Hook, PixitError, Turn

REGIONS = ("whole", "overlap", "single")
METRICS = ("si_sdr", "sdr", "pesq", "stoi")
MIN_SCORED_S = 1.0
"""A speaker's stretches of one kind, and a segment, last as long at least."""

MIN_ACTIVE_S = 0.5
"""A segment counts for a speaker whose reference sounds so long in it."""


@dataclass(frozen=True)
class ScoringOptions:
    """What is scored.

    Parameters
    ----------
    regions
        Some of `REGIONS`; all but ``"whole"`` need turns.
    metrics
        Some of `METRICS`; ``"sdr"`` brings SIR and SAR with it.
    segment_s
        Length of the segments on which all but SI-SDR is computed.
    """

    regions: tuple[str, ...] = ("whole",)
    metrics: tuple[str, ...] = METRICS
    segment_s: float = 30.0

    def __post_init__(self) -> None:
        for kind, given, known in (("region", self.regions, REGIONS), ("metric", self.metrics, METRICS)):
            if unknown := [name for name in given if name not in known]:
                raise PixitError(f"unknown {kind} {unknown[0]!r}; expected some of {', '.join(known)}")
        if not self.segment_s >= MIN_SCORED_S:
            raise PixitError(f"segments of {self.segment_s:g} s; expected {MIN_SCORED_S:g} s or more")


@dataclass(frozen=True)
class SpeakerScores:
    """The scores of one speaker in one region.

    Parameters
    ----------
    speaker, region
        Whose, and where.
    track
        The track that was assigned; None where it is missing, and the mixture was scored in its place.
    scored_s
        Length of the joined stretches.
    values
        ``si_sdr_db``, ``si_sdr_improvement_db``, ``sdr_db``, ``sir_db``, ``sar_db``, ``pesq_wb`` or ``pesq_nb``,
        ``stoi``; those that were asked for and are defined.
    """

    speaker: str
    region: str
    track: str | None
    scored_s: float
    values: dict[str, float]


@dataclass(frozen=True)
class RecordingScores:
    """The scores of a recording's speakers, and its surplus tracks."""

    recording: str
    speakers: tuple[SpeakerScores, ...]
    surplus: tuple[str, ...]


def score_separation(
    references: Mapping[str, Path],
    tracks: Mapping[str, Path],
    mixture: Path | AudioFile | None = None,
    turns: Sequence[Turn] | None = None,
    options: ScoringOptions | None = None,
    recording: str = "recording",
    hook: Hook | None = None,
) -> RecordingScores:
    """Score the tracks of one recording, in memory that does not grow with its length.

    Parameters
    ----------
    references
        Speaker -> file of the clean source; all of one sample rate, at which everything is scored.
    tracks
        Name -> file of an estimate.
    mixture
        What was separated, of a path the mean of its channels; the sum of the references by default.
    turns
        Who spoke when, with the names of `references`; for regions.
    options
        What is scored.
    recording, hook
        Name, and progress callback: ``hook(step, None, total=, completed=)``.

    Raises
    ------
    PixitError
        If a file cannot be read; lengths differ by more than a second (references may be shorter), or sample
        rates of references; or a region needs turns that are not given or name none of the references.
    """
    options = options or ScoringOptions()
    if not references:
        return RecordingScores(recording, (), tuple(t for t, path in tracks.items() if sounds(path)))
    scene = Scene(references, tracks, mixture, turns)
    if set(options.regions) - {"whole"}:
        _check_turns(turns, scene, recording)
    stretches = [
        _Stretch(region, rows, scene, options)
        for region in dict.fromkeys(options.regions)
        for rows in ([scene.reference_rows] if region == "whole" else [[row] for row in scene.reference_rows])
    ]
    block_samples = round(options.segment_s * scene.sample_rate_hz)

    whole = Products(scene.mixture_row + 1)
    for block, talking in scene.blocks(block_samples, "SI-SDR", hook):
        whole.add(block)
        for stretch in stretches:
            stretch.products.add(stretch.cut(block, talking))
    assigned = _assign(whole, scene)
    if set(options.metrics) - {"si_sdr"}:
        for block, talking in scene.blocks(block_samples, "segments", hook):
            for stretch in stretches:
                stretch.add(stretch.cut(block, talking), block_samples, assigned)
        for stretch in stretches:
            stretch.score_segment(stretch.rest, assigned)
    speakers = [scores for stretch in stretches for scores in stretch.scores(assigned)]
    surplus = [row for row in scene.track_rows if not whole.is_silent(row) and row not in assigned.values()]
    return RecordingScores(recording, tuple(speakers), tuple(scene.names[row] for row in surplus))


def _check_turns(turns: Sequence[Turn] | None, scene: Scene, recording: str) -> None:
    """Raise a `PixitError` if the turns that regions need are missing, or are of other speakers."""
    if turns is None or scene.masks is None:
        raise PixitError(
            f"{recording}: overlap and single need to know who spoke when; give the reference RTTM"
        )
    if turns and not scene.masks.is_matched:
        raise PixitError(
            f"{recording}: no speaker of the RTTM ({turns[0].speaker!r} …) is one of the references "
            f"({scene.names[0]!r} …); expected the names of their files"
        )


def _assign(products: Products, scene: Scene) -> dict[int, int]:
    """Return reference -> track, rows of sounding signals, for the highest sum of SI-SDR."""
    from scipy.optimize import linear_sum_assignment

    references = [row for row in scene.reference_rows if not products.is_silent(row)]
    tracks = [row for row in scene.track_rows if not products.is_silent(row)]
    scores = np.array([[products.si_sdr(track, r) for track in tracks] for r in references])
    chosen = linear_sum_assignment(scores.reshape(len(references), len(tracks)), maximize=True)
    return {references[i]: tracks[j] for i, j in zip(*chosen, strict=True)}


class _Stretch:
    """What is scored as one signal: a whole recording, or one speaker's stretches of one kind, joined.

    `speakers` are the rows of the references that are scored on it.
    """

    def __init__(self, region: str, speakers: Sequence[int], scene: Scene, options: ScoringOptions) -> None:
        self.region, self.speakers, self.scene, self.options = region, speakers, scene, options
        self.products = Products(scene.mixture_row + 1)
        self.rest: Samples = np.zeros((scene.mixture_row + 1, 0), np.float32)
        self.values: dict[int, dict[str, list[float]]] = {row: defaultdict(list) for row in speakers}

    def cut(self, block: Samples, talking: NDArray[np.bool_] | None) -> Samples:
        """Return the samples of a block that belong to the stretch."""
        if self.region == "whole" or talking is None:
            return block
        number = talking.sum(axis=0)
        (speaker,) = self.speakers
        return block[:, talking[speaker] & (number >= 2 if self.region == "overlap" else number == 1)]

    def add(self, part: Samples, segment_samples: int, assigned: Mapping[int, int]) -> None:
        """Take the next part of the stretch, and score the segments that are full with it."""
        self.rest = np.concatenate([self.rest, part], axis=1)
        while self.rest.shape[1] >= segment_samples:
            self.score_segment(self.rest[:, :segment_samples], assigned)
            self.rest = self.rest[:, segment_samples:]

    def score_segment(self, segment: Samples, assigned: Mapping[int, int]) -> None:
        """Add the scores of a segment (P, T) to the values."""
        rate_hz, metrics = self.scene.sample_rate_hz, self.options.metrics
        if segment.shape[1] < MIN_SCORED_S * rate_hz:
            return
        products = Products(len(segment))
        products.add(segment)
        sounding = [row for row in self.scene.reference_rows if not products.is_silent(row)]
        scored = [
            row
            for row in self.speakers
            if row in sounding and active_s(segment[row], self.products.power(row), rate_hz) >= MIN_ACTIVE_S
        ]
        if not scored or products.is_silent(self.scene.mixture_row):
            return
        tracks = {row: self._estimate(row, assigned, products) for row in sounding}
        if "sdr" in metrics:
            scores = bss_eval(segment[list(tracks.values())], segment[sounding])
            for name, values in scores.items():
                for row, value in zip(sounding, values, strict=True):
                    if row in scored and value is not None:
                        self.values[row][name].append(value)
        for metric, measure in (("pesq", pesq), ("stoi", stoi)):
            name = f"pesq_{pesq_mode(rate_hz)}" if metric == "pesq" else metric
            for row in scored if metric in metrics else ():
                score = measure(segment[tracks[row]], segment[row], rate_hz)
                if score is not None:
                    self.values[row][name].append(score)

    def scores(self, assigned: Mapping[int, int]) -> Iterator[SpeakerScores]:
        """Yield the scores of the speakers, when all segments are scored."""
        scored_s = self.products.num_samples / self.scene.sample_rate_hz
        if self.region != "whole" and scored_s < MIN_SCORED_S:
            return
        for row in self.speakers:
            if self.products.is_silent(row):
                continue
            estimate = self._estimate(row, assigned, self.products)
            values = {name: float(np.mean(scores)) for name, scores in self.values[row].items()}
            if "si_sdr" in self.options.metrics:
                score = self.products.si_sdr(estimate, row)
                values["si_sdr_db"] = score
                values["si_sdr_improvement_db"] = score - self.products.si_sdr(self.scene.mixture_row, row)
            track = None if estimate == self.scene.mixture_row else self.scene.names[estimate]
            yield SpeakerScores(self.scene.names[row], self.region, track, scored_s, values)

    def _estimate(self, reference: int, assigned: Mapping[int, int], products: Products) -> int:
        """Return the row of what is scored for a speaker: the track, or the mixture where that is missing."""
        track = assigned.get(reference, self.scene.mixture_row)
        return self.scene.mixture_row if products.is_silent(track) else track
