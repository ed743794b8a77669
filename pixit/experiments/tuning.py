"""Which settings are best for these recordings? The networks stay as they are, and are asked once.

Trials are drawn by optuna (Akiba et al., "Optuna: a next-generation hyperparameter optimization framework", KDD 2019)
from the ranges below. A study may lie in a database, which several processes, on several machines, share.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import yaml

from pixit.evaluation.diarization import COLUMNS, DiarizationCounts, evaluate_diarization, make_row
from pixit.evaluation.tables import Column, Table
from pixit.experiments.kept import digest
from pixit.experiments.subjects import Subject
from pixit.files import write_text
from pixit.ownership import cannot_be_written
from pixit.types import PixitError, Recording, one_line

if TYPE_CHECKING:
    import optuna

ATTEMPTS = 5
"""To open a database in which another process may be making the tables."""
Metric = Literal["der", "jer"]


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    """Return values as they are tried, and written into a file: of three digits."""
    return {key: value if isinstance(value, int) else float(f"{value:.3g}") for key, value in values.items()}


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
        return Table(title, (Column("recording", "settings"), *COLUMNS[1:]), rows)

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
        Of what is drawn: the same trials follow on the same ones, if no other process takes part.
    tell
        Called after each trial with its number, counted from 0, and the best so far.

    Raises
    ------
    PixitError
        If optuna is not installed, the database cannot be reached, or its study is of something else.
    """
    score = _Score(subject, recordings)
    ranges = {key: vars(values) for key, values in subject.ranges.items()}
    truth = [[one.uri, one.annotated, repr(one.turns)] for one in recordings]
    measured = digest([subject.identity, ranges, metric, truth])
    opened = _open_study(storage, study, measured, seed)  # what cannot be done is said before the work
    subject.hear()
    found = _best(opened, score, metric)
    if found.num_trials < num_trials:
        from optuna.study import MaxTrialsCallback

        def objective(trial: optuna.Trial) -> float:
            values = {key: values.suggest(trial, key) for key, values in subject.ranges.items()}
            return float(getattr(score(_rounded(values)), metric))

        def told(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
            tell(trial.number, _best(study, score, metric))

        stop = MaxTrialsCallback(num_trials)
        opened.optimize(objective, timeout=timeout_s, callbacks=[stop, told])
        found = _best(opened, score, metric)
    return found


class _Score:
    """Counts the errors that values of settings make, for each set of them once."""

    def __init__(self, subject: Subject, recordings: Sequence[Recording]) -> None:
        self._subject, self._known = subject, dict[str, DiarizationCounts]()
        self._truth = {recording.uri: recording.turns for recording in recordings}
        self._annotated = {recording.uri: recording.annotated for recording in recordings}

    def __call__(self, values: Mapping[str, float]) -> DiarizationCounts:
        key = digest(values)
        if key not in self._known:
            found = {uri: self._subject.decide(uri, values) for uri in self._truth}
            self._known[key] = evaluate_diarization(self._truth, found, annotated=self._annotated).total
        return self._known[key]


def _best(study: optuna.Study, score: _Score, metric: Metric) -> Tuned:
    """Return the best so far, read from the study: another process may have found it."""
    done = [trial for trial in study.get_trials(deepcopy=False) if trial.value is not None]
    values: dict[str, float] = {}
    before = after = score(values)
    if done:
        first = min(done, key=lambda trial: (trial.value, trial.number))
        if float(first.value or 0.0) < getattr(before, metric):
            values = _rounded(first.params)
            after = score(values)
    return Tuned(values, before, after, metric, len(done))


def _open_study(storage: str | None, name: str, measured: str, seed: int | None) -> optuna.Study:
    """Open or make a study; a PixitError if it cannot be, or is of something else."""
    try:
        import optuna
        from optuna.storages import RDBStorage
        from sqlalchemy.exc import SQLAlchemyError
    except ModuleNotFoundError as error:
        raise PixitError(f"tuning needs optuna ({error}); run: pip install 'pixit-audio[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for attempt in range(ATTEMPTS):
        try:
            place = None if storage is None else RDBStorage(_address(storage))
            study = optuna.create_study(storage=place, study_name=name, load_if_exists=True)
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
    if seed is not None:  # what goes on does not draw again what was drawn at the beginning
        seed = int(np.random.SeedSequence([seed, len(study.get_trials(deepcopy=False))]).generate_state(1)[0])
    study.sampler = optuna.samplers.TPESampler(seed=seed)
    return study


def study_in(folder: Path) -> str:
    """Return the address of the database of studies in a folder, which is made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_be_written(folder, error) from None
    return f"sqlite:///{folder / 'study.db'}"


def _address(storage: str) -> str:
    """Return the address of a database with the driver that the extra brings."""
    return storage.replace("postgresql://", "postgresql+psycopg://", 1)
