"""The page as a file: what is in it, without a browser."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from pyannote.core import Annotation, Segment

from pixit.audio import Track
from pixit.cli import cli
from pixit.formats.utterances import Utterance
from pixit.report import media
from pixit.report.content import list_lanes, match_speakers, read_scores
from pixit.report.media import find_mixture
from pixit.report.page import write_report
from pixit.results import Separation
from pixit.types import PixitError, Turn

EVIL = "<script>alert('x')</script> & \"Bob\""
TURNS = {"SPEAKER_00": [(1.0, 4.0), (11.0, 13.0)], "SPEAKER_01": [(3.0, 9.0)]}


def make_result(
    folder: Path,
    turns: dict[str, list[tuple[float, float]]] = TURNS,
    seconds: float = 24.0,
    rate_hz: int = 16000,
    uri: str = "talk",
    **settings: Any,
) -> Separation:
    """Save and load a result: a tone each speaker while it talks, and the recording, their sum."""
    folder.mkdir(parents=True, exist_ok=True)
    times_s = np.arange(round(seconds * rate_hz)) / rate_hz
    annotation, tracks, mixture = Annotation(uri=uri), {}, np.zeros(len(times_s))
    for index, (speaker, stretches) in enumerate(turns.items()):
        signal = np.zeros(len(times_s))
        for start_s, end_s in stretches:
            annotation[Segment(start_s, end_s), speaker] = speaker
            signal += (
                0.3
                * np.sin(2 * np.pi * 400 * (index + 1) * times_s)
                * ((start_s <= times_s) & (times_s < end_s))
            )
        soundfile.write(folder / f"{index}.wav", signal, rate_hz, "PCM_16")
        tracks[speaker] = Track.open(folder / f"{index}.wav")
        mixture += signal
    soundfile.write(folder / f"{uri}.wav", mixture, rate_hz, "PCM_16")
    described = {"source": str(folder / f"{uri}.wav"), "channel": "mean"} | settings
    result = Separation(uri, annotation, tracks, rate_hz, len(times_s), described)
    return Separation.load(result.save(folder / "separated"))


class PageParser(HTMLParser):
    """Gathers elements, their attributes, and the text of scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self.text: list[str] = []
        self.errors: list[str] = []
        self._open: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self._open = str(dict(attrs).get("id", "code"))
            self.scripts[self._open] = ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._open = None

    def handle_data(self, data: str) -> None:
        if self._open is not None:
            self.scripts[self._open] += data
        else:
            self.text.append(data)


def parse_page(path: Path) -> PageParser:
    parser = PageParser()
    parser.feed(path.read_text(encoding="utf-8"))
    parser.close()
    return parser


def clips_of(page: PageParser, lane: int) -> list[bytes]:
    return [base64.b64decode(line) for line in page.scripts[f"sound-{lane}"].split("\n")[:-1]]


# --- the page -------------------------------------------------------------------------------------------


