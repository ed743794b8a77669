"""What goes through the socket of a stream: docs/protocol.md in types, for the server and for its client."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError

from pixit.config import Settings
from pixit.types import one_line

VERSION = 1
PATH = "/v1/stream"
FORMATS: dict[str, np.dtype[Any]] = {"int16": np.dtype("<i2"), "float32": np.dtype("<f4")}
Format = Literal["int16", "float32"]
HEADER = struct.Struct("<I")
"""What a binary message of the server begins with: the number of its update."""
RATES_HZ = (4000, 384_000)
MOST_CHANNELS = 16
FULL_SCALE = 32768.0
LOUDEST = 2.0**33
"""As of files: larger samples are damaged ones."""

CLOSE_CODES = {
    "bad_message": 4400,
    "bad_audio": 4422,
    "unauthorized": 4401,
    "unknown_session": 4404,
    "idle": 4408,
    "taken_over": 4409,
    "lost": 4410,
    "too_long": 4413,
    "busy": 4429,
    "internal": 1011,
}
"""Code of an error -> code with which the socket is closed."""
FINISHED = 1000


class StreamError(Exception):
    """Why a stream ends; `code` is one of `CLOSE_CODES`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class Hello(Settings):
    """The first message of a new stream."""

    type: Literal["hello"]
    version: Literal[1]
    token: str | None = None
    sample_rate: int = Field(ge=RATES_HZ[0], le=RATES_HZ[1])
    format: Format = "int16"
    channels: int = Field(1, ge=1, le=MOST_CHANNELS)
    channel: int | None = Field(None, ge=0)
    step_s: float | None = Field(None, ge=0.1, le=60)
    latency_s: float | None = Field(None, gt=0, le=60)
    max_speakers: int | None = Field(None, ge=1)
    tracks: Format | None = None
    resume: bool = False


class Resume(Settings):
    """The first message of a client that comes back."""

    type: Literal["resume"]
    version: Literal[1]
    token: str | None = None
    session: str = Field(max_length=100)
    update: int = Field(ge=0)


class Finish(Settings):
    """The sound is at its end."""

    type: Literal["finish"]


class Ack(Settings):
    """A client has an update, and all before it."""

    type: Literal["ack"]
    update: int = Field(ge=0)


First = Hello | Resume
Later = Finish | Ack
_FIRST: TypeAdapter[First] = TypeAdapter(Annotated[First, Field(discriminator="type")])
_LATER: TypeAdapter[Later] = TypeAdapter(Annotated[Later, Field(discriminator="type")])


def parse_first(text: str | None) -> First:
    """Parse what a client says first; a StreamError if it is not what it should be."""
    return _parse(_FIRST, text, "hello or resume")


def parse_later(text: str) -> Later:
    """Parse what a client says later; a StreamError if it is not what it should be."""
    return _parse(_LATER, text, "ack or finish")


def _parse(adapter: TypeAdapter[Any], text: str | None, expected: str) -> Any:
    if text is None:
        raise StreamError("bad_message", f"found binary data, expected {expected} as JSON in a text message")
    try:
        return adapter.validate_json(text, strict=True)  # a number in quotes is none
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the message"
        raise StreamError("bad_message", f"{where}: {one_line(first['msg'])}; expected {expected}") from None


def decode_audio(data: bytes, format: Format, channels: int) -> NDArray[Any]:
    """Return the samples of a binary message, (n, channels), as they came.

    Raises
    ------
    StreamError
        If these are not whole samples, or they are NaN, infinite or absurdly large.
    """
    kind = FORMATS[format]
    if len(data) % (kind.itemsize * channels):
        raise StreamError(
            "bad_audio",
            f"found {len(data)} bytes, expected a multiple of {kind.itemsize * channels} ({format})",
        )
    samples = np.frombuffer(data, kind).reshape(-1, channels)
    if format == "float32" and len(samples):
        if not np.isfinite(samples).all():
            raise StreamError("bad_audio", "found NaN or infinite samples")
        if float(np.abs(samples).max()) > LOUDEST:
            raise StreamError("bad_audio", "found samples far beyond full scale, which is 1")
    return samples


def encode_tracks(update: int, tracks: Sequence[NDArray[np.float32]], format: Format) -> bytes:
    """Return the binary message of an update: its number, then each speaker's samples, one after the other."""
    parts = [HEADER.pack(update)]
    for track in tracks:
        if format == "int16":
            track = np.clip(np.rint(track * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1)
        parts.append(np.ascontiguousarray(track, FORMATS[format]).tobytes())
    return b"".join(parts)


def decode_tracks(data: bytes, update: Mapping[str, Any], format: Format) -> dict[str, NDArray[np.float32]]:
    """Return the tracks of an update by its binary message, speaker -> (n,); a ValueError if it is of another one."""
    (number,) = HEADER.unpack_from(data)
    if number != update["update"]:
        raise ValueError(f"found the tracks of update {number}, expected those of {update['update']}")
    samples = np.frombuffer(data, FORMATS[format], offset=HEADER.size).astype(np.float32)
    if format == "int16":
        samples /= np.float32(FULL_SCALE)
    return dict(zip(update["speakers"], samples.reshape(len(update["speakers"]), -1), strict=True))


def to_json(message: Mapping[str, Any]) -> str:
    """Return a message as text."""
    return json.dumps(message, separators=(",", ":"))
