"""Oracle clustering: with the reference at hand nobody is confused, whatever the voices sound like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyannote.core import Annotation, Segment

from pixit.pipeline.batch import separate_all
from pixit.pipeline.separate import Separator
from pixit.pipeline.settings import SeparationSettings
from pixit.types import PixitError, Turn


def turns_of(truth: Any, rate_hz: int) -> list[Turn]:
    found = []
    for number, row in enumerate(truth.talking):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(int), [0]]))).reshape(-1, 2)
        found += [Turn(start / rate_hz, end / rate_hz, f"person{number}") for start, end in edges]
    return sorted(found, key=lambda turn: turn.start_s)


class Deaf:
    """An embedder that must not be asked."""

    sample_rate_hz, embedding_size, clustering_threshold = 1000, 4, 0.5

    def __call__(self, waveforms: Any, weights: Any = None) -> Any:
        raise AssertionError("the oracle asks for nobody's voice")


def make(oracle: Any, truth: Any) -> Separator:
    chosen = SeparationSettings.model_validate({"step_s": 0.5, "clustering": {"method": "oracle"}})
    return Separator(oracle.Model(truth, 500), Deaf(), chosen, device="cpu")


def test_the_true_speakers_are_found_without_embeddings(oracle: Any) -> None:
    truth = oracle.conversation(4, 30, seed=1)
    turns = turns_of(truth, oracle.rate_hz)
    annotation = Annotation()
    for number, turn in enumerate(turns):
        annotation[Segment(turn.start_s, turn.end_s), number] = turn.speaker
    for reference in (turns, annotation):
        result = make(oracle, truth)(truth.audio, reference=reference)
        assert len(result.speakers) == 4
        order = list(dict.fromkeys(turn.speaker for turn in turns))
        for speaker, person in zip(result.speakers, order, strict=True):
            theirs = annotation.label_timeline(person).support(0.5)
            ours = result.diarization.label_timeline(speaker).support(0.5)
            both = theirs.crop(ours).duration()
            assert both > 0.95 * max(theirs.duration(), ours.duration())


def test_the_reference_is_part_of_the_request(oracle: Any) -> None:
    truth = oracle.conversation(2, 6, seed=1)
    turns = turns_of(truth, oracle.rate_hz)
    call = make(oracle, truth)(truth.audio, reference=turns).settings["request"]["call"]
    other = make(oracle, truth)(truth.audio, reference=turns[:1]).settings["request"]["call"]
    assert len(call["reference_sha256"]) == 64
    assert call != other


def test_a_reference_is_asked_for_and_of_no_other_use(oracle: Any, tmp_path: Path) -> None:
    truth = oracle.conversation(2, 6)
    with pytest.raises(PixitError, match="needs it"):
        make(oracle, truth)(truth.audio)
    plain = Separator(oracle.Model(truth, 500), oracle.Embedder(), device="cpu")
    with pytest.raises(PixitError, match="no other does"):
        plain(truth.audio, reference=[])
    rttm = tmp_path / "other.rttm"
    rttm.write_text("SPEAKER other 1 0 1 <NA> <NA> a <NA> <NA>\n")
    with pytest.raises(PixitError, match=r"other\.rttm"):
        make(oracle, truth)(truth.audio, reference=rttm)


def test_many_recordings_take_their_references_from_a_folder(oracle: Any, tmp_path: Path) -> None:
    import soundfile

    from pixit.formats.rttm import rttm_line

    truth = oracle.conversation(2, 6, seed=2)
    soundfile.write(tmp_path / "meeting.wav", truth.mixture, oracle.rate_hz, "FLOAT")
    lines = [rttm_line("meeting", turn) for turn in turns_of(truth, oracle.rate_hz)]
    (tmp_path / "meeting.rttm").write_text("\n".join(lines) + "\n")
    given = [tmp_path / "meeting.wav"], tmp_path / "out"
    (outcome,) = separate_all(make(oracle, truth), *given, reference=tmp_path / "meeting.rttm")
    assert outcome.error is None
    assert outcome.result is not None
    assert len(outcome.result.speakers) == 2
    (again,) = separate_all(make(oracle, truth), *given, reference=tmp_path / "meeting.rttm")
    assert again.elapsed_s is None  # done
    (missing,) = separate_all(make(oracle, truth), *given)
    assert missing.error is not None
