"""Where does each decibel of the tracks go? Ways to make tracks, side by side on meetings whose sources are known.

    pixit simulate --speech voices --turns rttm --train 0 --development 24 -o meetings
    python scripts/compare_rendering.py candidates.yaml --meetings meetings --out table.md

``candidates.yaml`` gives each row of the table a name, which of the answers is ``given`` in it, and settings::

    as it is: {}
    number of speakers given: {given: [count]}
    true speaker of every local one: {given: [speakers]}
    and true turns at the gate: {given: [speakers, turns]}
    a collar of half a second: {stitching.collar_s: 0.5}

``activities`` may be given too: then who talks in each window is the truth, and only the sources are the model's. The
networks hear every recording once, or twice with these.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import torch

from pixit.audio import Audio
from pixit.config import read_yaml
from pixit.evaluation.separation.score import SpeakerScores, score_separation
from pixit.evaluation.tables import Column, Table
from pixit.experiments.ladder import Case, OracleActivities, read_cases
from pixit.experiments.separator import OPTIONS
from pixit.experiments.subjects import changed
from pixit.pipeline.asked import check_num_speakers
from pixit.pipeline.cluster import Bools, Floats, Ints
from pixit.pipeline.diarize import Halves, diarize, speaker_names
from pixit.pipeline.local import embed_speakers, run_windows
from pixit.pipeline.local_turns import make_spool
from pixit.pipeline.methods import cluster_speakers
from pixit.pipeline.oracle import cluster_by_reference, lay_turns
from pixit.pipeline.separate import Separator
from pixit.pipeline.settings import SeparationSettings
from pixit.pipeline.spool import Spool
from pixit.pipeline.stitch import stitch_tracks, write_tracks

FIGURES = (
    ("si_sdr_improvement_db", "whole", "whole_gain_db", "whole, gain"),
    ("si_sdr_improvement_db", "overlap", "overlap_gain_db", "overlap, gain"),
    ("si_sdr_db", "single", "single_db", "alone"),
    ("si_sdr_improvement_db", "single", "single_gain_db", "alone, gain"),
)
COLUMNS = (
    Column("name", "tracks"),
    *(
        column
        for _, _, key, heading in FIGURES
        for column in (
            Column(key, f"{heading} (dB)", 1),
            Column(f"{key}_median", f"{heading}, median (dB)", 1),
        )
    ),
    Column("missing", "missing tracks"),
)


@dataclass
class Heard:
    """What the networks said of a recording; embeddings are computed when they are first asked for."""

    separator: Separator
    recording: Audio
    local: Spool
    embeddings: tuple[Floats, Floats] | None = None

    def find_speakers(self, case: Case, given: Sequence[str]) -> Ints:
        """Return the speaker of the recording of every local speaker, (W, K)."""
        settings, local = self.separator.settings, self.local
        if "speakers" in given:
            return cluster_by_reference(local, case.turns, settings.activity)
        if self.embeddings is None:
            how = settings.embedding, settings.activity, self.separator.compute
            self.embeddings = embed_speakers(self.separator.embedder, local, None, *how, lambda *_: None)
        number = len({turn.speaker for turn in case.turns}) if "count" in given else None
        bounds = check_num_speakers(number, None, None)
        vectors, seconds = self.embeddings
        known = settings.clustering, settings.activity, bounds, self.separator.plda
        return cluster_speakers(local, vectors, seconds, *known)

    def render(self, case: Case, changes: Mapping[str, Any], folder: Path) -> list[SpeakerScores]:
        """Make tracks in one way, and return their scores."""
        given = changes.get("given", ())
        settings = {key: value for key, value in changes.items() if key != "given"}
        chosen = SeparationSettings.model_validate(changed(self.separator.settings, settings))
        speakers = self.find_speakers(case, given)
        activity, local = self.separator.settings.activity, self.local
        turns, gates, speakers = diarize(local, speakers, activity)
        if "turns" in given:
            gates = true_gates(gates, lay_turns(case.turns, local.geometry)[1])
        windows = local.geometry.cut(self.recording)
        stretches = stitch_tracks(local, speakers, gates, windows, chosen.stitching, lambda *_: None)
        tracks = write_tracks(stretches, speaker_names(len(turns)), folder, local.geometry)
        files = {name: track.path for name, track in tracks.items()}
        scores = score_separation(case.sources, files, case.path, case.turns, OPTIONS, case.path.stem)
        return list(scores.speakers)


def true_gates(gates: Halves, truth: Bools) -> Halves:
    """Return for each speaker that was found, (N, F), the true turns of whom they are like most."""
    frames = gates.shape[1]
    truth = np.pad(truth, [(0, 0), (0, max(0, frames - truth.shape[1]))])[:, :frames]
    likeness = gates.astype(np.float32) @ truth.T.astype(np.float32)
    return truth[likeness.argmax(axis=1)].astype(np.float16)


def try_all(
    separator_name: str | None, candidates: Mapping[str, Mapping[str, Any]], case: Case
) -> dict[str, list[SpeakerScores]]:
    """Return the scores of one recording for each candidate."""
    torch.set_num_threads(1)
    separator = Separator.from_pretrained(separator_name, device="cpu")
    recording = separator.open(case.path)
    scores: dict[str, list[SpeakerScores]] = {}
    with tempfile.TemporaryDirectory(prefix="pixit-") as temporary:
        folder = Path(temporary)
        for is_oracle in (False, True):
            asked = {k: v for k, v in candidates.items() if ("activities" in v.get("given", ())) == is_oracle}
            if not asked:
                continue
            model: Any = separator.model
            if is_oracle:
                model = OracleActivities(model, separator, recording, case.turns)
            settings, geometry = separator.settings, separator.lay_windows(recording)
            with make_spool(settings.activity, settings.turns, geometry, model.num_speakers, folder) as local:
                how = settings.activity, separator.compute, lambda *_: None
                run_windows(model, geometry.cut(recording), local, *how)
                heard = Heard(separator, recording, local)
                scores |= {name: heard.render(case, changes, folder) for name, changes in asked.items()}
    return scores


def make_row(name: str, scores: Iterable[SpeakerScores]) -> dict[str, Any]:
    """Return the figures of a candidate, over all speakers of all recordings."""
    scores = list(scores)
    row: dict[str, Any] = {"name": name}
    for metric, region, key, _ in FIGURES:
        values = [one.values[metric] for one in scores if one.region == region and metric in one.values]
        if values:
            row |= {key: fmean(values), f"{key}_median": median(values)}
    row["missing"] = sum(one.track is None for one in scores if one.region == "whole")
    return row


def main() -> None:
    """Parse, hear, render, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("candidates", type=Path)
    parser.add_argument("--separator", help="folder or hub id; by default the bundled one")
    parser.add_argument("--meetings", type=Path, required=True, help="what pixit simulate made")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, help="the table, as .md, .csv, .json or .txt")
    asked = parser.parse_args()
    candidates = read_yaml(asked.candidates)
    folder = asked.meetings
    recordings = sorted((folder / "audio").glob("*.flac"))
    cases, _ = read_cases(recordings, folder / "rttm", folder / "references")
    with get_context("spawn").Pool(asked.jobs) as pool:
        found = pool.map(partial(try_all, asked.separator, candidates), cases, chunksize=1)
    rows = [make_row(name, (one for scores in found for one in scores[name])) for name in candidates]
    table = Table("Tracks; means and medians over speakers", COLUMNS, rows)
    print(table.render("markdown"))
    if asked.out:
        table.save(asked.out)


if __name__ == "__main__":
    main()
