from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
import torch

import pixit
from pixit.ownership import claim
from pixit.pipeline.batch import find_recordings, separate_all
from pixit.pipeline.separate import Separator
from pixit.results import Separation
from pixit.types import PixitError, Recording

RATE_HZ = 16000


class Counting(Separator):
    """Counts what it is asked."""

    asked: list[str]

    def __call__(self, audio: Any, *arguments: Any, **options: Any) -> Separation:
        self.asked.append(audio.uri)
        return super().__call__(audio, *arguments, **options)


@pytest.fixture
def separator(tiny_separator: Path) -> Counting:
    counting = Counting.from_pretrained(tiny_separator, device="cpu")
    assert isinstance(counting, Counting)
    counting.asked = []
    return counting


def write(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(seed).uniform(-0.1, 0.1, 2 * RATE_HZ), RATE_HZ)
    return path


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_every_recording_has_its_outcome_as_soon_as_it_is_known(separator: Counting, tmp_path: Path) -> None:
    paths = [write(tmp_path / "a.wav"), tmp_path / "missing.wav", write(tmp_path / "b c.wav")]
    (tmp_path / "bad.wav").write_bytes(b"")
    outcomes = separate_all(separator, [*paths, str(tmp_path / "bad.wav")], tmp_path / "out")
    assert isinstance(outcomes, Iterator)
    assert separator.asked == []
    first = next(outcomes)
    assert separator.asked == ["a"]
    assert first.result is not None
    assert first.result.speakers == Separation.load(tmp_path / "out" / "a").speakers
    assert {track.path.parent for track in first.result.tracks.values()} == {tmp_path / "out" / "a"}
    missing, second, bad = outcomes
    for outcome, message in ((missing, "missing.wav: cannot be read"), (bad, "bad.wav: is an empty file")):
        assert outcome.result is None
        assert isinstance(outcome.error, PixitError)
        assert message in str(outcome.error)
    assert (second.uri, second.path, second.folder) == ("b c", paths[2], tmp_path / "out" / "b_c")
    assert [outcome.elapsed_s is None for outcome in (first, missing, second, bad)] == [
        False,
        True,
        False,
        True,
    ]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "b_c"]


def test_what_is_done_is_not_done_again(separator: Counting, tmp_path: Path) -> None:
    a, b, out = write(tmp_path / "a.wav"), write(tmp_path / "b.wav", seed=1), tmp_path / "out"
    list(separate_all(separator, [a], out, num_speakers=2))
    before = files_in(out)
    again, new = separate_all(separator, [a, b], out, num_speakers=2)
    assert separator.asked == ["a", "b"]
    assert (again.elapsed_s, again.error) == (None, None)
    assert again.result is not None
    assert len(again.result.speakers) == 2
    assert new.elapsed_s is not None
    assert {name: files_in(out)[name] for name in before} == before
    (replaced,) = separate_all(separator, [a], out, num_speakers=2, overwrite=True)
    assert replaced.elapsed_s is not None


def test_a_result_that_python_saved_is_done(separator: Counting, tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav")
    separator(pixit.audio.open_audio(path)).save(tmp_path / "out")
    (outcome,) = separate_all(separator, [path], tmp_path / "out")
    assert (outcome.error, outcome.elapsed_s) == (None, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_speakers": 1}, "asked for 1"),
        ({"channel": 0}, "asked for 0"),
        ({"format": "flac"}, "(format)"),
        ({"settings": {"step_s": 0.25}}, "step_s: 0.5, asked for 0.25"),
        ({"file": 1}, "(another recording)"),
        ({"weights": 1}, "(another model)"),
    ],
)
def test_a_result_of_another_request_is_an_error_and_stays(
    change: dict[str, Any], message: str, separator: Counting, tiny_separator: Path, tmp_path: Path
) -> None:
    path, out = write(tmp_path / "a.wav"), tmp_path / "out"
    list(separate_all(separator, [path], out))
    before = files_in(out)
    other, options = separator, dict(change)
    if "settings" in options:
        other = Counting.from_pretrained(tiny_separator, device="cpu", settings=options.pop("settings"))  # type: ignore[assignment]
        other.asked = []
    if options.pop("file", None):
        write(path, seed=1)
    if options.pop("weights", None):
        torch.nn.init.zeros_(next(other.model.parameters()))  # type: ignore[attr-defined]
    (outcome,) = separate_all(other, [path], out, **options)
    assert message in str(outcome.error)
    assert files_in(out) == before
    (outcome,) = separate_all(other, [path], out, overwrite=True, **options)
    assert outcome.error is None