def test_the_page_is_one_file_that_loads_nothing(tmp_path: Path) -> None:
    page = parse_page(write_report(make_result(tmp_path), tmp_path / "page.html"))
    links = [attrs[key] for _, attrs in page.elements for key in ("src", "href") if attrs.get(key)]
    assert links == ["data:,"]  # no icon
    policy = next(a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert "default-src 'none'" in policy
    assert not re.search(r"(https?:)?//\w+\.\w+", page.scripts["code"])
    assert list(page.scripts) == ["sound-0", "sound-1", "sound-2", "data", "code"]
    assert sorted(path.name for path in tmp_path.glob("*page*")) == ["page.html"]


def test_flac_clips_are_the_tracks_sample_by_sample(tmp_path: Path) -> None:
    result = make_result(tmp_path)
    page = parse_page(write_report(result, tmp_path / "page.html"))
    data = json.loads(page.scripts["data"])
    for lane, track in enumerate(result.tracks.values(), start=1):
        margin, parts = round(data["margin"] * 16000), []
        for index, clip in enumerate(clips_of(page, lane)):
            length = min(160000, result.num_samples - index * 160000)
            whole = soundfile.read(io.BytesIO(clip), dtype="int16")[0] if clip else np.zeros(0, np.int16)
            assert len(whole) in (0, length + 2 * margin)
            parts.append(whole[margin : margin + length] if clip else np.zeros(length, np.int16))
        expected = soundfile.read(track.path, dtype="int16")[0]
        assert np.abs(np.concatenate(parts).astype(int) - expected).max() <= 1


def test_silent_clips_take_no_room(tmp_path: Path) -> None:
    page = parse_page(write_report(make_result(tmp_path), tmp_path / "page.html"))
    assert [bool(clip) for clip in clips_of(page, 1)] == [True, True, False]
    assert [bool(clip) for clip in clips_of(page, 2)] == [True, False, False]


def test_opus_clips_sound_like_the_tracks(tmp_path: Path) -> None:
    result = make_result(tmp_path)
    page = parse_page(write_report(result, tmp_path / "page.html", sound="opus"))
    with av.open(io.BytesIO(clips_of(page, 1)[0])) as container:
        frames = av.AudioResampler(format="flt", layout="mono", rate=16000)
        decoded = [p.to_ndarray()[0] for f in container.decode(audio=0) for p in frames.resample(f)]
    heard = np.concatenate(decoded)
    margin = round(json.loads(page.scripts["data"])["margin"] * 16000)
    expected = next(iter(result.tracks.values())).read(16000, 4 * 16000)
    # a decoder may or may not skip the 6.5 ms that the encoder puts first
    lags = [heard[margin + 16000 + lag :][: len(expected)] for lag in range(-5, 120)]
    best = min(float(np.mean((lag - expected) ** 2)) for lag in lags)
    assert 10 * np.log10(np.mean(expected**2) / best) > 15


def test_sound_can_be_left_out(tmp_path: Path) -> None:
    page = parse_page(write_report(make_result(tmp_path), tmp_path / "page.html", sound="none"))
    assert not any(clips_of(page, 0))
    assert not [a for _, a in page.elements if a.get("class") == "solo"]
    assert json.loads(page.scripts["data"])["lanes"][0]["peaks"]


def test_long_recordings_are_compressed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixit.report.page.FLAC_LIMIT_S", 20)
    page = parse_page(write_report(make_result(tmp_path), tmp_path / "page.html"))
    assert clips_of(page, 0)[0].startswith(b"OggS")


@pytest.mark.parametrize("rate_hz", [8000, 11025, 44100])
def test_any_sample_rate(tmp_path: Path, rate_hz: int) -> None:
    result = make_result(tmp_path, seconds=3, rate_hz=rate_hz)
    data = json.loads(parse_page(write_report(result, tmp_path / "p.html", sound="opus")).scripts["data"])
    assert data["sampleRate"] == {8000: 8000, 11025: 12000, 44100: 48000}[rate_hz]
    assert data["duration"] == 3


def test_what_comes_from_outside_is_escaped(tmp_path: Path) -> None:
    result = make_result(tmp_path, {EVIL: [(0.0, 1.0)]}, 2)
    result.uri = EVIL
    result.settings["</script>"] = EVIL
    (tmp_path / "scores.json").write_text(json.dumps({"title": EVIL, "rows": [{EVIL: EVIL}]}))
    page = parse_page(
        write_report(
            result,
            tmp_path / "page.html",
            reference=[Turn(0, 1, EVIL), Turn(1.2, 1.5, EVIL + "2")],
            scores=[tmp_path / "scores.json"],
            transcript=[Utterance("x", EVIL, 0, 1, EVIL), Utterance("x", "stranger", 0.5, 1, "</li>")],
        )
    )
    assert list(page.scripts) == ["sound-0", "sound-1", "data", "code"]
    data = json.loads(page.scripts["data"])
    assert [lane["name"] for lane in data["lanes"]] == ["Mixture", EVIL, EVIL + "2"]
    assert data["words"] == [[0, 1, EVIL, 1, EVIL], [0.5, 1, "</li>", -1, "stranger"]]
    assert page.text.count(EVIL) >= 5  # as text it is whole


def test_no_speaker_and_no_recording_is_a_page_too(tmp_path: Path) -> None:
    silent = make_result(tmp_path, {}, 3)
    page = parse_page(write_report(silent, tmp_path / "page.html"))
    assert "No speech was found" in "".join(page.text)
    assert len(json.loads(page.scripts["data"])["lanes"]) == 1
    silent.settings.clear()
    page = parse_page(write_report(silent, tmp_path / "page.html", reference=[Turn(0, 1, "A")]))
    assert [lane["kind"] for lane in json.loads(page.scripts["data"])["lanes"]] == ["reference"]


def test_only_a_report_is_replaced(tmp_path: Path) -> None:
    result = make_result(tmp_path, seconds=3, turns={})
    page = write_report(result, tmp_path / "page.html")
    write_report(result, page)
    page.write_text("my diary")
    with pytest.raises(PixitError, match="is not a report"):
        write_report(result, page)
    assert page.read_text() == "my diary"


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    result = make_result(tmp_path)
    track = result.tracks["SPEAKER_01"].path
    soundfile.write(track, np.full(result.num_samples, np.nan), 16000, "FLOAT")
    with pytest.raises(PixitError, match="NaN"):
        write_report(result, tmp_path / "page.html")
    assert not list(tmp_path.glob("*page*"))


# --- its parts ------------------------------------------------------------------------------------------


@given(
    num_samples=st.integers(1, 5000),
    sizes=st.lists(st.integers(1, 900), min_size=1, max_size=20),
    rate_hz=st.sampled_from([30, 100, 160]),
)
@settings(deadline=None, max_examples=60)
def test_clips_put_together_are_the_signal(num_samples: int, sizes: list[int], rate_hz: int) -> None:
    signal = np.random.default_rng(num_samples).standard_normal(num_samples).astype(np.float32)
    edges = np.cumsum(sizes)
    grid = media.Grid(rate_hz, num_samples)
    clips = list(media.cut_clips(np.split(signal, edges[edges < num_samples]), grid))
    margin, step = grid.margin_samples, grid.clip_samples
    np.testing.assert_array_equal(np.concatenate([c[margin : len(c) - margin] for c in clips]), signal)
    padded = np.pad(signal, (margin, margin))
    for index, clip in enumerate(clips):
        np.testing.assert_array_equal(clip, padded[index * step : index * step + step + 2 * margin])
    peaks = np.concatenate([media.peaks_of(clip, grid) for clip in clips])
    points = [signal[i : i + grid.point_samples] for i in range(0, num_samples, grid.point_samples)]
    np.testing.assert_array_equal(peaks, [(p.min(), p.max()) for p in points])


@given(num_samples=st.integers(1, 48000 * 36000), rate_hz=st.sampled_from([8000, 12000, 16000, 24000, 48000]))
def test_pictures_are_bounded_and_clips_hold_whole_steps(num_samples: int, rate_hz: int) -> None:
    grid = media.Grid(rate_hz, num_samples)
    assert grid.clip_samples % grid.point_samples == grid.clip_samples % grid.column_samples == 0
    assert num_samples / grid.point_samples <= media.MAX_PEAKS
    assert num_samples / grid.column_samples <= media.MAX_COLUMNS


@pytest.mark.parametrize("seconds", [20, 7200])
def test_a_tone_is_where_it_belongs_in_the_spectrogram(seconds: int) -> None:
    grid = media.Grid(16000, seconds * 16000)
    times_s = np.arange(160000) / 16000
    tone = np.where(times_s < 5, np.sin(2 * np.pi * 3000 * times_s), 0).astype(np.float32)
    levels = np.concatenate([media.levels_of(clip, grid) for clip in media.cut_clips([tone], grid)])
    half = len(levels) // 2
    assert len(levels) == 160000 / grid.column_samples
    assert set(levels[1 : half - 1].argmax(axis=1)) == {3000 * media.NUM_BINS // 8000 - 1}
    assert levels[1 : half - 1].max() >= 253  # full scale
    assert levels[half + 4 :].max() == 0


def test_all_lanes_share_one_scale(tmp_path: Path) -> None:
    result = make_result(tmp_path)
    data = json.loads(parse_page(write_report(result, tmp_path / "page.html")).scripts["data"])
    mixture, first, _ = (np.frombuffer(base64.b64decode(lane["peaks"]), np.int8) for lane in data["lanes"])
    assert mixture.max() == 127
    loudest = max(np.abs(block).max() for block in find_mixture(result, 16000).blocks())
    assert loudest > 0.5  # the two tones overlap for a second
    assert first.max() == pytest.approx(127 * 0.3 / loudest, abs=2)


def test_speakers_are_paired_by_the_time_they_talk_together() -> None:
    found, truth = Annotation(), Annotation()
    for annotation, turns in (
        (found, [(0, 10, "x"), (10, 14, "y"), (20, 21, "z")]),
        (truth, [(0, 6, "A"), (6, 14, "B"), (30, 31, "C")]),
    ):
        for start, end, name in turns:
            annotation[Segment(start, end), name] = name
    assert match_speakers(found, truth) == {"x": "A", "y": "B"}  # the best pairing, not the greedy x-B
    assert match_speakers(found, Annotation()) == match_speakers(Annotation(), truth) == {}


def test_lanes_with_a_reference(tmp_path: Path) -> None:
    result = make_result(tmp_path)
    turns = [Turn(3, 9, "B"), Turn(4, 5, "B"), Turn(7, 7, "B"), Turn(1, 2, "A"), Turn(20, 21, "C")]
    lanes = list_lanes(result, turns)
    assert [(lane.name, lane.kind, lane.reference_name) for lane in lanes] == [
        ("Mixture", "mixture", None),
        ("SPEAKER_00", "track", "A"),
        ("SPEAKER_01", "track", "B"),
        ("C", "reference", "C"),
    ]
    assert lanes[2].reference == [(3.0, 9.0)]  # overlapping turns of one speaker are one, empty ones none
    assert [lane.reference for lane in list_lanes(result, None)] == [[], [], []]


def test_scores_of_this_recording_and_totals_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "der.json"
    rows = [{"recording": "talk", "der": 12.34567, "n": None}, {"recording": "other", "der": 1.0}]
    path.write_text(json.dumps({"title": "DER", "rows": [*rows, {"recording": "TOTAL", "der": 7.0}]}))
    scores = read_scores(path, "talk")
    assert scores is not None
    assert scores.headings == ["recording", "der", "n"]
    assert scores.rows == [["talk", "12.35", "–"], ["TOTAL", "7.00", "–"]]
    assert scores.totals == {1}
    assert read_scores(path, "another talk") is None
    path.write_text('{"der": {"total": 0.5}, "files": 3}')
    scores = read_scores(path, "talk")
    assert scores is not None
    assert scores.rows == [["0.500", "3"]]


@pytest.mark.parametrize("content", ["", "3", "[1, 2]", '{"rows": 5}', '"x"'])
def test_what_is_no_scores_is_told(tmp_path: Path, content: str) -> None:
    path = tmp_path / "scores.json"
    path.write_text(content)
    with pytest.raises(PixitError, match=re.escape(str(path))):
        read_scores(path, "talk")


def test_the_recording_is_found_again_or_summed(tmp_path: Path) -> None:
    result = make_result(tmp_path)
    source = Path(result.settings["source"])
    recording = np.concatenate(list(find_mixture(result, 16000).blocks()))
    np.testing.assert_array_equal(recording, soundfile.read(source, dtype="float32")[0])
    source.unlink()
    summed = find_mixture(result, 16000)
    assert summed.origin == "sum of the tracks (talk.wav is not at hand)"
    np.testing.assert_allclose(np.concatenate(list(summed.blocks())), recording, atol=4e-5)
    soundfile.write(source, recording[:-100], 16000)  # another recording of the same name
    with pytest.raises(PixitError, match=r"talk.wav: is not the recording that talk was separated from"):
        find_mixture(result, 16000)


def test_a_recording_given_by_hand_must_fit(tmp_path: Path) -> None:
    result = make_result(tmp_path)
    other = tmp_path / "other.wav"
    soundfile.write(other, np.zeros((48000, 2)), 16000)
    with pytest.raises(PixitError, match=r"lasts 3.000 s, the result talk 24.000 s"):
        find_mixture(result, 16000, other)


# --- the command ----------------------------------------------------------------------------------------


def run_report(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["report", *map(str, arguments)])


def test_a_page_for_each_result_of_a_folder(tmp_path: Path) -> None:
    make_result(tmp_path, seconds=3, turns={}, uri="one")
    make_result(tmp_path, seconds=3, turns={"S p": [(0, 1)]}, uri="two words")
    (tmp_path / "separated" / "notes").mkdir()
    (tmp_path / "ref.rttm").write_text("SPEAKER two_words 1 0.5 1 <NA> <NA> A <NA> <NA>\n")
    (tmp_path / "x.stm").write_text("two_words 1 S_p 0 1 <o,f0,male> hello\nother 1 A 0 1 hi\n")
    done = run_report(
        tmp_path / "separated", "--reference", tmp_path / "ref.rttm", "--transcript", tmp_path / "x.stm"
    )
    assert done.exit_code == 0, done.output
    pages = {path.name: parse_page(path) for path in (tmp_path / "separated").glob("*.html")}
    assert sorted(pages) == ["one.html", "two_words.html"]
    data = json.loads(pages["two_words.html"].scripts["data"])
    assert data["lanes"][1]["reference"] == [[0.5, 1.5]]
    assert data["words"] == [[0, 1, "hello", 1, "S_p"]]
    assert json.loads(pages["one.html"].scripts["data"])["words"] == []
    Separation.load(tmp_path / "separated" / "one")  # the page is beside the result, not in it


def test_output_is_a_file_or_a_folder(tmp_path: Path) -> None:
    make_result(tmp_path, seconds=3, turns={}, uri="one")
    make_result(tmp_path, seconds=3, turns={}, uri="two")
    assert run_report(tmp_path / "separated" / "one", "-o", tmp_path / "a" / "x.html").exit_code == 0
    assert run_report(tmp_path / "separated", "-o", tmp_path / "b", "--quiet").output == ""
    found = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.html"))
    assert found == ["a/x.html", "b/one.html", "b/two.html"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: does not exist; expected a folder NAME with NAME.json"),
        (["separated", "separated/two", "-o", "x.html"], "found 2 results"),
        (["separated", "--audio", "one.wav"], "found 2 results"),
        (["separated/one", "--reference", "bad.rttm"], "bad.rttm: has nothing of one; it is of else"),
        (["separated/one", "--reference", "none.rttm"], "none.rttm: cannot be read"),
        (["separated/one", "--transcript", "bad.stm"], "bad.stm: has nothing of one; it is of a, b"),
        (["separated/one", "--scores", "bad.rttm"], "bad.rttm:1: is not JSON"),
        (["separated/one", "--audio", "none.wav"], "none.wav: cannot be read"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    make_result(tmp_path, seconds=3, turns={}, uri="one")
    make_result(tmp_path, seconds=3, turns={}, uri="two")
    (tmp_path / "bad.rttm").write_text("SPEAKER else 1 0.5 1 <NA> <NA> A <NA> <NA>\n")
    (tmp_path / "bad.stm").write_text("a 1 A 0 1 hi\nb 1 A 0 1 hi\n")
    monkeypatch.chdir(tmp_path)
    done = run_report(*arguments)
    assert done.exit_code == 2
    assert message in done.output
    assert done.output.count("\n") == 1
    assert not list(tmp_path.rglob("*.html"))


def test_a_transcript_of_one_recording_needs_no_name(tmp_path: Path) -> None:
    make_result(tmp_path, seconds=3, turns={"A": [(0, 1)]}, uri="one")
    (tmp_path / "whatever.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\n[A]: hello\n")
    done = run_report(tmp_path / "separated" / "one", "--transcript", tmp_path / "whatever.srt")
    assert done.exit_code == 0, done.output
    page = parse_page(tmp_path / "separated" / "one.html")
    assert json.loads(page.scripts["data"])["words"] == [[0, 1, "hello", 1, "A"]]
