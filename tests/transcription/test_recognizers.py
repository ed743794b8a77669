from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from pixit.audio import AudioFile
from pixit.transcription.recognizers import Word, join_tokens, load_recognizer
from pixit.types import PixitError

NOISE = (0.1 * np.random.default_rng(0).standard_normal(8000)).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "language", "device", "message"),
    [
        ("wisper", None, "cpu", "is unknown"),
        ("pocketsphinx:en", None, "cpu", "is unknown"),
        ("pocketsphinx", "de", "cpu", "expected en"),
        ("whisper:missing.pt", None, "cpu", "no such file"),
        ("faster-whisper:./missing", None, "cpu", "no such folder"),
        ("faster-whisper:/a/b", None, "cpu", "no such folder"),
    ],
)
def test_wrong_names_are_named(name: str, language: str | None, device: str, message: str) -> None:
    for package in ("pocketsphinx", "whisper", "faster_whisper"):
        pytest.importorskip(package)
    with pytest.raises(PixitError, match=message) as raised:
        load_recognizer(name, language, device)
    assert "\n" not in str(raised.value)


def test_only_a_space_begins_a_word() -> None:
    tokens = [(" Don", 0.0, 0.2), ("'t", 0.2, 0.3), (" ", 0.3, 0.3), (" go", 0.4, 0.5), (".", 0.5, 0.6)]
    assert join_tokens(tokens) == [Word("Don't", 0.0, 0.3), Word("go.", 0.4, 0.6)]
    assert join_tokens([("今日", 0.0, 0.4), ("は", 0.4, 0.5)]) == [Word("今日は", 0.0, 0.5)]
    assert join_tokens([]) == []


class TestPocketSphinx:
    @pytest.fixture(scope="class")
    @staticmethod
    def recognizer() -> object:
        pytest.importorskip("pocketsphinx")
        return load_recognizer("pocketsphinx")

    @pytest.mark.real
    def test_speech(self, recognizer, shared_data: Path) -> None:
        path = sorted((shared_data / "librispeech" / "dev").rglob("*.flac"))[11]
        samples = AudioFile(path, 16000).read(0, 16000 * 3)
        words = recognizer(samples, 16000)
        # "… should make inquiries as to symptoms …", as good as it gets
        assert {"make", "inquiries"} <= {word.text for word in words}
        assert all(0 <= word.start_s < word.end_s <= 3.01 for word in words)
        assert all(one.end_s <= other.start_s + 1e-6 for one, other in pairwise(words))
        recognizer(NOISE, 16000)
        assert recognizer(samples, 16000) == words, "what was heard before must not matter"

    @pytest.mark.parametrize("length", [0, 1, 100, 16000])
    def test_nothing_is_heard_in_silence(self, recognizer, length: int) -> None:
        assert recognizer(np.zeros(length, np.float32), 16000) == []
        assert isinstance(recognizer(np.full(length, 0.01, np.float32), 16000), list)

    def test_other_rates_are_resampled(self, recognizer) -> None:
        assert isinstance(recognizer(NOISE, 8000), list)


def tiny_whisper(path: Path, num_tokens: int) -> str:
    """A random model that is sure of itself: Whisper would try six times to do better otherwise."""
    torch = pytest.importorskip("torch")
    model = pytest.importorskip("whisper.model")
    sizes = {"n_audio_state": 8, "n_audio_head": 2, "n_audio_layer": 1}
    sizes |= {"n_text_ctx": 12, "n_text_state": 8, "n_text_head": 2, "n_text_layer": 2}
    dims = model.ModelDimensions(n_mels=80, n_audio_ctx=1500, n_vocab=num_tokens, **sizes)
    generator = torch.Generator().manual_seed(0)
    network = model.Whisper(dims)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    network.decoder.token_embedding.weight.data *= 20
    torch.save({"dims": dims.__dict__, "model_state_dict": network.state_dict()}, path)
    return f"whisper:{path}"


