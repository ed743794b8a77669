"""What the networks said of a recording that came as a stream, kept: so that it is decided again who spoke when."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyannote.core import Annotation, Segment

from pixit.audio import Audio, open_audio
from pixit.files import ARRAY_ERRORS, whole_file
from pixit.pipeline.live import Update
from pixit.pipeline.live_hearing import Heard
from pixit.pipeline.local import Progress
from pixit.pipeline.provenance import WeightsHash
from pixit.pipeline.settings import StreamingSettings
from pixit.pipeline.spool import STEPS
from pixit.pipeline.streaming import StreamingSeparator
from pixit.types import PixitError, Recording


def open_for_stream(separator: StreamingSeparator, recording: Recording) -> Audio:
    """Return a recording as a stream hears it: at the model's rate, and as a separator the best channel."""
    whole = {"audio": recording.audio, "uri": recording.uri}
    return open_audio(whole, separator.rate_hz, partial=True).at(channel="best")


def fingerprint_of(separator: StreamingSeparator) -> Mapping[str, Any]:
    """Return what determines what the networks of a separator of streams say: their weights, and some settings."""
    asked = separator.settings.model_dump(
        mode="json", include={"step_s", "precision", "activity", "local_turns", "embedding"}
    )
    networks = {"model_sha256": separator.model, "embedder_sha256": separator.embedder}
    return {"streaming": asked, **{name: WeightsHash(network)() for name, network in networks.items()}}


def push_all(separator: StreamingSeparator, recording: Audio) -> Iterable[list[Any]]:
    """Yield the windows of a recording, as they become full, and at its end."""
    for block in recording.blocks():
        yield separator.feed(block)
    yield separator.end()


def annotate_updates(updates: Iterable[Update], uri: str) -> Annotation:
    """Return the turns that a stream has closed."""
    annotation = Annotation(uri=uri)
    for update in updates:
        for number, turn in enumerate(update.turns):
            if turn.kind == "closed" and turn.end_s is not None and turn.end_s > turn.start_s:
                annotation[Segment(turn.start_s, turn.end_s), (turn.speaker, number)] = turn.speaker
    return annotation


@dataclass(frozen=True)
class HeardStream:
    """What two networks said of the windows of a stream.

    Parameters
    ----------
    uri, num_samples
        Name of the recording, and its length at the model's rate.
    activities, vectors
        Of the local speakers, (W, K, F), in the steps in which a stream keeps them; and (W, K, D), NaN where silent.
    """

    uri: str
    num_samples: int
    activities: NDArray[np.uint8]
    vectors: NDArray[np.float32]

    def decide(self, separator: StreamingSeparator, settings: StreamingSettings) -> Annotation:
        """Return who spoke when, as a stream with these settings says it once it has ended.

        They may differ from those of `separator`, which heard it, in clustering, latency and stitching.
        """
        without_room = settings.stitching.model_copy(
            update={"keep_room": False}
        )  # for tracks alone, and slow
        settings = settings.model_copy(update={"stitching": without_room})
        networks = separator.model, separator.embedder
        stream = StreamingSeparator(*networks, settings, str(separator.device))
        updates, left = [], self.num_samples
        while left >= 0:
            size = min(left, stream.geometry.step_samples)
            windows = stream.feed(np.zeros(size, np.float32)) if size else stream.end()
            left -= size or 1
            for window in windows:
                number = window.index
                activities = self.activities[number] / np.float32(STEPS)
                updates.append(stream.take([Heard(window, activities, None, self.vectors[number])]))
        updates.append(stream.take([]))
        return annotate_updates(updates, self.uri)

    def save(self, path: Path) -> None:
        """Write this, whole or not at all."""
        told = np.array(json.dumps([self.uri, self.num_samples]))
        with whole_file(path) as new:
            np.savez(new, description=told, activities=self.activities, vectors=self.vectors)

    @classmethod
    def load(cls, path: Path) -> HeardStream:
        """Read what `save` wrote; a PixitError if it is damaged."""
        try:
            with np.load(path, allow_pickle=False) as file:
                uri, num_samples = json.loads(str(file["description"]))
                return cls(uri, num_samples, file["activities"], file["vectors"])
        except ARRAY_ERRORS as error:
            kind = type(error).__name__
            raise PixitError(
                f"{path}: cannot be read ({kind}), damaged? remove it, and it is made again"
            ) from None


def hear_stream(separator: StreamingSeparator, recording: Audio, progress: Progress) -> HeardStream:
    """Let the networks hear a recording as a stream, as `open_for_stream` gives it."""
    stream = StreamingSeparator(
        separator.model, separator.embedder, separator.settings, str(separator.device)
    )
    size = separator.num_local, separator.geometry.num_frames
    activities, vectors, position = [np.zeros((0, *size), np.uint8)], [], 0
    vectors = [np.zeros((0, size[0], separator.embedder.embedding_size), np.float32)]
    for windows in push_all(stream, recording):
        for heard in stream.hear(windows):
            assert heard.activities is not None
            assert heard.vectors is not None
            activities.append(np.round(heard.activities[None] * STEPS).astype(np.uint8))
            vectors.append(heard.vectors[None])
            position = heard.window.start_samples + heard.window.valid
        progress(min(position, recording.num_samples), recording.num_samples)
    return HeardStream(
        recording.uri, recording.num_samples, np.concatenate(activities), np.concatenate(vectors)
    )
