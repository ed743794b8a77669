"""Whether a compressed file ends where it should, as far as its container tells."""

from __future__ import annotations

from pathlib import Path

import av

SLOPPY_S = 0.1
"""Seconds by which a header may promise too much: less is sloppiness, not a loss."""
PICTURE_S = 1.0
"""The same of videos: how long their last picture is shown is rarely written."""

Loss = tuple[float | None, str]
"""Seconds that were promised, if that is known, and else how the loss shows."""


class End:
    """How far the packets of a file go, and whether that is as far as they should."""

    def __init__(self) -> None:
        self.end_s = 0.0
        self.last: av.Packet | None = None

    def see(self, packet: av.Packet, stream: av.AudioStream) -> None:
        if packet.pts is not None and packet.time_base is not None:
            self.end_s = max(self.end_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        if packet.size and packet.stream.index == stream.index:
            self.last = packet

    def find_loss(self, path: Path, container: av.container.InputContainer) -> Loss | None:
        """Return what is missing at the end of a file whose packets were all seen.

        Of an mp3 without a count of its frames, and of an ogg, ffmpeg only guesses the length: their last frame or
        page shows if it was cut.
        """
        kind = container.format.name.split(",")[0]
        promised_s = None if container.duration is None else container.duration / 1e6
        counts = kind in ("matroska", "mov") or (kind == "mp3" and _has_frame_count(path))
        slack_s = SLOPPY_S if len(container.streams) == 1 else PICTURE_S
        if counts and promised_s is not None and promised_s - self.end_s > slack_s:
            return promised_s, ""
        if kind == "mp3" and self.last is not None and _is_cut_frame(bytes(self.last)):
            return None, ", its last frame is cut off"
        if kind == "ogg" and _ends_in_page(path):
            return None, ", its last page is cut off"
        return None


def _has_frame_count(path: Path) -> bool:
    """Tell whether an mp3 begins with a frame that counts the others (Xing, Info or VBRI)."""
    with path.open("rb") as file:
        start = file.read(10)
        if start.startswith(b"ID3") and len(start) == 10:  # a tag before it, its size in 7 bits a byte
            file.seek(10 + sum(byte << 7 * place for place, byte in enumerate(reversed(start[6:]))))
        else:
            file.seek(0)
        first = file.read(4096)
    return any(mark in first for mark in (b"Xing", b"Info", b"VBRI"))


# Of MPEG 1 and of MPEG 2 and 2.5, layer III, in kbit/s; and the sample rates of MPEG 1.
_MP3_BITRATES = (
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
_MP3_RATES_HZ = (44100, 48000, 32000)


def _is_cut_frame(frame: bytes) -> bool:
    """Tell whether a frame of layer III is shorter than its header says (ISO 11172-3, section 2.4.3.1)."""
    if len(frame) < 4:
        return True
    version, layer = frame[1] >> 3 & 3, frame[1] >> 1 & 3
    bitrate, rate = frame[2] >> 4, frame[2] >> 2 & 3
    if frame[0] != 0xFF or frame[1] < 0xE0 or layer != 1 or bitrate in (0, 15) or rate == 3:
        return False  # no such frame
    is_first = version == 3
    rate_hz = _MP3_RATES_HZ[rate] // {3: 1, 2: 2}.get(version, 4)
    bits = _MP3_BITRATES[not is_first][bitrate] * 1000 * (144 if is_first else 72)
    return len(frame) < bits // rate_hz + (frame[2] >> 1 & 1)


def _ends_in_page(path: Path) -> bool:
    """Tell whether a file ends within a page of Ogg (RFC 3533, section 6)."""
    largest = 65_307
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - 2 * largest))
        tail = file.read()
    page = tail[tail.rfind(b"OggS") :]
    num_segments = page[26] if len(page) > 26 else 0
    size = 27 + num_segments + sum(page[27 : 27 + num_segments])
    return len(page) < size or (len(page) > size and b"OggS".startswith(page[size:]))
