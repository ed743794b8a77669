"""The main job: a recording in, one track per speaker and who spoke when out.

Read `Separator._separate`: the way of the data. The steps are one function each, in the files beside this one.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pyannote.core import Annotation

from pixit.audio import Audio, Channel, Track
from pixit.diarized import Diarization
from pixit.files import temporary_folder
from pixit.pipeline.asked import Asked, check_num_speakers
from pixit.pipeline.channels import check_channels, cut_tracks, find_talkers, hear_channels
from pixit.pipeline.cluster import Ints
from pixit.pipeline.diarize import annotate, diarize, find_turns, speaker_name
from pixit.pipeline.enrolment import Known
from pixit.pipeline.known import Recognized, recognize
from pixit.pipeline.local import Progress, embed_speakers, hear_windows, run_windows
from pixit.pipeline.local_turns import make_spool
from pixit.pipeline.methods import cluster_speakers
from pixit.pipeline.oracle import Reference, cluster_by_reference
from pixit.pipeline.pretrained import Pretrained
from pixit.pipeline.provenance import describe, make_request
from pixit.pipeline.spool import Spool
from pixit.pipeline.stitch import fit_levels, stitch_tracks, write_tracks
from pixit.results import Separation
from pixit.types import Hook, PixitError, separates
from pixit.windows import Window

Step = Callable[[str], Progress]
"""Gives the progress of a step by its name."""
Found = tuple[Annotation, dict[str, Track] | None, dict[str, Any]]
"""Diarization, tracks if they were asked for, and what else the settings of the result say."""


class Separator(Pretrained):
    """Separates recordings with a local model and a speaker embedder.

    Parameters
    ----------
    model
        Separates and diarizes windows, for example a `ToTaToNet`; one that only diarizes, as a `PyanNet`, is for
        `diarize`.
    embedder
        Finds the same speaker in all windows.
    settings
        How. Where they leave the clustering threshold open, it is the embedder's.
    device, name
        ``"cpu"``, ``"cuda"``, …, ``"auto"`` for CUDA if it is there; and the name that results record.

    Examples
    --------
    >>> separator = Separator.from_pretrained()                        # doctest: +SKIP
    >>> diarization, sources = separator("meeting.wav", num_speakers=4)  # doctest: +SKIP
    """

    def __call__(
        self,
        audio: str | Path | Mapping[str, Any] | Audio,
        num_speakers: int | None = None,
        min_speakers: int | None = None,
        max_speakers: int | None = None,
        hook: Hook | None = None,
        channel: Channel | None = None,
        work_folder: str | Path | None = None,
        stream: int | None = None,
        channels_are_speakers: bool = False,
        reference: Reference | None = None,
        known_speakers: Known | None = None,
    ) -> Separation:
        """Separate a recording of any length, in bounded memory; it unpacks as ``diarization, sources``.

        Parameters
        ----------
        audio
            A path, or a mapping with ``audio`` or with ``waveform`` (channel, time) and ``sample_rate``.
        num_speakers, min_speakers, max_speakers
            What is known about the number of speakers.
        hook
            Progress callback, as in pyannote.audio.
        channel
            0-based channel to separate; ``"best"``, the one in which speech stands out most; or ``"mean"``, of all.
            None is what `audio` asks for, or else the best. The result's settings say which it was.
        work_folder
            Where temporary files go, in a hidden folder that vanishes with the result: 2 bytes a sample for each
            active speaker of each window, and 4 for each track. By default where Python puts its own (``TMPDIR``,
            which on some machines is memory).
        stream
            0-based audio stream of a file with several; None is what `audio` asks for, or else the first.
        channels_are_speakers
            Each channel is the microphone, or the line, of one talker: it is diarized for itself, and its sound is
            the track. Speakers are numbered as the channels are; channels in which nobody talks have none.
        reference
            Who really spoke when: an RTTM file or a folder of them, an annotation, or turns. For
            ``clustering.method="oracle"``, which needs it, and for nothing else.
        known_speakers
            Voices to be found again: what `enrol` takes, or has returned. Who is found has the name; the result's
            settings say how near each came.

        Raises
        ------
        PixitError
            If the recording or a voice cannot be read, the numbers of speakers contradict each other, or a reference
            is missing or of no use.
        """
        if not separates(self.model):
            kind = type(self.model).__name__
            raise PixitError(f"{self.name or kind}: diarizes only, it separates nothing; use pixit diarize")
        asked = num_speakers, min_speakers, max_speakers
        more = channel, work_folder, stream, channels_are_speakers, reference, known_speakers
        found = self._run(True, audio, asked, hook, *more)
        assert isinstance(found, Separation)
        return found

    def diarize(
        self,
        audio: str | Path | Mapping[str, Any] | Audio,
        num_speakers: int | None = None,
        min_speakers: int | None = None,
        max_speakers: int | None = None,
        hook: Hook | None = None,
        channel: Channel | None = None,
        stream: int | None = None,
        channels_are_speakers: bool = False,
        reference: Reference | None = None,
        known_speakers: Known | None = None,
    ) -> Diarization:
        """Find who spoke when, as a separation would, in less time and without any file: no tracks are made.

        Parameters
        ----------
        audio, num_speakers, min_speakers, max_speakers, hook, channel, stream
            As for a separation.
        channels_are_speakers, reference, known_speakers
            As for a separation.

        Raises
        ------
        PixitError
            As for a separation.

        Examples
        --------
        >>> separator = Separator.from_pretrained()                               # doctest: +SKIP
        >>> separator.diarize("meeting.wav", num_speakers=4).turns                # doctest: +SKIP
        """
        asked = num_speakers, min_speakers, max_speakers
        more = channel, None, stream, channels_are_speakers, reference, known_speakers
        return self._run(False, audio, asked, hook, *more)

    def _separate(self, recording: Audio, asked: Asked, folder: Path, step: Step) -> Found:
        """Follow the data: windows, speaker embeddings, speakers, turns, tracks."""
        settings, activity = self.settings, self.settings.activity
        levels = settings.stitching.levels
        geometry = self.lay_windows(recording)
        windows = partial(geometry.cut, recording)  # each call reads the recording once
        with make_spool(activity, settings.turns, geometry, self.model.num_speakers, folder) as local:
            run_windows(self.model, windows(), local, activity, self.compute, step("segmentation"), levels)
            mixtures = windows() if settings.embedding.signal == "mixture" else None
            speakers, known = self._find_speakers(local, mixtures, asked, step("embeddings"))
            heard = activity.model_copy(update={"unknown_voices": False})  # who has no voice has no track
            turns, gates, numbered = diarize(local, speakers, heard)
            names = known.names(speakers, numbered, len(turns))
            speakers = numbered
            gains = fit_levels(local, speakers, windows()) if levels == "track" else None
            more = settings.stitching, step("separations"), gains
            stretches = stitch_tracks(local, speakers, gates, windows(), *more)
            tracks = write_tracks(stretches, names, folder, geometry)
        return annotate(turns, recording.uri, names), tracks, known.facts

    def _find_speakers(
        self,
        local: Spool,
        windows: Iterator[Window] | None,
        asked: Asked,
        progress: Progress,
    ) -> tuple[Ints, Recognized]:
        """Return the speaker of the recording of every local speaker, (W, K), and who of them is known."""
        settings, activity = self.settings, self.settings.activity
        if asked.reference is not None:
            return cluster_by_reference(local, asked.reference, activity), Recognized()
        where = self.compute, progress
        found = embed_speakers(self.embedder, local, windows, settings.embedding, activity, *where)
        speakers = cluster_speakers(local, *found, settings.clustering, activity, asked.bounds, self.plda)
        if asked.known is None:
            return speakers, Recognized()
        vectors, embedded_s = found
        how = settings.clustering, activity, self.voice_distance, asked.bounds
        return recognize(local, vectors, embedded_s, speakers, asked.known, *how)

    def _diarize(self, recording: Audio, asked: Asked, step: Step) -> Found:
        """Follow the data to the turns: each window is embedded as soon as the model has heard it."""
        geometry, activity = self.lay_windows(recording), self.settings.activity
        with make_spool(activity, self.settings.turns, geometry, self.model.num_speakers) as local:
            how = activity, self.compute, step("segmentation")
            heard = hear_windows(self.model, geometry.cut(recording), local, *how)
            if asked.reference is not None:
                deque(heard, maxlen=0)  # nobody is embedded
            speakers, known = self._find_speakers(local, heard, asked, step("embeddings"))
            turns, _, numbered = diarize(local, speakers, activity, asked.bounds[1])
            names = known.names(speakers, numbered, len(turns))
        return annotate(turns, recording.uri, names), None, known.facts

    def _separate_channels(self, recording: Audio, folder: Path | None, step: Step) -> Found:
        """Follow the channels instead: each is heard for itself, and is the track of the one who talks in it.

        Without a folder for tracks, the turns are found alone.
        """
        settings, activity = self.settings, self.settings.activity
        geometry = self.lay_windows(recording)
        activities, powers = hear_channels(
            self.model, recording, geometry, activity, self.compute, step("segmentation")
        )
        talking = find_talkers(activities, powers, geometry.frame_s, activity, settings.channels)
        channels = np.flatnonzero(talking.any(axis=1)).tolist()
        talking = talking[channels]
        numbers = {speaker_name(number): channel for number, channel in enumerate(channels)}
        facts = {"channel": "each", "speaker_channels": numbers}
        diarization = annotate(find_turns(talking, geometry), recording.uri)
        if folder is None:
            return diarization, None, facts
        stretches = cut_tracks(
            recording, channels, talking, geometry, settings.stitching, step("separations")
        )
        return diarization, write_tracks(stretches, list(numbers), folder, geometry), facts

    def _run(
        self,
        is_separation: bool,
        audio: str | Path | Mapping[str, Any] | Audio,
        numbers: tuple[int | None, int | None, int | None],
        hook: Hook | None,
        channel: Channel | None,
        work_folder: str | Path | None,
        stream: int | None,
        channels_are_speakers: bool,
        reference: Reference | None,
        known_speakers: Known | None,
    ) -> Diarization:
        """Separate or diarize a recording, and tell with the result how it was made."""
        started = time.perf_counter()
        check_num_speakers(*numbers)  # before anything is opened
        recording = self.open(audio, channel, stream)
        asked = self.ask(recording.uri, *numbers, channels_are_speakers, reference, known_speakers)
        fingerprint = self.fingerprint if is_separation else self.fingerprint_of_diarization
        request = make_request(fingerprint, recording, asked)
        temporary = temporary_folder(work_folder) if is_separation else None
        folder = None if temporary is None else Path(temporary.name)
        step = partial(_progress, hook, audio)
        try:
            if channels_are_speakers:
                recording = check_channels(recording, numbers)
                diarization, tracks, facts = self._separate_channels(recording, folder, step)
            elif folder is None:
                diarization, tracks, facts = self._diarize(recording, asked, step)
            else:
                diarization, tracks, facts = self._separate(recording, asked, folder, step)
            if hook is not None:
                hook("discrete_diarization", diarization, file=audio)
        except BaseException:  # Ctrl-C too: nothing stays behind
            if temporary is not None:
                temporary.cleanup()
            raise
        size = recording.sample_rate_hz, recording.num_samples
        made = describe(recording, *asked.bounds, len(diarization.labels())) | {
            "model": self.name,
            "separation": self.settings.model_dump(mode="json"),
            "device": str(self.device),
            "elapsed_s": round(time.perf_counter() - started, 2),
            "request": request,
            **facts,
        }
        if tracks is None:
            return Diarization(recording.uri, diarization, *size, settings=made)
        return Separation(recording.uri, diarization, tracks, *size, made, temporary)


def _progress(hook: Hook | None, file: Any, step: str) -> Progress:
    """Return a function that reports to `hook` how far `step` is."""

    def report(completed: int, total: int) -> None:
        if hook is not None:
            hook(step, None, file=file, total=total, completed=completed)

    return report
