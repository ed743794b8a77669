"""``pixit evaluate ladder``: a separator beside itself with parts of the truth given to it."""

from __future__ import annotations

from pathlib import Path

import click

from pixit.cli.console import (
    PATH,
    examples,
    format_option,
    networks_options,
    outputs_option,
    progress,
    quiet_option,
    set_option,
    show_table,
    warn,
)


@click.command(
    epilog=examples(
        "pixit evaluate ladder meeting.wav --reference meeting.rttm",
        "pixit evaluate ladder simulated/audio --reference simulated/rttm --sources simulated/references",
    )
)
@click.argument("recordings", nargs=-1, required=True, type=PATH)
@click.option("--reference", required=True, type=PATH, help="RTTM file or folder of them: who spoke when")
@click.option("--sources", type=PATH, help="clean sources, <recording>/<speaker>.wav (or .flac)")
@networks_options
@set_option
@format_option
@outputs_option
@quiet_option
def ladder(
    recordings: tuple[Path, ...],
    reference: Path,
    sources: Path | None,
    model: str | None,
    embedder: str | None,
    device: str,
    overrides: tuple[str, ...],
    format: str,
    outputs: tuple[Path, ...],
    quiet: bool,
) -> None:
    """Find out where the error is lost: separate RECORDINGS as they are, and with parts of the truth given.

    Given is the number of speakers; which voice is whose; who talks in each window; or the last two. Where a rung is
    much better than the first, that task is what to work on. Prints a row for each: diarization error rate, numbers
    of speakers, and with --sources SI-SDR gained in overlap and where one speaks alone.
    """
    from pixit.config import load_settings
    from pixit.experiments.ladder import climb, read_cases
    from pixit.pipeline.separate import Separator
    from pixit.pipeline.settings import SeparationSettings

    cases, notes = read_cases(recordings, reference, sources)
    warn(notes)
    changes = load_settings(SeparationSettings, overrides=overrides).model_dump(exclude_unset=True)
    separator = Separator.from_pretrained(model, embedder, device, settings=changes)
    with progress(None, quiet) as bars:
        scores = climb(
            separator,
            cases,
            lambda rung, trial: bars.say(f"{trial.name}: {rung}: DER {trial.diarization.der:.1%}"),
        )
    show_table(scores.table(), format, outputs)
