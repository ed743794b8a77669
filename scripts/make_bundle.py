"""Put a model, an embedder and settings together into a separator folder, as `pixit separate --model` takes it.

    python scripts/make_bundle.py --model DIR --embedder DIR --settings separator.yaml
        [--streaming streaming.yaml] --out pixit/bundled

Weights are stored as float16, which halves them; loading turns them into float32 again.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch

from pixit.checkpoints import load_model, save_model
from pixit.config import load_settings
from pixit.pipeline.settings import SeparationSettings, StreamingSettings


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--embedder", type=Path, required=True)
    parser.add_argument("--settings", type=Path, required=True)
    parser.add_argument("--streaming", type=Path, help="settings of streams alone")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    load_settings(SeparationSettings, arguments.settings)  # an error now rather than at the user's
    if arguments.streaming:
        load_settings(StreamingSettings, arguments.streaming)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for role in ("model", "embedder"):
        source: Path = getattr(arguments, role)
        model = load_model(source)
        provenance = json.loads((source / "config.json").read_text())["provenance"]
        shutil.rmtree(arguments.out / role, ignore_errors=True)
        save_model(model, arguments.out / role, provenance, dtype=torch.float16)
    shutil.copy(arguments.settings, arguments.out / "separator.yaml")
    if arguments.streaming:
        shutil.copy(arguments.streaming, arguments.out / "streaming.yaml")


if __name__ == "__main__":
    main()
