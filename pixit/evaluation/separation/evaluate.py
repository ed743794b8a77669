"""Score, or measure, the tracks of all recordings of a folder, and make the table of the scores."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from pixit.audio import AudioFile
from pixit.diarized import Diarization
from pixit.evaluation.separation.score import RecordingScores, ScoringOptions, score_separation
from pixit.evaluation.separation.statistics import MixtureStatistics, measure_tracks
from pixit.evaluation.tables import Column, Table
from pixit.files import list_files, real_path
from pixit.formats.names import find_files, is_result, match_items, match_names, open_as_heard, some
from pixit.formats.rttm import read_rttm
from pixit.saved import has_tracks
from pixit.types import Hook, PixitError, Turn

ENDINGS = (".wav", ".flac")
NAMES = (Column("recording", "recording"), Column("speaker", "speaker"), Column("region", "region"))
SCORES = (
    Column("si_sdr_db", "SI-SDR dB"),
    Column("si_sdr_improvement_db", "SI-SDRi dB"),
    Column("sdr_db", "SDR dB"),
    Column("sir_db", "SIR dB"),
    Column("sar_db", "SAR dB"),
    Column("pesq_wb", "PESQ-WB"),
    Column("pesq_nb", "PESQ-NB"),
    Column("stoi", "STOI", 3),
)
COUNTS = (Column("scored_s", "scored s", 1), Column("missing", "missing"), Column("surplus", "surplus"))


def evaluate_separation(
    reference: Path,
    estimate: Path,
    mixture: Path | None = None,
    rttm: Path | None = None,
    options: ScoringOptions | None = None,
    hook: Hook | None = None,
) -> tuple[list[RecordingScores], list[str]]:
    """Score the tracks of recordings against their clean sources.

    Parameters
    ----------
    reference, estimate
        Folders as `find_sources` reads them.
    mixture
        What was separated: a file, or a folder of files named as the recordings; by default the sums of the
        references. Of several channels that one is taken which a result names, else their mean.
    rttm
        Who spoke when, for regions: as `read_rttm`.
    options
        What is scored.
    hook
        Progress callback; ``file`` is the name of the recording.

    Returns
    -------
    scores
        Of each recording that has references.
    notes
        What the user should know: recordings on one side only, other names.

    Raises
    ------
    PixitError
        As `pair_recordings`, `find_files`, `read_rttm` and `score_separation`, or if a recording has no turns.
    """
    pairs, notes = pair_recordings(find_sources(reference), find_sources(estimate))
    names = [pair.recording for pair in pairs]
    mixtures, more = ({}, []) if mixture is None else find_files(mixture, names)
    turns, yet_more = ({}, []) if rttm is None else _find_turns(rttm, names)
    scores = []
    for name, references, tracks in pairs:
        step = None if hook is None else partial(hook, file=name)
        whole = _open_mixture(mixtures[name], tracks, more) if name in mixtures else None
        signals = references, tracks, whole, turns.get(name)
        scores.append(score_separation(*signals, options, name, step))
    return scores, [*notes, *more, *yet_more]


def measure_separation(
    mixture: Path, estimate: Path, rttm: Path | None = None, hook: Hook | None = None
) -> tuple[list[MixtureStatistics], list[str]]:
    """Measure the tracks of recordings against their mixtures, without references.

    Parameters
    ----------
    mixture, estimate, hook
        As for `evaluate_separation`; the mixture must be given.
    rttm
        Who spoke when, as `read_rttm`; by default what the folder of a recording's tracks holds.

    Returns
    -------
    statistics, notes
        Of each recording, and other names.

    Raises
    ------
    PixitError
        As `find_sources`, `find_files`, `read_rttm` and `measure_tracks`, or if a recording has no turns.
    """
    estimates = find_sources(estimate)
    mixtures, notes = find_files(mixture, estimates.recordings)
    turns, more = ({}, []) if rttm is None else _find_turns(rttm, estimates.recordings)
    statistics = []
    for name, tracks in estimates.recordings.items():
        folder = estimate if estimates.is_single else estimate / name
        if rttm is None and list_files(folder, [".rttm"]):
            turns |= _find_turns(folder, [name])[0]
        step = None if hook is None else partial(hook, file=name)
        whole = _open_mixture(mixtures[name], tracks, notes)
        statistics.append(measure_tracks(whole, tracks, turns.get(name), name, step))
    return statistics, notes + more


def _open_mixture(path: Path, tracks: Mapping[str, Path], notes: list[str]) -> AudioFile:
    """Open what was separated: of several channels that which the result of the tracks names, else their mean."""
    folders = {track.parent for track in tracks.values()}
    if len(folders) == 1 and is_result(folder := folders.pop()):
        return open_as_heard(path, Diarization.load(folder))
    audio = AudioFile(path)
    if audio.num_channels > 1:
        notes.append(f"{path}: has {audio.num_channels} channels, tracks are compared with their mean")
    return audio


@dataclass(frozen=True)
class SourceFolder:
    """A folder of sources."""

    path: Path
    recordings: dict[str, dict[str, Path]]  # recording -> speaker (or track) -> file
    is_single: bool  # the folder of one recording, rather than a folder of such folders


def find_sources(folder: Path) -> SourceFolder:
    """Find ``<recording>/<speaker>.wav`` or ``.flac`` in a folder, or ``<speaker>.wav`` of one recording.

    Raises
    ------
    PixitError
        If there are none, or a recording was diarized only.
    """
    files = _audio_files(folder)
    inside = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    # a result without speakers is a result; a stray RTTM beside others is none
    if files or is_result(folder) or (any(folder.glob("*.rttm")) and not inside):
        return SourceFolder(folder, {real_path(folder).name: files}, is_single=True)
    recordings = {path.name: _audio_files(path) for path in inside}
    if not recordings:
        raise PixitError(
            f"{folder}: holds no sources; expected <recording>/<speaker>.wav (or .flac), "
            "or <speaker>.wav of a single recording"
        )
    return SourceFolder(folder, recordings, is_single=False)


def _audio_files(folder: Path) -> dict[str, Path]:
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise PixitError(f"{folder}: cannot be read as a folder of sources ({error.strerror})") from None
    if is_result(folder) and not has_tracks(folder):
        raise PixitError(f"{folder}: was diarized only, it has no tracks to score; separate the recording")
    files: dict[str, Path] = {}
    for path in paths:
        if path.suffix.lower() not in ENDINGS or path.name.startswith(".") or not path.is_file():
            continue
        if path.stem in files:
            raise PixitError(f"{path}: {files[path.stem].name} is beside it; expected one file each speaker")
        files[path.stem] = path
    return files


class Pair(NamedTuple):
    """The reference sources of a recording, and the tracks that a system made of it."""

    recording: str
    references: dict[str, Path]
    tracks: dict[str, Path]


def pair_recordings(references: SourceFolder, estimates: SourceFolder) -> tuple[list[Pair], list[str]]:
    """Bring references and estimates together by the names of recordings, as `match_names`, and return notes.

    There is a pair for each reference (if `estimates` is single, for the one that is estimated), without tracks
    where there is no estimate. Two folders of single recordings are a pair whatever their names.
    """
    if references.is_single and estimates.is_single:
        (name,), (tracks,) = references.recordings, estimates.recordings.values()
        pairs = [Pair(name, references.recordings[name], tracks)]
        notes: list[str] = []
    else:
        found, notes = match_names(references.recordings, estimates.recordings, str(estimates.path))
        if not found:
            raise PixitError(
                f"{references.path} and {estimates.path} have no recording in common: references of "
                f"{some(references.recordings)}, estimates of {some(estimates.recordings)}"
            )
        pairs = [
            Pair(name, sources, estimates.recordings[found[name]] if name in found else {})
            for name, sources in references.recordings.items()
            if name in found or not estimates.is_single
        ]
        if surplus := set(estimates.recordings) - set(found.values()):
            notes.append(f"no reference in {references.path}, left out: {some(sorted(surplus))}")
    if silent := [pair.recording for pair in pairs if not pair.tracks]:
        notes.append(f"no tracks in {estimates.path}, every speaker is missing: {some(silent)}")
    return pairs, notes


def _find_turns(rttm: Path, recordings: Collection[str]) -> tuple[dict[str, list[Turn]], list[str]]:
    """Return the turns of all recordings; one recording has those of one RTTM whatever their names."""
    found = read_rttm(rttm)
    if len(recordings) == len(found) == 1:
        return dict(zip(recordings, found.values(), strict=True)), []
    turns, notes = match_items(recordings, found, str(rttm))
    if missing := [name for name in recordings if name not in turns]:
        raise PixitError(f"{rttm}: has no turns of {some(missing)}; found {some(found)}")
    return turns, notes


def separation_table(scores: Sequence[RecordingScores], regions: Sequence[str], title: str) -> Table:
    """Return a row for each speaker, each recording (its speakers' mean) and, last, all (the mean of all speakers).

    Each has a row for each of the `regions`, in this order.
    """
    rows: list[dict[str, Any]] = []
    for recording in scores:
        rows += [
            {"recording": recording.recording, "missing": int(score.track is None)}
            | vars(score)
            | score.values
            for region in regions
            for score in recording.speakers
            if score.region == region
        ]
        if len(scores) > 1:
            rows += _mean_rows(recording.recording, [recording], regions)
    rows += _mean_rows("TOTAL", scores, regions)
    values = {key for row in rows for key, value in row.items() if value is not None}
    shown = [column for column in SCORES if column.key in values]
    return Table(title, [*NAMES, Column("track", "track"), *shown, *COUNTS], rows)


def _mean_rows(name: str, scores: Sequence[RecordingScores], regions: Iterable[str]) -> list[dict[str, Any]]:
    """Return a row for each region: means over the speakers who have the score, and sums of counts."""
    rows = []
    for region in regions:
        speakers = [s for recording in scores for s in recording.speakers if s.region == region]
        row: dict[str, Any] = {"recording": name, "region": region}
        for column in SCORES:
            values = [s.values[column.key] for s in speakers if column.key in s.values]
            if values:
                row[column.key] = sum(values) / len(values)
        row["scored_s"] = float(sum(s.scored_s for s in speakers))
        row["missing"] = sum(s.track is None for s in speakers)
        row["surplus"] = sum(len(recording.surplus) for recording in scores)
        rows.append(row)
    return rows
