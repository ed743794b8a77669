"""``pixit evaluate separation``: how good the tracks of any system are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pixit.cli.console import progress, say
from pixit.types import PixitError

if TYPE_CHECKING:
    from pixit.evaluation.separation.score import ScoringOptions
    from pixit.evaluation.tables import Table

EXISTING = click.Path(path_type=Path, exists=True)


@click.command()
@click.argument("reference", metavar="REF_DIR", type=EXISTING)
@click.argument("estimate", metavar="EST_DIR", type=EXISTING)
@click.option(
    "--no-reference",
    is_flag=True,
    help="REF_DIR is the mixture (or a folder of mixtures): measure sum, levels, clipping and leakage",
)
@click.option(
    "--mixture",
    type=EXISTING,
    help="what was separated, file or folder; the sum of the references by default",
)
@click.option("--rttm", type=EXISTING, help="who spoke when, file or folder, for --region")
@click.option(
    "--region",
    "regions",
    multiple=True,
    type=click.Choice(["whole", "overlap", "single", "all"]),
    help="what to score; may be repeated  [default: whole, with --rttm all]",
)
@click.option(
    "--metrics", default="si_sdr,sdr,pesq,stoi", show_default=True, metavar="LIST", help="some of them"
)
@click.option(
    "--segment",
    "segment_s",
    default=30.0,
    show_default=True,
    help="seconds of the segments on which SDR, SIR, SAR, PESQ and STOI are computed, and averaged",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="table as .csv, .json, .md or .txt")
@click.option("--quiet", is_flag=True, help="say nothing but errors")
def separation(
    reference: Path,
    estimate: Path,
    no_reference: bool,
    mixture: Path | None,
    rttm: Path | None,
    regions: tuple[str, ...],
    metrics: str,
    segment_s: float,
    output: Path | None,
    quiet: bool,
) -> None:
    """Score tracks EST_DIR/<recording>/*.wav against sources REF_DIR/<recording>/<speaker>.wav (or .flac).

    EST_DIR is what `pixit separate` writes, or any such folder; the folder of one recording will do for both.
    Tracks are assigned to speakers one to one, by SI-SDR over the whole recording. A speaker without a track (or
    with a silent one) is counted as missing and scored on the mixture: an improvement of 0 dB. Tracks beyond the
    speakers are counted as surplus. Tracks are resampled to the rate of the references, and padded or cut by up to
    a second. TOTAL is the mean of all speakers.

    With --no-reference, the RTTM of a result folder (or --rttm) tells where a track should be silent.
    """
    from pixit.evaluation.separation.score import METRICS, REGIONS, ScoringOptions

    check_output(output)
    if no_reference:
        if mixture or regions:
            raise click.UsageError("--mixture and --region go with references, not with --no-reference")
        table = measure(reference, estimate, rttm, quiet)
    else:
        chosen = REGIONS if "all" in regions or (rttm and not regions) else regions or ("whole",)
        names = tuple(name.strip().lower().replace("-", "_") for name in metrics.split(",") if name.strip())
        options = ScoringOptions(tuple(chosen), names or METRICS, segment_s)
        table = score(reference, estimate, mixture, rttm, options, quiet)
    say(table.render().rstrip("\n"), quiet)
    if output is not None:
        table.save(output)


def check_output(output: Path | None) -> None:
    """Raise a `PixitError` before the work if the table could not be written after it."""
    from pixit.evaluation.tables import FORMATS

    if output is not None and (output.suffix.lower() not in FORMATS or not output.absolute().parent.is_dir()):
        raise PixitError(f"{output}: expected a file in an existing folder, named {', '.join(FORMATS)}")


def score(
    reference: Path,
    estimate: Path,
    mixture: Path | None,
    rttm: Path | None,
    options: ScoringOptions,
    quiet: bool,
) -> Table:
    """Score all recordings against their references."""
    from pixit.evaluation.separation.files import (
        find_mixtures,
        find_sources,
        pair_recordings,
        read_turns,
        turns_of,
    )
    from pixit.evaluation.separation.score import score_separation
    from pixit.evaluation.separation.table import separation_table

    pairs, unused = pair_recordings(find_sources(reference), find_sources(estimate))
    for name in unused:
        click.echo(f"{estimate / name}: has no reference, left out", err=True)
    for pair in pairs:
        if not pair.tracks:
            click.echo(f"{pair.recording}: has no tracks, every speaker is missing", err=True)
    turns = read_turns(rttm) if rttm is not None else None
    mixtures, notes = find_mixtures(mixture, [p.recording for p in pairs]) if mixture else ({}, [])
    for note in notes:
        click.echo(f"pixit: warning: {note}", err=True)
    is_only, scores = len(pairs) == 1, []
    for pair in pairs:
        spoken = turns_of(turns, rttm, pair.recording, is_only) if turns is not None and rttm else None
        with progress(pair.recording, quiet) as hook:
            scores.append(
                score_separation(
                    pair.references,
                    pair.tracks,
                    mixtures.get(pair.recording),
                    spoken,
                    options,
                    pair.recording,
                    hook,
                )
            )
    title = f"Separation; the mixture is {'that of --mixture' if mixture else 'the sum of the references'}"
    return separation_table(scores, options.regions, title)


def measure(mixture: Path, estimate: Path, rttm: Path | None, quiet: bool) -> Table:
    """Measure the tracks of all recordings against their mixtures."""
    from pixit.evaluation.separation.files import find_mixtures, find_sources, read_turns, turns_of
    from pixit.evaluation.separation.statistics import measure_tracks, statistics_table

    estimates = find_sources(estimate)
    mixtures, notes = find_mixtures(mixture, estimates.recordings)
    for note in notes:
        click.echo(f"pixit: warning: {note}", err=True)
    is_only, statistics = len(estimates.recordings) == 1, []
    for recording, tracks in estimates.recordings.items():
        folder = estimate if estimates.is_single else estimate / recording
        own = sorted(folder.glob("*.rttm"))
        turns_path = rttm or (own[0] if len(own) == 1 else None)
        turns = None
        if turns_path is not None and (found := read_turns(turns_path)):
            turns = turns_of(found, turns_path, recording, is_only=is_only or rttm is None)
        with progress(recording, quiet) as hook:
            statistics.append(measure_tracks(mixtures[recording], tracks, turns, recording, hook))
    return statistics_table(statistics)
