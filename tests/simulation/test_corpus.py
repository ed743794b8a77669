"""A written corpus is read back by pyannote.database and by pixit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pixit.audio import open_audio
from pixit.data.database import load_recordings
from pixit.simulation.corpus import Subset, split_speakers, write_corpus
from pixit.simulation.simulate import Ingredients, MeetingSettings, simulate_meeting
from pixit.types import PixitError

SETTINGS = MeetingSettings(duration_s=10, min_talk_s=0.5, peak_dbfs=(-6, -1))


@pytest.fixture(scope="module")
def corpus(ingredients: Ingredients, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated") / "deep" / "corpus"
    subsets = {"train": Subset(ingredients, 2), "development": Subset(ingredients, 1)}
    return write_corpus(folder, subsets, SETTINGS, seed=3)


def test_pyannote_reads_the_corpus(corpus: Path) -> None:
    from pyannote.database import FileFinder
    from pyannote.database.registry import Registry

    registry = Registry()
    registry.load_database(corpus)
    protocol = registry.get_protocol(
        "Simulated.SpeakerDiarization.meetings", preprocessors={"audio": FileFinder(registry=registry)}
    )
    files = list(protocol.train())
    assert [file["uri"] for file in files] == ["train_0000", "train_0001"]
    assert [file["uri"] for file in protocol.development()] == ["development_0000"]
    for file in files:
        assert Path(file["audio"]).is_file()
        assert file["annotated"].duration() == pytest.approx(10)
        assert 2 <= len(file["annotation"].labels()) <= 4
        assert file["references"] == f"references/{file['uri']}"


def test_pixit_reads_what_was_simulated(corpus: Path, ingredients: Ingredients) -> None:
    recordings = load_recordings("Simulated.SpeakerDiarization.meetings", "train", corpus)
    meeting = simulate_meeting(ingredients, SETTINGS, np.random.default_rng([3, 0, 1]))
    recording = recordings[1]
    np.testing.assert_allclose(open_audio(recording.audio).read(), meeting.mixture, atol=1e-4)
    assert set(recording.references) == set(meeting.speakers)
    for speaker, reference in zip(meeting.speakers, meeting.references, strict=True):
        read = open_audio(recording.references[speaker]).read()
        assert len(read) == len(meeting.mixture)
        np.testing.assert_allclose(read, reference, atol=1e-4)
    assert len(recording.turns) == len(meeting.turns)
    for found, made in zip(recording.turns, meeting.turns, strict=True):
        assert found.speaker == made.speaker
        assert (found.start_s, found.end_s) == pytest.approx((made.start_s, made.end_s), abs=0.0011)
    assert recording.annotated == ((0.0, 10.0),)


def test_same_seed_same_files(corpus: Path, ingredients: Ingredients, tmp_path: Path) -> None:
    again = write_corpus(tmp_path / "again", {"train": Subset(ingredients, 1)}, SETTINGS, seed=3)
    for name in ("audio/train_0000.flac", "rttm/train_0000.rttm", "uem/train_0000.uem"):
        assert (again.parent / name).read_bytes() == (corpus.parent / name).read_bytes()


def test_progress_is_told(ingredients: Ingredients, tmp_path: Path) -> None:
    steps = []
    write_corpus(
        tmp_path / "corpus",
        {"test": Subset(ingredients, 3)},
        SETTINGS,
        hook=lambda step, _, total, completed: steps.append((step, total, completed)),
    )
    assert steps == [("simulating", 3, 1), ("simulating", 3, 2), ("simulating", 3, 3)]


def test_an_existing_folder_is_left_alone(ingredients: Ingredients, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("x")
    with pytest.raises(PixitError, match="exists already"):
        write_corpus(tmp_path, {"train": Subset(ingredients, 1)}, SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_nothing_is_left_of_a_corpus_that_fails(ingredients: Ingredients, tmp_path: Path) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_corpus(tmp_path / "corpus", {"train": Subset(ingredients, 2)}, SETTINGS, hook=stop)
    with pytest.raises(PixitError, match="ask for shorter meetings"):
        write_corpus(
            tmp_path / "corpus",
            {"train": Subset(ingredients, 2)},
            SETTINGS.model_copy(update={"duration_s": 5000.0}),
        )
    assert list(tmp_path.iterdir()) == []


def test_no_speaker_is_in_two_subsets(ingredients: Ingredients) -> None:
    rng = np.random.default_rng(0)
    subsets = split_speakers(ingredients, {"train": 9, "development": 1, "test": 0}, 2, rng)
    assert {name: subset.num_meetings for name, subset in subsets.items()} == {"train": 9, "development": 1}
    train, development = ({v.speaker for v in s.ingredients.pool.voices} for s in subsets.values())
    assert not train & development
    assert len(train | development) == 6
    assert len(train) == 4
    with pytest.raises(PixitError, match="found 6 speakers, expected 4 for each of train, test"):
        split_speakers(ingredients, {"train": 9, "test": 1}, 4, rng)


def test_wrong_wishes_are_told(ingredients: Ingredients, tmp_path: Path) -> None:
    with pytest.raises(PixitError, match="subset 'dev': expected one of train, development, test"):
        write_corpus(tmp_path / "corpus", {"dev": Subset(ingredients, 1)}, SETTINGS)
    with pytest.raises(PixitError, match="no meetings to write"):
        write_corpus(tmp_path / "corpus", {"train": Subset(ingredients, 0)}, SETTINGS)
    (tmp_path / "file").write_text("x")
    with pytest.raises(PixitError, match="cannot be written"):
        write_corpus(tmp_path / "file" / "corpus", {"train": Subset(ingredients, 1)}, SETTINGS)
