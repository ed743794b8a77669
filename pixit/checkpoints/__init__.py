"""A model on disk: pixit's own folders, pyannote.audio's and SpeechBrain's files, and all of them on the hub."""

from pixit.checkpoints.hub import find_model
from pixit.checkpoints.native import load_model, save_model
from pixit.checkpoints.share import push_to_hub, save_pretrained

__all__ = ["find_model", "load_model", "push_to_hub", "save_model", "save_pretrained"]
