"""``pixit tune``: the best settings for recordings of which it is known who speaks when."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pixit.cli.console import (
    PATH,
    REFERENCES,
    check_file_option,
    examples,
    format_option,
    networks_options,
    progress,
    quiet_option,
    set_option,
    settings_option,
    show_table,
    warn,
)


@click.command(
    params=list(REFERENCES),
    epilog=examples(
        "pixit tune --recordings meetings --references rttm -o best.yaml",
        "pixit tune --database database.yml --protocol AMI-SDM.SpeakerDiarization.only_words --trials 300",
        "pixit tune --recordings meetings --references rttm --storage postgresql://me@host/studies --study ami",
        "pixit tune --recordings meetings --references rttm --streaming --set latency_s=1 --study live",
        "pixit separate meeting.wav --settings best.yaml",
    ),
)
@networks_options
@click.option("--streaming", is_flag=True, help="tune streams: who is a known speaker, and who a new one")
@settings_option
@set_option
@click.option("--metric", default="der", show_default=True, type=click.Choice(["der", "jer"]))
@click.option(
    "--trials", "num_trials", default=100, show_default=True, type=click.IntRange(1),
    help="of the study together, those before and of other processes included",
)  # fmt: skip
@click.option("--timeout", "timeout_s", type=float, metavar="SECONDS", help="end earlier, after so long")
@click.option(
    "--storage", help="database of studies, sqlite:///FILE or postgresql://…  [default: WORK/study.db]"
)
@click.option("--study", default="pixit", show_default=True, help="name of the study in the database")
@click.option("--seed", type=int, help="of the trials that are drawn  [default: another each time]")
@click.option(
    "--work", default="tuning", show_default=True, type=PATH, help="folder of what the networks said"
)
@click.option(
    "-o",
    "--output",
    default="best.yaml",
    show_default=True,
    type=PATH,
    callback=check_file_option,
    help="the best settings",
)
@format_option
@quiet_option
def tune(
    model: str | None,
    embedder: str | None,
    device: str,
    streaming: bool,
    settings: Path | None,
    overrides: tuple[str, ...],
    metric: str,
    num_trials: int,
    timeout_s: float | None,
    storage: str | None,
    study: str,
    seed: int | None,
    work: Path,
    output: Path,
    format: str,
    quiet: bool,
    **places: Any,
) -> None:
    """Find the settings with which a separator makes the fewest errors on recordings with references.

    The networks hear every recording once; then a trial takes seconds. What they said, and the study, are kept in
    WORK: the same command goes on where it was ended, and run several times at once it shares the work. Settings that
    are given with --set stay as they are. For --settings of pixit separate and diarize.
    """
    from pixit.experiments.references import find_references
    from pixit.experiments.subjects import make_subject
    from pixit.experiments.tuning import Tuned, study_in
    from pixit.experiments.tuning import tune as search

    recordings, notes = find_references(**places)
    warn(notes)
    with progress(None, quiet) as bars:
        networks = model, embedder, device
        subject, changes = make_subject(
            streaming, networks, settings, overrides, recordings, work / "heard", bars
        )

        def tell(number: int, found: Tuned) -> None:
            bars("trials", None, study, num_trials, found.num_trials)
            found.save(output, changes)

        place = storage or study_in(work)
        found = search(subject, recordings, num_trials, metric, place, study, timeout_s, seed, tell)  # type: ignore[arg-type]
    found.save(output, changes)
    show_table(found.table(), format, (), quiet)
