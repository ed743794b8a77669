"""Diarization as a Hugging Face inference endpoint.

A repository on the hub becomes one by a file ``handler.py`` with these two lines::

    from pixit.serve.endpoint import EndpointHandler
    __all__ = ["EndpointHandler"]

Requests come from strangers: nothing is fetched for them, and no file of the machine is opened but their own.
"""

from __future__ import annotations

import base64
import binascii
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pixit.diarized import Diarization
from pixit.pipeline.separate import Separator
from pixit.types import PixitError, one_line

PARAMETERS = ("num_speakers", "min_speakers", "max_speakers")
EXPECTED = (
    "expected the bytes of an audio file, these as base64, or {'array': samples, 'sampling_rate': Hz}; "
    "paths and addresses are not opened"
)
NAME = "inputs"
"""Of a request's recording, and so what messages about it begin with."""


class EndpointHandler:
    """Answers ``{"inputs": …, "parameters": …}`` with ``{"diarization": [{"speaker", "start", "end"}]}``.

    Parameters
    ----------
    path
        Folder of the repository, with anything that `Separator.from_pretrained` reads; empty for the bundled
        networks.

    Raises
    ------
    PixitError
        If no networks can be loaded from there.

    Examples
    --------
    >>> handler = EndpointHandler()                                           # doctest: +SKIP
    >>> handler({"inputs": sound, "parameters": {"num_speakers": 2}})         # doctest: +SKIP
    {'diarization': [{'speaker': 'SPEAKER_00', 'start': 0.35, 'end': 2.05}, …]}
    """

    def __init__(self, path: str = "") -> None:
        self.separator = Separator.from_pretrained(path or None)

    def __call__(self, data: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
        """Diarize a recording.

        Parameters
        ----------
        data
            ``inputs``: the bytes of an audio file of any format, the same as base64, or a mapping of ``array`` (or
            ``waveform``), samples as (time) or (channel, time), and ``sampling_rate`` (or ``sample_rate``), in Hz.
            ``parameters``: what is known of the number of speakers, as `Separator.diarize` takes it.

        Returns
        -------
        dict
            ``diarization``: the turns by their starts, times in seconds, in whole milliseconds.

        Raises
        ------
        PixitError
            In one line what is wrong with the request, which the platform answers as its ``error``.
        """
        if not isinstance(data, Mapping) or "inputs" not in data:
            raise PixitError(f"the request has no 'inputs'; {EXPECTED}")
        parameters = _check_parameters(data.get("parameters"))
        result = self._diarize(data["inputs"], parameters)
        return {
            "diarization": [
                {"speaker": turn.speaker, "start": round(turn.start_s, 3), "end": round(turn.end_s, 3)}
                for turn in result.turns
            ]
        }

    def _diarize(self, inputs: Any, parameters: dict[str, Any]) -> Diarization:
        if isinstance(inputs, Mapping):
            return self.separator.diarize(_read_array(inputs), **parameters)
        if isinstance(inputs, str):
            inputs = _decode(inputs)
        if not isinstance(inputs, bytes | bytearray):
            raise PixitError(f"{NAME}: found a {type(inputs).__name__}; {EXPECTED}")
        with tempfile.TemporaryDirectory(prefix="pixit-") as folder:
            path = Path(folder) / NAME  # no ending of the client's choosing: the content says what it is
            path.write_bytes(inputs)
            try:
                return self.separator.diarize(path, **parameters)
            except PixitError as error:  # of where it lies on this machine nothing is told
                raise PixitError(str(error).replace(str(path), NAME)) from None


def _check_parameters(given: Any) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise PixitError(
            f"parameters: found a {type(given).__name__}; expected some of {', '.join(PARAMETERS)}"
        )
    for name in given:
        if name not in PARAMETERS:
            raise PixitError(
                f"parameters: unknown {one_line(name, 40)!r}; expected some of {', '.join(PARAMETERS)}"
            )
    return dict(given)


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise PixitError(f"{NAME}: is a text, but no base64 ({one_line(text, 40)!r}); {EXPECTED}") from None


def _read_array(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return a waveform as `pixit.audio.open_audio` takes it."""
    samples = next((inputs[key] for key in ("array", "waveform") if key in inputs), None)
    rate_hz = next((inputs[key] for key in ("sampling_rate", "sample_rate") if key in inputs), None)
    if samples is None or rate_hz is None:
        raise PixitError(f"{NAME}: found {sorted(map(str, inputs))[:5]}; {EXPECTED}")
    if isinstance(rate_hz, bool) or not (
        isinstance(rate_hz, int) or (isinstance(rate_hz, float) and rate_hz.is_integer())
    ):
        raise PixitError(f"{NAME}: found a sample rate of {one_line(rate_hz, 40)}; expected whole Hz")
    try:
        array = np.asarray(samples, np.float32)
    except (TypeError, ValueError, OverflowError):
        raise PixitError(
            f"{NAME}: 'array' holds other things than numbers, or rows of them; {EXPECTED}"
        ) from None
    return {"waveform": array[None] if array.ndim == 1 else array, "sample_rate": rate_hz, "uri": NAME}
