"""``pixit evaluate cpwer``: does separation help speech recognition? The paper's experiment, end to end."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pixit.cli.console import progress, say, warn
from pixit.cli.options import set_option
from pixit.cli.transcribe import ATTRIBUTIONS
from pixit.evaluation.tables import check_path
from pixit.files import writable
from pixit.types import PixitError

if TYPE_CHECKING:
    from pixit.experiments.cpwer import Comparison
    from pixit.formats.transcripts import Utterance
    from pixit.pipeline.separate import Separator
    from pixit.results import Separation
    from pixit.transcription.transcribe import Transcriber
    from pixit.types import Recording


@click.command()
@click.option(
    "--database", type=click.Path(path_type=Path), help="database.yml  [default: pyannote.database's]"
)
@click.option("--protocol", help="full name  [default: the only one of the database]")
@click.option(
    "--subset", default="test", show_default=True, type=click.Choice(["train", "development", "test"])
)
@click.option(
    "--references",
    required=True,
    type=click.Path(path_type=Path),
    help="STM or SegLST file, or folder of them; sessions are named as in the protocol",
)
@click.option("--attribution", default="both", show_default=True, type=click.Choice([*ATTRIBUTIONS, "both"]))
@click.option("--model", help="folder or hub name of a model, or of model and embedder together")
@click.option("--embedder", help="folder or hub name of another speaker embedder")
@click.option("--num-speakers", type=int, help="how many speak in each recording, if that is known")
@click.option("--recognizer", default="pocketsphinx", show_default=True, help="as for pixit transcribe")
@click.option("--language", help="code of the language, as en")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, …")
@click.option(
    "--normalizer",
    default="whisper-english",
    show_default=True,
    type=click.Choice(["whisper-english", "none"]),
    help="what both texts go through",
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="of the bootstrap")
@click.option(
    "--work",
    default="cpwer",
    show_default=True,
    type=click.Path(path_type=Path),
    help="folder of the results; what is there is not done again",
)
@click.option("--overwrite", is_flag=True, help="do again what is there")
@set_option
@click.option(
    "--format", default="text", show_default=True, type=click.Choice(["text", "csv", "json", "markdown"])
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="table as .csv, .json, .md or .txt")
@click.option("--quiet", is_flag=True, help="print nothing but the table and errors")
def cpwer(
    database: Path | None,
    protocol: str | None,
    subset: str,
    references: Path,
    attribution: str,
    num_speakers: int | None,
    normalizer: str,
    seed: int,
    work: Path,
    overwrite: bool,
    format: str,
    output: Path | None,
    quiet: bool,
    **networks: Any,
) -> None:
    """Separate a protocol's recordings, transcribe them, and score cpWER against REFERENCES.

    Words are recognised on the separated tracks, and on the recording as the same diarization cuts it up; both
    are printed side by side, with a bootstrap interval of the difference over recordings. Only what the protocol
    says is annotated is transcribed and scored (a reference utterance counts where its middle lies).

    WORK/separated holds the results of pixit separate, WORK/separation and WORK/diarization the transcripts:
    an experiment that was interrupted goes on where it was. Settings are set as separation.step_s=0.5 and
    transcription.padding_s=0.1.
    """
    from pixit.data.database import load_recordings
    from pixit.evaluation.transcript import load_normalizer
    from pixit.experiments.cpwer import compare_attributions, select_references
    from pixit.formats.transcripts import read_transcript

    if output is not None:
        check_path(output)
    import_module("meeteval")  # missing packages are told before the work, not after it
    load_normalizer(normalizer)
    recordings = load_recordings(protocol, subset, database)
    annotated = {r.uri: r.annotated for r in recordings if not is_whole(r)}
    reference, notes = select_references(
        read_transcript(references, need_times=False), [r.uri for r in recordings], annotated
    )
    warn(notes)
    check_names(recordings)
    separator, transcriber = load(**networks)
    experiment = Experiment(
        separator, separator.fingerprint, transcriber, num_speakers, work, overwrite, quiet
    )
    chosen = ATTRIBUTIONS if attribution == "both" else (attribution,)
    transcripts: dict[str, list[Utterance]] = {name: [] for name in chosen}
    with writable(work):
        for recording in recordings:
            result = separate_recording(experiment, recording)
            for name in chosen:
                within = annotated.get(recording.uri)
                transcripts[name] += transcribe_recording(experiment, recording, result, name, within)
    report(compare_attributions(reference, transcripts, normalizer, seed), format, output)


def report(comparison: Comparison, format: str, output: Path | None) -> None:
    """Print the table, and what should be known of it."""
    for note in comparison.notes:
        click.echo(f"pixit: warning: {note}", err=True)
    table = comparison.table()
    if output is not None:
        table.save(output)
    say(table.render(format).rstrip("\n"))


@dataclass(frozen=True)
class Experiment:
    """What is the same for all recordings: who separates and transcribes them, and where the results go."""

    separator: Separator
    fingerprint: dict[str, Any]
    transcriber: Transcriber
    num_speakers: int | None
    work: Path
    overwrite: bool
    quiet: bool


def load(
    model: str | None,
    embedder: str | None,
    recognizer: str,
    language: str | None,
    device: str,
    overrides: tuple[str, ...],
) -> tuple[Separator, Transcriber]:
    """Load the networks, with settings as ``separation.…=…`` and ``transcription.…=…``."""
    from pixit.config import Settings, load_settings
    from pixit.pipeline.separate import SeparationSettings, Separator
    from pixit.transcription.recognizers import load_recognizer
    from pixit.transcription.transcribe import Transcriber, TranscriptionSettings

    class ExperimentSettings(Settings):
        separation: SeparationSettings = SeparationSettings()
        transcription: TranscriptionSettings = TranscriptionSettings()

    settings = load_settings(ExperimentSettings, overrides=overrides)
    transcriber = Transcriber(load_recognizer(recognizer, language, device), settings.transcription)
    changes = settings.separation.model_dump(exclude_unset=True)
    return Separator.from_pretrained(model, embedder, device, settings=changes), transcriber


def is_whole(recording: Recording) -> bool:
    """Return whether all of a recording is annotated."""
    from pixit.audio import open_audio

    return recording.annotated == ((0.0, open_audio(recording.audio).duration_s),)


def check_names(recordings: list[Recording]) -> None:
    """Raise a `PixitError` if the results of two recordings would have the same name."""
    from pixit.files import file_name

    first: dict[str, str] = {}
    for recording in recordings:
        other = first.setdefault(file_name(recording.uri), recording.uri)
        if other != recording.uri:
            raise PixitError(f"recordings {other!r} and {recording.uri!r} need the same folder; rename one")


def separate_recording(experiment: Experiment, recording: Recording) -> Separation:
    """Separate and save a recording, or load the result if that is done."""
    from pixit.audio import open_audio
    from pixit.files import file_name
    from pixit.pipeline.provenance import make_request
    from pixit.results import Separation

    target = experiment.work / "separated" / file_name(recording.uri)
    audio = open_audio({"audio": recording.audio, "uri": recording.uri})
    request = make_request(experiment.fingerprint, audio, experiment.num_speakers, None, None)
    if experiment.overwrite or not target.exists():
        say(f"{recording.uri}: separating", experiment.quiet)
        with progress(recording.uri, experiment.quiet) as hook:
            result = experiment.separator(audio, num_speakers=experiment.num_speakers, hook=hook)
        result.save(target.parent, overwrite=experiment.overwrite)
    result = Separation.load(target)
    found = result.settings.get("request", {})
    if changed := [key for key in request if found.get(key) != request[key]]:
        raise PixitError(
            f"{target}: was made from another recording or with other settings ({', '.join(changed)}); "
            "pass --overwrite to replace it, or another --work"
        )
    return result


def transcribe_recording(
    experiment: Experiment,
    recording: Recording,
    result: Separation,
    attribution: str,
    within: tuple[tuple[float, float], ...] | None,
) -> list[Utterance]:
    """Transcribe a recording and write the transcript; what was recognised before is not recognised again."""
    from pixit.files import file_name
    from pixit.formats.transcripts import write_transcript
    from pixit.transcription.journal import Journal

    name, folder = file_name(recording.uri), experiment.work / attribution
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.transcription.jsonl"
    if experiment.overwrite:
        path.unlink(missing_ok=True)
    request = experiment.transcriber.description | {"attribution": attribution, "within": within}
    journal = Journal(path, request | {"result": result.settings["request"]})
    with progress(f"{recording.uri}, {attribution}", experiment.quiet) as hook:
        keep: dict[str, Any] = {"session": recording.uri, "within": within, "journal": journal, "hook": hook}
        if attribution == "separation":
            utterances = experiment.transcriber.separation(result, **keep)
        else:
            utterances = experiment.transcriber.mixture(recording.audio, result.turns, **keep)
    write_transcript(folder / f"{name}.seglst.json", utterances)
    words = sum(len(utterance.words.split()) for utterance in utterances)
    say(f"{recording.uri}: {words} words by {attribution}", experiment.quiet)
    return utterances
