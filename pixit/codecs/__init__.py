"""Sound files and their formats: the only place that knows libsndfile and ffmpeg.

Lossless formats (wav, flac, aiff …) are decoded by libsndfile, everything else (mp3, ogg, m4a, mp4, mkv …) by
the ffmpeg inside PyAV. `pixit.audio` makes of it what the rest of the library reads.
"""

from pixit.codecs.clips import OPUS_RATES_HZ, encode_clip
from pixit.codecs.decode import AudioInfo, Samples, decode_from, decode_whole, read_info
from pixit.codecs.encode import TrackWriter

__all__ = [
    "OPUS_RATES_HZ",
    "AudioInfo",
    "Samples",
    "TrackWriter",
    "decode_from",
    "decode_whole",
    "encode_clip",
    "read_info",
]
