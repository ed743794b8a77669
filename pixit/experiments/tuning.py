"""Which settings are best for these recordings? The networks stay as they are, and are asked once.

Trials are drawn by optuna (Akiba et al., "Optuna: a next-generation hyperparameter optimization framework", KDD 2019)
from the ranges below. A study may lie in a database, which several processes, on several machines, share.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import yaml
from pyannote.core import Annotation

from pixit.evaluation.diarization import COLUMNS, DiarizationCounts, evaluate_diarization, make_row
from pixit.evaluation.tables import Table
from pixit.experiments.heard import Heard, Thresholds, hear, thresholds_of
from pixit.files import file_name, write_text
from pixit.ownership import claim
from pixit.pipeline.pretrained import SeparationSettings
from pixit.pipeline.provenance import make_request
from pixit.pipeline.separate import Separator
from pixit.types import Hook, PixitError, Recording, one_line

if TYPE_CHECKING:
    import optuna

ATTEMPTS = 5
"""To open a database in which another process may be making the tables."""
Metric = Literal["der", "jer"]


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
        Of clustering, that take the setting; none for all.
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


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    """Return values as they are tried, and written into a file: of three digits."""
    return {key: value if isinstance(value, int) else float(f"{value:.3g}") for key, value in values.items()}


OFFLINE = {
    # heard anew for each pair: few
    "activity.onset": Range(0.3, 0.7, step=0.1),
    "activity.offset": Range(0.2, 0.6, step=0.1),
    # decided anew
    "activity.min_duration_on_s": Range(0.0, 0.5),
    "activity.min_duration_off_s": Range(0.0, 1.0),
    "clustering.threshold": Range(0.2, 1.2, methods=("average", "agglomerative", "vbx")),
    "clustering.min_speech_s": Range(0.2, 4.0, log=True, methods=("average",)),
    "clustering.min_speaker_s": Range(0.5, 60.0, log=True, methods=("average",)),
    "clustering.split_gap": Range(0.0, 1.0, methods=("average",)),
    "clustering.min_cluster_size": Range(2, 60, log=True, methods=("agglomerative",)),
    "clustering.fa": Range(0.01, 0.5, log=True, methods=("vbx",)),
    "clustering.fb": Range(0.01, 15.0, log=True, methods=("vbx",)),
}
"""Setting of a separator -> where it is looked for."""


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

    def decide(self, uri: str, values: Mapping[str, float]) -> Annotation:
        """Return who spoke when in a recording, with the settings as they are but for `values`."""
        ...


class OfflineSubject:
    """A separator whose networks have heard recordings; what they said lies in a folder.

    Several processes with the same folder share the work of hearing. Settings that are in `fixed` are not tuned.
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
        self.separator = separator
        self.ranges = {
            key: values
            for key, values in OFFLINE.items()
            if key not in fixed and (not values.methods or method in values.methods)
        }
        self._thresholds = self._pairs()
        self._heard = dict[str, Heard]()
        self.identity = [self._identify(recording) for recording in recordings]
        self._hear_all(recordings, folder, hook or (lambda *_, **__: None))

    def decide(self, uri: str, values: Mapping[str, float]) -> Annotation:
        """Return who spoke when in a recording, with the separator's settings but for `values`."""
        tree = self.separator.settings.model_dump()
        for key, value in values.items():
            section, name = key.split(".")
            tree[section][name] = value
        return self._heard[uri].decide(SeparationSettings.model_validate(tree))

    def _pairs(self) -> list[Thresholds]:
        """Return all pairs of thresholds that a trial may ask for, and that of the separator."""
        own = self.separator.settings.activity
        onsets, offsets = (
            _steps(self.ranges[key]) if key in self.ranges else [float(getattr(own, key.split(".")[1]))]
            for key in ("activity.onset", "activity.offset")
        )
        pairs = [(onset, min(onset, offset)) for onset in onsets for offset in offsets]
        return sorted({thresholds_of(own), *pairs})

    def _identify(self, recording: Recording) -> dict[str, Any]:
        """Return what determines the networks' answers to a recording, and those that are asked for."""
        audio = self.separator.open({"audio": recording.audio, "uri": recording.uri})
        request = make_request(self.separator.fingerprint_of_diarization, audio, None, None, None)
        return request | {"thresholds": self._thresholds}

    def _hear_all(self, recordings: Sequence[Recording], folder: Path, hook: Hook) -> None:
        """Load what was heard before, and hear the rest; what another process is hearing is left to it."""
        waiting = list(zip(recordings, self.identity, strict=True))
        for wait in (False, True):
            left = []
            for recording, identity in waiting:
                path = folder / _heard_name(recording, identity)
                with claim(_made(path), wait) as is_ours:
                    if path.exists():
                        self._heard[recording.uri] = Heard.load(path)
                    elif is_ours:
                        audio = self.separator.open({"audio": recording.audio, "uri": recording.uri})
                        heard = hear(self.separator, audio, self._thresholds, _report(hook, audio))
                        heard.save(path)
                        self._heard[recording.uri] = heard
                    else:
                        left.append((recording, identity))
            waiting = left


