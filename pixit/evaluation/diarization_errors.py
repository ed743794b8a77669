"""The errors of one recording's diarization, as counts that add up.

pyannote.metrics (Bredin, Interspeech 2017) does the arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyannote.core import Annotation, Timeline

CONVENTIONS = ("pyannote", "md-eval")
"""What a collar means; the first is the default. See `pixit.evaluation.diarization.evaluate_diarization`."""


@dataclass(frozen=True)
class DiarizationCounts:
    """What is counted in a recording, or summed over several; durations add up over speakers.

    Parameters
    ----------
    total_s
        Reference speech that is scored.
    correct_s, confusion_s, missed_s
        Its parts: attributed to the right speaker, to a wrong one, to none.
    false_alarm_s
        Hypothesis speech beyond the reference speech.
    jaccard_errors
        Sum of the Jaccard error, 0 to 1, of each scored reference speaker.
    jaccard_speakers
        Number of these speakers.
    reference_speakers, hypothesis_speakers
        Number of speakers who talk in the evaluated regions, collars and overlap included.
    """

    total_s: float = 0.0
    correct_s: float = 0.0
    false_alarm_s: float = 0.0
    missed_s: float = 0.0
    confusion_s: float = 0.0
    jaccard_errors: float = 0.0
    jaccard_speakers: float = 0.0
    reference_speakers: int = 0
    hypothesis_speakers: int = 0

    def __add__(self, other: DiarizationCounts) -> DiarizationCounts:
        names = [field.name for field in fields(self)]
        return DiarizationCounts(**{name: getattr(self, name) + getattr(other, name) for name in names})

    @property
    def der(self) -> float:
        """Diarization error rate; without reference speech 0 if there is no error and else 1."""
        errors_s = self.confusion_s + self.false_alarm_s + self.missed_s
        return errors_s / self.total_s if self.total_s else float(errors_s > 0)

    @property
    def jer(self) -> float:
        """Jaccard error rate, the mean over reference speakers; 1 if there are none (pyannote.metrics)."""
        return self.jaccard_errors / self.jaccard_speakers if self.jaccard_speakers else 1.0


def count_errors(
    reference: Annotation,
    hypothesis: Annotation,
    uem: Timeline,
    collar_s: float,
    skip_overlap: bool,
    convention: str,
) -> DiarizationCounts:
    """Count one recording.

    Parameters
    ----------
    reference, hypothesis
        Who spoke when.
    uem
        The regions to score.
    collar_s
        Whole width of the collar, both sides of a boundary together, whatever the convention.
    skip_overlap
        Leave out where more than one reference speaker talks.
    convention
        One of `CONVENTIONS`.
    """
    from pyannote.metrics.diarization import DiarizationErrorRate, JaccardErrorRate

    options: dict[str, Any] = {"collar": collar_s, "skip_overlap": skip_overlap}
    if convention == "md-eval":
        parts = _md_eval_components(reference, hypothesis, uem, options)
    else:
        parts = DiarizationErrorRate(**options).compute_components(reference, hypothesis, uem=uem)
    jaccard = JaccardErrorRate(**options).compute_components(reference, hypothesis, uem=uem)
    return DiarizationCounts(
        total_s=float(parts["total"]),
        correct_s=float(parts["correct"]),
        false_alarm_s=float(parts["false alarm"]),
        missed_s=float(parts["missed detection"]),
        confusion_s=float(parts["confusion"]),
        jaccard_errors=float(jaccard["speaker error"]),
        jaccard_speakers=float(jaccard["speaker count"]),
        reference_speakers=len(reference.crop(uem).labels()),
        hypothesis_speakers=len(hypothesis.crop(uem).labels()),
    )


def _md_eval_components(
    reference: Annotation, hypothesis: Annotation, uem: Timeline, options: dict[str, Any]
) -> Mapping[str, float]:
    """Assign the speakers in the whole UEM, then count without collars and overlap."""
    from pyannote.metrics.diarization import DiarizationErrorRate
    from pyannote.metrics.identification import IdentificationErrorRate

    scored = IdentificationErrorRate().extrude(uem, reference, **options)
    # Names of both sides are made different, so that only assigned speakers can agree.
    reference = reference.support().rename_labels(generator="string")
    hypothesis = hypothesis.support().rename_labels(generator="int")
    mapping = DiarizationErrorRate().optimal_mapping(reference.crop(uem), hypothesis.crop(uem))
    mapped = hypothesis.rename_labels(mapping=mapping)
    return IdentificationErrorRate().compute_components(reference, mapped, uem=scored)


def speaks_twice(annotation: Annotation) -> bool:
    """Return whether turns of the same speaker overlap."""
    timelines = (annotation.label_timeline(label) for label in annotation.labels())
    tracks_s = sum(segment.duration for segment, _ in annotation.itertracks())
    return bool(tracks_s > sum(timeline.duration() for timeline in timelines) + 1e-3)
