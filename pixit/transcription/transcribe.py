"""Who said what: a recogniser on each separated track, or on the mixture cut up by a diarization."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import Field

from pixit.audio import Audio, AudioFile, TrackWriter, open_audio
from pixit.config import Settings
from pixit.formats.subtitles import UNKNOWN
from pixit.formats.utterances import Utterance
from pixit.results import Separation
from pixit.transcription.recognizers import SAMPLE_RATE_HZ, Recognizer, Word
from pixit.transcription.stretches import Journal, Stretch, active_intervals, split
from pixit.types import Hook, PixitError, Turn

OVERRUN_S = 0.5  # a diarization may begin a turn this much after the end of its recording (rounded times)

Intervals = Sequence[tuple[float, float]]


class TranscriptionSettings(Settings):
    """What of a recording is recognised together, and how its words become utterances."""

    merge_gap_s: float = Field(
        1.0, ge=0, le=3600, description="turns of a speaker closer than this are recognised as one"
    )
    padding_s: float = Field(0.2, ge=0, le=60, description="seconds added before and after")
    max_stretch_s: float = Field(
        30.0, ge=1, le=3600, description="longer stretches are split where it is quietest"
    )
    pause_s: float = Field(0.6, ge=0, le=3600, description="a pause as long as this begins a new utterance")
    max_utterance_s: float = Field(
        10.0, gt=0, le=3600, description="no utterance lasts longer, but for a single word"
    )


class Transcriber:
    """Transcribes recordings with a recogniser.

    The recogniser is one of `load_recognizer`, or any function ``(samples, sample_rate_hz)`` that returns
    text or `Word` objects; the settings say what it is given, and what becomes of the words.

    Examples
    --------
    >>> transcriber = Transcriber(load_recognizer("whisper:small.en"))                    # doctest: +SKIP
    >>> utterances = transcriber.separation(Separation.load("separated/meeting"))         # doctest: +SKIP
    >>> write_transcript("meeting.seglst.json", utterances)                               # doctest: +SKIP
    """

    def __init__(self, recognizer: Recognizer, settings: TranscriptionSettings | None = None) -> None:
        self.recognizer = recognizer
        self.settings = settings or TranscriptionSettings()

    @property
    def description(self) -> dict[str, Any]:
        """Everything that determines the words of a recording, fit for JSON."""
        name = getattr(self.recognizer, "__qualname__", type(self.recognizer).__qualname__)
        described = getattr(self.recognizer, "description", {"recognizer": name})
        return described | {"transcription": self.settings.model_dump(mode="json")}

    def separation(
        self,
        result: Separation,
        within: Intervals | None = None,
        session: str | None = None,
        journal: Journal | None = None,
        hook: Hook | None = None,
    ) -> list[Utterance]:
        """Recognise each separated track where its speaker is active; utterances are ordered by start.

        Parameters
        ----------
        result
            What `pixit.Separator` gives, or `Separation.load`.
        within
            Stretches ``(start_s, end_s)`` of the recording to transcribe; None for all of it.
        session
            Name of the recording in the utterances; None for its own.
        journal
            Where to keep what was recognised; what it has already is not recognised again.
        hook
            Progress callback, as in pyannote.audio.

        Raises
        ------
        PixitError
            If a track cannot be read, someone talks who has none, or the recogniser returns neither text nor
            words.
        """
        result.check_speakers()
        audio = {speaker: AudioFile(track.path, SAMPLE_RATE_HZ) for speaker, track in result.tracks.items()}
        stretches = self._stretches(result.turns, audio, result.duration_s, within, keep_apart=False)
        return self._recognize(stretches, audio, session or result.uri, journal, hook)

    def mixture(
        self,
        audio: str | Path | Audio,
        turns: Iterable[Turn] | None = None,
        within: Intervals | None = None,
        session: str | None = None,
        journal: Journal | None = None,
        hook: Hook | None = None,
    ) -> list[Utterance]:
        """Recognise a recording turn by turn, as a diarization says.

        Where speakers overlap, each is given the words that the recogniser hears in the mixture.

        Parameters
        ----------
        audio
            The recording, or its path.
        turns
            Who spoke when; None for one unknown speaker, and stretches cut where it is quietest.
        within, session, journal, hook
            As for `separation`, and so is what is returned.

        Raises
        ------
        PixitError
            As `separation`, and if a turn begins after the end of the recording.
        """
        with seekable(open_audio(audio, SAMPLE_RATE_HZ)) as recording:
            duration_s = recording.duration_s
            turns = [Turn(0.0, duration_s, UNKNOWN)] if turns is None else list(turns)
            if late := [turn for turn in turns if turn.start_s > duration_s + OVERRUN_S]:
                raise PixitError(
                    f"{recording.uri}: lasts {duration_s:.3f} s, but {late[0].speaker} begins to speak at "
                    f"{late[0].start_s:.3f} s; does the diarization belong to it?"
                )
            tracks = dict.fromkeys((turn.speaker for turn in turns), recording)
            stretches = self._stretches(turns, tracks, duration_s, within, keep_apart=True)
            return self._recognize(stretches, tracks, session or recording.uri, journal, hook)

    def _stretches(
        self,
        turns: Iterable[Turn],
        audio: Mapping[str, Audio],
        duration_s: float,
        within: Intervals | None,
        keep_apart: bool,
    ) -> list[Stretch]:
        settings = self.settings
        whole = [(0.0, duration_s)] if within is None else within
        cut = [(max(0.0, start_s), min(end_s, duration_s)) for start_s, end_s in whole]
        scope = [(start_s, end_s) for start_s, end_s in cut if start_s < end_s]
        stretches = []
        for turn in active_intervals(turns, scope, settings.merge_gap_s, settings.padding_s, keep_apart):
            start, stop = (round(time_s * SAMPLE_RATE_HZ) for time_s in (turn.start_s, turn.end_s))
            stop = min(stop, audio[turn.speaker].num_samples)
            parts = split(audio[turn.speaker], start, stop, round(settings.max_stretch_s * SAMPLE_RATE_HZ))
            stretches += [Stretch(turn.speaker, *part) for part in parts]
        return stretches

    def _recognize(
        self,
        stretches: list[Stretch],
        audio: Mapping[str, Audio],
        session: str,
        journal: Journal | None,
        hook: Hook | None,
    ) -> list[Utterance]:
        utterances = []
        for number, stretch in enumerate(stretches):
            if hook is not None:
                hook("transcription", None, file=session, total=len(stretches), completed=number)
            words = journal.get(stretch) if journal is not None else None
            if words is None:
                samples = audio[stretch.speaker].read(stretch.start, stretch.stop)
                found = self.recognizer(samples, SAMPLE_RATE_HZ)
                words = check_words(found, len(samples) / SAMPLE_RATE_HZ)
                if journal is not None:
                    journal.add(stretch, words)
            utterances += self._utterances(words, session, stretch)
        if journal is not None:
            journal.begin()
        if hook is not None:
            hook("transcription", utterances, file=session, total=len(stretches), completed=len(stretches))
        return sorted(utterances, key=lambda u: (u.start_s, u.end_s, u.speaker))

    def _utterances(self, words: list[Word], session: str, stretch: Stretch) -> list[Utterance]:
        """Group the words of a stretch; a pause or the length ends an utterance."""
        groups: list[list[Word]] = []
        for word in words:
            if not groups or word.start_s - groups[-1][-1].end_s >= self.settings.pause_s:
                groups.append([])
            groups[-1].append(word)
        offset_s = stretch.start / SAMPLE_RATE_HZ
        utterances = []
        for part in (part for group in groups for part in break_up(group, self.settings.max_utterance_s)):
            start_s, end_s = offset_s + part[0].start_s, offset_s + part[-1].end_s
            text = " ".join(word.text for word in part)
            utterances.append(Utterance(session, stretch.speaker, start_s, end_s, text))
        return utterances


def break_up(words: list[Word], max_s: float) -> list[list[Word]]:
    """Break words up until no part lasts longer: after a sentence, at the widest gap, or in the middle."""
    if len(words) < 2 or words[-1].end_s - words[0].start_s <= max_s:
        return [words]

    def merit(index: int) -> tuple[bool, float, float]:
        before, after = words[index - 1], words[index]
        gap_s = round(after.start_s - before.end_s, 2)
        return before.text[-1] in ".?!…", gap_s, -abs(index - len(words) / 2)

    cut = max(range(1, len(words)), key=merit)
    return break_up(words[:cut], max_s) + break_up(words[cut:], max_s)


def check_words(found: Any, duration_s: float) -> list[Word]:
    """Return what a recogniser said of a stretch as words in their order, inside the stretch, none empty.

    Text becomes one word as long as the stretch.

    Raises
    ------
    PixitError
        If it is neither text nor words with finite times.
    """
    words = [Word(found, 0.0, duration_s)] if isinstance(found, str) else found
    if not (isinstance(words, Sequence) and all(isinstance(word, Word) for word in words)):
        raise PixitError(f"the recogniser returned a {type(found).__name__}, expected text or a list of Word")
    checked = []
    for word in sorted(words, key=lambda word: word.start_s):
        if not (math.isfinite(word.start_s) and math.isfinite(word.end_s)):
            raise PixitError(f"the recogniser returned {word}, expected times in seconds")
        start_s = min(max(0.0, word.start_s), duration_s)
        end_s = min(max(start_s, word.end_s), duration_s)
        if text := " ".join(word.text.split()):
            checked.append(Word(text, start_s, end_s))
    return checked


@contextmanager
def seekable(audio: Audio) -> Iterator[Audio]:
    """Give a recording that can be read from anywhere: mp3, m4a … are decoded once, to a temporary file."""
    if not isinstance(audio, AudioFile) or audio.info.is_seekable:
        yield audio
        return
    with tempfile.TemporaryDirectory(prefix="pixit-") as folder:
        path = Path(folder) / "decoded.w64"
        with TrackWriter(path, audio.sample_rate_hz, "w64") as writer:
            for block in audio.blocks():
                writer.write(block)
        yield AudioFile(path, uri=audio.uri)
