"""``pixit evaluate``: score the files of any system."""

from __future__ import annotations

from pathlib import Path

import click

from pixit.cli.console import (
    PATH,
    check_file_option,
    examples,
    format_option,
    is_given,
    outputs_option,
    progress,
    quiet_option,
    show_table,
    warn,
)
from pixit.cli.cpwer import cpwer
from pixit.cli.ladder import ladder
from pixit.cli.verification import identification, verification
from pixit.evaluation.diarization import CONVENTIONS, Diarizations, evaluate_diarization
from pixit.evaluation.transcript import NORMALIZERS, alignment_page, evaluate_transcript
from pixit.evaluation.word_errors import METRICS
from pixit.files import write_text


def split_list(ctx: click.Context, option: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names in an option that may be repeated, and may hold several divided by commas."""
    names = (name.strip().lower().replace("-", "_") for text in value for name in text.split(","))
    return tuple(name for name in names if name)


EXISTING = click.Path(path_type=Path, exists=True)


@click.group(epilog=examples("pixit evaluate diarization reference/ separated/ -o der.csv"))
def evaluate() -> None:
    """Score diarization, separation and transcripts of any system, and speaker embedders."""


@evaluate.command(
    epilog=examples(
        "pixit evaluate diarization reference/ separated/ --uem test.uem -o der.csv",
        "pixit evaluate diarization --database database.yml --protocol Mine.SpeakerDiarization.all separated/",
    )
)
@click.argument("paths", nargs=-1, metavar="[REF] HYP", type=PATH)
@click.option("--database", type=PATH, help="database.yml that gives reference and UEM")
@click.option("--protocol", help="its name, as AMI-SDM.SpeakerDiarization.only_words")
@click.option(
    "--subset", type=click.Choice(["train", "development", "test"]), default="test", show_default=True
)
@click.option(
    "--uem",
    type=PATH,
    help="UEM file or folder: what to score  [default: first to last turn, or what the protocol says]",
)
@click.option(
    "--collar",
    default=0.0,
    show_default=True,
    metavar="SECONDS",
    help="not scored around the boundaries of reference turns: the whole width, half on each side",
)
@click.option(
    "--collar-convention",
    "convention",
    type=click.Choice(CONVENTIONS),
    default=CONVENTIONS[0],
    show_default=True,
    help="md-eval: the collar is the width on EACH side, and speakers are assigned before it is cut out",
)
@click.option("--skip-overlap", is_flag=True, help="leave out where more than one reference speaker talks")
@format_option
@outputs_option
def diarization(
    paths: tuple[Path, ...],
    database: Path | None,
    protocol: str | None,
    subset: str,
    uem: Path | None,
    collar: float,
    convention: str,
    skip_overlap: bool,
    format: str,
    outputs: tuple[Path, ...],
) -> None:
    """Score who spoke when: HYP against REF, RTTM files or folders of them (as pixit separate writes).

    Prints diarization error rate (DER) with false alarm, missed detection and confusion, Jaccard error rate (JER)
    and numbers of speakers, each recording and TOTAL, from summed counts; equal to pyannote.metrics.
    With --database or --protocol the reference is a protocol of pyannote.database, and only HYP is given.

    --collar 0.5 is the same width as md-eval's and dscore's collar of 0.25: use
    --collar-convention md-eval --collar 0.25 to repeat their numbers.

    A recording without hypothesis counts as missed, one without reference or UEM is left out; both are named.
    """
    is_protocol = database is not None or protocol is not None
    names = "HYP" if is_protocol else "REF HYP"
    if len(paths) != len(names.split()):
        raise click.UsageError(f"expected {names} (one path each), got {len(paths)} paths")
    reference: Diarizations = paths[0]
    annotated = None
    if is_protocol:
        from pixit.data.database import load_recordings

        recordings = load_recordings(protocol, subset, database)
        reference = {recording.uri: recording.turns for recording in recordings}
        annotated = {recording.uri: recording.annotated for recording in recordings}
    scores = evaluate_diarization(reference, paths[-1], uem, collar, skip_overlap, convention, annotated)
    warn(scores.notes)
    show_table(scores.table(), format, outputs)


@evaluate.command(
    epilog=examples(
        "pixit evaluate separation simulated/references separated --metric si_sdr --region all --rttm rttm/",
        "pixit evaluate separation meeting.wav separated/meeting --no-reference",
    )
)
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
    *("--metric", "--metrics", "metrics"),
    default=("si_sdr", "sdr", "pesq", "stoi"),
    show_default=True,
    multiple=True,
    callback=split_list,
    metavar="LIST",
    help="one or several divided by commas; may be repeated",
)
@click.option(
    "--segment",
    "segment_s",
    default=30.0,
    show_default=True,
    help="seconds of the segments on which SDR, SIR, SAR, PESQ and STOI are computed, and averaged",
)
@outputs_option
@quiet_option
def separation(
    reference: Path,
    estimate: Path,
    no_reference: bool,
    mixture: Path | None,
    rttm: Path | None,
    regions: tuple[str, ...],
    metrics: tuple[str, ...],
    segment_s: float,
    outputs: tuple[Path, ...],
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

    context = click.get_current_context()
    if no_reference and (mixture or regions or is_given(context, "metrics")):
        raise click.UsageError("--mixture, --region and --metric go with references, not with --no-reference")
    with progress(None, quiet) as hook:
        if no_reference:
            statistics, notes = measure_separation(reference, estimate, rttm, hook)
            table = statistics_table(statistics)
        else:
            chosen = REGIONS if "all" in regions or (rttm and not regions) else regions or ("whole",)
            options = ScoringOptions(tuple(chosen), metrics or METRICS, segment_s)
            scores, notes = evaluate_separation(reference, estimate, mixture, rttm, options, hook)
            origin = "that of --mixture" if mixture else "the sum of the references"
            table = separation_table(scores, options.regions, f"Separation; the mixture is {origin}")
    warn(notes)
    show_table(table, "text", outputs, quiet)


@evaluate.command(
    epilog=examples(
        "pixit evaluate transcript reference.stm separated/",
        "pixit evaluate transcript reference.stm hypothesis/ --metric cpwer,tcpwer --html alignment.html",
    )
)
@click.argument("reference", type=PATH)
@click.argument("hypothesis", type=PATH)
@click.option(
    *("--metric", "--metrics", "metrics"),
    multiple=True,
    callback=split_list,
    metavar=f"[{'|'.join(METRICS)}]",
    default=("cpwer",),
    show_default=True,
    help="one or several divided by commas; may be repeated",
)
@click.option(
    "--collar", default=5.0, show_default=True, help="of tcpwer and tcorcwer, seconds; MeetEval's convention"
)
@click.option(
    "--normalizer",
    type=click.Choice(NORMALIZERS),
    default=NORMALIZERS[0],
    show_default=True,
    help="what both texts go through",
)
@click.option("--per-speaker/--no-per-speaker", default=True, show_default=True, help="of cpwer and tcpwer")
@format_option
@outputs_option
@click.option(
    "--html", "page", type=PATH, callback=check_file_option, help="write the alignment as a page to look at"
)
def transcript(
    reference: Path,
    hypothesis: Path,
    metrics: tuple[str, ...],
    collar: float,
    normalizer: str,
    per_speaker: bool,
    format: str,
    outputs: tuple[Path, ...],
    page: Path | None,
) -> None:
    """Score transcripts HYPOTHESIS against REFERENCE, files or folders.

    SegLST (.json), STM, SRT and WebVTT hold speakers; of CTM give a folder with a file for each speaker.
    A session without hypothesis is all deletions; one without reference is left out with a warning.
    """
    metrics = tuple(name.replace("_", "-") for name in metrics)  # as METRICS spells them
    scores = evaluate_transcript(reference, hypothesis, metrics, collar, normalizer)
    warn(scores.notes)
    if page is not None:
        write_text(page, alignment_page(reference, hypothesis, normalizer))
    show_table(scores.table(per_speaker), format, outputs)


evaluate.add_command(cpwer)
evaluate.add_command(ladder)
evaluate.add_command(verification)
evaluate.add_command(identification)
