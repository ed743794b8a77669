"""Compare a pipeline of pyannote.audio with pixit's reading of it: same weights, same recording, same config.yaml.

pyannote.audio runs in an environment of its own (see CONTRIBUTING.md); say which::

    python scripts/compare_pyannote.py meeting.wav --peer-python peers/bin/python --seeds 1 2 3

For each seed, networks of random weights are made that are active and vary, a small ToTaToNet without WavLM and a
WeSpeaker ResNet34; they and a ``config.yaml`` are written to a folder that both systems load. Or give such a folder
with ``--pipeline``. Printed is, for each configuration, the share of the time for which both diarizations agree
within one frame (with the best assignment of speakers), and the correlation of the tracks away from the first and
last 5 s.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

EDGE_S = 5.0
PARAMS: dict[str, Any] = {"segmentation_step": 0.3, "embedding_exclude_overlap": True}
HYPER: dict[str, dict[str, Any]] = {
    "segmentation": {"threshold": 0.5, "min_duration_off": 0.0},
    "clustering": {"method": "centroid", "min_cluster_size": 3, "threshold": 0.6},
    "separation": {"leakage_removal": True, "asr_collar": 0.32},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "threshold": {"segmentation.threshold": 0.55},
    "min_duration_off": {"segmentation.min_duration_off": 0.3},
    "min_cluster_size": {"clustering.min_cluster_size": 8},
    "average": {"clustering.method": "average", "clustering.threshold": 0.2},
    "asr_collar": {"separation.asr_collar": 0.05},
    "no_leakage_removal": {"separation.leakage_removal": False},
    "with_overlap": {"embedding_exclude_overlap": False},
    "step": {"segmentation_step": 0.5},
    "short_step": {"segmentation_step": 0.1},
    "two_speakers": {"num_speakers": 2},
    "four_speakers": {"num_speakers": 4},
}
"""Differences from the above; pyannote.audio 4.0.7 itself fails with a collar of 0 and leakage removal."""

SIZES: dict[str, dict[str, int]] = {"small": {"n_repeats": 1, "bn_chan": 32, "hid_size": 32}, "paper": {}}
"""Of ToTaToNet's masker: what two systems make of it does not depend on the size, the time they take does."""


