"""Pictures of what the network makes of a few validation pairs, at every validation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from pixit.training.objective import PairBatch, mixtures_of_mixtures, three_mixtures
from pixit.types import LocalOutput


class ExamplePictures(pl.Callback):
    """Draw the mixtures of mixtures of the first validation pairs, into `folder` and TensorBoard.

    Parameters
    ----------
    folder
        Where ``step-XXXXXXX-Y.png`` go.
    count
        How many pairs to draw.
    """

    def __init__(self, folder: Path, count: int = 2) -> None:
        self.folder, self.count = folder, count

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: object,
        batch: dict[str, Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw, if this is the first batch."""
        if batch_idx > 0 or not trainer.is_global_zero or trainer.sanity_checking:
            return
        pairs = PairBatch(**{name: value[: self.count] for name, value in batch.items()})
        size = len(pairs.mixtures)
        with torch.no_grad():
            output = pl_module.model(three_mixtures(pairs))  # type: ignore[operator]
        expected, _ = mixtures_of_mixtures(pairs.activities, pairs.references)
        self.folder.mkdir(parents=True, exist_ok=True)
        for i in range(size):
            of_both = LocalOutput(output.activity_logits[2 * size + i], output.sources[2 * size + i])
            figure = draw_example(three_mixtures(pairs)[2 * size + i, 0], of_both, expected[2 * size + i])
            figure.savefig(self.folder / f"step-{trainer.global_step:07d}-{i}.png", dpi=70)
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    logger.experiment.add_figure(f"example-{i}", figure, trainer.global_step)


def draw_example(mixture: Tensor, output: LocalOutput, expected: Tensor) -> Figure:
    """Draw a mixture (T,) and its sources (K, T) as spectrograms, with activities (K, F) beneath."""
    signals = [mixture, *output.sources]
    figure = Figure(figsize=(8, 1.7 * len(signals) + 1.6), layout="constrained")
    rows = figure.subplots(len(signals) + 1, 1)
    for row, signal in zip(rows, signals, strict=False):
        row.imshow(_spectrogram_db(signal), origin="lower", aspect="auto", vmin=-60, vmax=20, cmap="magma")
        row.set(xticks=[], yticks=[])
    rows[0].set_title("mixture, sources; then expected (grey) and estimated activity", fontsize=9)
    for k, (probability, truth) in enumerate(zip(output.activities, expected, strict=True)):
        offset = len(expected) - k
        rows[-1].fill_between(np.arange(len(truth)), offset, offset + 0.8 * truth.cpu().numpy(), color="0.8")
        rows[-1].plot(offset + 0.8 * probability.float().cpu().numpy(), linewidth=0.8)
    rows[-1].set(xlim=(0, expected.shape[1] - 1), yticks=[])
    return figure


def _spectrogram_db(signal: Tensor) -> NDArray[np.float32]:
    window = torch.hann_window(512, device=signal.device)
    spectrum = torch.stft(signal.float(), 512, 256, window=window, return_complex=True)
    return (20 * torch.log10(spectrum.abs() + 1e-4)).cpu().numpy()
