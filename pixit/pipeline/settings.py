"""What determines a separation, of a recording or of a stream, except the two networks."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from pixit.config import Settings
from pixit.pipeline.channels import ChannelSettings
from pixit.pipeline.cluster import ClusteringSettings
from pixit.pipeline.compute import Precision
from pixit.pipeline.diarize import ActivitySettings
from pixit.pipeline.incremental import IncrementalSettings
from pixit.pipeline.local import EmbeddingSettings
from pixit.pipeline.local_turns import LocalTurnSettings
from pixit.pipeline.stitch import StitchingSettings


class HearingSettings(Settings):
    """What a recording and a stream have in common."""

    precision: Precision = Field(
        "auto",
        description="of the networks; auto is bfloat16 where the device multiplies in it, else float32",
    )
    activity: ActivitySettings = ActivitySettings()
    local_turns: LocalTurnSettings = LocalTurnSettings()
    embedding: EmbeddingSettings = EmbeddingSettings()
    stitching: StitchingSettings = StitchingSettings()

    @property
    def turns(self) -> LocalTurnSettings:
        """Where local speakers are taken apart."""
        return self.local_turns


class SeparationSettings(HearingSettings):
    """Everything that determines a separation, except the two networks."""

    step_s: float = Field(1.0, gt=0, le=3600, description="seconds from one window to the next")
    batch_size: int | None = Field(
        None,
        ge=1,
        le=4096,
        description="windows at a time; by default 8, and on a CPU 1, for each of torch's threads",
    )
    clustering: ClusteringSettings = ClusteringSettings()
    channels: ChannelSettings = ChannelSettings()
    windows: Literal["fitted", "regular"] = Field(
        "fitted",
        description="fitted: windows start on a frame of the model, and the last one ends with the recording; "
        "regular: each starts exactly a step after the one before it, and the last is filled with zeros (as in "
        "pyannote.audio)",
    )

    @property
    def turns(self) -> LocalTurnSettings:
        """Where local speakers are taken apart: not at all where the clustering is of whole windows."""
        takes_turns = self.clustering.method in ("average", "oracle")
        return self.local_turns if takes_turns else LocalTurnSettings(pause_s=None)


class StreamingSettings(HearingSettings):
    """Everything that determines a live separation, except the two networks."""

    step_s: float = Field(0.5, gt=0, le=3600, description="seconds from one window to the next")
    latency_s: float | None = Field(
        None,
        gt=0,
        le=3600,
        description="seconds after which a moment is given out, from the step to the window: the later, the more "
        "windows have heard it; by default the window",
    )
    clustering: IncrementalSettings = IncrementalSettings()

    @model_validator(mode="after")
    def _check_live(self) -> Self:
        if self.activity.decision != "threshold":
            raise ValueError("activity.decision: a stream decides by threshold")
        if self.stitching.levels != "window":
            raise ValueError("stitching.levels: a stream takes the levels of each window")
        return self
