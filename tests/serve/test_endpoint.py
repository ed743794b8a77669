"""The handler of a Hugging Face inference endpoint, in process: what it answers, and what it refuses."""

from __future__ import annotations

import base64
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from pixit.pipeline.separate import Separator
from pixit.serve.endpoint import EndpointHandler
from pixit.types import PixitError

EXAMPLE = Path(__file__).parents[2] / "examples" / "meeting.flac"


@pytest.fixture(scope="module")
def handler() -> EndpointHandler:
    return EndpointHandler()


@pytest.fixture(scope="module")
def speech() -> tuple[np.ndarray, int]:
    samples, rate_hz = soundfile.read(EXAMPLE, stop=8 * 16000, dtype="float32")
    return samples, rate_hz


@pytest.fixture(scope="module")
def recording(speech: tuple[np.ndarray, int], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("endpoint") / "speech.flac"
    soundfile.write(path, *speech, subtype="PCM_24")
    return path.read_bytes()


@pytest.fixture(scope="module")
def expected(handler: EndpointHandler, recording: bytes) -> Any:
    return handler({"inputs": recording})


def test_the_answer_is_the_diarization(
    handler: EndpointHandler, expected: Any, recording: bytes, tmp_path: Path
) -> None:
    (tmp_path / "speech.flac").write_bytes(recording)
    turns = handler.separator.diarize(tmp_path / "speech.flac").turns
    assert len(turns) > 0
    assert expected == {
        "diarization": [
            {"speaker": t.speaker, "start": round(t.start_s, 3), "end": round(t.end_s, 3)} for t in turns
        ]
    }


def test_every_kind_of_input_has_the_same_answer(
    handler: EndpointHandler, expected: Any, recording: bytes, speech: tuple[np.ndarray, int]
) -> None:
    samples, rate_hz = speech
    mono = samples if samples.ndim == 1 else samples[:, 0]
    text = base64.b64encode(recording).decode()
    assert handler({"inputs": "\n".join([text[:76], text[76:]]), "parameters": None}) == expected
    assert (
        handler({"inputs": {"array": mono.tolist(), "sampling_rate": rate_hz}, "parameters": {}}) == expected
    )
    assert handler({"inputs": {"waveform": [mono.tolist()], "sample_rate": float(rate_hz)}}) == expected


def test_parameters_reach_the_pipeline(handler: EndpointHandler, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    diarize = Separator.diarize

    def record(self: Separator, audio: Any, **parameters: Any) -> Any:
        asked.append(parameters)
        return diarize(self, audio)

    monkeypatch.setattr(Separator, "diarize", record)
    silence = {"array": [0.0] * 1600, "sampling_rate": 16000}
    known = {"num_speakers": None, "min_speakers": 1, "max_speakers": 3}
    assert handler({"inputs": silence, "parameters": known}) == {"diarization": []}
    assert asked == [known]


def wav(samples: np.ndarray, tmp_path: Path) -> bytes:
    soundfile.write(tmp_path / "x.wav", samples, 16000, subtype="FLOAT")
    return (tmp_path / "x.wav").read_bytes()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "has no 'inputs'"),
        ("audio", "has no 'inputs'"),
        ({"inputs": None}, "found a NoneType"),
        ({"inputs": 7}, "found a int"),
        ({"inputs": ["/etc/passwd"]}, "found a list"),
        ({"inputs": "/etc/hostname"}, "is not audio|no base64"),
        ({"inputs": str(EXAMPLE)}, "no base64"),
        ({"inputs": f"file://{EXAMPLE}"}, "no base64"),
        ({"inputs": "https://example.org/meeting.wav"}, "no base64.*not opened"),
        ({"inputs": ""}, "empty file"),
        ({"inputs": b""}, "empty file"),
        ({"inputs": b"hello"}, "is not audio"),
        ({"inputs": b"ffconcat version 1.0\nfile inputs\n"}, "is not audio"),
        ({"inputs": f"#EXTM3U\n#EXTINF:2,\n{EXAMPLE}\n#EXT-X-ENDLIST\n".encode()}, "is not audio"),
        ({"inputs": {}}, r"found \[\]"),
        ({"inputs": {"audio": str(EXAMPLE)}}, r"found \['audio'\]"),
        ({"inputs": {"array": str(EXAMPLE), "sampling_rate": 16000}}, "other things than numbers"),
        ({"inputs": {"array": [0.0] * 9}}, r"found \['array'\]"),
        ({"inputs": {"array": [0.0] * 9, "sampling_rate": "16000"}}, "sample rate of 16000; expected whole"),
        ({"inputs": {"array": [0.0] * 9, "sampling_rate": 10**12}}, "sample rate"),
        ({"inputs": {"array": [0.0] * 9, "sampling_rate": 0.5}}, "sample rate"),
        ({"inputs": {"array": [0.0] * 9, "sampling_rate": float("nan")}}, "sample rate"),
        ({"inputs": {"array": [[0.0], [0.0, 1.0]], "sampling_rate": 16000}}, "other things than numbers"),
        ({"inputs": {"array": [], "sampling_rate": 16000}}, "expected a floating point waveform"),
        ({"inputs": {"array": [[[0.0]]], "sampling_rate": 16000}}, "expected a floating point waveform"),
        ({"inputs": {"array": [0.0, float("nan")], "sampling_rate": 16000}}, "NaN"),
        ({"inputs": b"", "parameters": [3]}, "parameters: found a list"),
        ({"inputs": b"", "parameters": {"work_folder": "/tmp"}}, "unknown 'work_folder'.*num_speakers"),
        ({"inputs": b"", "parameters": {"num_speakers": "2"}}, "num_speakers: expected a whole number"),
        ({"inputs": b"", "parameters": {"num_speakers": 2, "max_speakers": 3}}, "not both"),
    ],
)
def test_bad_requests_end_in_one_line(
    handler: EndpointHandler, data: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(PixitError, match=message) as error:
        handler(data)
    assert "\n" not in str(error.value)
    assert str(tmp_path) not in str(error.value)  # nothing of where it lies
    assert list(tmp_path.iterdir()) == []


def test_a_repository_without_networks_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(PixitError, match=str(tmp_path)):
        EndpointHandler(str(tmp_path))


def test_the_two_lines_of_the_documentation(tmp_path: Path) -> None:
    from pixit.serve import endpoint

    lines = [line.strip() for line in (endpoint.__doc__ or "").splitlines() if line.startswith("    ")]
    assert len(lines) == 2
    names: dict[str, Any] = {}
    exec("\n".join(lines), names)
    assert names["EndpointHandler"] is EndpointHandler
