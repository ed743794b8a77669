from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner, Result
from pyannote.core import Annotation, Segment

import pixit
from pixit.audio import Audio, Track, TrackWriter
from pixit.checkpoints import save_model
from pixit.cli import cli
from pixit.cli.console import collect_overrides
from pixit.cli.evaluate import split_list
from pixit.diarized import Diarization
from pixit.evaluation.word_errors import METRICS
from pixit.models.embedders import SpeakerEncoder
from pixit.models.totatonet import ToTaToNet
from pixit.pipeline.asked import Asked
from pixit.pipeline.provenance import WeightsHash, describe, make_request
from pixit.pipeline.separate import Separator
from pixit.pipeline.settings import SeparationSettings
from pixit.results import Separation
from pixit.types import PixitError

RATE_HZ = 8000


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], catch_exceptions=False)


def write(path: Path, num_channels: int = 1, seed: int = 0, num_samples: int = RATE_HZ) -> Path:
    noise = np.random.default_rng(seed).uniform(-0.1, 0.1, (num_samples, num_channels))
    soundfile.write(path, noise, RATE_HZ)
    return path


class FakeSeparator:
    """Gives the recording itself as the only track; keeps what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = SeparationSettings()
        self.model, self.embedder = torch.nn.Linear(2, 2), torch.nn.Linear(1, 1)
        self.loaded: list[dict[str, Any]] = []
        self.calls: list[dict[str, Any]] = []
        self.error: BaseException | None = None
        self._hashes = {
            "model_sha256": WeightsHash(self.model),
            "embedder_sha256": WeightsHash(self.embedder),
        }

    fingerprint = Separator.fingerprint
    fingerprint_of_diarization = Separator.fingerprint_of_diarization
    ask = Separator.ask

    def load(
        self, name: str | None, embedder: str | None, device: str, settings: dict[str, Any]
    ) -> FakeSeparator:
        self.loaded.append({"name": name, "embedder": embedder, "device": device, "settings": settings})
        self.settings = SeparationSettings(**settings)
        return self

    def __call__(self, audio: Audio, *speakers: int | None, hook: Any = None, **call: Any) -> Separation:
        if self.error is not None:
            raise self.error
        bounds = dict(zip(("num_speakers", "min_speakers", "max_speakers"), speakers, strict=True))
        self.calls.append(bounds | call)
        for completed in range(3):
            hook("segmentation", None, file=audio, total=2, completed=completed)
        path = self.folder / f"{len(self.calls)}.w64"
        with TrackWriter(path, audio.sample_rate_hz, "w64") as writer:
            writer.write(audio.read())
        hook("discrete_diarization", None)
        diarization = Annotation(uri=audio.uri)
        diarization[Segment(0, audio.duration_s)] = "SPEAKER_00"
        tracks = {"SPEAKER_00": Track.open(path)}
        settings = describe(audio, 1, None, 1) | {
            "request": make_request(self.fingerprint, audio, Asked(**bounds))
        }
        return Separation(audio.uri, diarization, tracks, audio.sample_rate_hz, audio.num_samples, settings)

    def diarize(self, audio: Audio, *speakers: int | None, hook: Any = None, **call: Any) -> Diarization:
        found = self(audio, *speakers, hook=hook, **call)
        bounds = dict(zip(("num_speakers", "min_speakers", "max_speakers"), speakers, strict=True))
        request = make_request(self.fingerprint_of_diarization, audio, Asked(**bounds))
        size, settings = (found.sample_rate_hz, found.num_samples), found.settings | {"request": request}
        return Diarization(found.uri, found.diarization, *size, settings)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSeparator:
    folder = tmp_path / "fake"
    folder.mkdir()
    separator = FakeSeparator(folder)
    monkeypatch.setattr(Separator, "from_pretrained", separator.load)
    monkeypatch.chdir(tmp_path)
    return separator


# --- the command line -------------------------------------------------------------------------------------


def test_help_and_version() -> None:
    assert run("--version").output == f"pixit {pixit.__version__}\n"
    shown = run("--help").output
    assert all(command in shown for command in ("separate", "train", "simulate"))
    assert run("separate", "-h").exit_code == 0


def test_a_file_in_place_of_a_command_is_separated(fake: FakeSeparator, tmp_path: Path) -> None:
    done = run(write(tmp_path / "a.wav"), "-n", 2, "-q")
    assert (done.exit_code, done.output, fake.calls[0]["num_speakers"]) == (0, "", 2)
    assert (tmp_path / "separated" / "a").is_dir()
    assert "missing.wav: cannot be read" in run("missing.wav").stderr


def test_diarize_makes_results_without_tracks(fake: FakeSeparator, tmp_path: Path) -> None:
    recording = write(tmp_path / "a.wav")
    done = run("diarize", recording, "-n", 2, "--step", 0.5, "--channel", "mean")
    assert done.exit_code == 0, done.output
    assert "1 speaker, " in done.output
    assert fake.loaded[0]["settings"] == {"step_s": 0.5}
    assert (fake.calls[0]["num_speakers"], fake.calls[0]["channel"]) == (2, "mean")
    folder = tmp_path / "diarized" / "a"
    assert sorted(path.name for path in folder.iterdir()) == ["a.json", "a.rttm", "timeline.png"]
    again = run("diarize", recording, "-n", 2, "--step", 0.5, "--channel", "mean")
    assert "is done" in again.output
    assert len(fake.calls) == 1
    other = run("diarize", recording, "-n", 3)
    assert (other.exit_code, other.stderr.count("\n")) == (2, 1)
    assert "num_speakers: 2, asked for 3" in other.stderr


def test_a_separation_serves_as_a_diarization_but_not_the_other_way(
    fake: FakeSeparator, tmp_path: Path
) -> None:
    recording = write(tmp_path / "a.wav")
    run("separate", recording)
    assert "is done" in run("diarize", recording, "-o", "separated").output
    assert (
        "is done" in run("diarize", recording, "-o", "separated", "--set", "stitching.keep_room=false").output
    )
    run("diarize", recording)
    refused = run("separate", recording, "-o", "diarized")
    assert refused.exit_code == 2
    assert "was diarized only and has no tracks; pass --overwrite" in refused.stderr
    assert run("separate", recording, "-o", "diarized", "--overwrite").exit_code == 0
    assert (tmp_path / "diarized" / "a" / "SPEAKER_00.wav").exists()


def test_diarize_has_the_options_of_separate_but_for_tracks() -> None:
    shown = {
        name: set(re.findall(r"--[a-z-]+", run(name, "--help").output)) for name in ("separate", "diarize")
    }
    assert shown["separate"] - shown["diarize"] == {"--format", "--keep-room", "--clean"}
    assert shown["diarize"] <= shown["separate"]
    assert "default: diarized" in run("diarize", "--help").output
    assert "No such option" in run("diarize", "a.wav", "--clean").stderr


def test_typing_errors_get_the_nearest_name(fake: FakeSeparator) -> None:
    assert "No such command 'seperate'. Did you mean 'separate'?" in run("seperate", "a.wav").stderr
    assert "Commands: separate, diarize, transcribe" in run("xyz").stderr
    assert "--num-speakers" in run("separate", "--num-speaker", "2", "a.wav").stderr


COMMANDS = [
    *(
        [name]
        for name in ("separate", "diarize", "transcribe", "stream", "train", "simulate", "export", "report")
    ),
    *(["evaluate", name] for name in ("diarization", "separation", "transcript", "cpwer")),
    *(["benchmark", name] for name in ("speed", "streaming")),
    ["data", "check"],
]


@pytest.mark.parametrize("command", [[], *COMMANDS])
def test_every_help_ends_with_examples(command: list[str]) -> None:
    shown = run(*command, "--help").output
    assert f"Examples:\n    pixit {' '.join(command)}" in shown
    assert "--quiet" not in shown or "-q, --quiet" in shown


def test_metrics_have_the_same_option_everywhere() -> None:
    for command in ("separation", "transcript"):
        shown = run("evaluate", command, "--help").output
        assert "--metric, --metrics" in shown
    assert split_list(None, None, ("si_sdr,SDR", "si-sdr")) == ("si_sdr", "sdr", "si_sdr")  # type: ignore[arg-type]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
def test_names_do_not_steer_the_terminal(fake: FakeSeparator, tmp_path: Path) -> None:
    name = "a\x1b[31m\u202e\x9b[red]\nb"
    good, bad = write(tmp_path / f"{name}.wav"), tmp_path / f"{name}.mp3"
    bad.write_bytes(b"")
    for result in (run("separate", good), run("separate", bad), run("separate", "--step", name, good)):
        assert not re.search("[\x00-\x09\x0b-\x1f\x80-\x9f\u202e]", result.output)
        assert (
            "\\u001b[31m\\u202e\\u009b[red]" in result.output or r"\x1b[31m\u202e\x9b[red]" in result.output
        )


def test_options_show_the_defaults_of_the_settings() -> None:
    shown = " ".join(run("separate", "--help").output.split())
    for name in ("step_s", "batch_size"):
        field = SeparationSettings.model_fields[name]
        assert f"{field.description}" in shown
        assert (f"{field.description} [default: {field.default}]" in shown) == (field.default is not None)


def test_an_unexpected_error_is_a_bug_and_stays_visible(fake: FakeSeparator, tmp_path: Path) -> None:
    fake.error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        run("separate", write(tmp_path / "a.wav"))


def test_interrupted(fake: FakeSeparator, tmp_path: Path) -> None:
    fake.error = KeyboardInterrupt()
    result = run("separate", write(tmp_path / "a.wav"))
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")
    assert not (tmp_path / "separated").exists()


def test_a_full_disk_is_told_in_one_line(fake: FakeSeparator, tmp_path: Path) -> None:
    fake.error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "spool")
    result = run("separate", write(tmp_path / "a.wav"))
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "error: spool: No space left on device; check space" in result.stderr


def test_a_missing_extra_is_told_with_its_remedy() -> None:
    program = "import sys; sys.modules['pytorch_lightning'] = None; from pixit.cli import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", program, "train"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert result.stderr == (
        "pixit: error: pytorch_lightning is not installed; run pip install 'pixit-audio[train]'\n"
    )


# --- pixit separate ---------------------------------------------------------------------------------------


def test_a_recording_becomes_a_folder_and_a_line(fake: FakeSeparator, tmp_path: Path) -> None:
    result = run("separate", write(tmp_path / "my talk.wav", num_channels=2))
    assert result.exit_code == 0
    folder = tmp_path / "separated" / "my_talk"
    assert {path.name for path in folder.iterdir()} == {
        "my_talk.rttm",
        "my_talk.json",
        "SPEAKER_00.wav",
        "timeline.png",
    }
    assert "my talk.wav: 0:01, channel 0 of 2 (from 0, the best), 1 speaker, " in result.stdout
    assert result.stdout.endswith("× real time → separated/my_talk\n")
    request = json.loads((folder / "my_talk.json").read_text())["settings"]["request"]
    assert request["separation"]["step_s"] == SeparationSettings().step_s
    assert request["call"]["channel"] == "best"


def test_options_reach_the_separator(fake: FakeSeparator, tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", num_channels=3)
    result = run(
        *(
            "separate",
            path,
            "-o",
            "out",
            "--model",
            "m",
            "--embedder",
            "e",
            "--device",
            "cpu",
            "--channel",
            1,
        ),
        *("--num_speakers", 3, "--min-speakers=3", "--max_speakers=3", "--step", 0.25, "--batch_size", 4),
        *(
            "--set",
            "clustering.threshold=0.7",
            "--set",
            "stitching.leakage_removal_db=0",
            "--format",
            "flac",
        ),
    )
    assert result.exit_code == 0, result.stderr
    settings = {
        "step_s": 0.25,
        "batch_size": 4,
        "clustering": {"threshold": 0.7},
        "stitching": {"leakage_removal_db": 0},
    }
    assert fake.loaded == [{"name": "m", "embedder": "e", "device": "cpu", "settings": settings}]
    assert fake.calls == [
        {"num_speakers": 3, "min_speakers": 3, "max_speakers": 3, "channel": 1, "work_folder": Path("out")}
    ]
    assert (tmp_path / "out" / "a" / "SPEAKER_00.flac").exists()
    assert "channel 1 of 3" in result.stdout


def test_streams_and_channels_are_asked_for_and_told(fake: FakeSeparator, tmp_path: Path) -> None:
    """What the command asks of the library, and what it says of an outcome."""
    two = tmp_path / "two.mkv"
    with av.open(str(two), "w") as container:
        for stream in [container.add_stream("pcm_s16le", rate=RATE_HZ, layout="stereo") for _ in range(2)]:
            frame = av.AudioFrame.from_ndarray(np.full((1, 2 * RATE_HZ), 99, np.int16), "s16", "stereo")
            frame.sample_rate = RATE_HZ
            container.mux(stream.encode(frame))
    result = run("separate", two, "--channels-are-speakers")
    assert result.exit_code == 0
    assert fake.calls[-1]["channels_are_speakers"] is True
    warning = "has 2 audio streams, 0 was taken; --stream takes another"
    assert result.stderr == f"pixit: warning: {two}: {warning}\n"
    assert "two.mkv: 0:01, stream 0 of 2 (from 0), channel 0 of 2 (from 0, the best), " in result.stdout
    result = run("separate", two, "--stream", 1, "--overwrite")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "stream 1 of 2 (from 0), " in result.stdout
    assert "channels_are_speakers" not in fake.calls[-1]


def test_known_speakers_are_looked_for(tiny_separator: Path, tmp_path: Path) -> None:
    """By every way to work on recordings; what is wrong with the voices is said before networks are loaded."""
    recording = write(tmp_path / "noise.wav", num_samples=2 * RATE_HZ, seed=1)
    (tmp_path / "voices").mkdir()
    write(tmp_path / "voices" / "Ann.wav", num_samples=5 * RATE_HZ, seed=2)
    asked = "--model", tiny_separator, "-n", 1, "--device", "cpu"
    for more in ((), ("--overwrite", "--jobs", 2)):
        out = tmp_path / "out"
        known = "--known-speakers", tmp_path / "voices"
        result = run("separate", recording, write(tmp_path / "b.wav"), "-o", out, *asked, *known, *more)
        assert result.exit_code == 0, result.stderr
        assert "1 speaker (Ann), " in result.stdout
        assert (out / "noise" / "Ann.wav").is_file()
    result = run("diarize", recording, "--model", "nowhere", "--known-speakers", tmp_path / "none")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"pixit: error: {tmp_path / 'none'}: does not exist; expected a folder")


def test_options_not_given_leave_the_separator_its_own_settings(fake: FakeSeparator, tmp_path: Path) -> None:
    run("separate", write(tmp_path / "a.wav"))
    assert fake.loaded == [{"name": None, "embedder": None, "device": "auto", "settings": {}}]


def test_folders_are_searched_for_recordings(fake: FakeSeparator, tmp_path: Path) -> None:
    folder = tmp_path / "meetings"
    (folder / "deeper").mkdir(parents=True)
    for name in ("b.wav", "a.FLAC", ".hidden.wav", "deeper/c.wav"):
        write(folder / name)
    (folder / "notes.txt").write_text("no recording")
    assert run("separate", folder, folder / "b.wav").exit_code == 0
    assert sorted(path.name for path in (tmp_path / "separated").iterdir()) == ["a", "b"]
    (tmp_path / "empty").mkdir()
    result = run("separate", folder / "deeper", tmp_path / "empty")
    assert result.exit_code == 2
    assert "empty: holds no recordings; expected files as" in result.stderr


def test_two_recordings_of_one_name_are_refused_before_any_work(fake: FakeSeparator, tmp_path: Path) -> None:
    result = run("separate", write(tmp_path / "a b.wav"), write(tmp_path / "a_b.flac"))
    assert result.exit_code == 2
    assert "a b.wav and " in result.stderr
    assert not fake.loaded


def test_what_is_done_is_skipped(fake: FakeSeparator, tmp_path: Path) -> None:
    first, second = write(tmp_path / "a.wav"), write(tmp_path / "b.wav")
    run("separate", first)
    result = run("separate", first, second, "--batch-size", 2)  # changes how fast, not what
    assert result.exit_code == 0
    assert f"{first}: is done, see separated/a" in result.stdout
    assert len(fake.calls) == 2
    assert run("separate", first, "--overwrite").exit_code == 0
    assert len(fake.calls) == 3


@pytest.mark.parametrize(
    ("change", "options", "printed"),
    [
        ("settings", ["--step", "0.5"], "step_s: 1.0, asked for 0.5"),
        ("number", ["--num-speakers", "3"], "num_speakers: None, asked for 3"),
        ("file", [], "another recording"),
        ("model", [], "another model"),
        ("format", ["--format", "flac"], "format"),
    ],
)
def test_a_result_of_something_else_is_neither_taken_nor_touched(
    fake: FakeSeparator, tmp_path: Path, change: str, options: list[str], printed: str
) -> None:
    path = write(tmp_path / "a.wav")
    run("separate", path)
    before = {file: file.read_bytes() for file in (tmp_path / "separated" / "a").iterdir()}
    if change == "file":
        write(path, seed=1)
    if change == "model":
        torch.nn.init.zeros_(fake.model.weight)
    result = run("separate", path, *options)
    assert result.exit_code == 2
    assert f"with other settings ({printed}); pass --overwrite" in result.stderr
    assert {file: file.read_bytes() for file in (tmp_path / "separated" / "a").iterdir()} == before
    assert run("separate", path, *options, "--overwrite").exit_code == 0
    assert run("separate", path, *options).exit_code == 0
    assert len(fake.calls) == 2


def test_one_bad_recording_does_not_stop_the_others(fake: FakeSeparator, tmp_path: Path) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"")
    result = run("separate", bad, tmp_path / "missing.wav", write(tmp_path / "good.wav"))
    assert result.exit_code == 2
    assert [line.split(": ")[:2] for line in result.stderr.splitlines()] == [["pixit", "error"]] * 2
    assert "bad.wav: is an empty file" in result.stderr
    assert "missing.wav: cannot be read" in result.stderr
    assert [path.name for path in (tmp_path / "separated").iterdir()] == ["good"]


def test_nothing_is_left_of_nothing(fake: FakeSeparator, tmp_path: Path) -> None:
    assert run("separate", tmp_path / "missing.wav").exit_code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["fake"]


def test_one_recording_needs_no_other_processes(fake: FakeSeparator, tmp_path: Path) -> None:
    assert run("separate", write(tmp_path / "a.wav"), "--jobs", 4).exit_code == 0
    assert len(fake.calls) == 1
    result = run("separate", write(tmp_path / "a.wav"), "--jobs", 0)
    assert result.exit_code == 2
    assert "0 is not in the range x>=1" in result.stderr


def test_a_cluster_needs_ray(fake: FakeSeparator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    result = run("separate", write(tmp_path / "a.wav"), "--cluster", "auto")
    assert (result.exit_code, result.stderr) == (
        2,
        "pixit: error: ray is not installed; run pip install 'pixit-audio[ray]'\n",
    )
    assert not (tmp_path / "separated").exists()


def test_an_unwritable_output_is_told_before_any_work(fake: FakeSeparator, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run("separate", write(tmp_path / "a.wav"), "-o", tmp_path / "file" / "x")
    assert result.exit_code == 2
    assert "x: cannot be written (Not a directory)" in result.stderr
    assert not fake.loaded


@pytest.mark.parametrize(
    ("options", "printed"),
    [
        (["--set", "clustering.treshold=1"], "did you mean 'threshold'?"),
        (["--step", "-1"], "step_s: input should be greater than 0, found -1"),
        (["--set", "step_s"], "expected key=value"),
    ],
)
def test_a_bad_setting_is_told_in_one_line(
    fake: FakeSeparator, tmp_path: Path, options: list[str], printed: str
) -> None:
    result = run("separate", write(tmp_path / "a.wav"), *options)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert printed in result.stderr


def test_quiet_is_quiet(fake: FakeSeparator, tmp_path: Path) -> None:
    result = run("separate", write(tmp_path / "a.wav"), "--quiet")
    assert (result.exit_code, result.output) == (0, "")


@pytest.fixture(scope="module")
def separator_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole separator of tiny random networks."""
    folder = tmp_path_factory.mktemp("separator")
    torch.manual_seed(0)
    model = ToTaToNet(
        encoder_decoder={"fb_name": "free", "n_filters": 16, "kernel_size": 32, "stride": 16},
        masker={"name": "dprnn", "n_repeats": 1, "bn_chan": 8, "hid_size": 8, "chunk_size": 100},
        n_sources=2,
    )
    torch.nn.init.constant_(model.classifier.bias, 5.0)  # hears speech everywhere
    save_model(model, folder / "model", {})
    save_model(SpeakerEncoder(16, 16, 4, 1), folder / "embedder", {})
    (folder / "separator.yaml").write_text("step_s: 2.5\n")
    return folder


