"""``pixit evaluate separation``: how good the tracks of any system are."""

from __future__ import annotations

from pathlib import Path

import click

from pixit.cli.console import progress, say, warn
from pixit.evaluation.tables import check_path

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
@click.option("--quiet", is_flag=True, help="print errors only")
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

    With --no-reference, the RTTM of a result folder (or --rttm) says where a track should be silent.
    """
    from pixit.evaluation.separation.evaluate import evaluate_separation, measure_separation, separation_table
    from pixit.evaluation.separation.score import METRICS, REGIONS, ScoringOptions
    from pixit.evaluation.separation.statistics import statistics_table

    if output is not None:
        check_path(output)
    if no_reference:
        if mixture or regions:
            raise click.UsageError("--mixture and --region go with references, not with --no-reference")
        with progress(None, quiet) as hook:
            statistics, notes = measure_separation(reference, estimate, rttm, hook)
        table = statistics_table(statistics)
    else:
        chosen = REGIONS if "all" in regions or (rttm and not regions) else regions or ("whole",)
        names = tuple(name.strip().lower().replace("-", "_") for name in metrics.split(",") if name.strip())
        options = ScoringOptions(tuple(chosen), names or METRICS, segment_s)
        with progress(None, quiet) as hook:
            scores, notes = evaluate_separation(reference, estimate, mixture, rttm, options, hook)
        title = (
            f"Separation; the mixture is {'that of --mixture' if mixture else 'the sum of the references'}"
        )
        table = separation_table(scores, options.regions, title)
    warn(notes)
    say(table.render().rstrip("\n"), quiet)
    if output is not None:
        table.save(output)