def test_folders_of_folders_are_searched_when_asked(tmp_path: Path) -> None:
    """But for hidden ones, and the tracks of results."""
    for name in ("a/b/one.wav", "a/two.flac", ".hidden/three.wav", "separated/m/SPEAKER_00.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / name)
    for ending in (".json", ".rttm"):
        (tmp_path / "separated" / "m" / f"m{ending}").write_text("")
    with pytest.raises(PixitError, match=r"holds no recordings; .* pass --recursive"):
        find_recordings([tmp_path])
    assert set(find_recordings([tmp_path], recursive=True)) == {"one", "two"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("https://example.org/a.wav", "is an address; pixit reads files and opens no network"),
        ("s3://bucket/a.wav", "is an address"),
        ("-", "recordings are read from files, more than once"),
    ],
)
def test_addresses_and_pipes_are_refused_in_words_that_say_so(name: str, message: str) -> None:
    with pytest.raises(PixitError, match=message):
        find_recordings([name])
    with pytest.raises(PixitError, match=message):
        pixit.audio.open_audio(name)


def test_a_recording_may_have_another_name_than_its_file(separator: Counting, tmp_path: Path) -> None:
    first, second = write(tmp_path / "a" / "audio.wav"), write(tmp_path / "b" / "audio.wav", seed=1)
    with pytest.raises(PixitError, match="would be named audio"):
        separate_all(separator, [first, second], tmp_path / "out")
    named = [Recording("monday", first), Recording("tuesday", second)]
    found = [
        outcome.result.uri for outcome in separate_all(separator, named, tmp_path / "out") if outcome.result
    ]
    assert found == ["monday", "tuesday"]


def test_an_output_that_cannot_be_written_is_said_at_once(separator: Counting, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PixitError, match="cannot be written"):
        separate_all(separator, [write(tmp_path / "a.wav")], tmp_path / "file" / "out")


def test_nothing_stays_of_nothing(separator: Counting, tmp_path: Path) -> None:
    list(separate_all(separator, [tmp_path / "missing.wav"], tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []
    outcomes = separate_all(separator, [write(tmp_path / "a.wav")], tmp_path / "out")
    del outcomes  # never asked
    assert not (tmp_path / "out").exists()


def test_the_hook_hears_of_every_recording(separator: Counting, tmp_path: Path) -> None:
    heard: set[tuple[str, str]] = set()

    def hook(step: str, artifact: Any, file: Any = None, **progress: Any) -> None:
        heard.add((file.uri, step))

    paths = [write(tmp_path / "a.wav"), write(tmp_path / "b.wav", seed=1)]
    list(separate_all(separator, paths, tmp_path / "out", hook=hook))
    assert {("a", "segmentation"), ("b", "segmentation"), ("b", "separations")} <= heard


def test_what_another_process_is_at_is_left_to_it_and_waited_for(separator: Counting, tmp_path: Path) -> None:
    a, b, c = (write(tmp_path / f"{name}.wav", seed) for seed, name in enumerate("abc"))
    out = tmp_path / "out"
    out.mkdir()
    said: list[str] = []
    with claim(out / "a"), claim(out / "c"):  # as another process would
        outcomes = separate_all(separator, [a, c, b], out, overwrite=True, say=said.append)
        assert next(outcomes).uri == "b"
        separator(pixit.audio.open_audio(a)).save(out)  # the other one is done with a, and died over c
    first, second = outcomes
    assert [line.split(":")[0] for line in said] == [str(a), str(c)]
    assert "another process is separating it" in said[0]
    assert (first.uri, first.elapsed_s, first.error) == ("a", None, None)
    assert (second.uri, second.elapsed_s is None, second.error) == ("c", False, None)
    assert separator.asked == ["b", "a", "c"]
    assert sorted(path.name for path in out.iterdir()) == ["a", "b", "c"]


def test_a_stream_is_part_of_the_request(separator: Counting, tmp_path: Path) -> None:
    path, out = tmp_path / "talk.mkv", tmp_path / "out"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("pcm_s16le", rate=RATE_HZ, layout="mono") for _ in range(2)]
        for stream in streams:
            samples = np.random.default_rng(stream.index).integers(-3000, 3000, (1, 2 * RATE_HZ))
            frame = av.AudioFrame.from_ndarray(samples.astype(np.int16), "s16", "mono")
            frame.sample_rate = RATE_HZ
            container.mux(stream.encode(frame))
    (first,) = separate_all(separator, [path], out)
    assert first.result is not None
    assert first.result.settings["warnings"] == ["has 2 audio streams, 0 was taken; --stream takes another"]
    (same,) = separate_all(separator, [path], out, stream=0)
    assert same.error is None
    (other,) = separate_all(separator, [path], out, stream=1)
    assert "stream: None, asked for 1" in str(other.error)
    (second,) = separate_all(separator, [path], out, stream=1, overwrite=True)
    assert second.result is not None
    settings = second.result.settings
    assert (settings["stream"], settings["source_streams"], settings["warnings"]) == (1, 2, [])
    (missing,) = separate_all(separator, [path], out, stream=2)
    assert "has no audio stream 2; expected 0 to 1" in str(missing.error)
