"""The result of a diarization: who spoke when, and the folder that holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, SupportsIndex

import numpy as np
from pyannote.core import Annotation, Segment

from pixit.files import file_name, whole_folder
from pixit.report.timeline import Lane, draw_timeline, render_html, render_png
from pixit.saved import (
    TIMELINE,
    Description,
    TrackEntry,
    TurnEntry,
    check_file_names,
    check_free,
    read_description,
)
from pixit.types import Turn

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NO_ENVELOPE = np.zeros((2, 2), np.float32)


@dataclass(eq=False)
class Diarization:
    """A diarized recording: who spoke when, without tracks.

    Parameters
    ----------
    uri
        Name of the recording.
    diarization
        Who spoke when.
    sample_rate_hz, num_samples
        Of the recording, as it was heard.
    settings
        How this was made, all of it fit for JSON.
    folder
        Folder that it was loaded from or, last, saved into.
    """

    uri: str
    diarization: Annotation
    sample_rate_hz: int
    num_samples: int
    settings: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = field(default=None, repr=False)

    @property
    def speakers(self) -> list[str]:
        """Names of the speakers, in the order of their first words."""
        return list(dict.fromkeys(turn.speaker for turn in self.turns))

    @property
    def turns(self) -> tuple[Turn, ...]:
        """Who spoke when, ordered by start, end and speaker."""
        tracks = self.diarization.itertracks(yield_label=True)
        turns = (Turn(segment.start, segment.end, str(speaker)) for segment, _, speaker in tracks)
        return tuple(sorted(turns, key=lambda turn: (turn.start_s, turn.end_s, turn.speaker)))

    @property
    def duration_s(self) -> float:
        """Length of the recording in seconds."""
        return self.num_samples / self.sample_rate_hz

    def rename(self, names: Mapping[str, str]) -> Self:
        """Give speakers other names, ``{"SPEAKER_00": "Ann"}``, and return this result.

        A result that was loaded is changed on disk too, with its transcripts beside it, all or nothing: whatever
        happens, the old names stand everywhere or the new ones. Names may be swapped.

        Raises
        ------
        PixitError
            If there is no such speaker, two would have one name, files or RTTM cannot hold a name, a transcript
            cannot be renamed without loss, or the folder cannot be written. Nothing is changed then.

        Examples
        --------
        >>> result = pixit.separate("examples/meeting.flac", num_speakers=2)
        >>> result.rename({"SPEAKER_00": "Ann"}).speakers
        ['Ann', 'SPEAKER_01']
        """
        from pixit.corrections import rename_speakers

        rename_speakers(self, names)
        return self

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        if self.folder is not None:
            return type(self).load, (self.folder.absolute(),)
        return super().__reduce_ex__(protocol)

    def __copy__(self) -> Self:
        return replace(self)

    def save(self, folder: Path | str, *, overwrite: bool = False) -> Path:
        """Write the result into ``folder/NAME``, whole or not at all, and return that folder.

        ``NAME`` is `file_name` of the uri. Into its folder go ``NAME.rttm``, ``NAME.json`` and ``timeline.png``.
        Times are rounded to milliseconds; turns that become empty are left out.

        Parameters
        ----------
        folder
            Where the folder of the result goes.
        overwrite
            Replace an older result of the same name.

        Raises
        ------
        PixitError
            If the result exists and `overwrite` is not given, or something else stands in its place; two speakers
            would have one name in RTTM; or the disk is full or not to be written.
        """
        name = file_name(self.uri)
        target = Path(folder) / name
        check_free(target, overwrite)
        check_file_names(target, {speaker: file_name(speaker) for speaker in self.speakers})
        with whole_folder(target) as new:
            self.write_description(new, name, None)
        self.folder = target
        return target

    def write_description(self, folder: Path, name: str, tracks: Mapping[str, TrackEntry] | None) -> None:
        """Write all but the tracks into a folder that exists: JSON, RTTM and the picture."""
        turns = self._rounded_turns()
        description = Description(
            uri=self.uri,
            duration=self.duration_s,
            sample_rate=self.sample_rate_hz,
            num_samples=self.num_samples,
            tracks=None if tracks is None else dict(tracks),
            settings=self.settings,
            diarization=turns,
        )
        rttm = Annotation(uri=name)  # RTTM knows no spaces in names
        for turn in turns:
            rttm[Segment(turn.start, turn.end), turn.speaker] = file_name(turn.speaker)
        (folder / f"{name}.json").write_text(description.model_dump_json(indent=2) + "\n", encoding="utf-8")
        with (folder / f"{name}.rttm").open("w", encoding="utf-8") as file:
            rttm.write_rttm(file)
        (folder / TIMELINE).write_bytes(self._repr_png_())

    @classmethod
    def load(cls, folder: Path | str) -> Diarization:
        """Read a result that `save` wrote; it is a `Separation` if it has tracks.

        Raises
        ------
        PixitError
            If the folder does not hold a result, or a file of it is missing or damaged.
        """
        folder = Path(folder)
        description = read_description(folder)
        if description.tracks is not None:
            from pixit.results import Separation

            return Separation.load(folder)
        size = description.sample_rate, description.num_samples
        return Diarization(
            description.uri, annotation_of(description), *size, description.settings, folder=folder
        )

    def _rounded_turns(self) -> list[TurnEntry]:
        """Return the turns in whole milliseconds, as RTTM has them, none beyond the end of the recording."""
        end_ms = int(self.duration_s * 1000)
        turns = []
        for turn in self.turns:
            start, end = (min(max(0, round(time_s * 1000)), end_ms) for time_s in (turn.start_s, turn.end_s))
            if start < end:
                turns.append(TurnEntry(speaker=turn.speaker, start=start / 1000, end=end / 1000))
        return turns

    def plot(self) -> Figure:
        """Draw the timeline: a lane per speaker with the turns in colour, and on them a track's envelope, if any."""
        return draw_timeline(self.uri, self._lanes(), self.duration_s)

    def _lanes(self) -> list[Lane]:
        return [Lane(speaker, self._turns_of(speaker), NO_ENVELOPE) for speaker in self.speakers]

    def _turns_of(self, speaker: str) -> list[tuple[float, float]]:
        return [(s.start, s.end) for s in self.diarization.label_timeline(speaker).support()]

    def _sounds(self) -> list[bytes]:
        return []

    def _repr_png_(self) -> bytes:
        return render_png(self.plot())

    def _repr_html_(self) -> str:
        """Show a notebook the timeline, the speakers, and a player for each track if they are short enough."""
        lanes = self._lanes()
        picture = render_png(draw_timeline(self.uri, lanes, self.duration_s))
        return render_html(self.uri, lanes, self.duration_s, picture, self._sounds())


def annotation_of(description: Description) -> Annotation:
    """Return the turns of a description as an annotation."""
    diarization = Annotation(uri=description.uri)
    for turn in description.diarization:
        diarization[Segment(turn.start, turn.end), turn.speaker] = turn.speaker
    return diarization
