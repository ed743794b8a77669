"""Sound: any recording as a stream of blocks, and tracks on disk; the only place that knows libsndfile and ffmpeg.

Lossless formats (wav, flac, aiff …) are decoded by libsndfile, everything else (mp3, ogg, m4a, mp4, mkv …) by
the ffmpeg inside PyAV. `recording` makes of it what the rest of the library reads.
"""

from pixit.audio.blocks import Source
from pixit.audio.decode import AudioInfo, Samples, check_local, read_info
from pixit.audio.recording import BLOCK_SAMPLES, Audio, AudioFile, MemoryAudio, open_audio
from pixit.audio.signals import Channel, resample_blocks
from pixit.audio.sources import open_source
from pixit.audio.tracks import OPUS_RATES_HZ, Track, TrackWriter, encode_clip

__all__ = [
    "BLOCK_SAMPLES",
    "OPUS_RATES_HZ",
    "Audio",
    "AudioFile",
    "AudioInfo",
    "Channel",
    "MemoryAudio",
    "Samples",
    "Source",
    "Track",
    "TrackWriter",
    "check_local",
    "encode_clip",
    "open_audio",
    "open_source",
    "read_info",
    "resample_blocks",
]
