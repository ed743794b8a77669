"""Make a database.yml, RTTM, UEM and reference transcripts of the AMI meeting corpus.

python recipes/ami/prepare.py DATA OUTPUT

DATA is what download.py made. The README says what OUTPUT holds, and by what rules.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import click
import numpy as np

from corpus import (
    MANUAL,
    MICROPHONES,
    TextRules,
    audio_files,
    find_turns,
    find_utterances,
    read_meeting,
    read_speakers,
    rttm_line,
    uem_line,
)
from pixit.audio import TrackWriter, open_audio, read_info
from pixit.cli.console import progress, run, say
from pixit.data.protocol import write_database, write_lines
from pixit.data.registry import SUBSETS
from pixit.formats.transcripts import write_transcript
from pixit.formats.utterances import Utterance
from pixit.types import PixitError

LISTS = Path(__file__).resolve().parent / "lists"
LABELS = {"only_words": False, "word_and_vocalsounds": True}
"""Protocol -> whether vocal sounds count as speech."""


@click.command()
@click.argument("data", type=click.Path(path_type=Path, file_okay=False))
@click.argument("output", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--microphone",
    "microphones",
    multiple=True,
    type=click.Choice(list(MICROPHONES)),
    help="may be repeated  [default: all that are downloaded]",
)
@click.option("--skip-missing", is_flag=True, help="leave out meetings without audio, instead of stopping")
@click.option(
    "--pause", "pause_s", default=TextRules.pause_s, show_default=True, help="between utterances, in s"
)
@click.option("--drop-punctuation", is_flag=True, help="leave marks out of the references")
@click.option("--drop-truncated", is_flag=True, help="leave broken-off words out of the references")
@click.option(
    "--keep-underscores", is_flag=True, help="keep spelled letters as T_V_, as the paper's references"
)
@click.option("--quiet", is_flag=True, help="print errors only")
def main(
    data: Path,
    output: Path,
    microphones: tuple[str, ...],
    skip_missing: bool,
    pause_s: float,
    drop_punctuation: bool,
    drop_truncated: bool,
    keep_underscores: bool,
    quiet: bool,
) -> None:
    """Write into the folder OUTPUT what training and evaluation on the corpus in DATA need."""
    speakers = read_speakers(data / MANUAL)
    lists = {subset: (LISTS / f"{subset}.txt").read_text().split() for subset in SUBSETS}
    found = {
        microphone: {s: with_audio(data, names, microphone, skip_missing) for s, names in lists.items()}
        for microphone in microphones or downloaded(data)
    }
    rules = TextRules(pause_s, not drop_punctuation, not drop_truncated, not keep_underscores)
    for subset, names in lists.items():
        meetings = [name for name in names if any(name in subsets[subset] for subsets in found.values())]
        write_annotations(data / MANUAL, output, subset, meetings, speakers, rules)
    with progress("AMI", quiet) as hook:
        for microphone, subsets in found.items():
            total = sum(map(len, subsets.values()))
            pairs = [(subset, meeting) for subset, names in subsets.items() for meeting in names]
            for completed, (subset, meeting) in enumerate(pairs):
                hook(f"audio of {microphone}", None, total=total, completed=completed)
                add_audio(data, output, microphone, subset, meeting)
    write_protocols(output, found)
    for microphone, subsets in found.items():
        counts = ", ".join(f"{len(names)} {subset}" for subset, names in subsets.items())
        say(f"{MICROPHONES[microphone].database}: {counts}", quiet)
    say(f"Check it: pixit data check {output / 'database.yml'}", quiet)


def downloaded(data: Path) -> list[str]:
    """Return the microphones of which there is audio."""
    found = [
        key
        for key, kind in MICROPHONES.items()
        if any(data.glob(f"amicorpus/*/audio/*.{kind.channels[-1]}.wav"))
    ]
    if not found:
        raise PixitError(f"{data / 'amicorpus'}: holds no audio; run download.py first")
    return found


def with_audio(data: Path, meetings: Iterable[str], microphone: str, skip_missing: bool) -> list[str]:
    """Return the meetings that have all their audio."""
    found = []
    for meeting in meetings:
        missing = [path for path in audio_files(data, meeting, microphone) if not path.is_file()]
        if missing and not skip_missing:
            raise PixitError(f"{missing[0]}: is missing; run download.py again, or pass --skip-missing")
        if not missing:
            found.append(meeting)
    return found


def write_annotations(
    manual: Path,
    output: Path,
    subset: str,
    meetings: list[str],
    speakers: dict[str, dict[str, str]],
    rules: TextRules,
) -> None:
    """Write the RTTM and the references of the meetings of a subset."""
    references: list[Utterance] = []
    for meeting in meetings:
        tokens = read_meeting(manual, meeting, speakers)
        for label, vocal_sounds in LABELS.items():
            turns = find_turns(tokens, vocal_sounds)
            write_lines(output / label / f"{meeting}.rttm", (rttm_line(meeting, turn) for turn in turns))
        utterances = []
        for speaker, spoken in tokens.items():
            said = find_utterances(meeting, speaker, spoken, rules)
            text = " ".join(utterance.words for utterance in said)
            write_lines(output / "references" / "text" / f"{meeting}.{speaker}.txt", [text])
            utterances += said
        references += sorted(utterances, key=lambda utterance: (utterance.start_s, utterance.end_s))
    if meetings:
        for kind in ("stm", "seglst.json"):
            write_transcript(output / "references" / f"{subset}.{kind}", references)


def add_audio(data: Path, output: Path, microphone: str, subset: str, meeting: str) -> None:
    """Link the audio of a meeting under its plain name, or write the mean of its microphones; and the UEM."""
    database = MICROPHONES[microphone].database
    sources = audio_files(data, meeting, microphone)
    folder = output / "audio" / database / subset
    if len(sources) == 1:
        path = folder / f"{meeting}.wav"
        link(path, sources[0])
    else:
        path = folder / f"{meeting}.flac"
        if not path.is_file():
            write_mean(path, sources)
    duration_s = read_info(path).duration_s
    if duration_s is None:
        raise PixitError(f"{path}: does not give its length; expected wav or flac")
    write_lines(output / "uem" / database / f"{meeting}.uem", [uem_line(meeting, duration_s)])


def link(path: Path, source: Path) -> None:
    """Make or renew a symbolic link."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.symlink_to(source.resolve())
        temporary.replace(path)
    except OSError as error:
        raise PixitError(f"{path}: cannot be linked to {source} ({error.strerror})") from None


