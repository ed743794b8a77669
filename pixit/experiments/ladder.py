"""Where is the error lost? A separator beside itself with parts of the answer given to it.

The rungs of the ladder, each of which takes one task away: how many speakers there are; which voice is whose (oracle
clustering); who talks in each window (the model's activities are replaced by the truth, its sources stay); and the
last two together. What is left on the highest rung is the separation's and the stitching's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from pixit.audio import Audio, open_audio
from pixit.evaluation.separation.evaluate import find_sources
from pixit.evaluation.separation.score import score_separation
from pixit.evaluation.tables import Column, Table
from pixit.experiments.separator import COLUMNS, OPTIONS, Trial, count_errors, make_row, read_reference
from pixit.formats.names import match_items, open_as_heard
from pixit.pipeline.batch import find_recordings
from pixit.pipeline.oracle import lay_turns
from pixit.pipeline.separate import Separator
from pixit.types import FrameGrid, LocalModel, LocalOutput, PixitError, Turn, separates

RUNGS = {
    "as it is": (),
    "oracle count": ("count",),
    "oracle speakers": ("speakers",),
    "oracle activities": ("activities",),
    "oracle activities and speakers": ("activities", "speakers"),
}
"""Name -> what is given."""
SURE = 20.0
"""Logit of an activity that is known."""


@dataclass(frozen=True)
class Case:
    """A recording with its truth: turns, and where they exist the files of its clean sources."""

    path: Path
    turns: tuple[Turn, ...]
    sources: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class LadderScores:
    """The trials of each rung."""

    trials: Mapping[str, Sequence[Trial]]

    def table(self) -> Table:
        """Return a row each rung, of all recordings together."""
        rows = [make_row("", trials) | {"rung": rung} for rung, trials in self.trials.items()]
        columns = (Column("rung", "given"), *(column for column in COLUMNS if column.key != "recording"))
        return Table(
            "Where the error is lost; errors of summed durations, means over speakers", columns, rows
        )


def read_cases(
    recordings: Sequence[Path], reference: Path, sources: Path | None = None
) -> tuple[list[Case], list[str]]:
    """Return recordings with their truth, and notes; a PixitError if one has no reference.

    `reference` is an RTTM file or a folder of them, `sources` a folder ``<recording>/<speaker>.wav``.
    """
    named = find_recordings(recordings)
    notes: list[str] = []
    clean: dict[str, Mapping[str, Path]] = {}
    if sources is not None:
        clean, notes = match_items(list(named), find_sources(sources).recordings, str(sources))
    cases = []
    for uri, path in named.items():
        _, turns = read_reference(path, reference)
        cases.append(Case(path, tuple(turns), clean.get(uri, {})))
    return cases, notes


def climb(
    separator: Separator, cases: Sequence[Case], tell: Callable[[str, Trial], None] = lambda rung, trial: None
) -> LadderScores:
    """Separate recordings on every rung, and score what comes out.

    Parameters
    ----------
    separator
        What is tried.
    cases
        As `read_cases` gives them.
    tell
        Called with the rung and each trial as it is done.

    Raises
    ------
    PixitError
        If a recording cannot be read or separated.
    """
    trials: dict[str, list[Trial]] = {rung: [] for rung in RUNGS}
    for case in cases:
        for rung, given in RUNGS.items():
            trials[rung].append(_try(separator, case, given))
            tell(rung, trials[rung][-1])
    return LadderScores(trials)


def _try(separator: Separator, case: Case, given: Sequence[str]) -> Trial:
    audio = open_audio(case.path, separator.model.sample_rate_hz)
    model, settings, call = separator.model, separator.settings, dict[str, Any]()
    if not separates(model):
        raise PixitError(f"{type(model).__name__}: diarizes only; the ladder is for models that separate")
    if "activities" in given:
        model = OracleActivities(model, separator, separator.open(audio), case.turns)
    if "speakers" in given:
        clustering = settings.clustering.model_copy(update={"method": "oracle"})
        settings, call["reference"] = settings.model_copy(update={"clustering": clustering}), case.turns
    if "count" in given:
        call["num_speakers"] = len({turn.speaker for turn in case.turns}) or None
    found = Separator(model, separator.embedder, settings, str(separator.device))(audio, **call)
    elapsed_s, separation = found.settings["elapsed_s"], None
    if case.sources:
        tracks = {speaker: track.path for speaker, track in found.tracks.items()}
        signals = case.sources, tracks, open_as_heard(case.path, found), case.turns
        separation = score_separation(*signals, OPTIONS, audio.uri)
    return Trial(audio.uri, found.duration_s, elapsed_s, count_errors(case.turns, found), separation)


def _key(samples: NDArray[np.float32]) -> bytes:
    return blake2b(samples.tobytes(), digest_size=16).digest()


class OracleActivities:
    """A local model whose activities are the truth; the sources of one recording, window by window, are its own.

    In each window the true speakers, those who talk the most if they are too many, go to the outputs whose activities
    are most like theirs. The other outputs are silent.
    """

    def __init__(
        self, model: LocalModel, separator: Separator, recording: Audio, turns: Sequence[Turn]
    ) -> None:
        self.model, self.sample_rate_hz, self.num_speakers = model, model.sample_rate_hz, model.num_speakers
        self.window_samples: int = model.window_samples
        self.frame_grid: FrameGrid = model.frame_grid
        self._geometry = separator.lay_windows(recording)
        self._truth = lay_turns(turns, self._geometry)[1] if recording.num_samples else np.zeros((0, 0), bool)
        # windows come in any order, from several threads, and not at all if they are silent
        self._numbers = {_key(window.samples): window.index for window in self._geometry.cut(recording)}

    def num_frames(self, num_samples: int) -> int:
        """As of the model."""
        return self.model.num_frames(num_samples)

    def __call__(self, waveforms: Tensor) -> LocalOutput:
        """Separate windows of the recording."""
        output = self.model(waveforms)
        activities = output.activities.float().cpu().numpy()
        logits = np.full(activities.shape, -SURE, np.float32)
        for row, window in enumerate(activities):
            start = self._geometry.start_frames(self._numbers[_key(waveforms[row].cpu().numpy())])
            truth = self._truth[:, start : start + window.shape[1]]
            most = np.argsort(-truth.sum(axis=1), kind="stable")[: self.num_speakers]
            truth = truth[most]
            outputs, people = linear_sum_assignment(window @ (1 - 2 * truth.T.astype(np.float32)))
            logits[row, outputs] = np.where(truth[people], SURE, -SURE)
        return LocalOutput(torch.from_numpy(logits).to(output.sources), output.sources)
