"""The contracts between the parts of pixit: plain shapes of data, and the error that all of them raise.

Glossary, used in every docstring of the library: ``B`` batch, ``W`` windows, ``K`` local speakers of
one window, ``N`` speakers of the recording, ``T`` samples, ``F`` frames, ``D`` embedding size. The
order of axes is always (batch, speaker, time).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


class PixitError(Exception):
    """Bad input, said in one line: what was found where, what was expected, and the remedy.

    The command line prints the message and exits with status 2.
    """


def one_line(error: object, most: int = 200) -> str:
    """Return what another library's error says, as part of a line of ours."""
    return " ".join(str(error).split())[:most]


UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What would steer a terminal, turn its text around or cannot be encoded; names of files may hold all of it."""


def printable(text: str) -> str:
    """Return text with what is `UNPRINTABLE` in it written out, in the way of JSON."""
    return UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


@dataclass(frozen=True)
class FrameGrid:
    """Where the frames of a model are in time, counted in samples from the start of its input.

    Frame ``i`` looks at the samples ``[start_samples + i * step_samples, … + size_samples)``.

    Parameters
    ----------
    step_samples
        Distance between two frames.
    size_samples
        Length of the stretch that one frame looks at.
    start_samples
        First sample of frame 0; negative where the model pads its input.
    """

    step_samples: int
    size_samples: int
    start_samples: int = 0

    def centre_samples(self, frame: float) -> float:
        """Sample at the middle of `frame`."""
        return self.start_samples + frame * self.step_samples + self.size_samples / 2


@dataclass(frozen=True)
class LocalActivities:
    """The output of a local model that only diarizes, for a batch of windows.

    Parameters
    ----------
    activity_logits
        Speech activity before the sigmoid, (B, K, F).
    """

    activity_logits: Tensor

    @property
    def activities(self) -> Tensor:
        """Probability that each speaker talks, (B, K, F), between 0 and 1."""
        return self.activity_logits.sigmoid()


@dataclass(frozen=True)
class LocalOutput(LocalActivities):
    """The output of a local model for a batch of windows.

    Parameters
    ----------
    activity_logits
        As of `LocalActivities`, (B, K, F).
    sources
        Separated signals, (B, K, T); source ``k`` belongs to speaker ``k`` of the activities.
    """

    sources: Tensor


@runtime_checkable
class LocalDiarizer(Protocol):
    """A network that diarizes one window: (B, 1, T) -> `LocalActivities`.

    One that does not separate as well, as a `LocalModel`, says so by an attribute ``separates`` that is False.
    """

    sample_rate_hz: int
    num_speakers: int
    window_samples: int
    frame_grid: FrameGrid

    def num_frames(self, num_samples: int) -> int:
        """Return the number of frames F that `num_samples` samples give."""
        ...

    def __call__(self, waveforms: Tensor) -> LocalActivities:
        """Diarize the windows `waveforms`, (B, 1, T)."""
        ...


@runtime_checkable
class LocalModel(LocalDiarizer, Protocol):
    """A network that separates and diarizes one window: (B, 1, T) -> `LocalOutput`."""

    def __call__(self, waveforms: Tensor) -> LocalOutput:
        """Separate and diarize the windows `waveforms`, (B, 1, T)."""
        ...


def separates(model: LocalDiarizer) -> TypeGuard[LocalModel]:
    """Return whether a network that diarizes gives sources too."""
    return bool(getattr(model, "separates", True))


@runtime_checkable
class Embedder(Protocol):
    """A network that turns speech into speaker embeddings: (B, T) and weights (B, F) -> (B, D).

    `clustering_threshold` is the mean cosine distance up to which its embeddings are of one speaker.
    """

    sample_rate_hz: int
    embedding_size: int
    clustering_threshold: float

    def __call__(self, waveforms: Tensor, weights: Tensor | None = None) -> Tensor:
        """Embed `waveforms` (B, T); `weights` (B, F), any F, say how much each stretch counts."""
        ...


@dataclass(frozen=True)
class Plda:
    """How the embeddings of an embedder vary: probabilistic linear discriminant analysis, of two covariances.

    Embeddings less `centre` (D,), brought to the length √D, less `mean` (D,) and times `basis` (D, d), have a
    covariance of one within a speaker, and between speakers a diagonal one, `variances` (d,).
    """

    centre: NDArray[np.float64]
    mean: NDArray[np.float64]
    basis: NDArray[np.float64]
    variances: NDArray[np.float64]


@runtime_checkable
class PldaEmbedder(Protocol):
    """An `Embedder` that may know how its embeddings vary."""

    @property
    def plda(self) -> Plda | None: ...


def plda_of(embedder: Embedder) -> Plda | None:
    """Return how the embeddings of an embedder vary, if it knows that."""
    return embedder.plda if isinstance(embedder, PldaEmbedder) else None


@runtime_checkable
class MaskEmbedder(Protocol):
    """An `Embedder` that hears a waveform once for all who talk in it."""

    def embed_masks(self, waveforms: Tensor, weights: Tensor, counts: Tensor) -> Tensor:
        """Embed by weights (N, F), of which ``counts`` (B,) belong to each of the `waveforms` (B, T): (N, D)."""
        ...


@dataclass(frozen=True)
class Turn:
    """One uninterrupted stretch of one speaker, in seconds."""

    start_s: float
    end_s: float
    speaker: str


@dataclass(frozen=True)
class Recording:
    """A recording and its annotation; the audio stays on disk.

    Parameters
    ----------
    uri
        Name, unique within a set.
    audio
        Path of the audio file.
    turns
        Who spoke when, ordered by start.
    annotated
        Stretches ``(start_s, end_s)`` where `turns` is complete, ordered and disjoint.
    references
        Speaker -> path of the clean source signal, where it exists (simulated meetings).
    """

    uri: str
    audio: Path
    turns: tuple[Turn, ...] = ()
    annotated: tuple[tuple[float, float], ...] = ()
    references: dict[str, Path] = field(default_factory=dict)


Hook = Callable[..., Any]
"""Progress callback in pyannote.audio's form: ``hook(step_name, artifact, file=, total=, completed=)``."""
