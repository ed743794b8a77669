"""Measure pixit and pyannote.audio side by side: same networks, recording and threads, in turns.

    python scripts/benchmark_pyannote.py meeting.wav --peer-python peers/bin/python --lengths 60 300 -o benchmark

pyannote.audio 4.0.7 runs in an environment of its own: name its Python, or a folder in which to make one with
``--environment`` (needs the network). Networks of random weights that are active and vary, a full-size ToTaToNet
without WavLM and a WeSpeaker ResNet34, are made there; ``--pipeline`` takes a folder with a ``config.yaml`` instead,
and ``--bundled`` the networks that come with pixit, whose turns ``--reference`` may judge. Measured are
pyannote.audio as configured (a step of a tenth of the window, batches of 1: its defaults), pixit at the same step, in
both precisions, and pixit at longer steps. Loading is not counted. Written are a table and a plot.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PACKAGES = ["pyannote.audio[separation]==4.0.7", "torch==2.11.0", "torchaudio==2.11.0"]
PEER = "pyannote.audio 4.0.7"
SAME_STEP_S = 0.5


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recording", type=Path)
    parser.add_argument("--peer-python", help="the Python of an environment with pyannote.audio")
    parser.add_argument(
        "--environment", type=Path, help="folder of such an environment; made if it is not there"
    )
    parser.add_argument(
        "--pipeline", type=Path, help="folder with config.yaml; else random networks are made"
    )
    parser.add_argument("--bundled", action="store_true", help="the bundled networks in both")
    parser.add_argument(
        "--steps", type=float, nargs="+", default=[1.0], metavar="SECONDS", help="longer ones of pixit"
    )
    parser.add_argument("--reference", type=Path, help="RTTM of the recording")
    parser.add_argument("--lengths", type=float, nargs="+", default=[60.0, 300.0], metavar="SECONDS")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("benchmark"), help="folder for table and plot"
    )
    asked = parser.parse_args()
    python = asked.peer_python or make_environment(asked.environment or Path("pyannote-environment"))
    with tempfile.TemporaryDirectory() as temporary:
        measure_both(asked, python, Path(temporary))


def make_environment(folder: Path) -> str:
    """Return the Python of an environment with pyannote.audio, made if it is not there."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES], check=True)
    return str(python.absolute())


def measure_both(asked: argparse.Namespace, python: str, work: Path) -> None:
    """Measure both systems in turns, and write what was found."""
    from pixit.experiments.benchmark import Job, measure, plot, read_reference, summarize, write_excerpt

    own = Path(__file__).resolve()
    folder = asked.pipeline or (None if asked.bundled else make_pipeline(asked, python, work / "pipeline"))
    variants: list[tuple[float | None, str]] = [(None, "float32"), (None, "auto")]
    variants += [(step_s, "auto") for step_s in asked.steps]
    jobs = []
    for length_s in asked.lengths:
        excerpt = work / f"{length_s:g}.flac"
        write_excerpt(asked.recording, length_s, excerpt)
        model = None if folder is None else str(folder)
        request = {"recording": str(excerpt), "model": model, "embedder": None, "device": asked.device}
        shared: dict[str, Any] = {"length_s": length_s, "threads": asked.threads}
        labels = {"system": PEER, "step": "0.5 s", "precision": "float32"}
        jobs.append(Job(labels, request=request, command=[python, str(own), "--answer"], **shared))
        for step_s, precision in variants:
            is_same = step_s is None and folder is not None  # config.yaml says the step
            settings = {"precision": precision} | ({} if is_same else {"step_s": step_s or SAME_STEP_S})
            labels = {"system": "pixit", "step": f"{step_s or SAME_STEP_S:g} s", "precision": precision}
            jobs.append(Job(labels, request=request | {"settings": settings}, **shared))
    answers = measure(jobs, asked.rounds, lambda done, total: print(f"{done} of {total}", file=sys.stderr))
    reference = read_reference(asked.reference, asked.recording) if asked.reference else None
    peers = {job.length_s: job for job in jobs if job.labels["system"] == PEER}
    table = summarize(jobs, answers, reference, lambda job: peers[job.length_s])
    asked.output.mkdir(parents=True, exist_ok=True)
    for ending in ("md", "json"):
        table.save(asked.output / f"benchmark.{ending}")
    plot(jobs, table, asked.output / "benchmark.png")
    print(table.render("markdown"))


def make_pipeline(asked: argparse.Namespace, python: str, folder: Path) -> Path:
    """Return a folder with random networks, and a config.yaml with pyannote.audio's default step."""
    import yaml

    maker = Path(__file__).resolve().with_name("compare_pyannote.py")
    wanted = ["--seeds", str(asked.seed), "--make", str(folder), "--size", "paper"]
    subprocess.run([python, str(maker), str(asked.recording), *wanted], check=True)
    tree = yaml.safe_load((folder / "config.yaml").read_text())
    tree["pipeline"]["params"]["segmentation_step"] = 0.1
    (folder / "config.yaml").write_text(yaml.safe_dump(tree))
    return folder


def load_pipeline(folder: str | None) -> Any:
    """Return a pipeline of pyannote.audio from its folder, or around the bundled networks."""
    if folder is None:
        sys.path.insert(0, str(Path(__file__).resolve().parent))
        from pyannote_bundled import bundled_pipeline

        return bundled_pipeline()
    from pyannote.audio import Pipeline

    return Pipeline.from_pretrained(Path(folder))


def answer() -> None:
    """Measure one run of pyannote.audio, in its environment: JSON in, JSON out, as `pixit.experiments.benchmark`."""
    import resource

    import soundfile
    import torch

    request = json.load(sys.stdin)
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    pipeline = load_pipeline(request["model"]).to(torch.device(request["device"]))
    ends: dict[str, float] = {}

    def hook(step: str, artifact: Any, file: Any = None, total: Any = None, completed: Any = None) -> None:
        ends[step] = time.perf_counter()

    started, used = time.perf_counter(), time.process_time()
    samples, rate = soundfile.read(request["recording"], dtype="float32")
    recording = {"waveform": torch.from_numpy(samples)[None], "sample_rate": rate, "uri": "x"}
    diarization, _ = pipeline(recording, hook=hook)
    elapsed_s, cpu_s = time.perf_counter() - started, time.process_time() - used
    found = {
        "elapsed_s": elapsed_s,
        "cpu_s": cpu_s,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "turns": [(s.start, s.end, str(name)) for s, _, name in diarization.itertracks(yield_label=True)],
        "stages_s": {
            "segmentation": ends["segmentation"] - started,
            "embeddings": ends["embeddings"] - ends["segmentation"],
            "separations": started + elapsed_s - ends["embeddings"],
        },
    }
    print(json.dumps(found))


if __name__ == "__main__":
    if "--answer" in sys.argv:
        answer()
    else:
        main()