def test_command_and_python_give_the_same(separator_folder: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", num_samples=6 * RATE_HZ)
    result = run("separate", path, "-o", tmp_path / "out", "--model", separator_folder, "--num-speakers", 2)
    assert result.exit_code == 0, result.stderr
    by_command = Separation.load(tmp_path / "out" / "a")
    by_python = Separator.from_pretrained(separator_folder, device="cpu")(path, num_speakers=2)
    assert by_command.num_samples == by_python.num_samples == 6 * 16000
    assert by_command.speakers == by_python.speakers == ["SPEAKER_00", "SPEAKER_01"]
    again = Separation.load(by_python.save(tmp_path / "python"))
    assert by_command.diarization == again.diarization
    np.testing.assert_array_equal(by_command.sources.data, again.sources.data)
    request = by_command.settings["request"]
    assert request == again.settings["request"]
    assert request["source_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert request["model_sha256"] != request["embedder_sha256"] != request["source_sha256"]


def test_a_model_and_an_embedder_need_nothing_of_the_bundle(
    separator_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pixit.pipeline.parts.BUNDLED", "nowhere")
    model, embedder = separator_folder / "model", separator_folder / "embedder"
    loaded = Separator.from_pretrained(model, embedder, device="cpu", settings={"step_s": 2.5})
    assert loaded.settings == SeparationSettings(step_s=2.5, clustering={"threshold": 0.6})
    whole = Separator.from_pretrained(separator_folder, device="cpu")
    assert loaded.fingerprint == whole.fingerprint
    for pair, wrong in (((model, model), model), ((embedder, embedder), embedder)):
        with pytest.raises(PixitError, match=rf"^{re.escape(str(wrong))}: is a .* is it the other one"):
            Separator.from_pretrained(*pair, device="cpu")


def test_another_embedder_brings_its_own_threshold(separator_folder: Path, tmp_path: Path) -> None:
    embedder = SpeakerEncoder(16, 16, 4, 1, clustering_threshold=0.3)
    save_model(embedder, tmp_path / "embedder", {})
    folder = shutil.copytree(separator_folder, tmp_path / "separator")
    (folder / "separator.yaml").write_text("clustering: {threshold: 0.9, split_gap: 0.1}\n")

    def threshold(embedder: Path | None, **settings: Any) -> float | None:
        loaded = Separator.from_pretrained(folder, embedder, "cpu", {"clustering": settings})
        assert loaded.settings.clustering.split_gap == 0.1
        return loaded.settings.clustering.threshold

    assert threshold(None) == 0.9
    assert threshold(tmp_path / "embedder") == 0.3
    assert threshold(tmp_path / "embedder", threshold=0.5) == threshold(None, threshold=0.5) == 0.5


def test_clean_tracks_a_channel_and_a_number_that_cannot_be_met(
    separator_folder: Path, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.wav", num_channels=2)
    common = ("separate", path, "--model", separator_folder, "--device", "cpu")
    clean = run(*common, "-o", tmp_path / "clean", "--clean", "--channel", "mean", "--num-speakers", 9)
    assert clean.exit_code == 0
    assert "mean of 2 channels" in clean.stdout
    found = Separation.load(tmp_path / "clean" / "a")
    said = f"{len(found.speakers)} of the 9 speakers asked for could be distinguished"
    assert clean.stderr == f"pixit: warning: {path}: {said}\n"
    assert found.settings["separation"]["stitching"]["keep_room"] is False
    kept = run(*common, "-o", tmp_path / "kept", "--keep-room", "--channel", "best")
    assert (kept.stderr, Separation.load(tmp_path / "kept" / "a").settings["warnings"]) == ("", [])
    assert Separation.load(tmp_path / "kept" / "a").settings["separation"]["stitching"]["keep_room"] is True
    wrong = run(*common, "--channel", "loudest")
    assert wrong.exit_code == 2
    assert "'loudest' is neither best, mean nor a number" in wrong.stderr


def test_ctrl_c_cleans_up(separator_folder: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", num_samples=600 * RATE_HZ)
    output = tmp_path / "out"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "pixit", "separate", path, "-o", output),
            *("--model", separator_folder, "--step", "0.05"),
        ],
        stderr=subprocess.PIPE,
        text=True,
        # a shell starts its background jobs, and so perhaps this test, with SIGINT ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 60
    while not list(output.glob(".pixit-*")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=60)
    assert time.monotonic() < deadline, "no temporary folder was seen"
    assert (process.returncode, printed) == (130, "interrupted\n")
    assert not list(output.glob(".*"))


# --- pixit train and pixit simulate -----------------------------------------------------------------------


def test_train_passes_everything_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pixit.cli.console import say
    from pixit.training import train as module

    seen: list[Any] = []

    def train(settings: Any, folder: Path, *rest: Any) -> Path:
        seen.append((settings.trainer.max_steps, settings.seed, folder, *rest))
        return folder / "model"

    monkeypatch.setattr(module, "train", train)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text("seed: 3\n")
    result = run(
        *("train", "--database", "d.yml", "--protocol", "p", "--config", "small.yaml", "--init", "i"),
        *("--quiet", "trainer.max_steps=7"),
    )
    assert result.exit_code == 0, result.stderr
    folder = Path("experiments/small")
    assert seen.pop() == (7, 3, folder, Path("d.yml"), "p", "i", False, False, False, say)
    assert f"pixit separate --model {folder}/model meeting.wav" in result.stdout

    folder.mkdir(parents=True)
    (folder / "run.yaml").write_text("settings: {seed: 5}\n")
    assert run("train", "--resume", "-o", folder, "trainer.max_steps=9").exit_code == 0
    assert seen.pop() == (9, 5, folder, None, None, None, True, True, False, say)


def test_train_tells_a_bad_setting(tmp_path: Path) -> None:
    result = run("train", "-o", tmp_path / "x", "trainer.max_stepps=7")
    assert result.exit_code == 2
    assert "did you mean 'max_steps'?" in result.stderr
    assert not (tmp_path / "x").exists()


def test_simulate_writes_a_corpus_and_says_how_to_train_on_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    times_s = np.arange(3 * 16000) / 16000
    for speaker in range(4):  # two in one folder, two in another
        folder = tmp_path / f"speech{speaker % 2}" / f"s{speaker}"
        folder.mkdir(parents=True)
        voice = 0.3 * np.sin(2 * np.pi * 100 * (speaker + 1) * times_s) * rng.uniform(0.8, 1, len(times_s))
        soundfile.write(folder / "utterance.flac", voice, 16000)
    turns = [f"SPEAKER m 1 {2 * k}.0 1.8 <NA> <NA> {'ABC'[k % 3]} <NA> <NA>\n" for k in range(60)]
    (tmp_path / "m.rttm").write_text("".join(turns))
    out = tmp_path / "out"
    result = run(
        *(
            "simulate",
            "--speech",
            tmp_path / "speech0",
            "--speech",
            tmp_path / "speech1",
            "--turns",
            tmp_path / "m.rttm",
            "-o",
            out,
            "--train",
            1,
        ),
        *(
            "--development",
            1,
            "--duration",
            10,
            "--speakers",
            2,
            "--seed",
            4,
            "--set",
            "reverb_probability=0",
        ),
    )
    assert result.exit_code == 0, result.stderr
    assert f"pixit train --database {out}/database.yml --protocol Simulated." in result.stdout
    assert sorted(path.name for path in (out / "audio").iterdir()) == [
        "development_0000.flac",
        "train_0000.flac",
    ]
    assert soundfile.info(out / "audio" / "train_0000.flac").duration == 10
    speakers = {path.stem for path in (out / "references").rglob("*.flac")}
    assert speakers == {"speech0-s0", "speech1-s1", "speech0-s2", "speech1-s3"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"step_s": None, "batch_size": None}, ["x=1"]),
        ({"step_s": 0.001}, ["step_s=0.001", "x=1"]),
        ({"num_speakers": "2-4"}, ["num_speakers=[2, 4]", "x=1"]),
        ({"num_speakers": "3"}, ["num_speakers=[3, 3]", "x=1"]),
    ],
)
def test_collect_overrides(options: dict[str, Any], expected: list[str]) -> None:
    assert collect_overrides(["x=1"], **options) == expected


@pytest.mark.parametrize("metric", [*METRICS, "greedy_orcwer"])
def test_every_metric_of_transcripts_is_had_by_its_name(tmp_path: Path, metric: str) -> None:
    path = tmp_path / "meeting.stm"
    path.write_text("meeting 1 ann 0.000 1.000 hello there\n")
    options = "--metric", metric, "--normalizer", "none", "--no-per-speaker", "--format", "json"
    done = run("evaluate", "transcript", path, path, *options)
    assert done.exit_code == 0, done.output
    assert METRICS[metric.replace("_", "-")] in run("evaluate", "transcript", path, path, *options[:2]).output


@pytest.mark.parametrize("command", ["separate", "report", "evaluate diarization"])
def test_a_name_too_long_for_files_is_one_line(tmp_path: Path, command: str) -> None:
    name = f"{'y' * 300}.wav"
    done = run(*command.split(), *[name] * len(command.split()))
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "too long" in done.stderr