def _steps(values: Range) -> list[float]:
    assert values.step is not None, "what is heard anew is tried at few values"
    count = round((values.high - values.low) / values.step)
    return [float(f"{values.low + n * values.step:.3g}") for n in range(count + 1)]


def _heard_name(recording: Recording, identity: Mapping[str, Any]) -> str:
    """Return the name of the file of what was heard: another one for whatever else would be heard."""
    separation = dict(identity["separation"])
    separation.pop("clustering")
    activity = {key: separation["activity"][key] for key in ("decision", "min_local_s")}
    asked = dict(identity) | {"separation": separation | {"activity": activity}}
    return f"{file_name(recording.uri)}-{_digest(asked)[:16]}.npz"


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _report(hook: Hook, audio: Any) -> Callable[[int, int], None]:
    return lambda done, total: hook("hearing", None, file=audio, total=total, completed=done)


def _digest(tree: Any) -> str:
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Tuned:
    """What a study has found.

    Parameters
    ----------
    values
        Setting -> best value; empty if nothing was better than the settings as they are.
    before, after
        The errors with the settings as they are, and with the best.
    metric, num_trials
        What was to become small; and the number of trials so far, those of other processes included.
    """

    values: Mapping[str, float]
    before: DiarizationCounts
    after: DiarizationCounts
    metric: Metric
    num_trials: int

    def table(self) -> Table:
        """Return a row each for the settings as they are and for the best."""
        title = (
            f"{self.metric.upper()} of the recordings together after {self.num_trials} trials; errors in %"
        )
        rows = [make_row("as it is", self.before), make_row("tuned", self.after)]
        return Table(title, COLUMNS, rows)

    def save(self, path: Path, changes: Mapping[str, Any]) -> None:
        """Write the best settings for ``--settings``, over `changes`, the differences with which they were found."""
        tree = {key: dict(value) if isinstance(value, Mapping) else value for key, value in changes.items()}
        for key, value in self.values.items():
            section, name = key.split(".")
            tree.setdefault(section, {})[name] = value
        told = f"# {self.metric.upper()} {_percent(self.before, self.metric)} → {_percent(self.after, self.metric)}"
        write_text(
            path, f"{told} by pixit tune, {self.num_trials} trials\n{yaml.safe_dump(tree, sort_keys=False)}"
        )


def _percent(counts: DiarizationCounts, metric: Metric) -> str:
    return f"{getattr(counts, metric):.1%}"


