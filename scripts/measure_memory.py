"""Measure the peak memory and the speed of `pixit separate` on recordings of several lengths.

    python scripts/measure_memory.py --speech DIR [--hours 0.5 3 10] [--separator FOLDER] [--threads 2]

Makes a recording of each length by joining the utterances found below DIR (again and again, as meetings do
not come in 10 hours), separates it in a process of its own, and prints a Markdown table.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pixit.audio import TrackWriter, open_audio

RATE_HZ = 16000


def main() -> None:
    """Measure each length and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--speech", type=Path, required=True)
    parser.add_argument("--hours", type=float, nargs="+", default=[0.5, 3.0, 10.0])
    parser.add_argument("--separator")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", type=Path, help="folder for the recordings and results (tens of GB)")
    arguments = parser.parse_args()
    print("| recording | peak memory | time | real-time factor |\n|---|---|---|---|", flush=True)
    for hours in arguments.hours:
        with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
            recording = Path(folder) / "recording.flac"
            write_recording(arguments.speech, recording, hours)
            peak_gb, seconds = separate(recording, Path(folder), arguments)
        print(
            f"| {hours:g} h | {peak_gb:.2f} GB | {seconds:.0f} s | {seconds / hours / 3600:.3f} |", flush=True
        )


def write_recording(speech: Path, path: Path, hours: float) -> None:
    """Join utterances, one speaker after the other, until the recording is long enough."""
    utterances = sorted(speech.rglob("*.flac"))
    left = round(hours * 3600 * RATE_HZ)
    with TrackWriter(path, RATE_HZ, "flac") as writer:
        for utterance in itertools.cycle(utterances):
            samples = open_audio(utterance, RATE_HZ).read()[:left]
            writer.write(samples)
            left -= len(samples)
            if left == 0:
                return


def separate(recording: Path, folder: Path, arguments: argparse.Namespace) -> tuple[float, float]:
    """Return the peak resident memory in GB and the seconds of a separation."""
    job = ["separate", str(recording), "-o", str(folder / "out"), "--quiet"]
    command = [sys.executable, "-m", "pixit", *job]
    if arguments.separator:
        command += ["--model", arguments.separator]
    environment = os.environ | {"OMP_NUM_THREADS": str(arguments.threads), "TMPDIR": str(folder)}
    started = time.perf_counter()
    process = subprocess.Popen(command, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)}: failed")
    return usage.ru_maxrss * 1024 / 1e9, time.perf_counter() - started


if __name__ == "__main__":
    main()
