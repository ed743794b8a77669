"""Record what asteroid's MixIT loss and dual-path RNN compute, as fixtures for the tests of ours.

Run in an environment of its own (see CONTRIBUTING.md), from the root of the repository::

    pip install asteroid==0.7.0 torch==2.11.0 torchaudio==2.11.0 safetensors requests
    python scripts/make_golden_asteroid.py

It writes

- ``tests/training/golden/mixit_asteroid.npz``: for each case ``<case>`` of the array ``cases``,
  ``<case>.estimate`` (B, K, T), ``<case>.mixtures`` (B, 2, T), ``<case>.loss_per_item`` (B,): the best
  assignment's negative SI-SDR in dB (means removed), averaged over the two mixtures, and
  ``<case>.assignment`` (B, K): 0 or 1, the mixture that each source was given to;
- ``tests/models/golden/dprnn_asteroid.safetensors``: for each case, ``<case>.weights.*``, ``<case>.features``
  (B, C, L) and ``<case>.masks`` (B, K, C', L); metadata: ``arguments`` (JSON) and ``versions`` (JSON).
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from asteroid.losses import MixITLossWrapper, multisrc_neg_sisdr
from asteroid.masknn import DPRNN
from safetensors.torch import save_file

TESTS = Path(__file__).resolve().parents[1] / "tests"
MIXIT_SHAPES = {"k2": (3, 2, 150), "k3": (4, 3, 120), "k4": (3, 4, 101), "k6": (2, 6, 90)}  # B, K, T
DPRNN_CASES: dict[str, dict[str, Any]] = {
    "plain": {"in_chan": 7, "n_src": 3, "out_chan": 5, "n_repeats": 2, "chunk_size": 6},
    "options": {
        "in_chan": 4,
        "n_src": 2,
        "out_chan": 4,
        "n_repeats": 1,
        "chunk_size": 9,
        "hop_size": 5,
        "norm_type": "cLN",
        "mask_act": "sigmoid",
        "rnn_type": "GRU",
        "bidirectional": False,
        "num_layers": 2,
    },
}
LENGTHS = {"plain": 23, "options": 31}


def mixit(generator: np.random.Generator, shape: tuple[int, int, int], scale: float) -> dict[str, np.ndarray]:
    """Record MixIT on sources of unlike levels and mixtures that are their sums with `scale` of noise."""
    batch, num_sources, _ = shape
    levels = 10 ** generator.uniform(-1, 1, (batch, num_sources, 1))
    sources = levels * generator.standard_normal(shape) + generator.uniform(
        -0.5, 0.5, (batch, num_sources, 1)
    )
    true = generator.integers(0, 2, (batch, num_sources))
    mixtures = np.stack([(sources * (true == m)[..., None]).sum(1) for m in (0, 1)], axis=1)
    mixtures += scale * generator.standard_normal(mixtures.shape)
    estimate, mixtures = sources.astype(np.float32), mixtures.astype(np.float32)

    loss = MixITLossWrapper(multisrc_neg_sisdr, generalized=True, reduction="none")
    arguments = torch.from_numpy(estimate), torch.from_numpy(mixtures)
    best, index, partitions = loss.best_part_mixit_generalized(multisrc_neg_sisdr, *arguments)
    assignment = np.array([[int(k in partitions[i][1]) for k in range(num_sources)] for i in index[:, 0]])
    assert torch.equal(best, loss(*arguments))
    return {
        "estimate": estimate,
        "mixtures": mixtures,
        "loss_per_item": best[:, 0].numpy(),
        "assignment": assignment,
    }


def dprnn(case: dict[str, Any], num_frames: int) -> dict[str, torch.Tensor]:
    """Record a network of random weights on random features."""
    network = DPRNN(bn_chan=5, hid_size=3, **case).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    features = torch.randn(2, case["in_chan"], num_frames)
    with torch.inference_mode():
        masks = network(features)
    weights = {f"weights.{name}": tensor for name, tensor in network.state_dict().items()}
    return weights | {"features": features, "masks": masks.clone()}


def main() -> None:
    """Write both files."""
    versions = {name: version(name) for name in ("asteroid", "torch")}
    generator = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        "cases": np.array(list(MIXIT_SHAPES)),
        "versions": np.array(json.dumps(versions)),
    }
    for case, shape in MIXIT_SHAPES.items():
        arrays |= {f"{case}.{k}": v for k, v in mixit(generator, shape, scale=0.1).items()}
    path = TESTS / "training" / "golden" / "mixit_asteroid.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)
    print(f"{path.name}: {path.stat().st_size} bytes")

    torch.manual_seed(0)
    tensors = {}
    for case, arguments in DPRNN_CASES.items():
        tensors |= {f"{case}.{k}": v for k, v in dprnn(arguments, LENGTHS[case]).items()}
    path = TESTS / "models" / "golden" / "dprnn_asteroid.safetensors"
    save_file(tensors, path, {"arguments": json.dumps(DPRNN_CASES), "versions": json.dumps(versions)})
    print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
