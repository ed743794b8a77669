"""What the networks said of a recording, kept: so that who spoke when is decided again in a moment.

The networks hear a recording once. Of the settings that come after them, one kind reaches back: from which activity
on somebody talks decides what of a source the embedder is given. So it is asked for every pair of thresholds that may
be tried, and what was asked before is remembered: most frames are speech, or not, by any threshold.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyannote.core import Annotation

from pixit.audio import Audio
from pixit.experiments.remembering import RememberingModel, remembering
from pixit.files import ARRAY_ERRORS, whole_file
from pixit.pipeline.compute import batches
from pixit.pipeline.diarize import ActivitySettings, annotate, diarize
from pixit.pipeline.local import Progress, embed_speakers, hear_windows
from pixit.pipeline.local_turns import make_spool
from pixit.pipeline.methods import cluster_speakers
from pixit.pipeline.separate import Separator
from pixit.pipeline.settings import SeparationSettings
from pixit.pipeline.spool import Geometry
from pixit.types import FrameGrid, PixitError, Plda

TOGETHER = 64
"""Windows whose outputs are remembered at a time: some hundred megabytes."""
Thresholds = tuple[float, float]


def thresholds_of(activity: ActivitySettings) -> Thresholds:
    """Return onset and offset as they act: an offset above the onset counts as the onset."""
    return activity.onset, min(activity.onset, activity.offset)


@dataclass(frozen=True)
class Heard:
    """What two networks said of a recording, for S pairs of thresholds.

    Parameters
    ----------
    uri, geometry
        Name of the recording, and how its windows lie.
    thresholds
        Onset and offset of each of the S.
    activities
        What the model said, (W, L, F), in as many steps as a `Spool` keeps.
    active
        Which outputs of the model are active, (S, W, L).
    vectors, rows, embedded_s
        Embeddings (M, D); which of them each local speaker has, (S, W, K), -1 for none; and the seconds of speech
        that it stands on, (S, W, K). Local speakers are those of a `Spool`.
    """

    uri: str
    geometry: Geometry
    thresholds: tuple[Thresholds, ...]
    activities: NDArray[np.unsignedinteger[Any]]
    active: NDArray[np.bool_]
    vectors: NDArray[np.float32]
    rows: NDArray[np.int32]
    embedded_s: NDArray[np.float32]

    def decide(self, settings: SeparationSettings, plda: Plda | None = None) -> Annotation:
        """Return who spoke when, as `Separator.diarize` finds it with these settings.

        They may differ from those of the separator that heard it in the clustering (not in whether it takes turns,
        as `SeparationSettings.turns` has it), and in what of the activity is not for each window: the thresholds are
        to be among those that it was heard with. `plda` is the embedder's, if it has one.
        """
        activity = settings.activity
        number = self.thresholds.index(thresholds_of(activity))
        rows = self.rows[number]
        vectors = np.full((*rows.shape, self.vectors.shape[1]), np.nan, np.float32)
        vectors[rows >= 0] = self.vectors[rows[rows >= 0]]
        with make_spool(activity, settings.turns, self.geometry, self.activities.shape[1]) as local:
            values = self.activities / np.float32(local.steps)
            local.append(values.astype(np.float32), None, self.active[number])
            found = vectors, self.embedded_s[number]
            speakers = cluster_speakers(local, *found, settings.clustering, activity, (1, None), plda)
            turns, _, _ = diarize(local, speakers, activity, None)
        return annotate(turns, self.uri)

    def save(self, path: Path) -> None:
        """Write this, whole or not at all."""
        arrays: dict[str, Any] = {
            name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)
        }
        told = {"uri": self.uri, "geometry": asdict(self.geometry), "thresholds": self.thresholds}
        with whole_file(path) as new:
            np.savez(new, description=np.array(json.dumps(told)), **arrays)

    @classmethod
    def load(cls, path: Path) -> Heard:
        """Read what `save` wrote; a PixitError if it is damaged."""
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            told = json.loads(str(arrays.pop("description")))
            grid = FrameGrid(**told["geometry"].pop("frame_grid"))
            geometry = Geometry(**told["geometry"], frame_grid=grid)
            pairs = tuple((onset, offset) for onset, offset in told["thresholds"])
            return cls(told["uri"], geometry, pairs, **arrays)
        except ARRAY_ERRORS as error:
            kind = type(error).__name__
            raise PixitError(
                f"{path}: cannot be read ({kind}), damaged? remove it, and it is made again"
            ) from None


def hear(
    separator: Separator, recording: Audio, thresholds: Sequence[Thresholds], progress: Progress
) -> Heard:
    """Let the networks of a separator hear a recording, as `Separator.open` gives it, for pairs of thresholds."""
    settings, compute = separator.settings, separator.compute
    geometry = separator.lay_windows(recording)
    variants = [
        settings.activity.model_copy(update={"onset": onset, "offset": offset})
        for onset, offset in thresholds
    ]
    model, embedder = RememberingModel(separator.model), remembering(separator.embedder)
    numbers: dict[bytes, int] = {}
    with ExitStack() as stack:
        spools = [
            stack.enter_context(make_spool(activity, settings.turns, geometry, model.num_speakers))
            for activity in variants
        ]
        rows = np.full((len(spools), *spools[0].active.shape), -1, np.int32)
        embedded_s = np.zeros(rows.shape, np.float32)
        activities = np.zeros(spools[0].activities_in_steps.shape, spools[0].activities_in_steps.dtype)
        for windows in batches(geometry.cut(recording), TOGETHER):
            for number, (spool, activity) in enumerate(zip(spools, variants, strict=True)):
                heard = hear_windows(model, windows, spool, activity, compute, lambda done, total: None)
                vectors, seconds = embed_speakers(
                    embedder, spool, heard, settings.embedding, activity, compute, lambda done, total: None
                )
                for window in (one.index for one in windows):
                    embedded_s[number, window] = seconds[window]
                    steps = spool.activities_in_steps[window]
                    np.maximum(activities[window], steps, out=activities[window])
                    for speaker in np.flatnonzero(spool.active[window]):
                        key = vectors[window, speaker].tobytes()
                        rows[number, window, speaker] = numbers.setdefault(key, len(numbers))
            model.memory.clear()
            embedder.memory.clear()
            progress(windows[-1].index + 1, geometry.num_windows)
        active = np.stack([spool.active_outputs for spool in spools])
    table = np.frombuffer(b"".join(numbers), np.float32).reshape(len(numbers), embedder.embedding_size)
    return Heard(recording.uri, geometry, tuple(thresholds), activities, active, table, rows, embedded_s)
