"""What can be tuned, and where the best values are looked for: a separator, and one of streams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pyannote.core import Annotation

from pixit.audio import Audio
from pixit.config import Settings, load_settings
from pixit.experiments.heard import Heard, Thresholds, hear, thresholds_of
from pixit.experiments.heard_live import HeardStream, fingerprint_of, hear_stream, open_for_stream
from pixit.experiments.kept import hear_each
from pixit.pipeline.provenance import make_request
from pixit.pipeline.separate import Separator
from pixit.pipeline.settings import SeparationSettings, StreamingSettings
from pixit.pipeline.streaming import StreamingSeparator
from pixit.types import Hook, PixitError, Recording

if TYPE_CHECKING:
    import optuna


class Subject(Protocol):
    """What is tuned.

    Parameters
    ----------
    ranges
        Setting -> where it is looked for.
    identity
        All that the errors depend on beside these settings: networks, other settings, recordings; fit for JSON.
    """

    ranges: Mapping[str, Range]
    identity: Any

    def hear(self) -> None:
        """Let the networks hear the recordings, as far as that was not done before."""
        ...

    def decide(self, uri: str, values: Mapping[str, float]) -> Annotation:
        """Return who spoke when in a recording, with the settings as they are but for `values`."""
        ...


@dataclass(frozen=True)
class Range:
    """Where the best value of a setting is looked for.

    Parameters
    ----------
    low, high
        Smallest and largest value.
    step
        Only multiples of it, counted from `low`, are tried; None for any.
    log
        Small values are tried as often as large ones: twice as much is as far everywhere.
    methods
        Of clustering, that take the setting; none for all. Average linkage that VBx refines is `REFINED`, too.
    """

    low: float
    high: float
    step: float | None = None
    log: bool = False
    methods: tuple[str, ...] = ()

    def suggest(self, trial: optuna.Trial, key: str) -> float:
        """Return the value that a trial is to take."""
        if isinstance(self.low, int):
            return trial.suggest_int(key, self.low, int(self.high), log=self.log)
        return trial.suggest_float(key, self.low, self.high, step=self.step, log=self.log)

    def values(self) -> list[float]:
        """Return all values that are tried, where there is a step."""
        assert self.step is not None, "what is heard anew is tried at few values"
        count = round((self.high - self.low) / self.step)
        return [float(f"{self.low + number * self.step:.3g}") for number in range(count + 1)]


REFINED = "refined"
OFFLINE = {
    # the embedder is asked anew for each pair: few
    "activity.onset": Range(0.3, 0.7, step=0.1),
    "activity.offset": Range(0.2, 0.6, step=0.1),
    # nobody is asked
    "activity.min_duration_on_s": Range(0.0, 0.5),
    "activity.min_duration_off_s": Range(0.0, 1.0),
    "clustering.threshold": Range(0.2, 1.2, methods=("average", "agglomerative", "vbx")),
    "clustering.min_speech_s": Range(0.2, 4.0, log=True, methods=("average",)),
    "clustering.min_speaker_s": Range(0.5, 60.0, log=True, methods=("average",)),
    "clustering.split_gap": Range(0.0, 1.0, methods=("average",)),
    "clustering.min_cluster_size": Range(2, 60, log=True, methods=("agglomerative",)),
    "clustering.fa": Range(0.01, 0.5, log=True, methods=("vbx", REFINED)),
    "clustering.fb": Range(0.01, 15.0, log=True, methods=("vbx", REFINED)),
}
"""Setting of a separator -> where it is looked for."""

STREAMING = {
    "clustering.tau_active": Range(0.1, 0.9),
    # the ranges of Coria et al., ASRU 2021, and less
    "clustering.rho_update": Range(0.02, 0.6, methods=("cosine",)),
    "clustering.delta_new": Range(0.2, 1.4, methods=("cosine",)),
    "clustering.new_log_odds": Range(-5.0, 5.0, methods=("plda",)),
    "clustering.evidence": Range(0.1, 2.0, log=True, methods=("plda",)),
    "clustering.short_s": Range(0.1, 2.0, log=True, methods=("plda",)),
    "clustering.min_new_s": Range(0.3, 3.0, log=True, methods=("plda",)),
    "clustering.min_learn_s": Range(0.2, 2.0, log=True, methods=("plda",)),
    "clustering.split_log_odds": Range(2.0, 60.0, log=True, methods=("plda",)),
}
"""Setting of a separator of streams -> where it is looked for."""


def choose_ranges(ranges: Mapping[str, Range], methods: Set[str], fixed: Sequence[str]) -> dict[str, Range]:
    """Return those that any of the methods of clustering takes, and that are not fixed."""
    return {
        key: values
        for key, values in ranges.items()
        if key not in fixed and (not values.methods or not methods.isdisjoint(values.methods))
    }


def changed(settings: Settings, values: Mapping[str, float]) -> dict[str, Any]:
    """Return all settings as a tree, with values put into it by ``section.name``."""
    tree = settings.model_dump()
    for key, value in values.items():
        section, name = key.split(".")
        tree[section][name] = value
    return tree


class OfflineSubject:
    """A separator whose networks hear recordings once; what they said is kept in a folder.

    Several processes with the same folder share the work of hearing. Settings that are in `fixed` are not tuned.
    A PixitError if its clustering finds no speakers by itself.
    """

    def __init__(
        self,
        separator: Separator,
        recordings: Sequence[Recording],
        folder: Path,
        fixed: Sequence[str] = (),
        hook: Hook | None = None,
    ) -> None:
        method = separator.settings.clustering.method
        if method in ("oracle", "kmeans"):
            raise PixitError(
                f"clustering.method={method}: cannot be tuned; expected one that finds the speakers"
            )
        is_refined = method == "average" and separator.settings.clustering.refined and separator.plda
        methods = {method, REFINED} if is_refined else {method}
        self.separator = separator
        self.ranges: Mapping[str, Range] = choose_ranges(OFFLINE, methods, fixed)
        self._thresholds = self._pairs()
        opened = [self._open(recording) for recording in recordings]
        self.identity: Any = [self._identify(audio) for audio in opened]
        asked = [self._heard_of(identity) for identity in self.identity]
        run = partial(hear, separator, thresholds=self._thresholds)
        self._hear = partial(hear_each, opened, asked, folder, Heard, run, hook)
        self._heard: dict[str, Heard] = {}

    def hear(self) -> None:
        """Let the networks hear the recordings, as far as that was not done before."""
        self._heard = self._hear()

    def decide(self, uri: str, values: Mapping[str, float]) -> Annotation:
        """Return who spoke when in a recording, with the separator's settings but for `values`."""
        settings = SeparationSettings.model_validate(changed(self.separator.settings, values))
        return self._heard[uri].decide(settings, self.separator.plda)

    def _pairs(self) -> list[Thresholds]:
        """Return all pairs of thresholds that a trial may ask for, and that of the separator."""
        own = self.separator.settings.activity
        onsets = self.ranges["activity.onset"].values() if "activity.onset" in self.ranges else [own.onset]
        offsets = (
            self.ranges["activity.offset"].values() if "activity.offset" in self.ranges else [own.offset]
        )
        return sorted(
            {thresholds_of(own), *((onset, min(onset, offset)) for onset in onsets for offset in offsets)}
        )

    def _open(self, recording: Recording) -> Audio:
        return self.separator.open({"audio": recording.audio, "uri": recording.uri})

    def _identify(self, audio: Audio) -> dict[str, Any]:
        """Return what determines the networks' answers to a recording, those that are asked for, and the rest."""
        request = make_request(self.separator.fingerprint_of_diarization, audio)
        return request | {"thresholds": self._thresholds}

    def _heard_of(self, identity: Mapping[str, Any]) -> dict[str, Any]:
        """Return what of the identity of a recording the networks' answers depend on."""
        separation = dict(identity["separation"])
        separation.pop("clustering")
        activity = {key: separation["activity"][key] for key in ("decision", "min_local_s")}
        return dict(identity) | {"separation": separation | {"activity": activity}}