def tune(
    subject: Subject,
    recordings: Sequence[Recording],
    num_trials: int = 100,
    metric: Metric = "der",
    storage: str | None = None,
    study: str = "pixit",
    timeout_s: float | None = None,
    seed: int | None = None,
    tell: Callable[[int, Tuned], None] = lambda number, found: None,
) -> Tuned:
    """Look for the settings with the smallest error.

    Parameters
    ----------
    subject, recordings
        What is tuned, and on which recordings; their turns are the truth where they are annotated.
    num_trials, timeout_s
        Until the study has so many trials, those before and those of other processes included; or for so long.
    metric
        ``"der"`` or ``"jer"``, of all recordings together, without a collar, overlap included.
    storage, study
        Address of a database, ``sqlite:///FILE`` or ``postgresql://…``, and the name of the study there. None for
        this process's memory.
    seed
        Of what is drawn; the same trials follow if no other process takes part.
    tell
        Called with the number of trials so far, and the best, after each.

    Raises
    ------
    PixitError
        If optuna is not installed, the database cannot be reached, or its study is of something else.
    """
    truth = {recording.uri: recording.turns for recording in recordings}
    annotated = {recording.uri: recording.annotated for recording in recordings}
    known: dict[str, DiarizationCounts] = {}

    def score(values: Mapping[str, float]) -> DiarizationCounts:
        key = _digest(values)
        if key not in known:
            found = {uri: subject.decide(uri, values) for uri in truth}
            known[key] = evaluate_diarization(truth, found, annotated=annotated).total
        return known[key]

    def objective(trial: optuna.Trial) -> float:
        values = {key: values.suggest(trial, key) for key, values in subject.ranges.items()}
        return float(getattr(score(_rounded(values)), metric))

    def best() -> Tuned:
        """Return the best so far, read from the study: another process may have found it."""
        done = [trial for trial in opened.get_trials(deepcopy=False) if trial.value is not None]
        before = after = score({})
        values: dict[str, float] = {}
        if done:
            first = min(done, key=lambda trial: (trial.value, trial.number))
            if float(first.value or 0.0) < getattr(before, metric):
                values = _rounded(first.params)
                after = score(values)
        return Tuned(values, before, after, metric, len(done))

    ranges = {key: vars(values) for key, values in subject.ranges.items()}
    measured = _digest(
        [subject.identity, ranges, metric, *([uri, repr(turns)] for uri, turns in truth.items()), annotated]
    )
    opened = _open_study(storage, study, measured, seed)
    found = best()
    if found.num_trials < num_trials:
        from optuna.study import MaxTrialsCallback

        stop = MaxTrialsCallback(num_trials)
        opened.optimize(
            objective, timeout=timeout_s, callbacks=[stop, lambda study, trial: tell(trial.number, best())]
        )
        found = best()
    return found


def _open_study(storage: str | None, name: str, measured: str, seed: int | None) -> optuna.Study:
    """Open or make a study; a PixitError if it cannot be, or is of something else."""
    try:
        import optuna
        from optuna.storages import RDBStorage
        from sqlalchemy.exc import SQLAlchemyError
    except ModuleNotFoundError as error:
        raise PixitError(f"tuning needs optuna ({error}); run: pip install 'pixit-audio[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed)
    for attempt in range(ATTEMPTS):
        try:
            place = None if storage is None else RDBStorage(_address(storage))
            study = optuna.create_study(storage=place, sampler=sampler, study_name=name, load_if_exists=True)
            found = study.user_attrs.get("measured", measured)
            study.set_user_attr("measured", found)
            break
        except (SQLAlchemyError, ImportError, ValueError) as error:
            # another process may be making the same tables
            if isinstance(error, SQLAlchemyError) and "exist" in str(error) and attempt + 1 < ATTEMPTS:
                time.sleep(0.5 * (attempt + 1))
                continue
            raise PixitError(
                f"--storage {storage}: cannot be used ({one_line(error)}); expected sqlite:///FILE or postgresql://…"
            ) from None
    if found != measured:
        raise PixitError(
            f"study {name!r} in {storage}: is of other recordings, networks, settings or ranges; name another "
            "with --study"
        )
    return study


def _address(storage: str) -> str:
    """Return the address of a database with the driver that the extra brings."""
    return storage.replace("postgresql://", "postgresql+psycopg://", 1)
