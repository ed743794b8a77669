"""Record what pyannote.audio's ToTaToNet computes, as fixtures for the tests of ours.

Run in an environment of its own (see CONTRIBUTING.md), from the root of the repository::

    pip install "pyannote.audio[separation]==4.0.7" torch==2.11.0 torchaudio==2.11.0
    python scripts/make_golden_pyannote.py

It writes, with small networks of random weights and without any download,

- ``tests/models/golden/totatonet_*.safetensors``: the state_dict (``weights.*``), an ``input`` (1, 1, T) and, for
  each length in the metadata, ``scores.<length>`` (1, F, K) and ``sources.<length>`` (1, length, K) for
  the input's first samples; metadata: ``arguments`` (JSON) and ``versions`` (JSON);
- ``tests/checkpoints/golden/pyannote_pytorch_model.bin.gz``: a checkpoint as a Lightning trainer of
  pyannote.audio saves it, of the network in ``totatonet_wavlm.safetensors``.
"""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import lightning
import pyannote.audio
import torch
import transformers
from asteroid.masknn import DPRNN
from pyannote.audio.core.task import Problem, Resolution, Specifications
from pyannote.audio.models.separation.ToTaToNet import ToTaToNet
from safetensors.torch import save_file

TESTS = Path(__file__).resolve().parents[1] / "tests"
SMALL_DPRNN = {"n_repeats": 1, "bn_chan": 6, "hid_size": 5, "chunk_size": 10}
SMALL_WAVLM = {
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "conv_dim": [4] * 7,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "num_buckets": 16,
    "do_stable_layer_norm": True,
    "feat_extract_norm": "layer",
}
CASES: dict[str, dict[str, Any]] = {
    "free": {
        "n_sources": 3,
        "encoder_decoder": {"fb_name": "free", "kernel_size": 32, "n_filters": 12, "stride": 16},
        "dprnn": SMALL_DPRNN | {"n_repeats": 2},
        "linear": {"hidden_size": 64, "num_layers": 1},
        "diar": {"frames_per_second": 125},
        "lengths": [503, 144],
    },
    "wavlm": {
        "n_sources": 2,
        "encoder_decoder": {"fb_name": "free", "kernel_size": 32, "n_filters": 8, "stride": 16},
        "dprnn": SMALL_DPRNN,
        "linear": {"hidden_size": 64, "num_layers": 1},
        "diar": {"frames_per_second": 125},
        "wavlm": SMALL_WAVLM,
        "lengths": [933, 400],
    },
    "stft": {
        "n_sources": 4,
        "encoder_decoder": {"fb_name": "stft", "kernel_size": 16, "n_filters": 18, "stride": 8},
        "dprnn": SMALL_DPRNN | {"norm_type": "cLN", "mask_act": "sigmoid", "rnn_type": "GRU", "hop_size": 3},
        "linear": {"hidden_size": 64, "num_layers": 1},
        "diar": {"frames_per_second": 500},
        "lengths": [301, 77],
    },
    "deep_head": {
        "n_sources": 3,
        "encoder_decoder": {"fb_name": "free", "kernel_size": 9, "n_filters": 7, "stride": 5},
        "dprnn": SMALL_DPRNN
        | {"norm_type": "fgLN", "mask_act": "softmax", "num_layers": 2, "bidirectional": False},
        "linear": {"hidden_size": 64, "num_layers": 2},
        "diar": {"frames_per_second": 800},
        "lengths": [233],
    },
    "no_head": {
        "n_sources": 2,
        "encoder_decoder": {"fb_name": "free", "kernel_size": 16, "n_filters": 10, "stride": 8},
        "dprnn": SMALL_DPRNN | {"mask_act": "prelu", "rnn_type": "RNN", "chunk_size": 7},
        "linear": {"num_layers": 0},
        "diar": {"frames_per_second": 250},
        "lengths": [400],
    },
}