class StreamingSubject:
    """A separator of streams whose networks hear recordings as streams; otherwise as `OfflineSubject`."""

    def __init__(
        self,
        separator: StreamingSeparator,
        recordings: Sequence[Recording],
        folder: Path,
        fixed: Sequence[str] = (),
        hook: Hook | None = None,
    ) -> None:
        self.separator = separator
        method = separator.settings.clustering.method
        assert method is not None, "the separator has settled it"
        self.ranges: Mapping[str, Range] = choose_ranges(STREAMING, {method}, fixed)
        opened = [open_for_stream(separator, recording) for recording in recordings]
        heard_of = [make_request(fingerprint_of(separator), audio) for audio in opened]
        self.identity: Any = [*heard_of, separator.settings.model_dump(mode="json")]
        run = partial(hear_stream, separator)
        self._hear = partial(hear_each, opened, heard_of, folder, HeardStream, run, hook)
        self._heard: dict[str, HeardStream] = {}

    def hear(self) -> None:
        """Let the networks hear the recordings, as far as that was not done before."""
        self._heard = self._hear()

    def decide(self, uri: str, values: Mapping[str, float]) -> Annotation:
        """Return who spoke when in a stream, with the separator's settings but for `values`."""
        settings = StreamingSettings.model_validate(changed(self.separator.settings, values))
        return self._heard[uri].decide(self.separator, settings)


def make_subject(
    is_streaming: bool,
    networks: tuple[str | None, str | None, str],
    settings: Path | None,
    overrides: Sequence[str],
    recordings: Sequence[Recording],
    folder: Path,
    hook: Hook | None = None,
) -> tuple[Subject, dict[str, Any]]:
    """Load a separator, or one of streams, and return it for recordings, with the changes to its settings.

    Parameters
    ----------
    networks
        Names of the model and of the embedder, and the device, as `Separator.from_pretrained` takes them.
    settings, overrides
        File of changes; and more as ``section.name=value``, which are not tuned.
    recordings, folder, hook
        As for `OfflineSubject`.

    Raises
    ------
    PixitError
        If the networks cannot be loaded, or settings are wrong.
    """
    model, embedder, device = networks
    fixed = [override.partition("=")[0].strip() for override in overrides]
    more = recordings, folder, fixed, hook
    kind = StreamingSettings if is_streaming else SeparationSettings
    changes = load_settings(kind, settings, overrides).model_dump(mode="json", exclude_unset=True)
    if is_streaming:
        stream = StreamingSeparator.from_pretrained(model, embedder, device, changes)
        return StreamingSubject(stream, *more), changes
    return OfflineSubject(Separator.from_pretrained(model, embedder, device, changes), *more), changes
