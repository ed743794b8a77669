"""Live separation: sound goes in block by block, and what has become final of tracks and turns comes out.

Windows, networks, embeddings and stitching are those of a recording (`pixit.pipeline.separate`); what differs is who
assigns the speakers: `pixit.pipeline.incremental` or `pixit.pipeline.bayesian`, at once and for good.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from pixit.audio.intake import Intake, State
from pixit.config import settings_from_mapping
from pixit.files import ARRAY_ERRORS
from pixit.pipeline.compute import Compute, pick_device
from pixit.pipeline.enrolment import Known, KnownSpeakers, enrol
from pixit.pipeline.live import LiveStitcher, Update, join_updates
from pixit.pipeline.live_clustering import begin_clustering, settle
from pixit.pipeline.live_hearing import Heard, hear_live
from pixit.pipeline.live_state import below, check_state, pack, unpack
from pixit.pipeline.live_windows import LiveWindows
from pixit.pipeline.local_turns import find_apart, make_cut
from pixit.pipeline.parts import BUNDLED, check_sample_rates, find_parts, merge
from pixit.pipeline.provenance import WeightsHash
from pixit.pipeline.settings import StreamingSettings
from pixit.pipeline.spool import Geometry, lay_windows
from pixit.types import Embedder, LocalModel, PixitError, separates
from pixit.windows import Window

STATE_FORMAT = 4
NOT_LIVE = {"activity": ("decision", "unknown_voices"), "stitching": ("levels",)}
"""Settings of a separator that need the whole recording: a stream does not take them over."""


class StreamingSeparator:
    """Separates a stream of sound while it goes on.

    Its state is all in this object: one for each stream. `push` does all; a server of many streams may call `feed`,
    `hear` and `take` instead, and hear the windows where it wants.

    Parameters
    ----------
    model, embedder
        The networks, as for `Separator`; the model has to separate.
    settings
        How. Where they leave the clustering's method open, it is ``"plda"`` if the embedder has one; where the
        distance of new speakers, it is the embedder's clustering threshold.
    device
        As for `Separator`.
    sample_rate_hz, channel
        Of the blocks that are pushed; None for the model's rate, and for the mean of all channels.
    name
        What the networks are called where results record it.
    known_speakers
        Voices that are known before the stream begins, as `Separator.enrol` takes them: who speaks again has the
        name from the first word on.

    Raises
    ------
    PixitError
        If the networks do not fit each other or do not separate, step and latency do not fit the model's window,
        a rate or channel is none, or the clustering needs a PLDA that the embedder has not.

    Examples
    --------
    >>> stream = StreamingSeparator.from_pretrained(sample_rate_hz=48000)   # doctest: +SKIP
    >>> for block in blocks:                                                # doctest: +SKIP
    ...     update = stream.push(block)
    ...     print(update.turns, update.speakers)
    >>> stream.finish()                                                     # doctest: +SKIP
    """

    def __init__(
        self,
        model: LocalModel,
        embedder: Embedder,
        settings: StreamingSettings | None = None,
        device: str = "auto",
        sample_rate_hz: int | None = None,
        channel: int | None = None,
        name: str = "",
        known_speakers: Known | None = None,
    ) -> None:
        settings = settings or StreamingSettings()
        check_sample_rates(model, embedder)
        if not separates(model):
            raise PixitError(f"{name or type(model).__name__}: diarizes only, a stream is separated")
        self.model, self.embedder, self.name = model, embedder, name
        self.settings = settings = settle(settings, embedder)
        self._hashes = WeightsHash(model), WeightsHash(embedder)
        self.rate_hz: int = model.sample_rate_hz
        """Sample rate of the tracks."""
        self.sample_rate_hz = self.rate_hz if sample_rate_hz is None else sample_rate_hz
        self.channel = channel
        self.geometry = lay_windows(model, 0, settings.step_s)
        self._cut = make_cut(settings.local_turns, settings.activity, self.geometry)
        self.num_local = model.num_speakers * (1 if self._cut is None else self._cut.most)
        """Local speakers of a window, K: turns of the model's outputs, or these themselves."""
        self.latency_samples = find_latency(settings, self.geometry)
        self.device = pick_device(device)
        self._compute = Compute.choose(self.device, None, settings.precision)
        for network in (model, embedder):
            if isinstance(network, torch.nn.Module):
                network.to(self.device).eval()
        self.known = self._enrol(known_speakers)
        self.reset()

    def _enrol(self, speakers: Known | None) -> KnownSpeakers | None:
        if speakers is None:
            return None
        distance = self.settings.clustering.delta_new
        assert distance is not None, "it was put in its place"
        how = self.model, self.embedder, self.settings, distance, self._compute
        return enrol(*how, speakers, self._hashes[1]())

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path | None = None,
        embedder: str | Path | None = None,
        device: str = "auto",
        settings: Mapping[str, Any] | None = None,
        sample_rate_hz: int | None = None,
        channel: int | None = None,
        known_speakers: Known | None = None,
        **hub: Any,
    ) -> StreamingSeparator:
        """Load networks as `Separator.from_pretrained` does, with the settings chosen for them that a stream knows.

        A folder may have a ``streaming.yaml`` beside its ``separator.yaml``, with more settings, of streams alone.

        `settings` are differences from those; the other parameters are as for `StreamingSeparator`, and `hub` and
        errors as there.
        """
        parts = find_parts(name, embedder, device, {}, hub)
        chosen = {
            section: {
                k: v for k, v in parts.settings.get(section, {}).items() if k not in NOT_LIVE.get(section, ())
            }
            for section in ("activity", "local_turns", "embedding", "stitching")
        }
        chosen = merge(merge(chosen, parts.streaming), settings or {})
        found = settings_from_mapping(StreamingSettings, chosen, "streaming settings")
        model: Any = parts.model
        named = BUNDLED if name is None else str(name)
        return cls(model, parts.embedder, found, parts.device, sample_rate_hz, channel, named, known_speakers)

    def reset(self) -> None:
        """Forget everything, speakers too but for those known before: what is pushed next begins a stream."""
        settings, geometry, known = self.settings, self.geometry, self.known
        self._intake = Intake(self.sample_rate_hz, self.rate_hz, self.channel)
        self._clustering = begin_clustering(settings, self.embedder, geometry, known)
        how = settings.activity, settings.stitching, () if known is None else known.names
        self._stitcher = LiveStitcher(geometry, self.latency_samples, *how)
        self._windows = LiveWindows(geometry.window_samples, geometry.step_samples)
        self._num_taken = 0
        self._is_over = False

    # --- sound in, updates out ----------------------------------------------------------------------------

    @property
    def speakers(self) -> tuple[str, ...]:
        """Who was heard by now, in the order of their first words."""
        return self._stitcher.speakers

    @property
    def num_channels(self) -> int:
        """Channels of what is pushed; 0 before the first block."""
        return self._intake.num_channels

    def push(self, samples: ArrayLike) -> Update:
        """Take the next block, and return what has become final.

        Parameters
        ----------
        samples
            Float (1 is full scale) or int16, (n,) or (n, channels), any n.

        Raises
        ------
        PixitError
            If the block is anything else or holds NaN or infinite values, and then nothing has changed; if the stream
            has ended; or if the model gives NaN.
        """
        return self.take(self.hear(self.feed(samples)))

    def finish(self) -> Update:
        """End the stream and return the rest; a PixitError if it has ended before."""
        return self.take(self.hear(self.end()))

    def feed(self, samples: ArrayLike) -> list[Window]:
        """Take the next block, as `push`, and return the windows that became full: to be heard, and taken."""
        self._check_open()
        return self._windows.push(self._intake.push(samples))

    def end(self) -> list[Window]:
        """End the stream, and return its last windows; what is taken after them includes the rest."""
        self._check_open()
        return self._windows.push(self._intake.finish()) + self._windows.end()

    def _check_open(self) -> None:
        if self._windows.length is not None:
            raise PixitError("the stream has ended; reset() begins another")

    def hear(self, windows: Iterable[Window]) -> list[Heard]:
        """Run the networks on windows, of this stream or of others with the same networks and settings.

        It changes nothing here, and may run in several threads at once. On a CPU each window is heard for itself, so
        that what is heard does not depend on the others; on other devices several at a time.
        """
        networks = self.model, self.embedder, self.settings
        return hear_live(*networks, self.geometry, self._cut, self._compute, windows)

    def take(self, heard: Iterable[Heard]) -> Update:
        """Decide about windows that were heard, in the order of `feed`, and return what has become final.

        A window that there was no time to hear is skipped by a ``Heard(window)``. A ValueError if one is missing.
        """
        position, length = max(0, self._stitcher.position), self._windows.length
        updates = []
        for one in heard:
            if one.window.index != self._num_taken:
                raise ValueError(f"window {one.window.index} is taken, expected {self._num_taken}")
            self._num_taken += 1
            clusters = np.full(self.num_local, -1)
            if one.activities is not None and one.vectors is not None:
                apart = None
                if self._cut is not None:
                    apart = find_apart(one.activities, self._cut.most, self.settings.activity)
                clusters = self._clustering.assign(one.activities, one.vectors, apart)
            count = self._clustering.num_speakers
            updates.append(self._stitcher.add(one, clusters, count, length))
        if length is not None and self._num_taken == self._windows.num_windows and not self._is_over:
            self._is_over = True
            updates.append(self._stitcher.finish(length))
        if not updates:
            speakers = self._stitcher.speakers
            position = position if length is None else min(position, length)
            return Update(
                position, position, {name: np.zeros(0, np.float32) for name in speakers}, (), speakers
            )
        return join_updates(updates)

    # --- a restart in the middle --------------------------------------------------------------------------

    def state(self) -> bytes:
        """Return everything that the rest of the stream depends on, but for the networks.

        A PixitError while windows that were fed are not yet taken.
        """
        if self._num_taken < self._windows.num_windows or self._is_over:
            raise PixitError(
                "a stream has a state between its blocks: take all windows first, before the end"
            )
        about = {
            **self._description(),
            "settings": self.settings.model_dump(mode="json"),
            "stream": [self.sample_rate_hz, self.channel],
            "name": self.name,
            "known": None if self.known is None else self.known.to_json(),
        }
        return pack(self._arrays(), about)

    def _arrays(self) -> State:
        return {
            **{f"intake.{name}": array for name, array in self._intake.state().items()},
            **{f"stitcher.{name}": array for name, array in self._stitcher.state().items()},
            **{f"windows.{name}": array for name, array in self._windows.state().items()},
            **{f"clustering.{name}": array for name, array in self._clustering.state().items()},
        }

    def _description(self) -> dict[str, Any]:
        """Return what networks have to agree in to go on with a state."""
        geometry = self.geometry
        sizes = geometry.window_samples, geometry.num_frames, geometry.frame_grid.step_samples
        return {
            "format": STATE_FORMAT,
            "networks": [*sizes, self.rate_hz, self.model.num_speakers, self.embedder.embedding_size],
            "weights": [weights_hash() for weights_hash in self._hashes],
        }

    @classmethod
    def from_state(
        cls, state: bytes, model: LocalModel, embedder: Embedder, device: str = "auto"
    ) -> StreamingSeparator:
        """Go on with a stream where `state` was taken: what comes out is the same, bit for bit.

        A PixitError if it is no state, or one of other networks.
        """
        expected = "expected what StreamingSeparator.state() returned"
        try:
            about, arrays = unpack(state)
            sample_rate_hz, channel = about["stream"]
            settings = settings_from_mapping(StreamingSettings, about["settings"], "state of a stream")
            size, told = embedder.embedding_size, about["known"]
            known = None if told is None else KnownSpeakers.from_json(told, size)
            stream = cls(
                model, embedder, settings, device, sample_rate_hz, channel, str(about["name"]), known
            )
            if stream._description() != {name: about[name] for name in ("format", "networks", "weights")}:
                raise PixitError("state of a stream: of other networks, or another version of pixit")
            check_state(arrays, stream._arrays())
            stream._intake.restore(below(arrays, "intake."))
            stream._windows.restore(below(arrays, "windows."))
            stream._stitcher.restore(below(arrays, "stitcher."))
            stream._clustering.restore(below(arrays, "clustering."))
            stream._num_taken = stream._windows.num_windows
        except (*ARRAY_ERRORS, AttributeError, RuntimeError) as error:  # it may seem encrypted
            raise PixitError(f"state of a stream: is damaged ({type(error).__name__}); {expected}") from None
        return stream


def find_latency(settings: StreamingSettings, geometry: Geometry) -> int:
    """Return after how many samples a moment is given out; a PixitError if step and window do not allow it."""
    window, rate_hz, latency_s = geometry.window_samples, geometry.sample_rate_hz, settings.latency_s
    if latency_s is None:
        return window
    if not settings.step_s <= latency_s <= window / rate_hz:
        raise PixitError(
            f"a latency of {latency_s:g} s; expected the step, {settings.step_s:g} s, to the window, "
            f"{window / rate_hz:g} s"
        )
    return max(round(latency_s * rate_hz), geometry.step_samples)
