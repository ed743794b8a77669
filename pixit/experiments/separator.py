"""How good is a separator? Simulated meetings, whose sources are known, and real recordings with a reference.

Everything is scored by `pixit.evaluation`: tracks go to speakers one to one by SI-SDR over the whole meeting, a
missing track is scored as the mixture, and the diarization error rate has no collar and includes overlap.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

import numpy as np

from pixit.audio import Audio, Samples, TrackWriter, open_audio
from pixit.evaluation.diarization import DiarizationCounts, evaluate_diarization
from pixit.evaluation.separation.score import RecordingScores, ScoringOptions, score_separation
from pixit.evaluation.tables import Column, Table
from pixit.formats.names import match_items
from pixit.formats.rttm import read_rttm
from pixit.results import Separation
from pixit.simulation.simulate import Ingredients, MeetingSettings, SimulatedMeeting, simulate_meeting
from pixit.types import PixitError, Turn

if TYPE_CHECKING:
    from pixit.pipeline.separate import Separator

OPTIONS = ScoringOptions(regions=("whole", "overlap", "single"), metrics=("si_sdr",))
ERRORS = ("false_alarm", "missed", "confusion")
COLUMNS = (
    Column("recording", "recording"),
    Column("speakers", "speakers"),
    Column("found", "found"),
    Column("der_percent", "DER %", 1),
    *(Column(f"{error}_percent", error.replace("_", " "), 1) for error in ERRORS),
    Column("overlap_gain_db", "overlap gain dB", 1),
    Column("single_db", "alone dB", 1),
    Column("real_time_factor", "RTF", 3),
)


@dataclass(frozen=True)
class Trial:
    """The scores of one recording.

    Parameters
    ----------
    name
        Of the recording.
    duration_s, elapsed_s
        How long it is, and how long its separation took.
    diarization
        Its errors; no collar, overlap included, from the first to the last sample.
    separation
        SI-SDR of the tracks: whole, where speakers overlap, and where one speaks alone. None without sources.
    """

    name: str
    duration_s: float
    elapsed_s: float
    diarization: DiarizationCounts
    separation: RecordingScores | None = None

    def si_sdr_db(self, region: str, improvement: bool = False) -> list[float]:
        """Return the SI-SDR of each speaker in a region, or its improvement over the mixture."""
        key = "si_sdr_improvement_db" if improvement else "si_sdr_db"
        speakers = self.separation.speakers if self.separation is not None else ()
        return [scores.values[key] for scores in speakers if scores.region == region]


@dataclass(frozen=True)
class SeparatorScores:
    """What `evaluate_separator` found, meeting by meeting and recording by recording."""

    simulated: tuple[Trial, ...]
    real: tuple[Trial, ...]

    def table(self) -> Table:
        """Return a row each simulated meeting, their total, and a row each real recording."""
        rows = [make_row(trial.name, [trial]) for trial in self.simulated]
        if len(self.simulated) > 1:
            rows.append(make_row("ALL SIMULATED", self.simulated))
        rows += [make_row(trial.name, [trial]) for trial in self.real]
        return Table("Separator; means over speakers, errors of summed durations", COLUMNS, rows)

    def summary(self) -> dict[str, Any]:
        """Return the figures of the simulated meetings together, and of each real recording, fit for JSON."""
        found: dict[str, Any] = {}
        if self.simulated:
            found["simulated"] = _figures(self.simulated)
        return found | {"real": {trial.name: _figures([trial]) for trial in self.real}}


def evaluate_separator(
    separator: Separator,
    meetings: Iterable[SimulatedMeeting] = (),
    real: Sequence[tuple[Path | str, Path | str]] = (),
    tell: Callable[[Trial], None] | None = None,
) -> SeparatorScores:
    """Separate simulated meetings and real recordings, and score what comes out.

    Parameters
    ----------
    separator
        What is tried.
    meetings
        As `make_meetings` gives them; one at a time is held.
    real
        Recordings, each with an RTTM file or folder that holds its reference.
    tell
        Called with each trial as it is done.

    Raises
    ------
    PixitError
        If a recording cannot be read or separated, or has no reference.

    Examples
    --------
    >>> ingredients = Ingredients.from_folders(["speech"], ["rttms"])                        # doctest: +SKIP
    >>> scores = evaluate_separator(Separator.from_pretrained(), make_meetings(ingredients)) # doctest: +SKIP
    >>> print(scores.table().render())                                                       # doctest: +SKIP
    """
    tell = tell or (lambda trial: None)
    # mistakes come before the work
    references = [read_reference(Path(audio), Path(rttm)) for audio, rttm in real]
    simulated: list[Trial] = []
    recorded: list[Trial] = []
    for number, meeting in enumerate(meetings):
        simulated.append(score_meeting(separator, meeting, f"meeting_{number:02d}"))
        tell(simulated[-1])
    for audio, turns in references:
        found, elapsed_s = _separate(separator, audio)
        recorded.append(Trial(audio.uri, found.duration_s, elapsed_s, count_errors(turns, found)))
        tell(recorded[-1])
    return SeparatorScores(tuple(simulated), tuple(recorded))


def make_meetings(
    ingredients: Ingredients,
    settings: MeetingSettings | None = None,
    num_meetings: int = 24,
    seed: int = 2026,
) -> Iterator[SimulatedMeeting]:
    """Make meetings, always the same for a seed: each depends on the seed and its number alone."""
    for number in range(num_meetings):
        rng = np.random.default_rng([seed, number])
        yield simulate_meeting(ingredients, settings or MeetingSettings(), rng)


def score_meeting(separator: Separator, meeting: SimulatedMeeting, name: str = "meeting") -> Trial:
    """Separate a simulated meeting, and score who spoke when and the tracks."""
    mixture = {"waveform": meeting.mixture[None], "sample_rate": meeting.sample_rate_hz, "uri": name}
    found, elapsed_s = _separate(separator, open_audio(mixture))
    with tempfile.TemporaryDirectory(prefix="pixit-") as temporary:
        folder = Path(temporary)
        references = {
            speaker: _write(folder / f"reference_{number}.w64", signal, meeting.sample_rate_hz)
            for number, (speaker, signal) in enumerate(zip(meeting.speakers, meeting.references, strict=True))
        }
        separation = score_separation(
            references,
            {speaker: track.path for speaker, track in found.tracks.items()},
            _write(folder / "mixture.w64", meeting.mixture, meeting.sample_rate_hz),
            meeting.turns,
            OPTIONS,
            name,
        )
    return Trial(name, found.duration_s, elapsed_s, count_errors(meeting.turns, found), separation)


def read_reference(audio: Path, rttm: Path) -> tuple[Audio, list[Turn]]:
    """Open a recording, and return who speaks in it."""
    recording = open_audio(audio)
    turns, _ = match_items([recording.uri], read_rttm(rttm), str(rttm))
    if recording.uri not in turns:
        raise PixitError(f"{rttm}: has no turns of {recording.uri}; does it belong to {audio}?")
    return recording, turns[recording.uri]


def _separate(separator: Separator, audio: Audio) -> tuple[Separation, float]:
    started_s = time.perf_counter()
    return separator(audio), time.perf_counter() - started_s


def count_errors(turns: Sequence[Turn], found: Separation) -> DiarizationCounts:
    """Return the errors of a diarization, from the first to the last sample of the recording."""
    name, whole = found.uri, [(0.0, found.duration_s)]
    return evaluate_diarization({name: turns}, {name: found.diarization}, {name: whole}).recordings[name]


def _write(path: Path, signal: Samples, sample_rate_hz: int) -> Path:
    with TrackWriter(path, sample_rate_hz, "w64") as writer:
        writer.write(signal)
    return path


def make_row(name: str, trials: Sequence[Trial]) -> dict[str, Any]:
    """Return the figures of trials together, as a row of a table with `COLUMNS`."""
    figures = _figures(trials)
    percent = {f"{error}_percent": 100 * figures[error] for error in ("der", *ERRORS)}
    return percent | {
        "recording": name,
        "speakers": figures["speakers"],
        "found": figures["found_speakers"],
        "overlap_gain_db": figures.get("si_sdr_gain_overlap_db"),
        "single_db": figures.get("si_sdr_single_db"),
        "real_time_factor": figures["real_time_factor"],
    }


def _figures(trials: Sequence[Trial]) -> dict[str, Any]:
    """Return the figures of trials together; durations are summed before they are divided."""
    counts = [trial.diarization for trial in trials]
    total = sum(counts, start=DiarizationCounts())
    is_right = [count.hypothesis_speakers == count.reference_speakers for count in counts]
    duration_s = sum(trial.duration_s for trial in trials)
    figures: dict[str, Any] = {
        "der": total.der,
        **{error: getattr(total, f"{error}_s") / max(total.total_s, 1e-9) for error in ERRORS},
        "speakers": total.reference_speakers,
        "found_speakers": total.hypothesis_speakers,
        "speaker_count_accuracy": sum(is_right) / len(trials),
        "real_time_factor": sum(trial.elapsed_s for trial in trials) / duration_s,
        "recordings": len(trials),
        "hours": duration_s / 3600,
    }
    scored = [trial.separation for trial in trials if trial.separation is not None]
    if not scored:
        return figures
    for key, region, improvement in (
        ("si_sdr_overlap", "overlap", False),
        ("si_sdr_gain_overlap", "overlap", True),
        ("si_sdr_single", "single", False),
        ("si_sdr_gain_single", "single", True),
    ):
        values = [value for trial in trials for value in trial.si_sdr_db(region, improvement)]
        figures[f"{key}_db"] = fmean(values) if values else None
        figures[f"{key}_median_db"] = median(values) if values else None
    whole = [scores for found in scored for scores in found.speakers if scores.region == "whole"]
    figures["missing_tracks"] = sum(scores.track is None for scores in whole)
    figures["surplus_tracks"] = sum(len(found.surplus) for found in scored)
    return figures
