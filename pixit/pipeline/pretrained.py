"""Two networks and how they are used: loaded by name, saved, put on the hub, known by a fingerprint."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from pixit.audio import Audio, Channel, open_audio
from pixit.config import settings_from_mapping
from pixit.files import file_hash, temporary_folder
from pixit.pipeline.asked import Asked
from pixit.pipeline.compute import Compute, pick_device
from pixit.pipeline.enrolment import Known, KnownSpeakers, enrol, state_of
from pixit.pipeline.oracle import Reference, find_turns_of
from pixit.pipeline.parts import BUNDLED, check_sample_rates, find_parts
from pixit.pipeline.provenance import WeightsHash
from pixit.pipeline.settings import SeparationSettings
from pixit.pipeline.spool import Geometry, lay_windows
from pixit.pipeline.vbx import PLDA, TRANSFORM, read_plda
from pixit.types import Embedder, LocalDiarizer, PixitError, Plda, plda_of, separates


class Pretrained:
    """A local model, a speaker embedder, and the settings with which they work together; as `Separator` has them."""

    def __init__(
        self,
        model: LocalDiarizer,
        embedder: Embedder,
        settings: SeparationSettings | None = None,
        device: str = "auto",
        name: str = "",
    ) -> None:
        check_sample_rates(model, embedder)
        settings = settings or SeparationSettings()
        if settings.clustering.threshold is None:
            clustering = settings.clustering.model_copy(update={"threshold": embedder.clustering_threshold})
            settings = settings.model_copy(update={"clustering": clustering})
        if not separates(model):
            embedding = settings.embedding.model_copy(update={"signal": "mixture"})
            settings = settings.model_copy(update={"embedding": embedding})
        if settings.clustering.method == "vbx" and settings.clustering.plda is not None:
            # an error now rather than when a recording has been heard
            read_plda(Path(settings.clustering.plda), np.eye(1, embedder.embedding_size))
        self.model, self.embedder, self.settings, self.name = model, embedder, settings, name
        self.device = pick_device(device)
        for network in (model, embedder):
            if isinstance(network, torch.nn.Module):
                network.to(self.device).eval()
        self.streaming: Mapping[str, Any] = {}
        """Settings chosen for streams with these networks alone (``streaming.yaml``), kept when they are saved."""
        self._enrolled: tuple[object, KnownSpeakers] | None = None
        self._hashes = {"model_sha256": WeightsHash(model), "embedder_sha256": WeightsHash(embedder)}

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path | None = None,
        embedder: str | Path | None = None,
        device: str = "auto",
        settings: Mapping[str, Any] | None = None,
        **hub: Any,
    ) -> Self:
        """Load a separator.

        Parameters
        ----------
        name
            None for the bundled one; a folder with ``separator.yaml``, ``model`` and ``embedder``; a pipeline
            of pyannote.audio (a ``config.yaml`` or its folder), whose networks and settings are taken; or a single
            model (as `pixit train` exports it, or a pyannote checkpoint), which takes the bundled embedder and the
            settings chosen for it. Any of them may lie on the Hugging Face hub: ``"organisation/name@revision"``.
        embedder
            Another embedder (as `load_model` takes it), which brings its own clustering threshold. With a single
            model nothing bundled is left: the settings are the defaults then. With a pipeline, give
            ``clustering.threshold`` too.
        device, settings
            As for `Separator`; and differences from the settings that come with it.
        **hub
            ``revision`` (of the model), ``token`` and ``cache_dir`` for hub names.

        Raises
        ------
        PixitError
            If a checkpoint is missing, damaged or of another kind, or a pipeline asks for what pixit cannot do.

        Warns
        -----
        UserWarning
            Of the keys of a pipeline that pixit does not know, in one line.
        """
        parts = find_parts(name, embedder, device, settings or {}, hub)
        found = settings_from_mapping(SeparationSettings, parts.settings, parts.place)
        named = BUNDLED if name is None else str(name)
        separator = cls(parts.model, parts.embedder, found, parts.device, name=named)
        separator.streaming = parts.streaming
        return separator

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
        own = self.settings.clustering.plda
        plda = () if own is None else (Path(own) / TRANSFORM, Path(own) / PLDA)
        chosen = {section: values for section, values in chosen.items() if values != {}}
        return save_separator(networks, chosen, self.streaming, folder, repo_id, licence, plda=plda)

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
        told = self.settings.model_dump(mode="json", exclude={"batch_size", "channels"})
        if (place := self.settings.clustering.plda) is not None:  # what it says, not where it lies
            told["clustering"]["plda"] = [file_hash(Path(place) / name) for name in (TRANSFORM, PLDA)]
        return {
            "separation": told,
            **{name: weights_hash() for name, weights_hash in self._hashes.items()},
        }

    def enrol(self, speakers: Known) -> KnownSpeakers:
        """Get to know speakers by their voices, to find them again in recordings.

        Parameters
        ----------
        speakers
            A folder with a recording of each (``Ann.wav``) or a folder of recordings of each (``Ann/``); a result in
            which speakers were given names; or name -> recording, or recordings, as a separation takes them. Of each
            recording the first two minutes are heard, and who talks most in it counts. What was returned before is
            returned again, as is the same folder if no file in it has changed.

        Raises
        ------
        PixitError
            If there is nobody, a recording cannot be read, there are less than three seconds of speech of
            somebody, or a name is none that files and RTTM can hold.
        """
        how = self.model, self.embedder, self.settings, self.voice_distance, self.compute
        run = partial(enrol, *how, speakers, self._hashes["embedder_sha256"]())
        if not isinstance(speakers, (str, Path)):
            return run()
        state = state_of(Path(speakers)), self.fingerprint
        enrolled = self._enrolled  # of any thread
        if enrolled is None or enrolled[0] != state:
            enrolled = self._enrolled = state, run()
        return enrolled[1]

    def ask(
        self,
        uri: str,
        num_speakers: int | None = None,
        min_speakers: int | None = None,
        max_speakers: int | None = None,
        channels_are_speakers: bool = False,
        reference: Reference | None = None,
        known_speakers: Known | None = None,
    ) -> Asked:
        """Return what is asked of a recording, by parameters of a separation; a PixitError if it does not fit."""
        is_oracle = self.settings.clustering.method == "oracle" and not channels_are_speakers
        if is_oracle == (reference is None):
            found, expected = ("no reference", "one") if is_oracle else ("a reference", "none")
            raise PixitError(
                f"{uri}: found {found}, expected {expected}: clustering.method=oracle needs it, no other does"
            )
        if known_speakers is not None and (is_oracle or channels_are_speakers):
            reason = "a reference says who talks" if is_oracle else "channels are speakers"
            raise PixitError(f"{uri}: {reason}; leave out the known speakers, nobody is looked for")
        turns = None if reference is None else find_turns_of(reference, uri)
        known = None if known_speakers is None else self.enrol(known_speakers)
        channels = self.settings.channels if channels_are_speakers else None
        return Asked(num_speakers, min_speakers, max_speakers, channels, turns, known)

    @property
    def voice_distance(self) -> float:
        """Mean cosine distance up to which embeddings are of one speaker."""
        clustering = self.settings.clustering
        own = clustering.threshold if clustering.method == "average" else None  # others have other distances
        return self.embedder.clustering_threshold if own is None else own

    @property
    def plda(self) -> Plda | None:
        """The PLDA of the embedder, if it has one."""
        return plda_of(self.embedder)

    @property
    def compute(self) -> Compute:
        """How the networks run: as the settings say, or else as suits the device."""
        return Compute.choose(self.device, self.settings.batch_size, self.settings.precision)

    @property
    def fingerprint_of_diarization(self) -> dict[str, Any]:
        """What determines the diarizations of this separator: all but how tracks are made."""
        found = self.fingerprint
        return found | {"separation": {k: v for k, v in found["separation"].items() if k != "stitching"}}

    def open(
        self,
        audio: str | Path | Mapping[str, Any] | Audio,
        channel: Channel | None = None,
        stream: int | None = None,
    ) -> Audio:
        """Return a recording as the model hears it: at its rate, the best channel where none is asked for."""
        recording = open_audio(audio, self.model.sample_rate_hz, channel, stream, partial=True)
        return recording.at(channel="best") if recording.asked_channel is None else recording

    def lay_windows(self, recording: Audio) -> Geometry:
        """Return how the windows of this separator lie in a recording."""
        regular = self.settings.windows == "regular"
        return lay_windows(self.model, recording.num_samples, self.settings.step_s, regular)