def main() -> None:
    """Parse, run both systems, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recording", type=Path)
    parser.add_argument("--peer-python", help="the Python of an environment with pyannote.audio")
    parser.add_argument("--pipeline", type=Path, help="folder with config.yaml; else random ones are made")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--work", type=Path, help="folder to keep what is made")
    parser.add_argument("--peer", type=Path, nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--size", choices=list(SIZES), default="small", help="of the networks that are made")
    asked = parser.parse_args()
    if asked.make:
        make_networks(asked.make, asked.seeds[0], asked.recording, SIZES[asked.size])
    elif asked.peer:
        run_peer(asked.peer, asked.recording)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            compare_all(asked, asked.work or Path(temporary))


def compare_all(asked: argparse.Namespace, work: Path) -> None:
    """Print a line for each pipeline and variant."""
    itself = [asked.peer_python, str(Path(__file__).resolve()), str(asked.recording)]
    print(f"{'seed':>6} {'variant':20} {'agree':>7} {'theirs':>6} {'ours':>5}  correlation of tracks")
    for seed in [0] if asked.pipeline else asked.seeds:
        folder = asked.pipeline or work / f"seed{seed}"
        if not (folder / "config.yaml").exists():
            subprocess.run([*itself, "--seeds", str(seed), "--make", str(folder)], check=True)
        jobs = {variant: work / f"seed{seed}-{variant}" for variant in asked.variants}
        for variant, job in jobs.items():
            write_variant(folder, job, VARIANTS[variant], bool(asked.pipeline))
        subprocess.run([*itself, "--peer", *map(str, jobs.values())], check=True, stderr=subprocess.DEVNULL)
        known: dict[str, Any] = {}
        for variant, job in jobs.items():
            agreed, theirs, ours, correlations = compare(job, asked.recording, known)
            shown = " ".join(f"{value:.4f}" for value in correlations)
            print(f"{seed:6} {variant:20} {agreed:7.2%} {theirs:6} {ours:5}  {shown}", flush=True)


def remember(function: Any, known: dict[str, Any]) -> Any:
    """Return a function of tensors that computes the same only once: variants differ after the networks, mostly."""

    def remembered(*tensors: Any, **named: Any) -> Any:
        digest = hashlib.sha256()
        for tensor in (*tensors, *named.values()):
            digest.update(tensor.cpu().numpy().tobytes())
        key = f"{function.__qualname__} {digest.hexdigest()}"
        if key not in known:
            known[key] = function(*tensors, **named)
        return known[key]

    return remembered


def write_variant(folder: Path, jobs: Path, changes: dict[str, Any], keep: bool) -> None:
    """Write the config.yaml of a variant, beside links to the networks."""
    import yaml

    jobs.mkdir(parents=True, exist_ok=True)
    tree = yaml.safe_load((folder / "config.yaml").read_text())
    if not keep:
        tree["pipeline"]["params"] |= PARAMS
        tree["params"] = {section: dict(values) for section, values in HYPER.items()}
    for key, value in changes.items():
        section, _, name = key.rpartition(".")
        if key != "num_speakers":
            (tree["params"][section] if section else tree["pipeline"]["params"])[name] = value
    for name in ("segmentation", "embedding"):
        link = jobs / name
        if (folder / name).exists() and not link.exists():
            link.symlink_to((folder / name).resolve())
    (jobs / "config.yaml").write_text(yaml.safe_dump(tree))
    (jobs / "call.json").write_text(json.dumps({"num_speakers": changes.get("num_speakers")}))


# --- ours -----------------------------------------------------------------------------------------------


def compare(jobs: Path, recording: Path, known: dict[str, Any]) -> tuple[float, int, int, list[float]]:
    """Return agreement, both numbers of speakers, and the correlation of each track of ours with theirs."""
    import numpy as np

    from pixit import Separator
    from pixit.experiments.agreement import agreement
    from pixit.types import Turn

    separator = Separator.from_pretrained(jobs, device="cpu")
    for network in (separator.model, separator.embedder):
        network.forward = remember(network.forward, known)  # type: ignore[attr-defined]
    call = json.loads((jobs / "call.json").read_text())
    result = separator(recording, channel="mean", **call)
    with np.load(jobs / "peer.npz", allow_pickle=False) as peer:
        theirs = [Turn(float(s), float(e), str(int(n))) for s, e, n in peer["turns"]]
        tracks = peer["tracks"]
    agreed, pairs = agreement(result.turns, theirs, result.duration_s)
    correlations = []
    edge = round(EDGE_S * result.sample_rate_hz)
    for ours, other in pairs:
        if int(other) < len(tracks):
            track = result.tracks[ours].read()
            a, b = track[edge:-edge], tracks[int(other)][: len(track)][edge:-edge]
            correlations.append(float(np.corrcoef(a, b)[0, 1]) if a.any() and b.any() else float("nan"))
    return agreed, len({turn.speaker for turn in theirs}), len(result.speakers), correlations


# --- theirs, in the other environment -------------------------------------------------------------------


def make_networks(folder: Path, seed: int, recording: Path, dprnn: dict[str, int]) -> None:
    """Write random networks in pyannote.audio's form, and a config.yaml that names them."""
    import pyannote.audio
    import soundfile
    import torch
    import yaml
    from pyannote.audio.core.task import Problem, Resolution, Specifications
    from pyannote.audio.models.embedding.wespeaker import WeSpeakerResNet34
    from pyannote.audio.models.separation.ToTaToNet import ToTaToNet

    torch.manual_seed(seed)
    classes = [f"speaker#{number}" for number in (1, 2, 3)]
    common = {"resolution": Resolution.FRAME, "duration": 5.0, "classes": classes}
    model = ToTaToNet(use_wavlm=False, dprnn=dprnn)
    model.specifications = (
        Specifications(problem=Problem.MULTI_LABEL_CLASSIFICATION, permutation_invariant=True, **common),
        Specifications(problem=Problem.MONO_LABEL_CLASSIFICATION, **common),
    )
    model.build()
    model.eval()
    samples, rate = soundfile.read(recording, dtype="float32", always_2d=True)
    waveforms = torch.from_numpy(samples.mean(axis=1))[: 20 * rate].unfold(0, 5 * rate, 5 * rate)[:, None]
    wake(model, waveforms)
    voice = WeSpeakerResNet34()
    for name, buffer in voice.named_buffers():
        if name.endswith("running_mean"):
            buffer.data = 0.3 * torch.randn_like(buffer)
    voice.eval()
    masks = torch.rand(len(waveforms), 100).gt(0.5).float()
    with (
        torch.inference_mode()
    ):  # voices in all directions: the plain start has nearly the same for everything
        voice.resnet.seg_1.bias.data -= voice(waveforms, weights=masks).mean(dim=0)
    voice.specifications = Specifications(
        problem=Problem.REPRESENTATION, resolution=Resolution.CHUNK, duration=5.0, classes=None
    )
    for name, network, module in (
        ("segmentation", model, "pyannote.audio.models.separation.ToTaToNet"),
        ("embedding", voice.eval(), "pyannote.audio.models.embedding.wespeaker"),
    ):
        (folder / name).mkdir(parents=True, exist_ok=True)
        architecture = {"module": module, "class": type(network).__name__}
        info = {
            "versions": {"torch": str(torch.__version__), "pyannote.audio": pyannote.audio.__version__},
            "architecture": architecture,
            "specifications": network.specifications,
        }
        hyper = {key: value for key, value in dict(network.hparams).items() if key != "task"}
        checkpoint = {
            "state_dict": network.state_dict(),
            "hyper_parameters": hyper | ({"use_wavlm": False} if name == "segmentation" else {}),
            "pytorch-lightning_version": "2.0.0",
            "pyannote.audio": info,
        }
        torch.save(checkpoint, folder / name / "pytorch_model.bin")
    names = {"segmentation": "$model/segmentation", "embedding": "$model/embedding"}
    pipeline = {"name": "pyannote.audio.pipelines.SpeechSeparation", "params": names | PARAMS}
    pipeline["params"]["clustering"] = "AgglomerativeClustering"
    tree = {"dependencies": {"pyannote.audio": "4.0.0"}, "pipeline": pipeline, "params": HYPER}
    (folder / "config.yaml").write_text(yaml.safe_dump(tree))


