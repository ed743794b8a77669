"""A model on disk: pixit's own folders, pyannote.audio's files, and either of them on the Hugging Face hub."""

from pixit.checkpoints.native import load_model, save_model

__all__ = ["load_model", "save_model"]
