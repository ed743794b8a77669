"""Does separation help speech recognition? The paper's experiment, end to end.

Kalda et al., "PixIT" (Odyssey 2024): the cpWER of words recognised on the separated tracks, against that of words
recognised on the mixture and attributed by diarization.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixit.audio import open_audio
from pixit.config import Settings
from pixit.evaluation.transcript import NORMALIZERS, load_normalizer
from pixit.experiments.comparison import Comparison, compare_attributions
from pixit.files import writable
from pixit.formats.names import match_names, some
from pixit.formats.transcripts import read_transcript
from pixit.formats.utterances import Utterance
from pixit.pipeline.batch import find_recordings, separate_all
from pixit.pipeline.settings import SeparationSettings
from pixit.transcription.jobs import ATTRIBUTIONS, Job, transcribe_one
from pixit.transcription.transcribe import Intervals, TranscriptionSettings
from pixit.types import Hook, PixitError, Recording

if TYPE_CHECKING:
    from pixit.pipeline.separate import Separator
    from pixit.transcription.transcribe import Transcriber


class CpwerSettings(Settings):
    """How the recordings of an experiment are separated and transcribed."""

    separation: SeparationSettings = SeparationSettings()
    transcription: TranscriptionSettings = TranscriptionSettings()


@dataclass(frozen=True)
class Sessions:
    """The recordings of an experiment, and what is said in them.

    `annotated` holds the stretches ``(start_s, end_s)`` of a recording to transcribe and score; one that is not
    in it is whole. `notes` are what the user should know.
    """

    recordings: tuple[Recording, ...]
    reference: tuple[Utterance, ...]
    annotated: Mapping[str, Intervals]
    notes: tuple[str, ...] = ()


def load_sessions(
    references: Path | str,
    database: Path | str | None = None,
    protocol: str | None = None,
    subset: str = "test",
) -> Sessions:
    """Read the recordings of a protocol of pyannote.database, and the transcripts that they are scored against.

    Parameters
    ----------
    references
        STM or SegLST file, or folder of them; sessions are named as in the protocol.
    database, protocol, subset
        As for `pixit.data.database.load_recordings`.

    Raises
    ------
    PixitError
        If one of them cannot be read, two recordings would have the same name on disk, or a recording has no
        reference.
    """
    from pixit.data.database import load_recordings

    recordings = load_recordings(protocol, subset, database)
    find_recordings(recordings)
    annotated = {
        recording.uri: recording.annotated
        for recording in recordings
        if recording.annotated != ((0.0, open_audio(recording.audio).duration_s),)
    }
    read: list[str] = []
    utterances = read_transcript(references, need_times=False, tell=read.append)
    names = [recording.uri for recording in recordings]
    reference, notes = select_references(utterances, names, annotated)
    return Sessions(tuple(recordings), tuple(reference), annotated, (*read, *notes))


def run_cpwer(
    sessions: Sessions,
    separator: Separator,
    transcriber: Transcriber,
    work: Path | str,
    attributions: Sequence[str] = ATTRIBUTIONS,
    num_speakers: int | None = None,
    normalizer: str = NORMALIZERS[0],
    seed: int = 0,
    overwrite: bool = False,
    hook: Hook | None = None,
    tell: Callable[[str], None] | None = None,
) -> Comparison:
    """Separate recordings, transcribe them by each attribution, and score cpWER.

    ``work/separated`` gets the results of the separation, ``work/ATTRIBUTION`` the transcripts: an experiment
    that was interrupted continues where it was.

    Parameters
    ----------
    sessions
        Of `load_sessions`, or made otherwise.
    separator, transcriber
        What is tried.
    work
        Folder of all that is made.
    attributions
        Some of `ATTRIBUTIONS`: words of the separated tracks, or of the mixture as the diarization cuts it up.
    num_speakers
        How many speak in each recording, if that is known.
    normalizer, seed
        As for `compare_attributions`.
    overwrite
        Do again what is there.
    hook
        Progress callback, as in pyannote.audio.
    tell
        Called with a line on each step that is done.

    Raises
    ------
    PixitError
        If a recording cannot be separated or transcribed, or `work` holds something made otherwise.

    Examples
    --------
    >>> sessions = load_sessions("reference.stm", "database.yml")                       # doctest: +SKIP
    >>> transcriber = Transcriber(load_recognizer("whisper:small.en"))                  # doctest: +SKIP
    >>> comparison = run_cpwer(sessions, Separator.from_pretrained(), transcriber, "cpwer")   # doctest: +SKIP
    >>> print(comparison.table().render())                                              # doctest: +SKIP
    """
    import_module("meeteval")  # missing packages are said before the work, not after it
    load_normalizer(normalizer)
    work, tell = Path(work), tell or (lambda line: None)
    transcripts: dict[str, list[Utterance]] = {name: [] for name in attributions}
    options: dict[str, Any] = {"overwrite": overwrite, "hook": hook}
    with writable(work):
        results = separate_all(separator, sessions.recordings, work / "separated", num_speakers, **options)
        recordings = {recording.uri: recording for recording in sessions.recordings}
        for separated in results:  # those left to other processes come last
            if separated.error is not None:
                raise separated.error
            recording = recordings[separated.uri]
            tell(f"{recording.uri}: {'separated' if separated.elapsed_s else 'is separated already'}")
            for name in attributions:
                audio = recording.audio if name == "diarization" else None
                within = sessions.annotated.get(recording.uri)
                job = Job(separated.folder, work / name, name, audio, within=within, session=recording.uri)
                done = transcribe_one(transcriber, job, **options)
                if done.utterances is None:
                    raise done.error or PixitError(f"{recording.uri}: was not transcribed")
                transcripts[name] += done.utterances
                words = sum(len(utterance.words.split()) for utterance in done.utterances)
                tell(f"{recording.uri}: {words} words by {name}")
    return compare_attributions(sessions.reference, transcripts, normalizer, seed)


def select_references(
    utterances: Iterable[Utterance], sessions: Iterable[str], annotated: Mapping[str, Intervals]
) -> tuple[list[Utterance], list[str]]:
    """Return the reference of `sessions`, restricted to what is annotated, and notes on other names.

    `annotated` holds the stretches ``(start_s, end_s)`` of a session; one that is not in it is scored whole.
    An utterance belongs to the stretch that holds its middle. A session of which nothing is left keeps an
    utterance without words: what is recognised there are insertions.
    """
    sessions, given = list(sessions), defaultdict(list)
    for utterance in utterances:
        given[utterance.session].append(utterance)
    found, notes = match_names(sessions, given, "the references")
    if missing := [session for session in sessions if session not in found]:
        raise PixitError(
            f"the references have no session {some(missing)}; "
            f"expected all {len(sessions)} recordings of the protocol"
        )
    selected: list[Utterance] = []
    for session, name in found.items():
        own = [replace(utterance, session=session) for utterance in given[name]]
        selected += _restrict(own, annotated[session]) if session in annotated else own
    return selected, notes


def _restrict(utterances: list[Utterance], annotated: Intervals) -> list[Utterance]:
    middles_s = [(utterance.start_s + utterance.end_s) / 2 for utterance in utterances]
    first = utterances[0]
    if any(map(math.isnan, middles_s)):
        raise PixitError(f"the reference of {first.session} has no times, which its annotated stretches need")
    kept = [
        utterance
        for utterance, middle_s in zip(utterances, middles_s, strict=True)
        if any(start_s <= middle_s < end_s for start_s, end_s in annotated)
    ]
    return kept or [Utterance(first.session, first.speaker, first.start_s, first.start_s, "")]
