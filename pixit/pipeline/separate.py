"""The main job: a recording in, one track per speaker and who spoke when out.

Read `Separator.__call__`: the four steps are one function each, in the files beside this one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pyannote.core import Annotation
from pydantic import Field

from pixit.audio import Audio, Channel, Track, open_audio
from pixit.config import Settings, read_yaml, settings_from_mapping
from pixit.files import temporary_folder
from pixit.pipeline.channels import (
    ChannelSettings,
    check_channels,
    cut_tracks,
    find_talkers,
    hear_channels,
)
from pixit.pipeline.cluster import ClusteringSettings, check_num_speakers, cluster
from pixit.pipeline.diarize import ActivitySettings, annotate, diarize, find_turns
from pixit.pipeline.local import EmbeddingSettings, Progress, count_talk, embed_speakers, run_windows
from pixit.pipeline.provenance import WeightsHash, describe, make_request
from pixit.pipeline.spool import Spool, lay_windows
from pixit.pipeline.stitch import StitchingSettings, stitch_tracks, write_tracks
from pixit.results import Separation
from pixit.types import Embedder, Hook, LocalModel, PixitError, one_line

BUNDLED, SEPARATOR = "bundled", "separator.yaml"

Bounds = tuple[int, int | None]
Step = Callable[[str], Progress]
"""Gives the progress of a step by its name."""
Found = tuple[Annotation, dict[str, Track], dict[str, Any]]
"""Diarization, tracks, and what else the settings of the result say."""


class SeparationSettings(Settings):
    """Everything that determines a separation, except the two networks."""

    step_s: float = Field(1.0, gt=0, le=3600, description="seconds from one window to the next")
    batch_size: int | None = Field(
        None, ge=1, le=4096, description="windows at a time; by default 4 on a CPU, 8 elsewhere"
    )
    activity: ActivitySettings = ActivitySettings()
    embedding: EmbeddingSettings = EmbeddingSettings()
    clustering: ClusteringSettings = ClusteringSettings()
    stitching: StitchingSettings = StitchingSettings()
    channels: ChannelSettings = ChannelSettings()


class Separator:
    """Separates recordings with a local model and a speaker embedder.

    Parameters
    ----------
    model
        Separates and diarizes windows, for example a `ToTaToNet`.
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

    def __init__(
        self,
        model: LocalModel,
        embedder: Embedder,
        settings: SeparationSettings | None = None,
        device: str = "auto",
        name: str = "",
    ) -> None:
        if embedder.sample_rate_hz != model.sample_rate_hz:
            raise PixitError(
                f"the embedder takes {embedder.sample_rate_hz} Hz and the model {model.sample_rate_hz} Hz; "
                "expected the same sample rate"
            )
        settings = settings or SeparationSettings()
        if settings.clustering.threshold is None:
            clustering = settings.clustering.model_copy(update={"threshold": embedder.clustering_threshold})
            settings = settings.model_copy(update={"clustering": clustering})
        self.model, self.embedder, self.settings, self.name = model, embedder, settings, name
        self.device = pick_device(device)
        for network in (model, embedder):
            if isinstance(network, torch.nn.Module):
                network.to(self.device).eval()
        self._hashes = {"model_sha256": WeightsHash(model), "embedder_sha256": WeightsHash(embedder)}

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path | None = None,
        embedder: str | Path | None = None,
        device: str = "auto",
        settings: Mapping[str, Any] | None = None,
        **hub: Any,
    ) -> Separator:
        """Load a separator.

        Parameters
        ----------
        name
            None for the bundled one; a folder with ``separator.yaml``, ``model`` and ``embedder``; or a single
            model (as `pixit train` exports it, or a pyannote checkpoint), which takes the bundled embedder and the
            settings chosen for it. Any of them may lie on the Hugging Face hub: ``"organisation/name@revision"``.
        embedder
            Another embedder (as `load_model` takes it), which brings its own clustering threshold. With a single
            model nothing bundled is left: the settings are the defaults then.
        device, settings
            As for `Separator`; and differences from the settings that come with it.
        **hub
            ``revision`` (of the model), ``token`` and ``cache_dir`` for hub names.

        Raises
        ------
        PixitError
            If a checkpoint is missing, damaged or of another kind.
        """
        from pixit.checkpoints import find_model, load_model

        bundled = Path(str(files("pixit") / BUNDLED))
        folder = bundled if name is None else find_model(str(name), **hub)
        whole = (folder / SEPARATOR).exists()
        base = folder if whole else bundled
        model: Any = load_model(folder / "model" if whole else folder)
        hub.pop("revision", None)
        voice: Any = load_model(str(embedder), **hub) if embedder else load_model(base / "embedder")
        roles = (model, "model", LocalModel, name or bundled), (voice, "embedder", Embedder, embedder or base)
        for network, role, contract, place in roles:
            if not isinstance(network, contract):
                kind = type(network).__name__
                raise PixitError(f"{place}: is a {kind}, expected a {role}; is it the other one?")
        chosen = read_yaml(base / SEPARATOR) if whole or not embedder else {}
        if embedder and isinstance(chosen.get("clustering"), dict):
            chosen["clustering"].pop("threshold", None)  # that was for the embedder that is not used
        merged = _merge(chosen, settings or {})
        found = settings_from_mapping(SeparationSettings, merged, "separation settings")
        return cls(model, voice, found, device, name="bundled" if name is None else str(name))

    def save_pretrained(
        self, folder: str | Path, licence: str | None = None, repo_id: str | None = None
    ) -> Path:
        """Write model, embedder, settings and a model card, from which `from_pretrained` makes this separator again.

        Parameters
        ----------
        folder
            Appears whole or not at all; an older separator there is replaced.
        licence, repo_id
            For the model card: of the weights, as ``"cc-by-4.0"``; and where on the hub it will be.

        Raises
        ------
        PixitError
            If it cannot be written, or one of the networks is none of pixit's.
        """
        from pixit.checkpoints.share import save_separator

        chosen = self.settings.model_dump(mode="json", exclude_defaults=True, exclude={"batch_size"})
        if self.settings.clustering.threshold == self.embedder.clustering_threshold:
            chosen["clustering"].pop("threshold")  # the embedder brings it
        networks = {"model": self.model, "embedder": self.embedder}
        return save_separator(
            networks, {k: v for k, v in chosen.items() if v != {}}, folder, repo_id, licence
        )

    def push_to_hub(self, repo_id: str, licence: str | None = None, **options: Any) -> str:
        """Put this separator on the Hugging Face hub as ``organisation/name``, with a model card; return its address.

        `options` are ``private``, ``revision``, ``message`` and ``token``, as for
        `pixit.checkpoints.share.push_folder`, which says what is raised.
        """
        from pixit.checkpoints.share import push_folder

        with temporary_folder() as work:
            folder = self.save_pretrained(Path(work) / "separator", licence, repo_id)
            return push_folder(folder, repo_id, **options)

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What determines the results of this separator: settings and SHA-256 of the weights as they are now."""
        return {
            "separation": self.settings.model_dump(mode="json", exclude={"batch_size", "channels"}),
            **{name: weights_hash() for name, weights_hash in self._hashes.items()},
        }

    @property
    def batch_size(self) -> int:
        """Windows at a time: as the settings say, or else as suits the device."""
        # on a CPU more at a time take more memory, and no less time
        return self.settings.batch_size or (4 if self.device.type == "cpu" else 8)

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

        Raises
        ------
        PixitError
            If the recording cannot be read, or the numbers of speakers contradict each other.
        """
        started = time.perf_counter()
        asked = num_speakers, min_speakers, max_speakers
        bounds = check_num_speakers(*asked)
        recording = open_audio(audio, self.model.sample_rate_hz, channel, stream, partial=True)
        if recording.asked_channel is None:
            recording = recording.at(channel="best")
        channels = self.settings.channels if channels_are_speakers else None
        request = make_request(self.fingerprint, recording, *asked, channels)
        temporary = temporary_folder(work_folder)
        work = Path(temporary.name), partial(_progress, hook, audio)
        try:
            if channels_are_speakers:
                recording = check_channels(recording, asked)
                diarization, tracks, facts = self._separate_channels(recording, *work)
            else:
                diarization, tracks, facts = self._separate(recording, bounds, *work)
            if hook is not None:
                hook("discrete_diarization", diarization, file=audio)
        except BaseException:  # Ctrl-C too: nothing stays behind
            temporary.cleanup()
            raise
        size = recording.sample_rate_hz, recording.num_samples
        made = describe(recording, *bounds, len(tracks)) | {
            "model": self.name,
            "separation": self.settings.model_dump(mode="json"),
            "device": str(self.device),
            "elapsed_s": round(time.perf_counter() - started, 2),
            "request": request,
            **facts,
        }
        return Separation(recording.uri, diarization, tracks, *size, settings=made, temporary=temporary)

    def _separate(self, recording: Audio, bounds: Bounds, folder: Path, step: Step) -> Found:
        """Follow the data: windows, speaker embeddings, speakers, turns, tracks."""
        settings, activity = self.settings, self.settings.activity
        where = self.batch_size, self.device
        geometry = lay_windows(self.model, recording.num_samples, settings.step_s)
        windows = partial(geometry.cut, recording)  # each call reads the recording once
        with Spool(geometry, self.model.num_speakers, folder) as local:
            run_windows(self.model, windows(), local, activity, *where, step("segmentation"))
            vectors, embedded_s = embed_speakers(
                self.embedder, local, windows(), settings.embedding, activity, *where, step("embeddings")
            )
            talk_s = count_talk(local, activity)
            speakers = cluster(vectors, embedded_s, talk_s, settings.clustering, *bounds)
            turns, talking, speakers = diarize(local, speakers, activity)
            stretches = stitch_tracks(
                local, speakers, talking, windows(), settings.stitching, activity.onset, step("separations")
            )
            tracks = write_tracks(stretches, len(turns), folder, geometry)
        return annotate(turns, recording.uri), tracks, {}

    def _separate_channels(self, recording: Audio, folder: Path, step: Step) -> Found:
        """Follow the channels instead: each is heard for itself, and is the track of the one who talks in it."""
        settings, activity = self.settings, self.settings.activity
        geometry = lay_windows(self.model, recording.num_samples, settings.step_s)
        where = self.batch_size, self.device, folder
        activities, powers = hear_channels(
            self.model, recording, geometry, activity, *where, step("segmentation")
        )
        talking = find_talkers(activities, powers, geometry.frame_s, activity, settings.channels)
        channels = np.flatnonzero(talking.any(axis=1)).tolist()
        talking = talking[channels]
        stretches = cut_tracks(
            recording, channels, talking, geometry, settings.stitching, step("separations")
        )
        tracks = write_tracks(stretches, len(channels), folder, geometry)
        facts = {"channel": "each", "speaker_channels": dict(zip(tracks, channels, strict=True))}
        return annotate(find_turns(talking, geometry), recording.uri), tracks, facts


def pick_device(device: str) -> torch.device:
    """Return the device of this name; ``"auto"`` is CUDA where there is one, else the CPU."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.ones(1, device=device).item()  # meta makes tensors too, but no numbers
        return torch.device(device)
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = one_line(error)
        raise PixitError(
            f"device {device!r}: cannot be used ({reason}); expected cpu, cuda or auto"
        ) from None


def _progress(hook: Hook | None, file: Any, step: str) -> Progress:
    """Return a function that reports to `hook` how far `step` is."""

    def report(completed: int, total: int) -> None:
        if hook is not None:
            hook(step, None, file=file, total=total, completed=completed)

    return report


def _merge(tree: Mapping[str, Any], differences: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(tree)
    for key, value in differences.items():
        known = merged.get(key)
        if isinstance(known, dict) and isinstance(value, Mapping):
            value = _merge(known, value)
        merged[key] = value
    return merged