class TestWhisper:
    @pytest.fixture(autouse=True)
    @staticmethod
    def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
        """Numba takes seconds to compile what takes no time here."""
        timing = pytest.importorskip("whisper.timing")
        for name in ("dtw_cpu", "backtrace"):
            function = getattr(timing, name)
            monkeypatch.setattr(timing, name, getattr(function, "py_func", function))

    def test_a_checkpoint_on_disk(self, tmp_path: Path) -> None:
        import torch

        recognizer = load_recognizer(tiny_whisper(tmp_path / "tiny.pt", 51865), "en", "cpu")
        before = torch.get_rng_state()
        words = recognizer(NOISE, 16000)
        assert words
        assert all(isinstance(word.start_s, float) and word.start_s <= word.end_s for word in words)
        assert torch.equal(before, torch.get_rng_state())
        assert recognizer(NOISE, 16000) == words
        assert recognizer(np.zeros(16000, np.float32), 16000) == []
        assert len(recognizer.description["sha256"]) == 64

    def test_languages(self, tmp_path: Path) -> None:
        multilingual = tiny_whisper(tmp_path / "many.pt", 51865)
        assert load_recognizer(multilingual, "de", "cpu").language == "de"
        with pytest.raises(PixitError, match="expected a code"):
            load_recognizer(multilingual, "german", "cpu")
        english = tiny_whisper(tmp_path / "english.pt", 51864)
        with pytest.raises(PixitError, match="expected en"):
            load_recognizer(english, "de", "cpu")

    @pytest.mark.parametrize("kind", ["text", "pickle", "dict"])
    def test_a_file_that_is_no_checkpoint(self, tmp_path: Path, kind: str) -> None:
        import torch

        path = tmp_path / "model.pt"
        if kind == "text":
            path.write_text("no model")
        else:
            torch.save({"dims": {}} if kind == "dict" else [Path("x")], path)
        with pytest.raises(PixitError, match=r"model\.pt") as raised:
            load_recognizer(f"whisper:{path}", None, "cpu")
        assert "\n" not in str(raised.value)

    def test_a_device_that_does_not_exist(self, tmp_path: Path) -> None:
        with pytest.raises(PixitError, match="device warp"):
            load_recognizer(tiny_whisper(tmp_path / "tiny.pt", 51865), None, "warp")


def tiny_faster_whisper(folder: Path) -> str:
    """Convert a random English model with a token for each byte."""
    pytest.importorskip("faster_whisper")
    transformers = pytest.importorskip("transformers")
    converters = pytest.importorskip("ctranslate2.converters")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    names = "endoftext startoftranscript en translate transcribe startoflm startofprev nospeech notimestamps"
    times = [f"{0.02 * i:.2f}" for i in range(1501)]
    tokenizer.add_special_tokens([f"<|{name}|>" for name in [*names.split(), *times]])
    end = tokenizer.token_to_id("<|endoftext|>")
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16}
    sizes |= {"decoder_ffn_dim": 16, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    config = transformers.WhisperConfig(
        vocab_size=tokenizer.get_vocab_size(),
        **{f"{name}_token_id": end for name in ("pad", "bos", "eos")},
        decoder_start_token_id=end + 1,
        begin_suppress_tokens=[end],
        suppress_tokens=[],
        **sizes,
    )
    source = folder / "transformers"
    transformers.WhisperForConditionalGeneration(config).save_pretrained(source)
    tokenizer.save(str(source / "tokenizer.json"))
    (source / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    (source / "preprocessor_config.json").write_text(
        json.dumps({"feature_extractor_type": "WhisperFeatureExtractor"})
    )
    converter = converters.TransformersConverter(str(source), copy_files=["tokenizer.json"])
    return converter.convert(str(folder / "converted"))


def test_faster_whisper_from_a_folder(tmp_path: Path) -> None:
    folder = tiny_faster_whisper(tmp_path)
    recognizer = load_recognizer(f"faster-whisper:{folder}", "en", "cpu")
    words = recognizer(NOISE, 16000)
    assert isinstance(words, list)
    assert all(isinstance(word, Word) and word.start_s <= word.end_s for word in words)
    assert recognizer(np.zeros(16000, np.float32), 16000) == []
    with pytest.raises(PixitError, match="expected en"):
        load_recognizer(f"faster-whisper:{folder}", "de", "cpu")
    with pytest.raises(PixitError, match="device warp"):
        load_recognizer(f"faster-whisper:{folder}", None, "warp")
    (Path(folder) / "tokenizer.json").unlink()  # faster-whisper would fetch one from the hub
    with pytest.raises(PixitError, match=r"lacks tokenizer\.json"):
        load_recognizer(f"faster-whisper:{folder}", "en", "cpu")
