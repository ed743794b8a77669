"""Measure a separator on simulated meetings of unseen speakers, and on real recordings with a reference.

    python scripts/evaluate_separator.py --speech DIR --turns RTTM_OR_DIR --noise WAV [--separator FOLDER]
        [--real AUDIO RTTM]… [--meetings 24] [--seed 2026] [--out results.json] [--set key=value …]

Simulated meetings have 2 to 4 speakers, the turn-taking of real meetings, reverberation and noise; the seed fixes
them. Reported are the diarization error rate (no collar, overlap included; total errors over total speech), how
often the number of speakers is right, SI-SDR where speakers overlap (its gain over the mixture) and where one
speaks alone, and the real-time factor. A speaker's stretches of one kind are joined and scored as one signal, if
they last a second together; tracks are assigned to references by overlap in time.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pyannote.core import Annotation, Segment, Timeline
from pyannote.database.util import load_rttm
from pyannote.metrics.diarization import DiarizationErrorRate
from scipy.optimize import linear_sum_assignment

from pixit.audio import AudioFile
from pixit.evaluation.separation.metrics import si_sdr
from pixit.evaluation.separation.score import MIN_SCORED_S
from pixit.evaluation.separation.signals import TalkMasks
from pixit.pipeline.separate import Separator
from pixit.simulation.simulate import Ingredients, MeetingSettings, SimulatedMeeting, simulate_meeting


def main() -> None:
    """Run the evaluation and print it."""
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    separator = Separator.from_pretrained(arguments.separator, settings=overrides(arguments.set))
    report: dict[str, Any] = {"settings": separator.settings.model_dump(mode="json")}
    if arguments.speech:
        report["simulated"] = evaluate_simulated(separator, meetings(arguments), arguments.meetings)
    report["real"] = {
        Path(audio).stem: evaluate_real(separator, Path(audio), Path(rttm)) for audio, rttm in arguments.real
    }
    text = json.dumps(report, indent=2)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--separator", help="folder, model or hub name; the bundled one by default")
    parser.add_argument("--speech", type=Path, help="folder of utterances per speaker, none of them seen")
    parser.add_argument("--turns", type=Path, nargs="*", default=[], help="RTTM files or folders")
    parser.add_argument("--noise", type=Path, nargs="*", default=[])
    parser.add_argument("--meetings", type=int, default=24)
    parser.add_argument("--duration", type=float, default=120.0, help="seconds of each meeting")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--real", nargs=2, action="append", default=[], metavar=("AUDIO", "RTTM"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a separation setting"
    )
    return parser.parse_args()


def overrides(pairs: list[str]) -> dict[str, Any]:
    """Turn ``clustering.threshold=0.5`` into a tree of settings."""
    tree: dict[str, Any] = {}
    for pair in pairs:
        path, value = pair.split("=", 1)
        *sections, key = path.split(".")
        node = tree
        for section in sections:
            node = node.setdefault(section, {})
        node[key] = json.loads(value)
    return tree


def meetings(arguments: argparse.Namespace) -> Iterator[SimulatedMeeting]:
    """Make the meetings, always the same for a seed."""
    ingredients = Ingredients.from_folders(
        [arguments.speech], arguments.turns, arguments.noise, seed=arguments.seed
    )
    settings = MeetingSettings(duration_s=arguments.duration)
    for index in range(arguments.meetings):
        yield simulate_meeting(ingredients, settings, np.random.default_rng([arguments.seed, index]))


def evaluate_simulated(separator: Separator, items: Iterator[SimulatedMeeting], count: int) -> dict[str, Any]:
    """Score all meetings and sum up."""
    metric = DiarizationErrorRate()
    overlap, gains, single, correct, seconds, audio_s = [], [], [], 0, 0.0, 0.0
    for index, meeting in enumerate(items):
        started = time.perf_counter()
        found = separator({"waveform": meeting.mixture[None], "sample_rate": meeting.sample_rate_hz})
        seconds += time.perf_counter() - started
        audio_s += len(meeting.mixture) / meeting.sample_rate_hz
        reference = annotation(meeting)
        whole = Timeline([Segment(0, len(meeting.mixture) / meeting.sample_rate_hz)])
        der = metric(reference, found.diarization, uem=whole)
        correct += len(found.diarization.labels()) == len(meeting.speakers)
        scores = score_tracks(meeting, reference, found)
        overlap += scores["overlap"]
        gains += scores["gain"]
        single += scores["single"]
        print(
            f"{index + 1}/{count}: {len(meeting.speakers)} speakers, found "
            f"{len(found.diarization.labels())}, DER {100 * der:.1f} %, "
            f"overlap {np.mean(scores['gain'] or [np.nan]):+.1f} dB, single "
            f"{np.mean(scores['single'] or [np.nan]):.1f} dB",
            flush=True,
        )
    return {
        **error_rates(metric),
        "speaker_count_accuracy": correct / count,
        "si_sdr_overlap_db": float(np.mean(overlap)),
        "si_sdr_gain_overlap_db": float(np.mean(gains)),
        "si_sdr_single_db": float(np.mean(single)),
        "si_sdr_gain_overlap_median_db": float(np.median(gains)),
        "si_sdr_single_median_db": float(np.median(single)),
        "real_time_factor": seconds / audio_s,
        "meetings": count,
        "hours": audio_s / 3600,
    }


def evaluate_real(separator: Separator, audio: Path, rttm: Path) -> dict[str, Any]:
    """Score the diarization of a real recording."""
    metric = DiarizationErrorRate()
    file = AudioFile(audio)
    reference = load_rttm(rttm)[audio.stem]
    found = separator(audio)
    metric(reference, found.diarization, uem=Timeline([Segment(0, file.duration_s)]))
    return error_rates(metric) | {
        "speakers": len(reference.labels()),
        "found_speakers": len(found.diarization.labels()),
    }


def error_rates(metric: DiarizationErrorRate) -> dict[str, float]:
    """Return the components of the DER, of summed counts."""
    total = metric["total"]
    rates = {name: metric[name] / total for name in ("false alarm", "missed detection", "confusion")}
    return {"der": abs(metric), **{name.replace(" ", "_"): float(rate) for name, rate in rates.items()}}


def annotation(meeting: SimulatedMeeting) -> Annotation:
    """Return the reference diarization."""
    reference = Annotation()
    for index, turn in enumerate(meeting.turns):
        reference[Segment(turn.start_s, turn.end_s), index] = turn.speaker
    return reference


def score_tracks(meeting: SimulatedMeeting, reference: Annotation, found: Any) -> dict[str, list[float]]:
    """Return SI-SDR where speakers overlap, its gain, and where one speaks alone: a value for each speaker."""
    rate_hz, labels = meeting.sample_rate_hz, found.diarization.labels()
    talking = TalkMasks(meeting.turns, meeting.speakers, rate_hz).read(0, len(meeting.mixture))
    silence = np.zeros_like(meeting.mixture)
    tracks = [found.tracks[label].read() for label in labels] or [silence]
    heard = [mask(found.diarization.label_timeline(label), meeting) for label in labels]
    shared = talking.astype(np.float32) @ np.stack(heard or [silence > 1]).astype(np.float32).T
    rows, columns = linear_sum_assignment(shared, maximize=True)
    assigned = dict(zip(rows.tolist(), columns.tolist(), strict=True))
    scores: dict[str, list[float]] = {"overlap": [], "gain": [], "single": []}
    num_talking = talking.sum(axis=0)
    for index, clean in enumerate(meeting.references):
        # A speaker who was not found is heard nowhere: the recording itself is the best guess there is.
        track = tracks[assigned[index]] if index in assigned else meeting.mixture
        for kind, where in (
            ("overlap", talking[index] & (num_talking >= 2)),
            ("single", talking[index] & (num_talking == 1)),
        ):
            if where.sum() < MIN_SCORED_S * rate_hz:
                continue
            score = si_sdr(track[where], clean[where])
            scores[kind].append(score)
            if kind == "overlap":
                scores["gain"].append(score - si_sdr(meeting.mixture[where], clean[where]))
    return scores


def mask(timeline: Timeline, meeting: SimulatedMeeting) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return the samples of a timeline."""
    samples = np.zeros(len(meeting.mixture), bool)
    for segment in timeline:
        start, end = (round(t * meeting.sample_rate_hz) for t in (segment.start, segment.end))
        samples[start:end] = True
    return samples


if __name__ == "__main__":
    main()
