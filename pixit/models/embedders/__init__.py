"""Networks that tell voices apart."""

from pixit.models.embedders.resnet import SpeakerEncoder

__all__ = ["SpeakerEncoder"]
