"""Speech recognisers by name. Nothing is downloaded unless the name of a model on a hub is asked for."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from pixit.audio import Samples, resample_blocks
from pixit.files import file_hash
from pixit.types import PixitError

SAMPLE_RATE_HZ = 16000
SEED = 0  # of Whisper's sampling, where greedy decoding fails
NAMES = "pocketsphinx, whisper, whisper:MODEL or faster-whisper:MODEL"


@dataclass(frozen=True)
class Word:
    """A word (what stands between spaces) and where it lies, in seconds from the start of the samples."""

    text: str
    start_s: float
    end_s: float


Recognizer = Callable[[Samples, int], str | Sequence[Word]]
"""Returns the text, or the words with times, of a stretch of one speaker: float32 (T,) at a rate in Hz."""


def load_recognizer(name: str, language: str | None = None, device: str = "auto") -> NamedRecognizer:
    """Load a recogniser.

    Parameters
    ----------
    name
        ``"pocketsphinx"`` (English, its model comes inside its package); ``"whisper:MODEL"`` with a name of
        openai-whisper (``small.en``, ``large-v3`` …, downloaded once) or a checkpoint file;
        ``"faster-whisper:MODEL"`` with a name or hub name (downloaded once) or a folder of a converted model.
        Without ``:MODEL`` it is ``small.en``, or ``small`` for another `language`.
    language
        As ``"en"``; None to let a multilingual model detect it, stretch by stretch.
    device
        ``"cpu"``, ``"cuda"``, ``"cuda:1"``; ``"auto"`` takes a CUDA device if there is one. Whisper computes
        in float16 on CUDA and in float32 elsewhere.

    Raises
    ------
    PixitError
        If there is no such recogniser or model, it does not know the language, or the device cannot be used.
    """
    kind, _, model = name.partition(":")
    if kind not in KINDS or (kind == "pocketsphinx" and model):
        raise PixitError(f"recogniser {name!r}: is unknown; expected {NAMES}")
    if kind == "pocketsphinx":
        return PocketSphinx(language)
    default = "small.en" if language in (None, "en") else "small"
    return KINDS[kind](model or default, language, device)


class NamedRecognizer:
    """Base of the recognisers that have names: takes care of the sample rate."""

    description: dict[str, Any]
    """Everything that determines the words, fit for JSON."""

    def __call__(self, samples: Samples, sample_rate_hz: int) -> list[Word]:
        """Recognise speech (T,)."""
        if not np.any(samples):
            return []  # Whisper would invent words
        blocks = list(resample_blocks([np.asarray(samples, np.float32)], sample_rate_hz, SAMPLE_RATE_HZ))
        return self.recognize(np.concatenate(blocks))

    def recognize(self, samples: Samples) -> list[Word]:
        """Recognise speech (T,) at `SAMPLE_RATE_HZ`."""
        raise NotImplementedError


class PocketSphinx(NamedRecognizer):
    """CMU PocketSphinx with the US English model inside its package: small, offline, and often wrong."""

    def __init__(self, language: str | None = None) -> None:
        from pocketsphinx import Decoder

        _check_language("pocketsphinx", language, ["en"])
        self.decoder = Decoder(samprate=SAMPLE_RATE_HZ, loglevel="FATAL")
        self.description = {"recognizer": "pocketsphinx", "version": version("pocketsphinx")}

    def recognize(self, samples: Samples) -> list[Word]:
        decoder, frame_s = self.decoder, 1 / self.decoder.config["frate"]
        pcm = np.rint(np.clip(samples, -1, 1) * 32767).astype(np.int16)
        decoder.reinit_feat()  # forget the noise of what was heard before
        decoder.start_utt()
        decoder.process_raw(pcm.tobytes(), full_utt=True)
        decoder.end_utt()
        return [
            # and(2) is a pronunciation of and
            Word(part.word.partition("(")[0], part.start_frame * frame_s, (part.end_frame + 1) * frame_s)
            for part in decoder.seg() or ()
            if part.word[0] not in "<[+"  # <sil>, [NOISE], ++COUGH++
        ]


class Whisper(NamedRecognizer):
    """openai-whisper; `model` is one of its names or a checkpoint file. See `load_recognizer`."""

    def __init__(self, model: str, language: str | None = None, device: str = "auto") -> None:
        import torch
        import whisper
        from whisper.tokenizer import LANGUAGES

        name = f"whisper:{model}"
        is_named = model in whisper.available_models()
        path = Path(model).expanduser()
        if not (is_named or path.is_file()):
            known = ", ".join(whisper.available_models())
            raise PixitError(f"{name}: no such file, and none of openai-whisper's models: {known}")
        device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        try:
            torch.empty(0, device=device)
            self.model = whisper.load_model(model if is_named else str(path), device)
        except (OSError, RuntimeError, AssertionError) as error:
            raise _unusable(name, device, error) from None
        except (KeyError, TypeError, EOFError, AttributeError, pickle.UnpicklingError):
            raise PixitError(
                f"{name}: is not a checkpoint of openai-whisper (dims, model_state_dict)"
            ) from None
        _check_language(name, language, LANGUAGES if self.model.is_multilingual else ["en"])
        digest = None if is_named else file_hash(path)
        self.language = language
        self.description = {"recognizer": name, "language": language, "sha256": digest}

    def recognize(self, samples: Samples) -> list[Word]:
        import torch

        is_cuda = self.model.device.type == "cuda"
        with torch.random.fork_rng(devices=[self.model.device] if is_cuda else []):
            torch.manual_seed(SEED)  # the same stretch gives the same words
            result = self.model.transcribe(
                samples,
                language=self.language,
                fp16=is_cuda,
                word_timestamps=True,
                condition_on_previous_text=False,  # a stretch stands alone: no loops, no drift
            )
        return [
            word
            for segment in result["segments"]
            for word in join_tokens((w["word"], w["start"], w["end"]) for w in segment["words"])
        ]


class FasterWhisper(NamedRecognizer):
    """faster-whisper; `model` is a name of it, a hub name, or a folder of a converted model."""

    def __init__(self, model: str, language: str | None = None, device: str = "auto") -> None:
        from faster_whisper import WhisperModel

        name = f"faster-whisper:{model}"
        _check_folder(name, model)
        import ctranslate2  # comes with faster-whisper

        kind, _, index = device.partition(":")
        ctranslate2.set_random_seed(SEED)  # there is no seed for a single call
        if kind == "auto":
            kind = "cuda" if ctranslate2.get_cuda_device_count() else "cpu"
        try:
            self.model = WhisperModel(
                model,
                device=kind,
                device_index=int(index or 0),
                compute_type="float16" if kind == "cuda" else "float32",
            )
        except (OSError, RuntimeError, ValueError) as error:
            raise _unusable(name, kind, error) from None
        _check_language(name, language, self.model.supported_languages)
        digest = file_hash(Path(model) / "model.bin") if Path(model).is_dir() else None
        self.language = language
        self.description = {"recognizer": name, "language": language, "sha256": digest}

    def recognize(self, samples: Samples) -> list[Word]:
        segments, _ = self.model.transcribe(
            samples, language=self.language, word_timestamps=True, condition_on_previous_text=False
        )
        return [
            word
            for segment in segments
            for word in join_tokens((w.word, w.start, w.end) for w in segment.words or ())
        ]


KINDS: dict[str, Any] = {"pocketsphinx": PocketSphinx, "whisper": Whisper, "faster-whisper": FasterWhisper}


def join_tokens(tokens: Iterable[tuple[str, float, float]]) -> list[Word]:
    """Make words of what Whisper calls words, (text, start_s, end_s): only a leading space begins a new one.

    So languages that write no spaces keep their spelling, a segment at a time.
    """
    words: list[Word] = []
    for text, start_s, end_s in tokens:
        if words and not text.startswith(" "):
            words[-1] = Word(words[-1].text + text.rstrip(), words[-1].start_s, float(end_s))
        elif text.strip():
            words.append(Word(text.strip(), float(start_s), float(end_s)))
    return words


def _check_language(name: str, language: str | None, known: Collection[str]) -> None:
    if language is not None and language not in known:
        expected = ", ".join(sorted(known)) if len(known) < 5 else "a code as en, de, fr"
        raise PixitError(f"{name}: does not know the language {language!r}; expected {expected}")


def _check_folder(name: str, model: str) -> None:
    """Raise if what must be a folder on disk is none, or faster-whisper would fetch a part of it."""
    folder = Path(model)
    if not folder.exists():
        if folder.is_absolute() or model[0] in ".~" or model.count("/") > 1:
            raise PixitError(f"{name}: no such folder; expected a converted model, or a name on the hub")
        return
    for file in ("model.bin", "config.json", "tokenizer.json"):
        if not (folder / file).is_file():
            raise PixitError(
                f"{name}: lacks {file}, expected the folder of a converted model; make it with "
                "ct2-transformers-converter --copy_files tokenizer.json preprocessor_config.json"
            )


def _unusable(name: str, device: str, error: Exception) -> PixitError:
    reason = " ".join(str(error).split())[:200]
    return PixitError(f"{name}: cannot be loaded on device {device} ({reason}); name a model on disk, or cpu")