def specifications(n_sources: int) -> tuple[Specifications, Specifications]:
    """Return what pyannote's PixIT task would tell the network of its two outputs."""
    shared: dict[str, Any] = {
        "resolution": Resolution.FRAME,
        "duration": 5.0,
        "classes": [f"speaker#{i + 1}" for i in range(n_sources)],
    }
    return (
        Specifications(problem=Problem.MULTI_LABEL_CLASSIFICATION, permutation_invariant=True, **shared),
        Specifications(problem=Problem.MONO_LABEL_CLASSIFICATION, **shared),
    )


def widened_dprnn(in_chan: int, out_chan: int, **arguments: Any) -> DPRNN:
    """As many channels as the ``stft`` encoder gives: 4.0.7 builds two too few, and fails when run."""
    return DPRNN(in_chan + 2, out_chan=out_chan + 2, **arguments)


def build(case: dict[str, Any]) -> ToTaToNet:
    """Return the network of a case, with random weights."""
    arguments = {k: v for k, v in case.items() if k not in ("lengths", "wavlm")}
    masker = widened_dprnn if case["encoder_decoder"]["fb_name"] == "stft" else DPRNN
    wavlm = transformers.WavLMModel(transformers.WavLMConfig(**case.get("wavlm", {"num_hidden_layers": 1})))
    with (
        mock.patch.dict(ToTaToNet.__init__.__globals__, {"DPRNN": masker}),
        mock.patch("transformers.AutoModel.from_pretrained", return_value=wavlm),
    ):
        model = ToTaToNet(**arguments, use_wavlm="wavlm" in case)
    model.specifications = specifications(case["n_sources"])
    model.build()
    with torch.no_grad():
        for parameter in model.parameters():  # so that no gain is 1 and no bias 0
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def spread_scores(model: ToTaToNet, waveform: torch.Tensor) -> None:
    """Scale the classifier so that the scores fill the range from 0 to 1: otherwise they would compare nothing."""
    with torch.no_grad():
        logits = model(waveform)[0].logit()
        model.classifier.weight.mul_(2 / logits.std())
        model.classifier.bias.mul_(2 / logits.std()).sub_(2 * logits.mean() / logits.std())


def record(model: ToTaToNet, case: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Return weights, an input, and the outputs for its first samples."""
    waveform = torch.randn(1, 1, max(case["lengths"]))
    spread_scores(model, waveform)
    tensors = {f"weights.{name}": tensor for name, tensor in model.state_dict().items()} | {"input": waveform}
    for length in case["lengths"]:
        with torch.inference_mode():
            scores, sources = model(waveform[..., :length].contiguous())
        tensors |= {f"scores.{length}": scores, f"sources.{length}": sources}
    return {name: tensor.clone().contiguous() for name, tensor in tensors.items()}


def save_checkpoint(model: ToTaToNet, path: Path) -> None:
    """Write what pyannote.audio's trainer saves."""
    trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, barebones=True)
    trainer.strategy.connect(model)
    with tempfile.TemporaryDirectory() as folder:
        trainer.save_checkpoint(Path(folder) / "pytorch_model.bin", weights_only=True)
        path.write_bytes(gzip.compress((Path(folder) / "pytorch_model.bin").read_bytes(), mtime=0))


def main() -> None:
    """Write all files."""
    versions = {
        "pyannote.audio": pyannote.audio.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "lightning": lightning.__version__,
    }
    for seed, (name, case) in enumerate(CASES.items()):
        torch.manual_seed(seed)
        model = build(case)
        path = TESTS / "models" / "golden" / f"totatonet_{name}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        metadata = {"arguments": json.dumps(case), "versions": json.dumps(versions)}
        tensors = record(model, case)
        save_file(tensors, path, metadata)
        summary = {
            k: f"{v.std().item():.3f}" for k, v in tensors.items() if k.startswith(("scores", "sources"))
        }
        print(f"{path.name}: {path.stat().st_size} bytes, standard deviations {summary}")
        if name == "wavlm":
            checkpoint = TESTS / "checkpoints" / "golden" / "pyannote_pytorch_model.bin.gz"
            checkpoint.parent.mkdir(parents=True, exist_ok=True)
            save_checkpoint(model, checkpoint)
            print(f"{checkpoint.name}: {checkpoint.stat().st_size} bytes")


if __name__ == "__main__":
    main()
