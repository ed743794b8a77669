"""``pixit evaluate cpwer``: does separation help speech recognition? The paper's experiment, end to end."""

from __future__ import annotations

from pathlib import Path

import click

from pixit.cli.console import progress, say, warn
from pixit.cli.options import set_option
from pixit.cli.transcribe import ATTRIBUTIONS
from pixit.evaluation.tables import check_path


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
@click.option("--num-speakers", type=int, help="number of speakers of each recording, if known")
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
@click.option("--overwrite", is_flag=True, help="redo what is there")
@set_option
@click.option(
    "--format", default="text", show_default=True, type=click.Choice(["text", "csv", "json", "markdown"])
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="table as .csv, .json, .md or .txt")
@click.option("--quiet", is_flag=True, help="print the table and errors only")
def cpwer(
    database: Path | None,
    protocol: str | None,
    subset: str,
    references: Path,
    attribution: str,
    model: str | None,
    embedder: str | None,
    num_speakers: int | None,
    recognizer: str,
    language: str | None,
    device: str,
    normalizer: str,
    seed: int,
    work: Path,
    overwrite: bool,
    overrides: tuple[str, ...],
    format: str,
    output: Path | None,
    quiet: bool,
) -> None:
    """Separate a protocol's recordings, transcribe them, and score cpWER against REFERENCES.

    Words are recognised on the separated tracks, and on the recording as the same diarization cuts it up; both
    are printed side by side, with a bootstrap interval of the difference over recordings. Only what the protocol
    says is annotated is transcribed and scored (a reference utterance counts where its middle lies).

    WORK/separated holds the results of pixit separate, WORK/separation and WORK/diarization the transcripts:
    an experiment that was interrupted continues where it was. Settings are set as separation.step_s=0.5 and
    transcription.padding_s=0.1.
    """
    from pixit.config import load_settings
    from pixit.experiments.cpwer import CpwerSettings, load_sessions, run_cpwer
    from pixit.pipeline.separate import Separator
    from pixit.transcription.recognizers import load_recognizer
    from pixit.transcription.transcribe import Transcriber

    if output is not None:
        check_path(output)
    sessions = load_sessions(references, database, protocol, subset)
    warn(sessions.notes)
    settings = load_settings(CpwerSettings, overrides=overrides)
    transcriber = Transcriber(load_recognizer(recognizer, language, device), settings.transcription)
    changes = settings.separation.model_dump(exclude_unset=True)
    separator = Separator.from_pretrained(model, embedder, device, settings=changes)
    with progress(None, quiet) as bars:
        comparison = run_cpwer(
            sessions,
            separator,
            transcriber,
            work,
            ATTRIBUTIONS if attribution == "both" else [attribution],
            num_speakers,
            normalizer,
            seed,
            overwrite,
            hook=bars,
            tell=bars.say,
        )
    warn(comparison.notes)
    table = comparison.table()
    if output is not None:
        table.save(output)
    say(table.render(format).rstrip("\n"))
