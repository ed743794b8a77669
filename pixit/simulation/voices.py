"""The voices that meetings are made of: utterances with their pauses found, and talk made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixit.audio import Samples

Intervals = NDArray[np.int64]
"""Stretches (n, 2) of samples, ``[start, end)``, ordered and disjoint."""

NOWHERE: Intervals = np.empty((0, 2), dtype=np.int64)

SPEECH_DBFS = -26.0  # level of active speech that every voice is brought to (ITU-T P.56 practice)
FRAME_S = 0.01
MAX_PAUSE_S = 0.3  # shorter pauses belong to the speech around them
MIN_SPEECH_S = 0.06
PADDING_S = 0.03  # onsets and releases are weaker than the threshold


def merge_close(intervals: Intervals, max_gap: int) -> Intervals:
    """Join intervals (n, 2) that overlap or lie at most `max_gap` apart; they need not be ordered."""
    if len(intervals) < 2:
        return intervals
    intervals = intervals[np.argsort(intervals[:, 0], kind="stable")]
    reach = np.maximum.accumulate(intervals[:, 1])
    begins = np.flatnonzero(np.concatenate([[True], intervals[1:, 0] - reach[:-1] > max_gap]))
    ends = np.concatenate([begins[1:] - 1, [len(intervals) - 1]])
    return np.stack([intervals[begins, 0], reach[ends]], axis=1)


def clip_intervals(intervals: Intervals, start: int, end: int) -> Intervals:
    """Return the parts of `intervals` inside ``[start, end)``, counted from `start`."""
    inside = np.clip(intervals, start, end) - start
    return inside[inside[:, 1] > inside[:, 0]]


def detect_speech(signal: Samples, sample_rate_hz: int) -> Intervals:
    """Find the speech in a clean recording (T,) by its energy; pauses are kept, of whatever length.

    A frame of 10 ms is speech where it is within 32 dB of the loud frames and clear of the noise floor.
    """
    frame_samples = round(FRAME_S * sample_rate_hz)
    num_frames = len(signal) // frame_samples
    if num_frames == 0:
        return NOWHERE
    frames = signal[: num_frames * frame_samples].reshape(num_frames, frame_samples)
    energy = np.mean(np.square(frames, dtype=np.float64), axis=1)
    smooth = np.convolve(energy, np.ones(3) / 3, mode="same")
    level_db = 10 * np.log10(smooth + 1e-12)
    loud_db, floor_db = np.percentile(level_db, [95, 5])
    if loud_db < -70:
        return NOWHERE
    threshold_db = min(max(loud_db - 32, floor_db + 8), loud_db - 12)
    edges = np.diff(np.concatenate([[0], level_db > threshold_db, [0]]).astype(np.int8))
    intervals = np.stack([np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)], axis=1)
    intervals = intervals[intervals[:, 1] - intervals[:, 0] >= round(MIN_SPEECH_S / FRAME_S)]
    padded = np.clip(intervals + np.array([-1, 1]) * round(PADDING_S / FRAME_S), 0, num_frames)
    return merge_close(padded * frame_samples, 0)


@dataclass(frozen=True)
class Voice:
    """All utterances of one speaker, one after the other, at one level."""

    speaker: str
    samples: NDArray[np.int16]
    """Dry speech (L,), 16 bits to save memory; its active parts have the level `SPEECH_DBFS`."""
    speech: Intervals
    """Where it is speech, pauses under 0.3 s included."""
    onsets: NDArray[np.int64]
    """Samples at which speech sets in after a pause of any length; talk can begin there."""

    @classmethod
    def from_utterances(
        cls, speaker: str, utterances: Sequence[Samples], sample_rate_hz: int
    ) -> Voice | None:
        """Trim the utterances, bring them to one level and join them; None where none holds speech."""
        pieces, stretches, offset = [], [], 0
        for utterance in utterances:
            if len(found := detect_speech(utterance, sample_rate_hz)) == 0:
                continue
            start, end = found[0, 0], found[-1, 1]
            active = np.concatenate([utterance[a:b] for a, b in found])
            gain = 10 ** (SPEECH_DBFS / 20) / np.sqrt(np.mean(np.square(active, dtype=np.float64)))
            pieces.append(np.clip(utterance[start:end] * (gain * 32768), -32768, 32767).astype(np.int16))
            stretches.append(found - start + offset)
            offset += end - start
        if not pieces:
            return None
        fine = np.concatenate(stretches)
        speech = merge_close(fine, round(MAX_PAUSE_S * sample_rate_hz))
        return cls(speaker, np.concatenate(pieces), speech, fine[:, 0])

    def draw_onset(self, rng: np.random.Generator) -> int:
        """Draw a place where speech sets in."""
        return int(self.onsets[rng.integers(len(self.onsets))])

    def draw_middle(self, rng: np.random.Generator) -> int:
        """Draw a place within speech, for talk that began earlier."""
        start, end = self.speech[rng.integers(len(self.speech))]
        return int(rng.integers(start, end))

    def next_onset(self, cursor: int) -> int:
        """Return the first onset at or after `cursor`, around the end if need be (then past `samples`)."""
        laps, place = divmod(cursor, len(self.samples))
        index = int(np.searchsorted(self.onsets, place))
        if index == len(self.onsets):
            laps, index = laps + 1, 0
        return laps * len(self.samples) + int(self.onsets[index])

    def cut(self, cursor: int, num_samples: int) -> tuple[Samples, Intervals]:
        """Return `num_samples` from `cursor` on, around the end if need be, and where they are speech."""
        total = len(self.samples)
        signals, stretches, done, place = [], [], 0, cursor % total
        while done < num_samples:
            taken = min(num_samples - done, total - place)
            signals.append(self.samples[place : place + taken])
            stretches.append(clip_intervals(self.speech, place, place + taken) + done)
            done, place = done + taken, 0
        signal = np.concatenate(signals).astype(np.float32) / np.float32(32768)
        return signal, np.concatenate(stretches)


def talk(
    voice: Voice, turns: Intervals, num_samples: int, sample_rate_hz: int, rng: np.random.Generator
) -> tuple[Samples, Intervals]:
    """Fill turns with the speech of a voice.

    The first turn begins at a random onset (amid speech where the turn begins at sample 0: it is taken to go
    on from before), each further turn at the next onset after the speech used so far. Turns are samples
    within ``[0, num_samples)``.

    Returns
    -------
    signal, speech
        Dry signal (T,), silent outside the turns, and where it truly is speech, pauses under 0.3 s bridged.
    """
    turns = turns[turns[:, 1] > turns[:, 0]]  # one of a sample, at another speed, may be of none
    signal = np.zeros(num_samples, dtype=np.float32)
    stretches = [NOWHERE]
    fade = np.linspace(0, 1, max(1, round(0.005 * sample_rate_hz)), dtype=np.float32)  # no clicks at cuts
    begins_before = len(turns) > 0 and turns[0, 0] == 0
    cursor = voice.draw_middle(rng) if begins_before else voice.draw_onset(rng)
    for index, (start, end) in enumerate(turns):
        if index > 0:
            cursor = voice.next_onset(cursor)
        piece, speech = voice.cut(cursor, int(end - start))
        if len(piece) > 2 * len(fade):
            if start > 0:
                piece[: len(fade)] *= fade
            if end < num_samples:
                piece[-len(fade) :] *= fade[::-1]
        signal[start:end] = piece
        stretches.append(speech + start)
        cursor += int(end - start)
    return signal, merge_close(np.concatenate(stretches), round(MAX_PAUSE_S * sample_rate_hz))
