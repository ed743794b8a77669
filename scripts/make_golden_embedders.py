"""Record what the originals of our speaker embedders compute, as fixtures for the tests of ours.

Run in an environment of its own (see CONTRIBUTING.md), from the root of the repository::

    pip install pyannote.audio==4.0.7 speechbrain torch==2.11.0 torchaudio==2.11.0
    python scripts/make_golden_embedders.py

It writes, without any download, with networks of full size whose weights `fill` makes of their names,

- ``tests/models/golden/embedders.npz``: features and embeddings of two noises, with and without weights;
- ``tests/checkpoints/golden/{wespeaker,ecapa}.pkl.gz``: the pickles of their checkpoints as pyannote.audio's
  trainer and SpeechBrain save them. The tests put the weights beside them, which are too large to keep.
"""

from __future__ import annotations

import gzip
import tempfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "models" / "golden" / "embedders.npz"
PICKLES = GOLDEN.parents[2] / "checkpoints" / "golden"


def main() -> None:
    """Write the fixtures."""
    from pyannote.audio.models.embedding.wespeaker import WeSpeakerResNet34
    from speechbrain.lobes.features import Fbank
    from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
    from speechbrain.processing.features import InputNormalization

    waveforms, weights = make_input()
    resnet = fill(WeSpeakerResNet34())
    channels = [1024, 1024, 1024, 1024, 3072]
    ecapa = fill(ECAPA_TDNN(80, lin_neurons=192, channels=channels, attention_channels=128))
    lengths = torch.ones(len(waveforms))
    with torch.inference_mode():
        features = Fbank(n_mels=80)(waveforms)
        centred = InputNormalization(norm_type="sentence", std_norm=False)(features, lengths)
        found = {
            "wespeaker_features": resnet.compute_fbank(waveforms[:, None])[:, ::10],
            "wespeaker": resnet(waveforms[:, None]),
            "wespeaker_weighted": resnet(waveforms[:, None], weights=weights),
            "ecapa_features": features[:, ::10],
            "ecapa": ecapa(centred, lengths)[:, 0],
        }
    np.savez_compressed(GOLDEN, **{name: tensor.numpy() for name, tensor in found.items()})
    with tempfile.TemporaryDirectory() as folder:
        save_as_trained(resnet, Path(folder) / "wespeaker")
        torch.save(ecapa.state_dict(), Path(folder) / "ecapa")
        for path in Path(folder).iterdir():
            (PICKLES / f"{path.name}.pkl.gz").write_bytes(gzip.compress(pickle_of(path), mtime=0))


def save_as_trained(resnet: nn.Module, path: Path) -> None:
    """Write what pyannote.audio's trainer saves of an embedder."""
    import lightning
    from pyannote.audio.core.task import Problem, Resolution, Specifications

    resnet.specifications = Specifications(Problem.REPRESENTATION, Resolution.CHUNK, duration=5.0)
    trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, barebones=True)
    trainer.strategy.connect(resnet)
    trainer.save_checkpoint(path, weights_only=True)


def pickle_of(path: Path) -> bytes:
    """Return the pickle in a file of `torch.save`; the weights are beside it."""
    with zipfile.ZipFile(path) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith("/data.pkl")))


def with_pickle(state: dict[str, Tensor], pickled: bytes, path: Path) -> Path:
    """Write a file as `torch.save` does: weights, and a pickle that refers to them in the order of their names."""
    torch.save(state, path)
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, pickled if name.endswith("/data.pkl") else content)
    return path


def make_input() -> tuple[Tensor, Tensor]:
    """Return waveforms (2, T), one with a quiet beginning, and weights (2, F)."""
    rng = np.random.default_rng(0)
    waveforms = (0.1 * rng.standard_normal((2, 24000))).astype(np.float32)
    waveforms[1, :8000] *= 0.01
    weights = np.zeros((2, 93), np.float32)
    weights[0, 10:60], weights[1] = 1, rng.random(93)
    return torch.from_numpy(waveforms), torch.from_numpy(weights)


def fill(module: nn.Module) -> nn.Module:
    """Give every weight random numbers that depend on its name alone."""
    state = module.state_dict()
    for name, tensor in state.items():
        if tensor.is_floating_point():
            values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(tuple(tensor.shape))
            if name.endswith("running_var"):
                values = np.abs(values) + 0.5
            elif tensor.ndim > 1:
                values = values / np.sqrt(np.prod(tensor.shape[1:]))
            else:
                values = 0.1 * values + name.endswith("weight")
            state[name] = torch.from_numpy(np.asarray(values)).to(tensor.dtype)
    module.load_state_dict(state)
    return module.eval()


if __name__ == "__main__":
    main()
