"""Compare `pixit diarize` with pyannote.audio's SpeakerDiarization: same weights, recording and config.yaml.

pyannote.audio runs in an environment of its own (see CONTRIBUTING.md); say which::

    python scripts/compare_pyannote_diarization.py meeting.wav --peer-python peers/bin/python --seeds 1 2 3

For each seed, networks of random weights are made that are active and vary, a PyanNet (powerset) and a WeSpeaker
ResNet34; they and a ``config.yaml`` of the shape of ``pyannote/speaker-diarization-3.1`` are written to a folder that
both systems load. Printed is, for each variant of it, the share of the time for which both diarizations agree within
one frame (with the best assignment of speakers). In pyannote.audio's environment::

    python scripts/compare_pyannote_diarization.py examples/meeting.flac --golden

writes ``tests/pipeline/golden/diarization.npz``: small networks of this kind, and the turns that come out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "pipeline" / "golden" / "diarization.npz"
GOLDEN_S = 24
WINDOW_S, FRAME_S = 10.0, 270 / 16000
FULL: dict[str, Any] = {
    "lstm": {"hidden_size": 128, "num_layers": 4, "bidirectional": True, "monolithic": True, "dropout": 0.5},
    "linear": {"hidden_size": 128, "num_layers": 2},
    "channels": 32,
    "embedding_size": 256,
}
SMALL: dict[str, Any] = {
    "lstm": {"hidden_size": 8, "num_layers": 1, "bidirectional": True, "monolithic": True, "dropout": 0.0},
    "linear": {"hidden_size": 16, "num_layers": 1},
    "channels": 2,
    "embedding_size": 16,
}
CONFIG: dict[str, Any] = {
    "version": "3.1.0",
    "pipeline": {
        "name": "pyannote.audio.pipelines.SpeakerDiarization",
        "params": {
            "clustering": "AgglomerativeClustering",
            "embedding": "$model/embedding",
            "embedding_batch_size": 32,
            "embedding_exclude_overlap": True,
            "segmentation": "$model/segmentation",
            "segmentation_batch_size": 32,
        },
    },
    "params": {
        "clustering": {"method": "centroid", "min_cluster_size": 12, "threshold": 0.7045654963945799},
        "segmentation": {"min_duration_off": 0.0},
    },
}
VARIANTS: dict[str, dict[str, Any]] = {
    "published": {},
    "three_speakers": {"num_speakers": 3},
    "two_to_four": {"min_speakers": 2, "max_speakers": 4},
    "small_clusters": {"clustering": {"threshold": 0.05, "min_cluster_size": 2}},
    "pauses_filled": {"segmentation": {"min_duration_off": 0.5}, "num_speakers": 2},
}
"""Differences from the above, in hyper-parameters and in the call."""


def main() -> None:
    """Parse, run both systems, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recording", type=Path)
    parser.add_argument("--peer-python", help="the Python of an environment with pyannote.audio")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--work", type=Path, help="folder to keep what is made")
    parser.add_argument(
        "--golden", action="store_true", help="write the fixture, in pyannote.audio's environment"
    )
    parser.add_argument("--peer", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.golden:
        write_golden(asked.recording)
    elif asked.peer:
        run_peer(asked.peer, asked.recording, asked.seeds, asked.variants)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            compare_all(asked, asked.work or Path(temporary))


# --- ours -----------------------------------------------------------------------------------------------


def compare_all(asked: argparse.Namespace, work: Path) -> None:
    """Print a line for each seed and variant."""
    import yaml

    from pixit import Separator

    if asked.peer_python:
        command = [
            asked.peer_python,
            str(Path(__file__).resolve()),
            str(asked.recording),
            "--peer",
            str(work),
        ]
        seeds = ["--seeds", *map(str, asked.seeds)]
        subprocess.run([*command, *seeds, "--variants", *asked.variants], check=True)
    print(f"{'seed':>6} {'variant':16} {'agree':>8} {'theirs':>8} {'ours':>6}  turns")
    for seed, variant in product(asked.seeds, asked.variants):
        folder = work / f"seed{seed}"
        tree, call = vary(VARIANTS[variant])
        (folder / "config.yaml").write_text(yaml.safe_dump(tree))
        separator = Separator.from_pretrained(folder, device="cpu")
        result = separator.diarize(asked.recording, channel="mean", **call)
        theirs = [tuple(turn) for turn in json.loads((folder / f"{variant}.json").read_text())]
        ours = [(turn.start_s, turn.end_s, turn.speaker) for turn in result.turns]
        speakers = [len({speaker for *_, speaker in turns}) for turns in (theirs, ours)]
        agreed = agreement(ours, theirs, result.duration_s)
        print(
            f"{seed:6} {variant:16} {agreed:8.3%} {speakers[0]:8} {speakers[1]:6}  {len(theirs)} {len(ours)}",
            flush=True,
        )


def vary(changes: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the config with other hyper-parameters, and the arguments of the call."""
    tree: dict[str, Any] = json.loads(json.dumps(CONFIG))
    for section in tree["params"]:
        tree["params"][section] |= changes.get(section, {})
    return tree, {key: value for key, value in changes.items() if key.endswith("_speakers")}


def agreement(ours: list[Any], theirs: list[Any], duration_s: float) -> float:
    """Return the share of the time for which both agree, or would with a boundary moved by up to a frame.

    Speakers are paired so that they agree for the longest time. Counted in milliseconds.
    """
    import numpy as np
    from scipy.optimize import linear_sum_assignment

    tables = []
    for turns in (ours, theirs):
        names = list(dict.fromkeys(speaker for *_, speaker in turns))
        table = np.zeros((len(names), round(duration_s * 1000)), bool)
        for start_s, end_s, speaker in turns:
            table[names.index(speaker), round(start_s * 1000) : round(end_s * 1000)] = True
        tables.append(table)
    size = max(map(len, tables))
    mine, other = (np.pad(table, ((0, size - len(table)), (0, 0))) for table in tables)
    rows, columns = linear_sum_assignment(mine.astype(float) @ other.T, maximize=True)
    differing = mine[rows] != other[columns]
    near = round(FRAME_S * 1000) + 1
    for row in differing:  # a difference no longer than a frame is a boundary that lies in another frame
        edges = np.flatnonzero(np.diff(row, prepend=False, append=False)).reshape(-1, 2)
        for start, end in edges:
            row[start:end] = end - start > near
    return float(1 - differing.any(axis=0).mean())


# --- theirs, in the other environment -------------------------------------------------------------------


def run_peer(work: Path, recording: Path, seeds: list[int], variants: list[str]) -> None:
    """Make networks of each seed, and write what pyannote.audio's pipeline makes of the recording with them."""
    waveform = read_mono(recording)
    for seed in seeds:
        folder = work / f"seed{seed}"
        networks = make_networks(seed, waveform, FULL)
        for name, network in networks.items():
            save(network, folder / name)
        for variant in variants:
            turns = diarize(networks, waveform, VARIANTS[variant])
            (folder / f"{variant}.json").write_text(json.dumps(turns))


def write_golden(recording: Path) -> None:
    """Write small networks, and the turns of all variants for the beginning of a recording."""
    import numpy as np

    waveform = read_mono(recording)[:, : GOLDEN_S * 16000]
    networks = make_networks(1, waveform, SMALL)
    found: dict[str, Any] = {}
    for name, network in networks.items():
        for key, tensor in network.state_dict().items():  # both systems get what half precision leaves
            if tensor.is_floating_point():
                tensor.copy_(tensor.half().float())
                found[f"{name}/{key}"] = tensor.half().numpy()
    for variant, changes in VARIANTS.items():
        turns = diarize(networks, waveform, changes)
        found[f"turns/{variant}"] = np.array([(s, e, int(x[-2:])) for s, e, x in turns])
        print(variant, len(turns), "turns of", len({x for *_, x in turns}))
    GOLDEN.parent.mkdir(exist_ok=True)
    np.savez_compressed(GOLDEN, **found)


def read_mono(recording: Path) -> Any:
    """Return the mean of the channels as a tensor (1, T)."""
    import soundfile
    import torch

    samples, rate_hz = soundfile.read(recording, dtype="float32", always_2d=True)
    assert rate_hz == 16000, "both systems would resample, each in its own way"
    return torch.from_numpy(samples.mean(axis=1))[None]


def make_networks(seed: int, waveform: Any, sizes: dict[str, Any]) -> dict[str, Any]:
    """Return a PyanNet in which nobody, one and two talk in turn in the recording, and a WeSpeaker ResNet34."""
    import torch
    from pyannote.audio.core.task import Problem, Resolution, Specifications
    from pyannote.audio.models.embedding.wespeaker import WeSpeakerResNet34
    from pyannote.audio.models.embedding.wespeaker.resnet import BasicBlock, ResNet
    from pyannote.audio.models.segmentation import PyanNet

    torch.manual_seed(seed)
    model = PyanNet(lstm=sizes["lstm"], linear=sizes["linear"])
    model.specifications = Specifications(
        problem=Problem.MONO_LABEL_CLASSIFICATION,
        resolution=Resolution.FRAME,
        duration=WINDOW_S,
        classes=[f"speaker#{number}" for number in (1, 2, 3)],
        powerset_max_classes=2,
        permutation_invariant=True,
    )
    model.build()
    wake(model.eval(), waveform)
    voice = WeSpeakerResNet34()
    channels, size = sizes["channels"], sizes["embedding_size"]
    voice.resnet = ResNet(BasicBlock, [3, 4, 6, 3], channels, 80, size, "TSTP", two_emb_layer=False)
    for name, buffer in voice.named_buffers():
        if name.endswith("running_mean"):
            buffer.data = 0.3 * torch.randn_like(buffer)
    voice.specifications = Specifications(
        problem=Problem.REPRESENTATION, resolution=Resolution.CHUNK, duration=5.0, classes=None
    )
    return {"segmentation": model, "embedding": voice.eval()}


def wake(model: Any, waveform: Any) -> None:
    """Set the classifier of a random PyanNet so that each of its classes is the likeliest now and then."""
    import torch

    samples = round(WINDOW_S * 16000)
    windows = (
        waveform[:, : waveform.shape[1] // samples * samples].unfold(1, samples, samples).transpose(0, 1)
    )
    for name, parameter in model.named_parameters():
        if name.startswith("lstm.weight"):
            parameter.data *= 3  # the plain start hardly listens
    heard: list[Any] = []
    handle = model.classifier.register_forward_hook(lambda module, inputs, output: heard.append(inputs[0]))
    with torch.inference_mode():
        model(windows)
    handle.remove()
    features = heard[0].clone()  # (B, F, D)
    # seconds, not frames, is what turns last: directions that vary slowly come first
    slow = torch.nn.functional.avg_pool1d(features.transpose(1, 2), 61, 1, 30).transpose(1, 2).flatten(0, 1)
    features = features.flatten(0, 1)
    _, _, directions = torch.linalg.svd(slow - slow.mean(0), full_matrices=False)
    weight = torch.randn(len(model.classifier.weight), 6) @ directions[:6]
    logits = features @ weight.T
    weight = 3 * weight / logits.std(0)[:, None]
    logits = features @ weight.T
    model.classifier.weight.data = weight.clone()
    offset = torch.tensor([1.0, 0.5, 0.5, 0.5, -1.0, -1.0, -1.0])
    model.classifier.bias.data = offset - logits.mean(0)


def save(network: Any, folder: Path) -> None:
    """Write what pyannote.audio's trainer saves."""
    import pyannote.audio
    import torch

    hyper = {key: value for key, value in dict(network.hparams).items() if key != "task"}
    checkpoint = {
        "state_dict": network.state_dict(),
        "hyper_parameters": hyper,
        "pytorch-lightning_version": "2.0.0",
        "pyannote.audio": {
            "versions": {"torch": str(torch.__version__), "pyannote.audio": pyannote.audio.__version__},
            "architecture": {"module": type(network).__module__, "class": type(network).__name__},
            "specifications": network.specifications,
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(checkpoint, folder / "pytorch_model.bin")


def diarize(
    networks: dict[str, Any], waveform: Any, changes: dict[str, Any]
) -> list[tuple[float, float, str]]:
    """Return the turns that pyannote.audio's pipeline finds."""
    from unittest import mock

    from pyannote.audio.pipelines import speaker_diarization

    tree, call = vary(changes)
    arguments = tree["pipeline"]["params"] | networks
    # 4.0.7 fetches the PLDA of another pipeline, whatever the clustering
    with mock.patch.object(speaker_diarization, "get_plda", return_value=None):
        pipeline = speaker_diarization.SpeakerDiarization(legacy=True, **arguments)
    pipeline.instantiate(tree["params"])
    found = pipeline({"waveform": waveform, "sample_rate": 16000, "uri": "x"}, **call)
    return [(turn.start, turn.end, label) for turn, _, label in found.itertracks(yield_label=True)]


if __name__ == "__main__":
    main()
