"""Find mistakes in protocols before a training or an evaluation fails on them.

`pixit.data.database.load_recordings` stops at the first mistake; this finds all of them, and reads each file
once however many protocols list it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from pixit.data.check_file import AudioReport, FileReport, Finding, check_audio, check_file
from pixit.data.database import audio_path, find_references
from pixit.data.registry import (
    SUBSETS,
    bad_input,
    choose_protocol,
    defined_subsets,
    list_files,
    open_registry,
    quiet,
)
from pixit.types import Hook, PixitError

if TYPE_CHECKING:
    from pyannote.database import ProtocolFile
    from pyannote.database.registry import Registry


@dataclass
class SubsetReport:
    """What one subset of a protocol lists; durations in seconds, counted where there is audio.

    Speech is where at least one speaker talks, overlap where two or more do. Names of speakers that stand in
    several files count once, unless the protocol says that names hold for a file.
    """

    protocol: str
    subset: str
    num_files: int
    audio_s: float
    annotated_s: float
    speech_s: float
    overlap_s: float
    speakers: set[str]


@dataclass
class DatabaseReport:
    """All that was found, and what the subsets hold."""

    findings: list[Finding] = field(default_factory=list)
    subsets: list[SubsetReport] = field(default_factory=list)

    def count(self, severity: str) -> int:
        """Return the number of findings that are ``"error"``, ``"warning"`` or ``"info"``."""
        return sum(finding.severity == severity for finding in self.findings)


@dataclass
class _Subset:
    """A subset under examination; `files` have no annotation read yet, `findings` are of all subsets."""

    protocol: str
    name: str
    findings: list[Finding]
    files: list[ProtocolFile] = field(default_factory=list)
    reports: list[FileReport] = field(default_factory=list)

    def note(self, severity: str, message: str, uri: str = "") -> None:
        self.findings.append(Finding(severity, self.protocol, self.name, uri, message))


def check_database(
    database: Path | str | None = None,
    protocol: str | None = None,
    subset: str | None = None,
    sample_rate_hz: int | None = None,
    full: bool = False,
    hook: Hook | None = None,
) -> DatabaseReport:
    """Check every file of the protocols of a database.

    Errors are what training or evaluation would stop at or be wrong by: a list or annotation that cannot be
    read; audio that is missing, ambiguous, unreadable or truncated; a recording without speech or without an
    annotated stretch; annotation that outlasts its audio by more than 0.5 s, or is not finite; a recording
    listed twice or in two subsets; another sample rate than `sample_rate_hz`. Warnings are what is worth a
    look: another rate or number of channels than most files have, speech outside of what is annotated,
    a speaker who overlaps with themselves, one audio file under two names. Speakers that subsets share are
    an info.

    Parameters
    ----------
    database, subset
        As of `pixit.data.database.load_recordings`; None for all subsets.
    protocol
        Full name; None for all, but for meta-protocols (``X.…``), whose parts are checked anyway.
    sample_rate_hz
        The rate that all audio should have; None for that of most files.
    full
        Decode all audio. Otherwise the header and the first and last second are read, which finds truncated
        files, but not damage in the middle.
    hook
        Progress callback: ``hook("checking", None, total=, completed=)``.

    Raises
    ------
    PixitError
        If the database cannot be read, or the protocol or subset does not exist.
    """
    if subset is not None and subset not in SUBSETS:
        raise PixitError(f"subset {subset!r}: expected one of {', '.join(SUBSETS)}")
    source = str(database) if database is not None else "pyannote.database's configuration"
    findings: list[Finding] = []
    with quiet(), bad_input(source):
        registry = open_registry(database)
        plain = [name for name in sorted(registry) if not name.startswith("X.")]
        if protocol is not None or not plain:
            plain = [choose_protocol(registry, protocol, source)]
        subsets = list(_list_subsets(registry, plain, subset, findings))
    if subset is not None and not subsets and not findings:
        raise PixitError(f"{source}: no protocol has a subset {subset!r}")
    with quiet():
        _check_files(subsets, registry, full, hook)
    _check_formats(subsets, sample_rate_hz)
    for name in dict.fromkeys(found.protocol for found in subsets):
        _compare_subsets([found for found in subsets if found.protocol == name])
    return DatabaseReport(findings, [_summarize(found) for found in subsets])


def _list_subsets(
    registry: Registry, names: Sequence[str], wanted: str | None, findings: list[Finding]
) -> Iterator[_Subset]:
    """Yield the subsets that can be read; the others are findings."""
    for name in names:
        for subset in defined_subsets(registry, name):
            if wanted not in (None, subset):
                continue
            found = _Subset(name, subset, findings)
            try:
                with bad_input(where := f"{name}.{subset}"):
                    listed = list_files(registry, name, subset, where, raw=True)
                    found.files = [file for file in listed if file["uri"]]
            except PixitError as error:
                found.note("error", str(error))
                continue
            if not found.files:
                found.note("error", "lists no recording")
            yield found


def _check_files(subsets: Sequence[_Subset], registry: Registry, full: bool, hook: Hook | None) -> None:
    heard: dict[Path, AudioReport] = {}
    files = [(subset, file) for subset in subsets for file in subset.files]
    for completed, (subset, file) in enumerate(files, start=1):
        note, path = partial(subset.note, uri=file["uri"]), None
        try:
            path = audio_path(file, registry, file["uri"]).resolve()
            if path not in heard:
                heard[path] = check_audio(path, full)
        except PixitError as error:
            note("error", str(error))
        audio = None if path is None else heard.get(path)
        subset.reports.append(found := check_file(file, path, audio, note))
        try:
            with bad_input("references"):
                find_references(file, registry, found.speakers, file["uri"])
        except PixitError as error:
            note("error", str(error))
        if hook is not None:
            hook("checking", None, total=len(files), completed=completed)


def _check_formats(subsets: Sequence[_Subset], sample_rate_hz: int | None) -> None:
    """Compare rate and channels with what is wanted, or with those of most files of all protocols."""
    reports = [(subset, r, r.audio) for subset in subsets for r in subset.reports if r.audio is not None]
    files = {r.path: audio for _, r, audio in reports}
    if not files:
        return
    [(usual_hz, num_usual)] = Counter(audio.sample_rate_hz for audio in files.values()).most_common(1)
    [(usual_channels, num_as_usual)] = Counter(audio.num_channels for audio in files.values()).most_common(1)
    for subset, found, audio in reports:
        rate_hz, channels = audio.sample_rate_hz, audio.num_channels
        if sample_rate_hz is not None and rate_hz != sample_rate_hz:
            subset.note("error", f"{found.path}: {rate_hz} Hz, expected {sample_rate_hz} Hz", found.uri)
        elif sample_rate_hz is None and rate_hz != usual_hz:
            others = f"{num_usual} of {len(files)} files have {usual_hz} Hz"
            subset.note("warning", f"{found.path}: {rate_hz} Hz, but {others}", found.uri)
        if channels != usual_channels:
            others = f"{num_as_usual} of {len(files)} files have {usual_channels}"
            subset.note("warning", f"{found.path}: {channels} channels, but {others}", found.uri)


def _compare_subsets(subsets: Sequence[_Subset]) -> None:
    """Look for recordings, files and speakers that one protocol has twice."""
    uris: dict[str, str] = {}
    paths: dict[Path, str] = {}
    for subset, found in [(s, report) for s in subsets for report in s.reports]:
        # parts of a meta-protocol may use the same names for different recordings
        uri = f"{found.database}/{found.uri}"
        if uri in uris:
            twice = "more than once" if uris[uri] == subset.name else f"in {uris[uri]} too"
            subset.note("error", f"is listed {twice}; expected one subset, once", found.uri)
        elif found.path is not None and found.path in paths:
            subset.note("warning", f"{found.path}: is the audio of {paths[found.path]} too", found.uri)
        uris.setdefault(uri, subset.name)
        if found.path is not None:
            paths.setdefault(found.path, found.uri)
    people = [{name for r in s.reports if r.scope != "file" for name in r.speakers} for s in subsets]
    for (subset, own), (other, others) in combinations(zip(subsets, people, strict=True), 2):
        if shared := sorted(own & others):
            names = ", ".join(shared[:5]) + (", …" if len(shared) > 5 else "")
            other.note("info", f"{len(shared)} of its speakers are in {subset.name} too: {names}")


def _summarize(subset: _Subset) -> SubsetReport:
    reports = subset.reports
    return SubsetReport(
        subset.protocol,
        subset.name,
        num_files=len(reports),
        audio_s=sum((r.audio.duration_s for r in reports if r.audio is not None), 0.0),
        annotated_s=sum((report.annotated_s for report in reports), 0.0),
        speech_s=sum((report.speech_s for report in reports), 0.0),
        overlap_s=sum((report.overlap_s for report in reports), 0.0),
        speakers={f"{r.uri}/{name}" if r.scope == "file" else name for r in reports for name in r.speakers},
    )
