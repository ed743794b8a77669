"""Find mistakes in protocols before a training or an evaluation fails on them.

`pixit.data.database.load_recordings` stops at the first mistake; this finds all of them, and reads each file
once however many protocols list it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pixit.data.check_file import AudioReport, FileReport, Finding, check_audio, check_file
from pixit.data.database import (
    SUBSETS,
    audio_path,
    bad_input,
    choose_protocol,
    find_references,
    open_registry,
    quiet,
)
from pixit.types import Hook, PixitError

if TYPE_CHECKING:
    from pyannote.database import ProtocolFile
    from pyannote.database.registry import Registry


@dataclass
class SubsetReport:
    """What one subset of a protocol holds; durations in seconds, counted where there is audio.

    Parameters
    ----------
    protocol, subset
        Its name.
    num_files
        Recordings that are listed.
    audio_s
        Their length.
    annotated_s
        What of it is annotated.
    speech_s
        Where at least one speaker talks.
    overlap_s
        Where two or more talk.
    speakers
        Their names; those of several files count once unless the protocol says that names hold for a file.
    """

    protocol: str
    subset: str
    num_files: int = 0
    audio_s: float = 0.0
    annotated_s: float = 0.0
    speech_s: float = 0.0
    overlap_s: float = 0.0
    speakers: set[str] = field(default_factory=set)


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
    """A subset under examination; `files` have no annotation read yet."""

    protocol: str
    name: str
    files: list[ProtocolFile]
    reports: list[FileReport] = field(default_factory=list)


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
    database
        A ``database.yml``; None as in `pixit.data.database.load_recordings`.
    protocol
        Full name; None for all, but for meta-protocols (``X.…``), whose parts are checked anyway.
    subset
        ``"train"``, ``"development"`` or ``"test"``; None for all.
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
    report = DatabaseReport()
    with quiet(), bad_input(source):
        registry = open_registry(database)
        subsets = list(_list_subsets(registry, _protocols(registry, protocol, source), subset, report))
    if subset is not None and not subsets and not report.findings:
        raise PixitError(f"{source}: no protocol has a subset {subset!r}")
    with quiet():
        _check_files(subsets, registry, full, report, hook)
    _check_formats(subsets, sample_rate_hz, report)
    for name in dict.fromkeys(found.protocol for found in subsets):
        _compare_subsets([found for found in subsets if found.protocol == name], report)
    report.subsets = [_summarize(found) for found in subsets]
    return report


def _protocols(registry: Registry, protocol: str | None, source: str) -> list[str]:
    names = sorted(registry)
    plain = [name for name in names if not name.startswith("X.")]
    if protocol is not None or not plain:
        return [choose_protocol(registry, protocol, source)]
    return plain


def _list_subsets(
    registry: Registry, names: Sequence[str], wanted: str | None, report: DatabaseReport
) -> Iterator[_Subset]:
    """Yield the subsets that can be read; the others are findings."""
    from pyannote.database import Protocol

    for name in names:
        found = registry.get_protocol(name)
        for subset in SUBSETS if wanted is None else (wanted,):
            if getattr(type(found), f"{subset}_iter") is getattr(Protocol, f"{subset}_iter"):
                continue
            try:
                with bad_input(f"{name}.{subset}"):
                    files = [file for file in _raw_files(registry, name, subset) if file["uri"]]
            except PixitError as error:
                report.findings.append(Finding("error", name, subset, "", str(error)))
                continue
            if not files:
                report.findings.append(Finding("error", name, subset, "", "lists no recording"))
            yield _Subset(name, subset, files)


def _raw_files(registry: Registry, name: str, subset: str) -> list[ProtocolFile]:
    """List files with the annotation as it is written: ``Protocol.train()`` and the like would cut it."""
    if not name.startswith("X."):
        return list(getattr(registry.get_protocol(name), f"{subset}_iter")())
    # pyannote.database looks the parts up in its global registry; ours may be another one
    _, task, protocol = name.split(".")
    parts: dict[str, list[str]] = {}
    for config in registry.configs.values():
        parts |= config.get("Protocols", {}).get("X", {}).get(task, {}).get(protocol, {}).get(subset, {})
    return [file for part, of in parts.items() for s in of for file in _raw_files(registry, part, s)]


def _check_files(
    subsets: Sequence[_Subset], registry: Registry, full: bool, report: DatabaseReport, hook: Hook | None
) -> None:
    heard: dict[Path, AudioReport] = {}
    total, completed = sum(len(subset.files) for subset in subsets), 0
    for subset in subsets:
        for file in subset.files:
            where = subset.protocol, subset.name, file["uri"]
            path = None
            try:
                path = audio_path(file, registry, file["uri"]).resolve()
                if path not in heard:
                    heard[path] = check_audio(path, full)
            except PixitError as error:
                report.findings.append(Finding("error", *where, str(error)))
            audio = None if path is None else heard.get(path)
            subset.reports.append(found := check_file(file, where, path, audio, report.findings))
            try:
                with bad_input("references"):
                    find_references(file, registry, found.speakers, file["uri"])
            except PixitError as error:
                report.findings.append(Finding("error", *where, str(error)))
            completed += 1
            if hook is not None:
                hook("checking", None, total=total, completed=completed)


def _check_formats(subsets: Sequence[_Subset], sample_rate_hz: int | None, report: DatabaseReport) -> None:
    """Compare rate and channels with what is wanted, or with those of most files of all protocols."""
    files = {
        r.path: r.audio for s in subsets for r in s.reports if r.path is not None and r.audio is not None
    }
    if not files:
        return
    [(usual_hz, num_usual)] = Counter(audio.sample_rate_hz for audio in files.values()).most_common(1)
    [(usual_channels, num_as_usual)] = Counter(audio.num_channels for audio in files.values()).most_common(1)
    for subset in subsets:
        for found in subset.reports:
            if found.audio is None:
                continue
            where = subset.protocol, subset.name, found.uri
            rate_hz, channels = found.audio.sample_rate_hz, found.audio.num_channels
            if sample_rate_hz is not None and rate_hz != sample_rate_hz:
                message = f"{found.path}: {rate_hz} Hz, expected {sample_rate_hz} Hz"
                report.findings.append(Finding("error", *where, message))
            elif sample_rate_hz is None and rate_hz != usual_hz:
                message = (
                    f"{found.path}: {rate_hz} Hz, but {num_usual} of {len(files)} files have {usual_hz} Hz"
                )
                report.findings.append(Finding("warning", *where, message))
            if channels != usual_channels:
                message = (
                    f"{channels} channels, but {num_as_usual} of {len(files)} files have {usual_channels}"
                )
                report.findings.append(Finding("warning", *where, f"{found.path}: {message}"))


def _compare_subsets(subsets: Sequence[_Subset], report: DatabaseReport) -> None:
    """Look for recordings, files and speakers that one protocol has twice."""
    uris: dict[str, str] = {}
    paths: dict[Path, str] = {}
    for subset in subsets:
        for found in subset.reports:
            where = subset.protocol, subset.name, found.uri
            # parts of a meta-protocol may use the same names for different recordings
            uri = f"{found.database}/{found.uri}"
            if uri in uris:
                twice = "more than once" if uris[uri] == subset.name else f"in {uris[uri]} too"
                report.findings.append(
                    Finding("error", *where, f"is listed {twice}; expected one subset, once")
                )
            elif found.path is not None and found.path in paths:
                message = f"{found.path}: is the audio of {paths[found.path]} too"
                report.findings.append(Finding("warning", *where, message))
            uris.setdefault(uri, subset.name)
            if found.path is not None:
                paths.setdefault(found.path, found.uri)
    for index, subset in enumerate(subsets):
        for other in subsets[index + 1 :]:
            shared = sorted(_global_speakers(subset) & _global_speakers(other))
            if shared:
                message = f"{len(shared)} of its speakers are in {subset.name} too: {', '.join(shared[:5])}"
                message += ", …" if len(shared) > 5 else ""
                report.findings.append(Finding("info", subset.protocol, other.name, "", message))


def _global_speakers(subset: _Subset) -> set[str]:
    """Return the names that mean the same person in every file."""
    return {name for r in subset.reports if r.scope != "file" for name in r.speakers}


def _summarize(subset: _Subset) -> SubsetReport:
    found = SubsetReport(subset.protocol, subset.name, len(subset.reports))
    for report in subset.reports:
        found.audio_s += report.audio.duration_s if report.audio is not None else 0.0
        found.annotated_s += report.annotated_s
        found.speech_s += report.speech_s
        found.overlap_s += report.overlap_s
        is_local = report.scope == "file"
        found.speakers |= {f"{report.uri}/{name}" if is_local else name for name in report.speakers}
    return found
