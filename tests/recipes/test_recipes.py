"""The recipes, on small imitations of the corpora, and on the annotations of the real ones."""

from __future__ import annotations

import http.server
import io
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from corpus import MANUAL, audio_files
from pixit.data.check import check_database
from pixit.data.database import load_recordings
from pixit.formats.rttm import rttm_line
from pixit.formats.transcripts import read_transcript
from pixit.types import PixitError, Recording, Turn
from script_files import load_script

pytest.importorskip("pyannote.database")

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
SDM = "AMI-SDM.SpeakerDiarization.only_words"
TEST_MEETINGS = [f"{group}{part}" for group in ("IS1009", "ES2004", "TS3003", "EN2002") for part in "abcd"]


def run(script: str, *arguments: object) -> Result:
    result = CliRunner().invoke(
        load_script(f"recipes/{script}.py").main, [str(argument) for argument in arguments]
    )
    if isinstance(result.exception, PixitError):
        raise result.exception
    return result


def write_noise(path: Path, duration_s: float, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 0.1 * np.random.default_rng(seed).standard_normal(round(duration_s * 16000))
    soundfile.write(path, samples, 16000)


# --- AMI ------------------------------------------------------------------------------------------------


def words_xml(*words: tuple[float, float, str]) -> str:
    lines = (f'<w starttime="{start}" endtime="{end}">{text}</w>' for start, end, text in words)
    return f"<root>{''.join(lines)}</root>"


@pytest.fixture
def ami(tmp_path: Path) -> Path:
    """Two development meetings and one of the test set, 5 s each, with all microphones."""
    manual = tmp_path / "ami" / MANUAL
    (manual / "corpusResources").mkdir(parents=True)
    (manual / "words").mkdir()
    meetings = ("IS1008a", "IB4001", "ES2004a")
    people = '<speaker nxt_agent="A" global_name="FIE1"/><speaker nxt_agent="B" global_name="MIO2"/>'
    xml = "".join(f'<meeting observation="{meeting}">{people}</meeting>' for meeting in meetings)
    (manual / "corpusResources" / "meetings.xml").write_text(f"<root>{xml}</root>")
    for meeting in meetings:
        for channel, words in {
            "A": [(0.5, 1.0, "Hello"), (1.0, 2.5, "there")],
            "B": [(2.0, 4.0, "Yes")],
        }.items():
            (manual / "words" / f"{meeting}.{channel}.words.xml").write_text(words_xml(*words))
        for microphone in ("headset", "mdm"):
            for seed, path in enumerate(audio_files(tmp_path / "ami", meeting, microphone)):
                write_noise(path, 5.0, seed)
    return tmp_path / "ami"


def test_lists_are_the_full_corpus_asr_partition() -> None:
    lists = {path.stem: path.read_text().split() for path in (RECIPES / "ami" / "lists").iterdir()}
    assert {name: len(meetings) for name, meetings in lists.items()} == {
        "train": 136,
        "development": 18,
        "test": 16,
    }
    assert lists["test"] == TEST_MEETINGS
    assert len(set().union(*lists.values())) == 170


@pytest.mark.real
def test_lists_are_the_official_ones(shared_data: Path) -> None:
    for ours, theirs in {"train": "train", "development": "dev", "test": "test"}.items():
        official = (
            (shared_data / "ami" / "annotations" / "lists" / f"{theirs}.meetings.txt").read_text().split()
        )
        assert (RECIPES / "ami" / "lists" / f"{ours}.txt").read_text().split() == official


def test_prepare_ami(ami: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run("ami/prepare", ami, out, "--skip-missing")
    assert result.exit_code == 0
    assert "AMI-SDM: 0 train, 2 development, 1 test" in result.output
    report = check_database(out / "database.yml", full=True, sample_rate_hz=16000)
    assert {finding.severity for finding in report.findings} == {"info"}  # the same two people everywhere
    assert len(report.subsets) == 12  # 3 microphones, 2 kinds of labels, 2 subsets
    (recording,) = load_recordings(SDM, "test", out / "database.yml")
    assert recording.uri == recording.audio.stem == "ES2004a"
    assert recording.turns == (Turn(0.5, 2.5, "FIE1"), Turn(2.0, 4.0, "MIO2"))
    assert recording.annotated == ((0.0, 5.0),)
    assert sorted(path.name for path in (out / "audio" / "AMI-SDM" / "development").iterdir()) == [
        "IB4001.wav",
        "IS1008a.wav",
    ]


def test_references_of_ami(ami: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("ami/prepare", ami, out, "--skip-missing", "--microphone", "sdm")
    utterances = read_transcript(out / "references" / "test.stm")
    assert [(u.session, u.speaker, u.start_s, u.end_s, u.words) for u in utterances] == [
        ("ES2004a", "FIE1", 0.5, 2.5, "Hello there"),
        ("ES2004a", "MIO2", 2.0, 4.0, "Yes"),
    ]
    assert read_transcript(out / "references" / "test.seglst.json") == utterances
    assert {u.session for u in read_transcript(out / "references" / "development.stm")} == {
        "IB4001",
        "IS1008a",
    }
    assert (out / "references" / "text" / "ES2004a.FIE1.txt").read_text() == "Hello there\n"
    assert not (out / "references" / "train.stm").exists()


def test_the_distant_microphones_are_averaged(ami: Path, tmp_path: Path) -> None:
    sources = audio_files(ami, "ES2004a", "mdm")
    write_noise(sources[3], 4.5, seed=3)  # one ends early
    run("ami/prepare", ami, tmp_path / "out", "--skip-missing", "--microphone", "mdm")
    mean, rate_hz = soundfile.read(tmp_path / "out" / "audio" / "AMI-MDM" / "test" / "ES2004a.flac")
    expected = np.mean([soundfile.read(source)[0][: round(4.5 * 16000)] for source in sources], axis=0)
    assert rate_hz == 16000
    np.testing.assert_allclose(mean, expected, atol=2**-15)
    uem = (tmp_path / "out" / "uem" / "AMI-MDM" / "ES2004a.uem").read_text()
    assert uem == "ES2004a 1 0.000 4.500000\n"


def test_preparing_again_changes_nothing_and_keeps_own_audio(ami: Path, tmp_path: Path) -> None:
    """A beamformed signal in place of the mean is kept."""
    out = tmp_path / "out"
    run("ami/prepare", ami, out, "--skip-missing")
    write_noise(out / "audio" / "AMI-MDM" / "test" / "ES2004a.flac", 3.0)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    run("ami/prepare", ami, out, "--skip-missing")
    uem = out / "uem" / "AMI-MDM" / "ES2004a.uem"
    assert uem.read_text() == "ES2004a 1 0.000 3.000000\n"
    assert {path: path.read_bytes() for path in before if path != uem} == {
        p: b for p, b in before.items() if p != uem
    }
    assert {path for path in out.rglob("*") if path.is_file()} == set(before)


def test_what_is_missing_is_named(ami: Path, tmp_path: Path) -> None:
    with pytest.raises(PixitError, match=r"IS1000a\.Mix-Headset\.wav: is missing.*--skip-missing"):
        run("ami/prepare", ami, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    shutil.rmtree(ami / "amicorpus")
    with pytest.raises(PixitError, match="holds no audio; run download"):
        run("ami/prepare", ami, tmp_path / "out")
    with pytest.raises(PixitError, match=r"meetings\.xml: cannot be read"):
        run("ami/prepare", tmp_path, tmp_path / "out")


def test_a_recipe_ends_with_one_line_and_2(tmp_path: Path) -> None:
    command = [sys.executable, str(RECIPES / "ami" / "prepare.py"), str(tmp_path), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert re.fullmatch(r"pixit: error: \S+meetings\.xml: cannot be read .*\n", done.stderr)


def write_sparse_wav(path: Path, num_samples: int) -> None:
    """A wav of silence that takes no space on disk."""
    path.parent.mkdir(parents=True)
    soundfile.write(path, np.zeros(0), 16000, "PCM_16")
    header = bytearray(path.read_bytes())
    header[4:8] = (len(header) - 8 + 2 * num_samples).to_bytes(4, "little")
    header[40:44] = (2 * num_samples).to_bytes(4, "little")
    path.write_bytes(header)
    with path.open("r+b") as file:
        file.truncate(len(header) + 2 * num_samples)


@pytest.mark.real
def test_prepare_writes_the_official_files_of_the_development_meetings(
    shared_data: Path, tmp_path: Path
) -> None:
    """All 18, byte by byte: RTTM and UEM of the AMI diarization setup."""
    official, data, out = shared_data / "ami" / "annotations", tmp_path / "ami", tmp_path / "out"
    data.mkdir()
    (data / MANUAL).symlink_to(shared_data / "ami" / MANUAL)
    meetings = (official / "lists" / "dev.meetings.txt").read_text().split()
    for meeting in meetings:
        duration_s = float((official / "uems" / "dev" / f"{meeting}.uem").read_text().split()[3])
        write_sparse_wav(audio_files(data, meeting, "headset")[0], round(duration_s * 16000))
    run("ami/prepare", data, out, "--skip-missing")
    assert (out / "lists" / "AMI" / "development.lst").read_text().split() == meetings
    for meeting in meetings:
        for ours, theirs in {
            f"only_words/{meeting}.rttm": f"only_words/rttms/dev/{meeting}.rttm",
            f"uem/AMI/{meeting}.uem": f"uems/dev/{meeting}.uem",
        }.items():
            assert (out / ours).read_text() == (official / theirs).read_text()
    report = check_database(out / "database.yml")
    assert report.findings == []
    assert report.subsets[0].num_files == len(meetings) == 18
    utterances = read_transcript(out / "references" / "development.seglst.json")
    assert len({(u.session, u.speaker) for u in utterances}) == 72


# --- download -------------------------------------------------------------------------------------------


class Mirror(http.server.SimpleHTTPRequestHandler):
    """Serves files with ranges, and hangs up early where `hang_up_after` says."""

    files: dict[str, bytes]
    hang_up_after: int
    requests: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.requests.append((self.path, wanted))
        if self.path not in self.files:
            self.send_error(404)
            return
        body = self.files[self.path]
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        if start >= len(body) > 0:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.end_headers()
            return
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        stop = start + type(self).hang_up_after if type(self).hang_up_after else None
        type(self).hang_up_after = 0
        self.wfile.write(body[start:stop])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def mirror() -> Iterator[type[Mirror]]:
    kind = type("FreshMirror", (Mirror,), {"files": {}, "hang_up_after": 0, "requests": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    kind.url = f"http://127.0.0.1:{server.server_port}"  # type: ignore[attr-defined]
    yield kind
    server.shutdown()
    server.server_close()


def annotations_zip() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("corpusResources/meetings.xml", "<root/>")
    return stream.getvalue()


def test_download_is_whole_resumed_and_not_repeated(mirror: type[Mirror], tmp_path: Path) -> None:
    mirror.files[f"/AMICorpusAnnotations/{MANUAL}.zip"] = annotations_zip()
    for meeting in TEST_MEETINGS:
        (path,) = audio_files(Path(), meeting, "sdm")
        mirror.files[f"/AMICorpusMirror/{path.as_posix()}"] = meeting.encode() * 100
    arguments = tmp_path, "--subset", "test", "--mirror", mirror.url, "--attempts", 1  # type: ignore[attr-defined]

    mirror.hang_up_after = 100  # of the annotations
    with pytest.raises(PixitError, match=r"the connection ended early.*run the command again"):
        run("ami/download", *arguments)
    result = run("ami/download", *arguments)
    assert result.exit_code == 0
    assert "16 of 16 audio files" in result.output
    assert mirror.requests[1] == (f"/AMICorpusAnnotations/{MANUAL}.zip", "bytes=100-")
    assert (tmp_path / MANUAL / "corpusResources" / "meetings.xml").read_text() == "<root/>"
    for meeting in TEST_MEETINGS:
        assert audio_files(tmp_path, meeting, "sdm")[0].read_bytes() == meeting.encode() * 100
    assert list(tmp_path.rglob("*.part")) == []

    before = len(mirror.requests)
    assert run("ami/download", *arguments).exit_code == 0
    assert len(mirror.requests) == before


def test_a_file_that_the_mirror_lacks_does_not_stop_the_others(mirror: type[Mirror], tmp_path: Path) -> None:
    mirror.files[f"/AMICorpusAnnotations/{MANUAL}.zip"] = annotations_zip()
    (path,) = audio_files(Path(), "EN2002d", "headset")
    mirror.files[f"/AMICorpusMirror/{path.as_posix()}"] = b"audio"
    options = ("--microphone", "headset", "--subset", "test", "--mirror", mirror.url)  # type: ignore[attr-defined]
    result = run("ami/download", tmp_path, *options)
    assert result.exit_code == 2
    assert "1 of 16 audio files" in result.output
    assert "ES2004a.Mix-Headset.wav: cannot be downloaded (HTTP 404" in result.output
    assert (tmp_path / path).read_bytes() == b"audio"


def test_an_attempt_that_fails_is_followed_by_another(mirror: type[Mirror], tmp_path: Path) -> None:
    mirror.files["/file"] = b"0123456789"
    mirror.hang_up_after = 4
    fetch = load_script("recipes/ami/download.py").fetch
    fetch(f"{mirror.url}/file", tmp_path / "file", attempts=2)  # type: ignore[attr-defined]
    assert (tmp_path / "file").read_bytes() == b"0123456789"
    assert [wanted for _, wanted in mirror.requests] == [None, "bytes=4-"]


@pytest.mark.parametrize(("part", "whole"), [(b"0123456789", True), (b"01234567890000", False)])
def test_a_half_file_that_is_whole_or_too_long(
    mirror: type[Mirror], tmp_path: Path, part: bytes, whole: bool
) -> None:
    mirror.files["/file"] = b"0123456789"
    (tmp_path / "file.part").write_bytes(part)
    load_script("recipes/ami/download.py").fetch(f"{mirror.url}/file", tmp_path / "file", attempts=2)  # type: ignore[attr-defined]
    assert (tmp_path / "file").read_bytes() == b"0123456789"
    assert len(mirror.requests) == (1 if whole else 2)


# --- VoxConverse ----------------------------------------------------------------------------------------


@pytest.fixture
def voxconverse(shared_data: Path, tmp_path: Path) -> Path:
    """Real excerpts in VoxConverse's layout: the clone, and the audio as the archives unpack."""
    clips = shared_data / "ami" / "clips"
    for folder, audio, uris in (
        ("dev", "audio", ("dev00", "dev01")),
        ("test", "voxconverse_test_wav", ("trn00",)),
    ):
        (tmp_path / "clone" / folder).mkdir(parents=True)
        (tmp_path / audio).mkdir()
        for uri in uris:
            samples, rate_hz = soundfile.read(clips / f"{uri}.flac", frames=80_000)
            soundfile.write(tmp_path / audio / f"{uri}.wav", samples, rate_hz)
            turns = [Turn(0.5, 2.0, "spk00"), Turn(4.0, 5.75, "spk01"), Turn(6.0, 7.0, "spk02")]
            rttm = "".join(f"{rttm_line(uri, turn)}\n" for turn in turns)
            (tmp_path / "clone" / folder / f"{uri}.rttm").write_text(rttm)
    return tmp_path


@pytest.mark.real
def test_prepare_voxconverse(voxconverse: Path) -> None:
    out = voxconverse / "out"
    folders = ("--development", voxconverse / "audio", "--test", voxconverse / "voxconverse_test_wav")
    result = run("voxconverse/prepare", voxconverse / "clone", out, *folders)
    assert "dev00: 1.750 s of annotation after the end of the audio were cut off" in result.output
    assert check_database(out / "database.yml", full=True).findings == []
    first, _ = load_recordings(None, "development", out / "database.yml")
    assert first.turns == (Turn(0.5, 2.0, "spk00"), Turn(4.0, 5.0, "spk01"))
    assert first.annotated == ((0.0, 5.0),)
    assert [r.uri for r in load_recordings(None, "test", out / "database.yml")] == ["trn00"]


@pytest.mark.real
def test_part_of_voxconverse_to_train_on(voxconverse: Path) -> None:
    out = voxconverse / "out"
    arguments = (voxconverse / "clone", out, "--development", voxconverse / "audio", "--train-share", 0.5)
    assert "1 train, 1 development" in run("voxconverse/prepare", *arguments).output
    found = [
        load_recordings(None, subset, out / "database.yml")[0].uri for subset in ("train", "development")
    ]
    assert found == ["dev00", "dev01"]
    with pytest.raises(PixitError, match="no subset 'test'"):
        load_recordings(None, "test", out / "database.yml")


@pytest.mark.real
def test_voxconverse_that_is_not_whole(voxconverse: Path) -> None:
    clone, out = voxconverse / "clone", voxconverse / "out"
    with pytest.raises(PixitError, match="name the audio"):
        run("voxconverse/prepare", clone, out)
    with pytest.raises(PixitError, match=r"holds no \.wav files"):
        run("voxconverse/prepare", clone, out, "--test", voxconverse / "nowhere")
    (voxconverse / "audio" / "dev01.wav").unlink()
    with pytest.raises(PixitError, match=r"lacks dev01\.wav, one of 1"):
        run("voxconverse/prepare", clone, out, "--development", voxconverse / "audio")
    (clone / "test" / "trn00.rttm").rename(clone / "test" / "trn01.rttm")
    with pytest.raises(PixitError, match=r"lacks trn01\.wav"):
        run("voxconverse/prepare", clone, out, "--test", voxconverse / "voxconverse_test_wav")
    assert not out.exists()


# --- DIHARD ---------------------------------------------------------------------------------------------


@pytest.fixture
def dihard(shared_data: Path, tmp_path: Path) -> Path:
    """Real excerpts in the layout of the LDC's releases: three to develop on, one of them not core."""
    clips = shared_data / "ami" / "clips"
    for release, uris in (
        ("DEV", ("DH_DEV_0001", "DH_DEV_0002", "DH_DEV_0003")),
        ("EVAL", ("DH_EVAL_0001",)),
    ):
        data = tmp_path / release / f"third_dihard_challenge_{release.lower()}" / "data"
        for name in ("flac", "rttm", "sad", "uem", "uem_scoring/full", "uem_scoring/core"):
            (data / name).mkdir(parents=True)
        for number, uri in enumerate(uris):
            shutil.copy(clips / f"trn0{number}.flac", data / "flac" / f"{uri}.flac")
            turns = [Turn(1.0, 5.0, f"{uri}_1"), Turn(4.0, 20.0, f"{uri}_2")]
            (data / "rttm" / f"{uri}.rttm").write_text("".join(f"{rttm_line(uri, turn)}\n" for turn in turns))
            (data / "uem" / f"{uri}.uem").write_text(f"{uri} 1 0.000 30.000\n")
        for condition, scored in (("full", uris), ("core", uris[:2])):
            lines = "".join(f"{uri} 1 0.000 25.000\n" for uri in scored)
            (data / "uem_scoring" / condition / "all.uem").write_text(lines)
    return tmp_path


@pytest.mark.real
def test_prepare_dihard(dihard: Path) -> None:
    out = dihard / "out"
    result = run("dihard/prepare", out, "--development", dihard / "DEV", "--evaluation", dihard / "EVAL")
    assert "DIHARD3.SpeakerDiarization.full: 3 development, 1 test" in result.output
    assert "DIHARD3.SpeakerDiarization.core: 2 development, 1 test" in result.output
    assert check_database(out / "database.yml", full=True).findings == []
    full = load_recordings("DIHARD3.SpeakerDiarization.full", "development", out / "database.yml")
    assert [recording.uri for recording in full] == ["DH_DEV_0001", "DH_DEV_0002", "DH_DEV_0003"]
    assert full[0].turns == (Turn(1.0, 5.0, "DH_DEV_0001_1"), Turn(4.0, 20.0, "DH_DEV_0001_2"))
    assert full[0].annotated == ((0.0, 25.0),)


@pytest.mark.real
def test_dihard_without_scoring_uem_and_with_training_share(dihard: Path) -> None:
    out, data = dihard / "out", dihard / "DEV" / "third_dihard_challenge_dev" / "data"
    shutil.rmtree(data / "uem_scoring")
    result = run("dihard/prepare", out, "--development", data, "--train-share", 0.4)
    assert "full: 1 train, 2 development" in result.output
    assert "core" not in result.output
    (recording,) = load_recordings(None, "train", out / "database.yml")
    assert (recording.uri, recording.annotated) == ("DH_DEV_0001", ((0.0, 30.0),))


@pytest.mark.real
def test_dihard_that_is_not_whole(dihard: Path) -> None:
    out, data = dihard / "out", dihard / "DEV" / "third_dihard_challenge_dev" / "data"
    with pytest.raises(PixitError, match="name the releases"):
        run("dihard/prepare", out)
    with pytest.raises(PixitError, match="holds no data/flac"):
        run("dihard/prepare", out, "--development", dihard / "nowhere")
    (data / "flac" / "DH_DEV_0003.flac").unlink()
    with pytest.raises(PixitError, match=r"DH_DEV_0003\.flac: cannot be read"):
        run("dihard/prepare", out, "--development", dihard / "DEV")
    shutil.rmtree(data / "rttm")
    with pytest.raises(PixitError, match="holds no rttm"):
        run("dihard/prepare", out, "--development", dihard / "DEV")
    assert not out.exists()


# --- the shell scripts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script", sorted(RECIPES.glob("*/*.sh")), ids=lambda path: f"{path.parent.name}/{path.name}"
)
def test_shell_scripts_parse(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True, timeout=20)
    assert script.stat().st_mode & 0o111


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "--embedder pyannote/wespeaker-voxceleb-resnet34-LM"),
        ({"EMBEDDER": "my voices"}, "--embedder my voices"),
        ({"EMBEDDER": ""}, ""),
    ],
)
def test_the_papers_table_has_the_embedder_of_pyannotes_pipelines(
    given: dict[str, str], expected: str, tmp_path: Path
) -> None:
    (tmp_path / "pixit").write_text(
        '#!/bin/sh\nprintf "%s\\n" "$*" >> "$0.log"\nprintf "%s\\n" "$#" >> "$0.num"\n'
    )
    (tmp_path / "pixit").chmod(0o755)
    environment = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", **given}
    command = ["bash", str(RECIPES / "ami" / "evaluate.sh"), "prepared", "model", "out"]
    subprocess.run(command, check=True, env=environment, timeout=20)
    separate, diarization, cpwer = (tmp_path / "pixit.log").read_text().splitlines()
    assert separate.split(" --model model ")[1] == f"{expected} -o out/separated".lstrip()
    assert "--embedder" not in diarization
    assert f"--model model {expected} --recognizer".replace("  ", " ") in cpwer
    assert (tmp_path / "pixit.num").read_text().splitlines()[0] == ("8" if expected else "6")


# --- The bundled model ----------------------------------------------------------------------------------


def test_what_somebody_says_alone_is_cut_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither overlap nor stretches of less than half a second, and a little less at both ends."""
    audio = tmp_path / "talk.wav"
    write_noise(audio, 6.0)
    turns = [Turn(0.0, 2.0, "ann"), Turn(1.5, 3.0, "bob"), Turn(3.2, 3.6, "ann"), Turn(4.0, 5.0, "ann")]
    module = load_script("recipes/bundled/cut_voices.py")
    recording = Recording("talk", audio, tuple(turns), ((0.0, 6.0),))
    monkeypatch.setattr(module, "load_recordings", lambda *_: [recording])
    monkeypatch.setattr(sys, "argv", ["cut_voices.py", "database.yml", str(tmp_path / "voices")])
    module.main()
    found = {
        str(path.relative_to(tmp_path / "voices")): soundfile.info(path).frames / 16000
        for path in (tmp_path / "voices").rglob("*.flac")
    }
    assert found == pytest.approx(
        {"ann/talk-50.flac": 1.4, "ann/talk-4050.flac": 0.9, "bob/talk-2050.flac": 0.9}
    )
    samples, _ = soundfile.read(tmp_path / "voices" / "bob" / "talk-2050.flac")
    whole, _ = soundfile.read(audio)
    np.testing.assert_allclose(samples, whole[32800 : 32800 + len(samples)], atol=1e-4)
