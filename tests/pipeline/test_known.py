"""Speakers who are known by their voices: enrolled, and found again in recordings and streams."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixit.pipeline.batch import separate_all
from pixit.pipeline.enrolment import KnownSpeakers
from pixit.pipeline.known import recognize
from pixit.pipeline.live import Update
from pixit.pipeline.local import embed_speakers, hear_windows
from pixit.pipeline.local_turns import make_spool
from pixit.pipeline.recorder import StreamRecorder
from pixit.pipeline.separate import Separator
from pixit.pipeline.settings import SeparationSettings, StreamingSettings
from pixit.pipeline.streaming import StreamingSeparator
from pixit.pipeline.turns import TurnChange
from pixit.results import Separation
from pixit.types import FrameGrid, LocalOutput, PixitError

BANDS_HZ = [(20, 80), (110, 170), (200, 260), (290, 350), (380, 440)]
"""Where the voices of the `oracle` fixture lie."""
PEOPLE = ["Ann", "Ben", "Cleo", "Dan", "Eve"]
RATE_HZ = 1000


@dataclass
class Bands:
    """Separates voices by their bands, the three loudest of them; it remembers how many windows it has heard."""

    sample_rate_hz: int = RATE_HZ
    num_speakers: int = 3
    window_samples: int = 2000
    frame_grid: FrameGrid = field(default_factory=lambda: FrameGrid(20, 20))
    num_heard: int = 0

    def num_frames(self, num_samples: int) -> int:
        return num_samples // 20

    def __call__(self, waveforms: Tensor) -> LocalOutput:
        self.num_heard += len(waveforms)
        spectra = torch.fft.rfft(waveforms[:, 0].double())
        frequencies = torch.fft.rfftfreq(waveforms.shape[-1], 1 / RATE_HZ)
        masks = torch.stack([(frequencies >= low - 5) & (frequencies < high + 5) for low, high in BANDS_HZ])
        voices = torch.fft.irfft(spectra[:, None] * masks, waveforms.shape[-1])  # (B, 5, T)
        loudest = voices.square().sum(-1).argsort(dim=1, descending=True)[:, :3]
        sources = torch.take_along_dim(voices, loudest[..., None], dim=1).float()
        levels = sources.abs().unfold(2, 20, 20).mean(-1)
        return LocalOutput(torch.where(levels > 0.01, 8.0, -8.0), sources)


@pytest.fixture
def make(oracle: Any) -> Any:
    """Make a separator that hears bands."""

    def separator(**settings: Any) -> Separator:
        chosen = SeparationSettings(**{"step_s": 0.5, **settings})
        return Separator(Bands(), oracle.Embedder(), chosen, device="cpu")

    return separator


@pytest.fixture
def voices(oracle: Any, tmp_path: Path) -> Path:
    """A folder with recordings of Ann, Ben and Dan: voices 0, 1 and 3."""
    folder = tmp_path / "voices"
    (folder / "Ben").mkdir(parents=True)
    write(folder / "Ann.wav", speak(oracle, 0, 6))
    write(folder / "Ben" / "monday.wav", speak(oracle, 1, 2))
    write(folder / "Ben" / "more" / "friday.flac", speak(oracle, 1, 2))
    write(folder / "Dan.flac", speak(oracle, 3, 5))
    (folder / "notes.txt").write_text("nothing to hear")
    (folder / ".hidden.wav").write_text("nothing to hear")
    return folder


def speak(oracle: Any, speaker: int, seconds: float, seed: int = 7) -> NDArray[np.float32]:
    voice: NDArray[np.float32] = oracle.voice(speaker, round(seconds * RATE_HZ), np.random.default_rng(seed))
    return voice


def write(path: Path, samples: NDArray[np.float32]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, RATE_HZ)
    return path


def assert_named(result: Any, truth: Any, names: list[str]) -> None:
    """Check that everybody has the name, and talks where that voice does."""
    assert set(result.diarization.labels()) == set(names)
    for name, talking in zip(names, truth.talking, strict=True):
        found = np.zeros(truth.num_samples, bool)
        for turn in result.turns:
            if turn.speaker == name:
                found[round(turn.start_s * RATE_HZ) : round(turn.end_s * RATE_HZ)] = True
        assert np.mean(found != talking) < 0.06


# --- recordings -------------------------------------------------------------------------------------------


def test_who_is_known_has_the_name(make: Any, oracle: Any, voices: Path, tmp_path: Path) -> None:
    truth = oracle.conversation(3, 30)
    result = make()(truth.audio, known_speakers=voices)
    number = [name for name in result.speakers if name.startswith("SPEAKER_")]
    assert_named(result, truth, ["Ann", "Ben", *number])
    assert number == [f"SPEAKER_{result.speakers.index(number[0]):02d}"]
    for name, source in zip(["Ann", "Ben", *number], truth.sources, strict=True):
        assert np.corrcoef(result.tracks[name].read(), source)[0, 1] > 0.95
    nearest = result.settings["known_speakers"]
    assert list(nearest) == ["Ann", "Ben", "Dan"]
    assert max(nearest["Ann"], nearest["Ben"]) < 0.1 < 0.9 < nearest["Dan"]
    saved = Separation.load(result.save(tmp_path / "out"))
    assert saved.speakers == result.speakers
    assert (saved.folder / "Ann.wav").is_file()  # type: ignore[operator]
    turns = make().diarize(truth.audio, known_speakers=voices)
    assert turns.turns == result.turns


@pytest.mark.parametrize("method", ["agglomerative", "spectral", "kmeans"])
def test_other_clustering(make: Any, oracle: Any, voices: Path, method: str) -> None:
    truth = oracle.conversation(2, 30)
    settings = {"method": method, "threshold": 0.7 if method == "agglomerative" else None}
    result = make(clustering=settings).diarize(truth.audio, num_speakers=2, known_speakers=voices)
    assert_named(result, truth, ["Ann", "Ben"])


def test_clusters_whose_numbers_have_gaps(oracle: Any) -> None:
    """As VBx leaves them."""
    truth = oracle.conversation(3, 20)
    separator = Separator(Bands(), oracle.Embedder(), SeparationSettings(step_s=0.5), device="cpu")
    settings, recording = separator.settings, separator.open(truth.audio)
    how = settings.activity, separator.compute, lambda *_: None
    geometry = separator.lay_windows(recording)
    with make_spool(settings.activity, settings.turns, geometry, 3) as local:
        heard = hear_windows(separator.model, geometry.cut(recording), local, *how)
        vectors, seconds = embed_speakers(separator.embedder, local, heard, settings.embedding, *how)
        own = np.where(np.isfinite(vectors).all(-1), vectors.argmax(-1), -1)
        known = separator.enrol({"Cleo": {"waveform": speak(oracle, 2, 5)[None], "sample_rate": RATE_HZ}})
        bounds = (1, None)
        more = known, settings.clustering, settings.activity, 0.6, bounds
        found, recognized = recognize(local, vectors, seconds, np.where(own > 0, 7 * own, own), *more)
    assert len(np.unique(found[found >= 0])) == 3
    assert list(recognized.found.values()) == ["Cleo"]


def test_clustering_that_takes_two_for_one_learns_better(make: Any, oracle: Any, voices: Path) -> None:
    truth = oracle.conversation(2, 30)
    separator = make(clustering={"threshold": 2, "known_distance": 0.6})
    assert len(separator.diarize(truth.audio).speakers) == 1
    assert_named(separator.diarize(truth.audio, known_speakers=voices), truth, ["Ann", "Ben"])
    bounded = separator.diarize(truth.audio, max_speakers=1, known_speakers=voices)
    assert len(bounded.speakers) == 1


def test_the_number_that_was_asked_for_is_kept(make: Any, oracle: Any, voices: Path) -> None:
    """Though everybody talks for less than a speaker has to."""
    sound = np.concatenate([speak(oracle, n, 1.5) for n in (0, 1, 2)])
    audio = {"waveform": sound[None], "sample_rate": RATE_HZ}
    separator = make(clustering={"min_speaker_s": 2.0})
    result = separator.diarize(audio, num_speakers=3, known_speakers=voices)
    assert result.speakers == ["Ann", "Ben", "SPEAKER_02"]


@pytest.mark.parametrize("absent", ["Aaron", "Zed"])
def test_who_talks_is_not_decided_by_the_alphabet(make: Any, oracle: Any, absent: str) -> None:
    truth = oracle.conversation(3, 30)
    truth = oracle.Conversation(truth.sources[1:], truth.talking[1:])
    names = {absent: 0, "Ben": 1, "Cleo": 2}
    voices = {
        name: {"waveform": speak(oracle, voice, 5)[None], "sample_rate": RATE_HZ}
        for name, voice in names.items()
    }
    separator = make(clustering={"threshold": 2, "known_distance": 0.6})  # everybody is one cluster
    assert_named(
        separator.diarize(truth.audio, max_speakers=2, known_speakers=voices), truth, ["Ben", "Cleo"]
    )


def test_nobody_talks_or_nobody_is_known(make: Any, oracle: Any, voices: Path) -> None:
    silence = {"waveform": np.zeros((1, 9000), np.float32), "sample_rate": RATE_HZ}
    result = make()(silence, known_speakers=voices)
    assert (result.speakers, result.settings["known_speakers"]) == ([], dict.fromkeys(["Ann", "Ben", "Dan"]))
    truth = oracle.Conversation(*(rows[[2, 4]] for rows in vars(oracle.conversation(5, 30)).values()))
    assert make().diarize(truth.audio, known_speakers=voices).speakers == ["SPEAKER_00", "SPEAKER_01"]


def test_voices_in_memory_and_who_talks_most_in_a_recording(make: Any, oracle: Any) -> None:
    truth = oracle.conversation(2, 30)
    mixed = np.concatenate([speak(oracle, 0, 9), np.zeros(500, np.float32), speak(oracle, 1, 3)])
    given = {
        "Ann": [{"waveform": mixed[None], "sample_rate": RATE_HZ}],
        "Ben": {"waveform": speak(oracle, 1, 4)[None], "sample_rate": RATE_HZ},
    }
    separator = make()
    known = separator.enrol(given)
    assert separator.enrol(known) is known
    assert known.names == ("Ann", "Ben")
    assert known.seconds == pytest.approx([9, 4], abs=0.1)  # nothing is heard twice
    assert_named(separator.diarize(truth.audio, known_speakers=known), truth, ["Ann", "Ben"])
    others = replace(known, sha256="another")
    requests = [separator.ask("a", known_speakers=one).describe() for one in (known, others)]
    assert requests[0] != requests[1]


def test_a_folder_is_heard_once_until_it_changes(make: Any, oracle: Any, voices: Path) -> None:
    separator = make()
    known = separator.enrol(voices)
    num_heard = separator.model.num_heard
    assert separator.enrol(str(voices)) is known
    assert separator.model.num_heard == num_heard
    write(voices / "Cleo.wav", speak(oracle, 2, 5))
    assert separator.enrol(voices).names == ("Ann", "Ben", "Cleo", "Dan")
    assert separator.enrol(voices).sha256 != known.sha256


def test_a_result_with_names_is_known(make: Any, oracle: Any, tmp_path: Path) -> None:
    truth = oracle.conversation(3, 30)
    monday = make()(truth.audio, num_speakers=3)
    folder = monday.save(tmp_path / "monday")
    with pytest.raises(PixitError, match=r"nobody in it has a name.*pixit rename"):
        make().enrol(folder)
    order = np.argsort(truth.talking.argmax(axis=1))
    saved = Separation.load(folder)
    saved.rename({f"SPEAKER_{place:02d}": PEOPLE[voice] for place, voice in enumerate(order) if voice != 1})
    assert make().enrol(folder).names == tuple(PEOPLE[voice] for voice in order if voice != 1)
    friday = oracle.conversation(3, 40, seed=5)
    result = make().diarize(friday.audio, known_speakers=folder)
    unknown = [name for name in result.speakers if name not in PEOPLE]
    assert_named(result, friday, ["Ann", *unknown, "Cleo"])


def test_results_of_other_voices_are_not_taken_for_done(
    make: Any, oracle: Any, voices: Path, tmp_path: Path
) -> None:
    path = write(tmp_path / "meeting.wav", oracle.conversation(2, 20).mixture)

    def run(**more: Any) -> Any:
        (outcome,) = separate_all(make(), [path], tmp_path / "out", **more)
        return outcome

    first = run(known_speakers=voices)
    assert set(first.result.speakers) == {"Ann", "Ben"}
    assert run(known_speakers=voices).elapsed_s is None
    assert "another known_speakers" in str(run().error)
    shutil.rmtree(voices / "Ben")
    assert "another known_speakers" in str(run(known_speakers=voices).error)
    assert "Ben" not in run(known_speakers=voices, overwrite=True).result.speakers


# --- what cannot be ---------------------------------------------------------------------------------------


def spoil(oracle: Any, folder: Path, what: str) -> Any:
    """Return known speakers of whom something is wrong; `folder` holds nobody yet."""
    short = {"waveform": speak(oracle, 0, 2)[None], "sample_rate": RATE_HZ}
    if what == "nothing":
        (folder / "Ann").mkdir()
    elif what == "result":
        write(folder / "meeting" / "Ann.wav", speak(oracle, 0, 5))
        for ending in ("json", "rttm"):
            (folder / "meeting" / f"meeting.{ending}").touch()
    given: dict[str, Any] = {
        "missing": folder / "nowhere",
        "nobody": {},
        "none": {"Ann": []},
        "short": {"Ann": short},
        "slash": {"Ann/Ben": short},
        "three": {
            "Ann": {**short, "waveform": np.concatenate([speak(oracle, n, 2) for n in range(3)])[None]}
        },
        "capitals": {"Ann": short, "ann": short},
        "list": ["Ann.wav"],
        "number": {"Ann": 3},
        "others": KnownSpeakers(("Ann",), np.ones((1, 7), np.float32), np.ones(1, np.float32), "abc"),
        "unknown": {"SPEAKER_03": short},
    }
    if what == "file":
        return write(folder / "Ann.wav", speak(oracle, 0, 5))
    return given.get(what, folder)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (
            "missing",
            "nowhere: does not exist; expected a folder with a recording of each speaker, as Ann.wav",
        ),
        ("file", "Ann.wav: is a file; expected a folder"),
        ("empty", "voices: holds no recordings; expected one of each speaker, as Ann.wav"),
        ("nothing", "voices: there is no recording of Ann; expected at least one"),
        ("result", "meeting: is a result, not a speaker; give this folder itself"),
        ("nobody", "known speakers: names nobody"),
        ("none", "known speakers: there is no recording of Ann"),
        ("short", r"waveform: holds 2.0 s of speech of Ann, expected at least 3 s; give a longer recording"),
        ("slash", "known speakers: 'Ann/Ben' cannot be the name of a speaker"),
        ("three", r"waveform: holds 2.0 s of speech of Ann, expected at least 3 s"),
        ("capitals", "known speakers: two speakers have the same file name; rename one of 'Ann', 'ann'"),
        ("list", "known speakers: found a list, expected a folder, or recordings by the names of speakers"),
        ("number", "known speakers: found a int for Ann, expected a recording, or a list of them"),
        ("others", "known speakers: were enrolled with another embedder; enrol them with this one"),
        ("unknown", "known speakers: SPEAKER_03 is what somebody unknown is called; give the speaker a name"),
    ],
)
def test_bad_voices_are_named(make: Any, oracle: Any, tmp_path: Path, what: str, message: str) -> None:
    (tmp_path / "voices").mkdir()
    with pytest.raises(PixitError, match=message):
        make().enrol(spoil(oracle, tmp_path / "voices", what))


@pytest.mark.parametrize("content", [b"", b"RIFF", None])
def test_files_without_a_voice_are_named(make: Any, tmp_path: Path, content: bytes | None) -> None:
    if content is None:
        write(tmp_path / "Ann.wav", np.zeros(9000, np.float32))
    else:
        (tmp_path / "Ann.wav").write_bytes(content)
    with pytest.raises(PixitError, match=r"Ann\.wav"):
        make().enrol(tmp_path)


def test_known_speakers_beside_a_reference_or_channels(make: Any, oracle: Any, voices: Path) -> None:
    truth = oracle.conversation(2, 10)
    stereo = {"waveform": truth.sources, "sample_rate": RATE_HZ}
    with pytest.raises(PixitError, match="channels are speakers; leave out the known speakers"):
        make().diarize(stereo, channels_are_speakers=True, known_speakers=voices)
    with pytest.raises(PixitError, match="a reference says who talks; leave out the known speakers"):
        make(clustering={"method": "oracle"}).diarize(truth.audio, reference=[], known_speakers=voices)


# --- streams ----------------------------------------------------------------------------------------------


def stream_of(oracle: Any, known: Any, **settings: Any) -> StreamingSeparator:
    chosen = StreamingSettings(step_s=0.5, **settings)
    return StreamingSeparator(Bands(), oracle.Embedder(noise=0.0), chosen, "cpu", known_speakers=known)


def blocks_of(sound: NDArray[np.float32], seed: int) -> Iterator[NDArray[np.float32]]:
    rng, position = np.random.default_rng(seed), 0
    while position < len(sound):
        size = int(rng.integers(1, 1500))
        yield sound[position : position + size]
        position += size


def test_streams_name_who_is_known_from_the_first_word_on(oracle: Any, voices: Path, tmp_path: Path) -> None:
    truth = oracle.conversation(3, 30)
    stream = stream_of(oracle, voices)
    recorder = StreamRecorder(tmp_path, "talk", stream.rate_hz)
    for block in blocks_of(truth.mixture, 0):
        recorder.write(stream.push(block))
    recorder.write(stream.finish())
    result = Separation.load(recorder.finish({}))
    (number,) = (name for name in result.speakers if name.startswith("SPEAKER_"))
    assert_named(result, truth, ["Ann", "Ben", number])
    stream.reset()
    again = stream.push(truth.mixture)
    assert set(again.speakers) == {"Ann", "Ben", number}


@pytest.mark.parametrize("pause_s", [0.25, None])
@pytest.mark.parametrize("seconds", [0.3, 8.0])
def test_strangers_have_no_name_of_those_who_are_not_there(
    oracle: Any, voices: Path, pause_s: float | None, seconds: float
) -> None:
    """Neither if they talk shortly, nor if more are known than there may be speakers."""
    sound = speak(oracle, 4, seconds)
    settings = {"clustering": {"max_speakers": 2}, "local_turns": {"pause_s": pause_s}}
    found = []
    for known in (None, voices):
        stream = stream_of(oracle, known, **settings)
        stream.push(np.concatenate([np.zeros(3000, np.float32), sound, np.zeros(3000, np.float32)]))
        stream.finish()
        found.append(stream.speakers)
    assert found[0] == found[1] == (("SPEAKER_00",) if seconds > 1 else ())


@pytest.mark.parametrize("pause_s", [0.25, None])
def test_there_are_no_more_speakers_than_there_may_be_of_those_known_either(
    oracle: Any, voices: Path, pause_s: float | None
) -> None:
    settings = {"clustering": {"max_speakers": 1}, "local_turns": {"pause_s": pause_s}}
    stream = stream_of(oracle, voices, **settings)
    stream.push(oracle.conversation(3, 30).mixture)  # Ann, Ben, and a stranger
    stream.finish()
    assert len(stream.speakers) == 1


def test_a_stream_of_known_speakers_goes_on_after_a_restart(oracle: Any, voices: Path) -> None:
    sound = oracle.conversation(3, 20).mixture
    whole = stream_of(oracle, voices)
    expected = [whole.push(sound[:9000]), whole.push(sound[9000:]), whole.finish()]
    stream = stream_of(oracle, voices)
    found = [stream.push(sound[:9000])]
    stream = StreamingSeparator.from_state(stream.state(), stream.model, stream.embedder, "cpu")
    found += [stream.push(sound[9000:]), stream.finish()]
    assert stream.known is not None
    assert whole.known is not None
    np.testing.assert_array_equal(stream.known.vectors, whole.known.vectors)
    for one, other in zip(found, expected, strict=True):
        assert (one.turns, one.speakers) == (other.turns, other.speakers)
        for name, track in other.tracks.items():
            np.testing.assert_array_equal(one.tracks[name], track)


def test_what_a_killed_stream_of_known_speakers_left_is_replaced(
    oracle: Any, voices: Path, tmp_path: Path
) -> None:
    stream = stream_of(oracle, voices)
    recorder = StreamRecorder(tmp_path, "talk", stream.rate_hz)
    recorder.write(stream.push(oracle.conversation(2, 20).mixture))  # and no more of it
    assert (tmp_path / "talk" / "Ann.wav").is_file()
    (tmp_path / "talk" / "Cleo.wav").touch()
    with pytest.raises(PixitError, match=r"holds Cleo\.wav, which is not part of the result"):
        StreamRecorder(tmp_path, "talk", stream.rate_hz, overwrite=True)
    (tmp_path / "talk" / "Cleo.wav").unlink()
    StreamRecorder(tmp_path, "talk", stream.rate_hz, overwrite=True)
    assert {path.name for path in (tmp_path / "talk").iterdir()} == {"talk.rttm", ".tracks"}


def test_names_that_somebody_else_gives_stay_in_the_folder(tmp_path: Path) -> None:
    """A recorder writes what a server sends, too."""
    recorder = StreamRecorder(tmp_path / "out", "talk", RATE_HZ)
    name = "../../evil\nSPEAKER x"
    turn = TurnChange("closed", name, 0.0, 1.0)
    recorder.write(Update(0, RATE_HZ, {name: np.ones(RATE_HZ, np.float32)}, (turn,), (name,)))
    result = Separation.load(recorder.finish({}))
    assert result.speakers == ["__.._evil_SPEAKER_x"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
