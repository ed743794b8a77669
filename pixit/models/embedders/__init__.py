"""Networks that compute speaker embeddings."""

from pixit.models.embedders.ecapa import EcapaTdnn
from pixit.models.embedders.resnet import SpeakerEncoder
from pixit.models.embedders.wespeaker import WeSpeakerResNet34

__all__ = ["EcapaTdnn", "SpeakerEncoder", "WeSpeakerResNet34"]
