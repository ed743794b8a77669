"""Check against pyannote.audio itself what `pixit convert` writes for it, and what pixit reads of it.

Run where both are installed (pyannote.audio beside pixit, or pixit's folder in PYTHONPATH; see CONTRIBUTING.md)::

    python scripts/check_convert.py [MODEL]...

For each MODEL (a folder, file or name on the hub; by default three networks with random weights, one of them with
the paper's sizes) the converted checkpoint is loaded by ``pyannote.audio.Model.from_pretrained``, and the largest
difference between its outputs and ours is printed; then pyannote.audio saves it, and pixit reads that again. The
exit status is 1 if any difference is above 1e-4. A network with WavLM needs microsoft/wavlm-large in the cache.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from pixit.checkpoints import load_model, save_model
from pixit.checkpoints.convert import convert
from pixit.models.embedders import WeSpeakerResNet34
from pixit.models.totatonet import ToTaToNet

SMALL = {"name": "dprnn", "n_repeats": 1, "bn_chan": 8, "hid_size": 8, "chunk_size": 20}
MOST = 1e-4


def main() -> None:
    """Convert, load, compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        models = arguments.models or random_models(Path(folder))
        differences = [check(str(model), Path(folder) / f"{i}") for i, model in enumerate(models)]
    sys.exit(any(not difference <= MOST for difference in differences))


def random_models(folder: Path) -> list[Path]:
    """Save networks with random weights, none of which is at its initial value."""
    torch.manual_seed(0)
    networks: dict[str, torch.nn.Module] = {
        "ToTaToNet": ToTaToNet(),
        "ToTaToNet small": ToTaToNet(
            2, masker=SMALL, diar={"frames_per_second": 16000 / 16 / 7}, linear={"num_layers": 1}
        ),
        "WeSpeakerResNet34": WeSpeakerResNet34(),
    }
    for network in networks.values():
        for parameter in network.parameters():
            parameter.data += 0.1 * parameter.data.std(unbiased=False) * torch.randn_like(parameter)
    return [save_model(network, folder / name, {}) for name, network in networks.items()]


def check(name: str, place: Path) -> float:
    """Return the largest difference between our outputs and those of pyannote.audio, either way."""
    from pyannote.audio import Model

    place.mkdir()
    ours = load_model(name)
    converted, _ = convert(name, place / "pytorch_model.bin")
    theirs = Model.from_pretrained(converted).eval()
    saved = save_as_trained(theirs, place / "trained.ckpt")
    waveforms = 0.1 * torch.randn(2, 1, 80000)
    with torch.inference_mode():
        found, again = outputs(ours, waveforms), outputs(load_model(saved), waveforms)
        expected = theirs(waveforms)
    expected = expected if isinstance(expected, tuple) else (expected,)
    largest = [
        max(float((a - b).abs().max()) for a, b in zip(some, expected, strict=True))
        for some in (found, again)
    ]
    size = max(float(each.abs().max()) for each in expected)
    kind = type(ours).__name__
    print(f"{name}: {kind}, outputs up to {size:.3g}; written: {largest[0]:.2g}, read: {largest[1]:.2g}")
    return max(largest)


def outputs(network: Any, waveforms: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return the outputs of a network of ours in pyannote.audio's order of axes."""
    if isinstance(network, ToTaToNet):
        output = network(waveforms)
        return output.activities.transpose(1, 2), output.sources.transpose(1, 2)
    return (network(waveforms[:, 0]),)


def save_as_trained(model: Any, path: Path) -> Path:
    """Write what pyannote.audio's trainer saves."""
    import lightning

    trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, barebones=True)
    trainer.strategy.connect(model)
    trainer.save_checkpoint(path, weights_only=True)
    return path


if __name__ == "__main__":
    main()
