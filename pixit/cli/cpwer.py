"""``pixit evaluate cpwer``: does separation help speech recognition? The paper's experiment, end to end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pixit.cli.console import (
    PATH,
    examples,
    format_option,
    networks_options,
    outputs_option,
    progress,
    set_option,
    show_table,
    warn,
)
from pixit.cli.transcribe import ATTRIBUTIONS
from pixit.evaluation.transcript import NORMALIZERS


@click.command(
    epilog=examples(
        "pixit evaluate cpwer --database database.yml --references test.stm",
        "pixit evaluate cpwer --database database.yml --references test.stm -o cpwer.csv",
    )
)
@click.option("--database", type=PATH, help="database.yml  [default: pyannote.database's]")
@click.option("--protocol", help="full name  [default: the only one of the database]")
@click.option(
    "--subset", default="test", show_default=True, type=click.Choice(["train", "development", "test"])
)
@click.option(
    "--references",
    required=True,
    type=PATH,
    help="STM or SegLST file, or folder of them; sessions are named as in the protocol",
)
@click.option("--attribution", default="both", show_default=True, type=click.Choice([*ATTRIBUTIONS, "both"]))
@networks_options
@click.option("-n", "--num-speakers", type=int, help="number of speakers of each recording, if known")
@click.option("--recognizer", default="pocketsphinx", show_default=True, help="as for pixit transcribe")
@click.option("--language", help="code of the language, as en")
@click.option(
    "--normalizer",
    default=NORMALIZERS[0],
    show_default=True,
    type=click.Choice(NORMALIZERS),
    help="what both texts go through",
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="of the bootstrap")
@click.option(
    "--work",
    default="cpwer",
    show_default=True,
    type=PATH,
    help="folder of the results; what is there is not done again",
)
@click.option("--overwrite", is_flag=True, help="redo what is there")
@set_option
@format_option
@outputs_option
@click.option("-q", "--quiet", is_flag=True, help="print the table and errors only")
def cpwer(
    database: Path | None,
    protocol: str | None,
    subset: str,
    references: Path,
    attribution: str,
    model: str | None,
    embedder: str | None,
    recognizer: str,
    language: str | None,
    device: str,
    work: Path,
    overrides: tuple[str, ...],
    format: str,
    outputs: tuple[Path, ...],
    quiet: bool,
    **choices: Any,
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

    sessions = load_sessions(references, database, protocol, subset)
    warn(sessions.notes)
    settings = load_settings(CpwerSettings, overrides=overrides)
    transcriber = Transcriber(load_recognizer(recognizer, language, device), settings.transcription)
    changes = settings.separation.model_dump(exclude_unset=True)
    separator = Separator.from_pretrained(model, embedder, device, settings=changes)
    attributions = ATTRIBUTIONS if attribution == "both" else [attribution]
    with progress(None, quiet) as bars:
        parts = sessions, separator, transcriber
        comparison = run_cpwer(*parts, work, attributions, hook=bars, tell=bars.say, **choices)
    warn(comparison.notes)
    show_table(comparison.table(), format, outputs)