def wake(model: Any, waveforms: Any) -> None:
    """Set the diarization head of a random ToTaToNet so that its sources are active one by one, and together."""
    import scipy.linalg
    import torch

    def watch(layer: Any) -> tuple[Any, Any]:
        seen: list[Any] = []
        handle = layer.register_forward_hook(lambda module, inputs, output: seen.extend((inputs[0], output)))
        with torch.inference_mode():
            model(waveforms)
        handle.remove()
        return seen[0].clone(), seen[1].clone()

    for layer in model.linear:  # each unit of mean 0 and deviation 1: the plain start hears its biases only
        _, output = watch(layer)
        mean, deviation = output.mean(dim=(0, 1)), output.std(dim=(0, 1)) + 1e-12
        layer.weight.data /= deviation[:, None]
        layer.bias.data = (layer.bias.data - mean) / deviation
    features, _ = watch(model.classifier)  # (B · K, F, D)
    features = features.unflatten(0, (len(waveforms), -1))
    common = features.mean(dim=1, keepdim=True)
    apart = (features - common).double()  # (B, K, F, D)
    common = (common - common.mean(dim=(0, 2), keepdim=True)).double().flatten(0, 2)
    slow = torch.nn.functional.avg_pool1d(apart.flatten(0, 1).mT, 125, 1, 62, count_include_pad=False).mT
    slow = slow.unflatten(0, apart.shape[:2])
    constant = slow.mean(dim=(0, 2), keepdim=True)
    # the direction in which sources change places slowly: turns of some length, rather than flicker or all at once
    signal, rest = (slow - constant).flatten(0, 2), (apart - slow + constant).flatten(0, 2)
    noise = rest.T @ rest + common.T @ common
    noise += 1e-6 * noise.trace() * torch.eye(len(noise))
    _, directions = scipy.linalg.eigh((signal.T @ signal).numpy(), noise.numpy())
    best: tuple[float, Any, Any] | None = None
    for column, sign, share in product(range(-16, 0), (1, -1), (0.5, 0.6, 0.7, 0.8)):
        direction = sign * torch.from_numpy(directions[:, column].copy()).float()
        values = features @ direction  # (B, K, F)
        bias = values.flatten().sort().values[int(share * values.numel())]
        active = values > bias
        solo = (active & (active.sum(dim=1, keepdim=True) == 1)).float().mean(dim=2)  # (B, K)
        enough = float((solo.clamp(max=0.3) / 0.3).mean())  # speakers need to be heard alone to be clustered
        if best is None or enough > best[0]:
            best = enough, direction / values.std() * 2, bias / values.std() * 2
    assert best is not None
    model.classifier.weight.data, model.classifier.bias.data = best[1][None], -best[2][None]


def run_peer(jobs: list[Path], recording: Path) -> None:
    """Run pyannote.audio's pipeline for each variant, and write its turns and tracks."""
    import numpy as np
    import soundfile
    import torch
    from pyannote.audio import Pipeline

    samples, rate = soundfile.read(recording, dtype="float32", always_2d=True)
    waveform = torch.from_numpy(samples.mean(axis=1))[None]
    known: dict[str, Any] = {}
    for job in jobs:
        call = json.loads((job / "call.json").read_text())
        pipeline = Pipeline.from_pretrained(job)
        for network in (pipeline._segmentation.model, pipeline._embedding.model_):
            network.forward = remember(network.forward, known)
        diarization, sources = pipeline({"waveform": waveform, "sample_rate": rate, "uri": "x"}, **call)
        labels = diarization.labels()
        turns = [
            (segment.start, segment.end, labels.index(label))
            for segment, _, label in diarization.itertracks(yield_label=True)
        ]
        tracks = np.zeros((0, 0)) if sources is None else sources.data.T
        np.savez(job / "peer.npz", turns=np.array(turns).reshape(-1, 3), tracks=tracks.astype(np.float32))


if __name__ == "__main__":
    sys.exit(main())