def write_mean(path: Path, sources: list[Path]) -> None:
    """Write the mean of several microphones, as long as the shortest, whole or not at all."""
    signals = [open_audio(source) for source in sources]
    rates_hz = {signal.sample_rate_hz for signal in signals}
    if len(rates_hz) > 1:
        raise PixitError(f"{sources[0].parent}: microphones of {sorted(rates_hz)} Hz, expected one rate")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with ExitStack() as stack:
        stack.callback(temporary.unlink, missing_ok=True)
        with TrackWriter(temporary, rates_hz.pop(), format="flac") as writer:
            for blocks in zip(*(signal.blocks() for signal in signals), strict=False):
                num_samples = min(map(len, blocks))
                writer.write(np.mean([block[:num_samples] for block in blocks], axis=0))
        temporary.replace(path)


def write_protocols(output: Path, found: dict[str, dict[str, list[str]]]) -> None:
    """Write the lists and the database.yml; subsets without a meeting are left out."""
    audio, protocols = {}, {}
    for microphone, subsets in found.items():
        database = MICROPHONES[microphone].database
        subsets = {subset: meetings for subset, meetings in subsets.items() if meetings}
        ending = "wav" if len(MICROPHONES[microphone].channels) == 1 else "flac"
        audio[database] = [f"audio/{database}/{subset}/{{uri}}.{ending}" for subset in subsets]
        for subset, meetings in subsets.items():
            write_lines(output / "lists" / database / f"{subset}.lst", meetings)
        for label in LABELS:
            protocols[f"{database}.SpeakerDiarization.{label}"] = {
                subset: {
                    "uri": f"lists/{database}/{subset}.lst",
                    "annotation": f"{label}/{{uri}}.rttm",
                    "annotated": f"uem/{database}/{{uri}}.uem",
                }
                for subset in subsets
            }
    write_database(output / "database.yml", audio, protocols, scope="database")


if __name__ == "__main__":
    run(main)
