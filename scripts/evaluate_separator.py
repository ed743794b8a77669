"""Measure a separator on simulated meetings of unseen speakers, and on real recordings with a reference.

    python scripts/evaluate_separator.py --speech DIR --turns RTTM_OR_DIR --noise WAV [--separator FOLDER]
        [--real AUDIO RTTM]… [--meetings 24] [--seed 2026] [--out results.json] [--set key=value …]

Simulated meetings have 2 to 4 speakers, the turn-taking of real meetings, reverberation and noise; the seed fixes
them. See `pixit.experiments.separator` for what is measured.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from pixit.cli.console import run, say
from pixit.config import load_settings
from pixit.experiments.separator import Trial, evaluate_separator, make_meetings
from pixit.files import write_text
from pixit.pipeline.separate import Separator
from pixit.pipeline.settings import SeparationSettings
from pixit.simulation.simulate import Ingredients, MeetingSettings


def main() -> None:
    """Run the evaluation and print it."""
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    changes = load_settings(SeparationSettings, overrides=arguments.set).model_dump(exclude_unset=True)
    name = arguments.separator or arguments.model
    separator = Separator.from_pretrained(name, arguments.embedder, arguments.device, settings=changes)
    meetings = ()
    if arguments.speech or arguments.unlabelled:
        folders = arguments.speech, arguments.turns, arguments.noise, arguments.unlabelled, arguments.room
        ingredients = Ingredients.from_folders(*folders, seed=arguments.seed)
        settings = MeetingSettings(duration_s=arguments.duration)
        meetings = make_meetings(ingredients, settings, arguments.meetings, arguments.seed)
    scores = evaluate_separator(separator, meetings, arguments.real, tell)
    report = {"separator": separator.name, "settings": separator.settings.model_dump(mode="json")}
    report |= scores.summary()
    say(scores.table().render())
    say(json.dumps(report, indent=2))
    if arguments.out:
        write_text(arguments.out, json.dumps(report, indent=2) + "\n")


def parse() -> argparse.Namespace:
    """Read the command line."""
    as_is = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_is)
    network = parser.add_mutually_exclusive_group()
    network.add_argument(
        "--separator", help="folder of model, embedder, separator.yaml; else the bundled one"
    )
    network.add_argument("--model", help="folder or hub name of a model, with bundled embedder and settings")
    parser.add_argument("--embedder", help="folder or hub name of another speaker embedder")
    folders: dict[str, Any] = {"type": Path, "action": "append", "default": []}
    parser.add_argument("--speech", **folders, help="utterances per unseen speaker")
    parser.add_argument("--unlabelled", **folders, help="recordings, each of a speaker of its own")
    parser.add_argument("--turns", type=Path, nargs="*", default=[], help="RTTM files or folders")
    parser.add_argument("--noise", type=Path, nargs="*", default=[])
    parser.add_argument("--room", type=Path, nargs="*", default=[], help="measured room responses")
    parser.add_argument("--meetings", type=int, default=24)
    parser.add_argument("--duration", type=float, default=120.0, help="seconds of each meeting")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--real", nargs=2, action="append", default=[], metavar=("AUDIO", "RTTM"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path)
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a separation setting"
    )
    return parser.parse_args()


def tell(trial: Trial) -> None:
    """Print the figures of a recording as soon as they are known."""
    errors = trial.diarization
    found = f"{errors.reference_speakers} speakers, found {errors.hypothesis_speakers}"
    print(f"{trial.name}: {found}, DER {100 * errors.der:.1f} %", flush=True)


if __name__ == "__main__":
    run(main)
