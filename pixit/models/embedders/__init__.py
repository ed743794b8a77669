"""Networks that compute speaker embeddings."""

from pixit.models.embedders.resnet import SpeakerEncoder

__all__ = ["SpeakerEncoder"]
