"""Follow a training under way by what its model does on whole meetings, through the pipeline.

    python campaign.py export RUN MODEL                      # the averaged weights of RUN/checkpoints/last.ckpt
    python campaign.py note campaign.csv MODEL RESULTS.json --stage 2-meetings --chunks-before 96000
    python campaign.py plot campaign.csv campaign.png

RESULTS.json is what ``scripts/evaluate_separator.py --out`` writes; `measure.sh` beside this file does all three.
A chunk is what the network hears at a time: one mixture of a simulated pair.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import subprocess
import time
from pathlib import Path

from pixit.checkpoints import save_model
from pixit.files import read_text, whole_file, write_text
from pixit.training.run import Run, read_state
from pixit.training.train import build_network, provenance_of

FIGURES = {
    "der": ("DER (%)", 100),
    "speaker_count_accuracy": ("number of speakers right (%)", 100),
    "si_sdr_gain_overlap_db": ("gain in SI-SDR where speakers overlap (dB)", 1),
    "si_sdr_single_db": ("SI-SDR of one who talks alone (dB)", 1),
}
COLUMNS = ("day", "commit", "stage", "step", "chunks", "meetings", *FIGURES)


def export(run_folder: Path, target: Path) -> None:
    """Write the weights that ``last.ckpt`` holds as a model."""
    run, state = Run.read(run_folder), read_state(run_folder / "checkpoints" / "last.ckpt")
    model = build_network(run.architecture, f"{run_folder / 'run.yaml'}, section architecture")
    model.load_state_dict({name.removeprefix("model."): value for name, value in state["state_dict"].items()})
    save_model(model, target, provenance_of(run) | {"steps": state["global_step"]})


def note(table: Path, model: Path, results: Path, stage: str, chunks_before: int) -> None:
    """Add a row to the table: how far the training is, and what its exported `model` does on meetings."""
    provenance = json.loads(read_text(model / "config.json", "a model"))["provenance"]
    data, trainer = (provenance["settings"][part] for part in ("data", "trainer"))
    chunks = provenance["steps"] * data["batch_size"] * int(trainer["devices"])
    found = json.loads(read_text(results, "results of evaluate_separator.py"))["simulated"]
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    row = [time.strftime("%Y-%m-%d"), commit, stage, provenance["steps"], chunks_before + chunks]
    row += [found["recordings"], *(round(found[key] * scale, 2) for key, (_, scale) in FIGURES.items())]
    lines = io.StringIO()
    csv.writer(lines, lineterminator="\n").writerow(row)
    head = read_text(table, "a table") if table.exists() else ",".join(COLUMNS) + "\n"
    write_text(table, head + lines.getvalue())


def plot(table: Path, picture: Path) -> None:
    """Draw the four figures against the chunks heard; stages have colours of their own."""
    from matplotlib.figure import Figure

    rows = list(csv.DictReader(read_text(table, "a table").splitlines()))
    figure = Figure(figsize=(10, 6), layout="constrained")
    for axes, (key, (heading, _)) in zip(figure.subplots(2, 2).flat, FIGURES.items(), strict=True):
        for stage in dict.fromkeys(row["stage"] for row in rows):
            own = [(int(row["chunks"]) / 1000, float(row[key])) for row in rows if row["stage"] == stage]
            axes.plot(*zip(*own, strict=True), marker="o", label=stage)
        axes.set(title=heading, xlabel="thousands of chunks heard")
        axes.grid(alpha=0.3)
    figure.axes[0].legend()
    with whole_file(picture) as new:
        figure.savefig(new, format="png", dpi=110)


def main() -> None:
    """Parse and do."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("export")
    one.add_argument("run", type=Path)
    one.add_argument("model", type=Path)
    one = commands.add_parser("note")
    one.add_argument("table", type=Path)
    one.add_argument("model", type=Path)
    one.add_argument("results", type=Path)
    one.add_argument("--stage", required=True)
    one.add_argument("--chunks-before", type=int, default=0, help="what the stages before have heard")
    one = commands.add_parser("plot")
    one.add_argument("table", type=Path)
    one.add_argument("picture", type=Path)
    asked = parser.parse_args()
    if asked.command == "export":
        export(asked.run, asked.model)
    elif asked.command == "note":
        note(asked.table, asked.model, asked.results, asked.stage, asked.chunks_before)
    else:
        plot(asked.table, asked.picture)


if __name__ == "__main__":
    main()
