"""Every reader, given damaged files: a valid result or one line that names the file, never anything else.

A few seconds and always the same in CI; for minutes and by chance with ``PIXIT_FUZZ=2000 pytest tests/test_fuzz.py``,
the number of damaged files for each reader.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pixit.checkpoints import load_model, save_model
from pixit.config import load_settings
from pixit.data.database import load_recordings
from pixit.files import read_pickle
from pixit.formats.labelled import read_labelled
from pixit.formats.rttm import read_rttm, read_uem
from pixit.formats.transcripts import read_transcript
from pixit.models.totatonet import ToTaToNet
from pixit.pipeline.settings import SeparationSettings
from pixit.report.content import read_scores
from pixit.results import Separation
from pixit.simulation.pool import _read_cache
from pixit.simulation.rooms import RoomBank
from pixit.training.run import Run
from pixit.transcription.stretches import Journal
from pixit.types import PixitError

EXAMPLES = int(os.environ.get("PIXIT_FUZZ", "0"))

HOSTILE = [
    *("nan", "inf", "-inf", "1e999", "-1", "0", "9" * 5000, "0x" + "f" * 5000, "1" + "0" * 4000),
    *("null", "true", "[]", "{}", '""', "[" * 100_000, "{a: " * 5000, '{"a":' * 5000, "\\ud800", "\\u0000"),
    *(
        "\x00",
        "\x1b[31m",
        "\ufeff",
        "\u2028",
        "\r",
        "\n",
        "\t",
        " ",
        "'",
        '"',
        "%",
        "&a [*a]",
        "!!python/object:os.system",
    ),
    *(
        "2001-99-99",
        "{uri}",
        "../../etc/passwd",
        "x" * 300,
        "ü" * 300,
        "?",
        ": ",
        "- ",
        "<<: ",
        ";",
        "#",
        "-->",
    ),
    "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n" + "".join(f"d{i}: &d{i} [*c, *c]\n" for i in range(3)),
]


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Some of the content replaced, left out, repeated, or turned into something else."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(content)))
        stop = min(len(content), start + draw(st.sampled_from([0, 1, 1, 2, 5, 20, 1000])))
        with_what = draw(st.one_of(st.sampled_from(HOSTILE).map(str.encode), st.binary(max_size=4)))
        repeated = content[start:stop] * draw(st.sampled_from([0, 0, 0, 2, 50]))
        content = content[:start] + (repeated or with_what) + content[stop:]
    return content


Reader = tuple[Path, Callable[[], Any]]
RTTM = "SPEAKER m 1 0.500 1.250 <NA> <NA> ann <NA> <NA>\nSPEAKER m 1 1.000 2.000 <NA> <NA> bob <NA> <NA>\n"
TEXTS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "m.rttm": (RTTM, lambda path: (read_rttm(path), read_labelled([path]))),
    "m.uem": ("m 1 0.000 3.000\n", read_uem),
    "m.stm": ("m 1 ann 0.5 1.5 <o,f0> hello there\n", read_transcript),
    "m.ctm": ("m 1 0.5 0.3 hello 0.9\n", read_transcript),
    "m.srt": ("1\n00:00:00,500 --> 00:00:01,500\n[ann]: hello\n", read_transcript),
    "m.vtt": ("WEBVTT\n\n00:00:00.500 --> 00:00:01.500\n<v ann>hello\n", read_transcript),
    "m.seglst.json": (
        json.dumps(
            [{"session_id": "m", "speaker": "ann", "start_time": 0.5, "end_time": 1.5, "words": "hello"}]
        ),
        lambda path: (read_transcript(path), read_labelled([path])),
    ),
    "scores.json": (
        json.dumps({"title": "t", "rows": [{"recording": "m", "der_percent": 12.5}]}),
        lambda path: read_scores(path, "m"),
    ),
    "settings.yaml": (
        "step_s: 0.5\nactivity: {onset: 0.5}\nclustering: {threshold: 0.6}\n",
        lambda path: load_settings(SeparationSettings, path),
    ),
    "run.yaml": (
        "settings: {seed: 1, model: {n_sources: 2}, trainer: {max_steps: 5}}\nprotocol: A.SpeakerDiarization.B\n",
        lambda path: Run.read(path.parent),
    ),
    "m.transcription.jsonl": (
        '{"request": {"a": 1}}\n{"speaker": "ann", "start": 0, "stop": 9, "words": [["hello", 0.1, 0.2]]}\n',
        lambda path: Journal(path, {"a": 1}),
    ),
}


def make_text(folder: Path, name: str) -> Reader:
    text, read = TEXTS[name]
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path, lambda: read(path)


def make_database(folder: Path, name: str) -> Reader:
    entries = {"uri": "m.lst", "annotation": "m.rttm", "annotated": "m.uem"}
    tree = {
        "Databases": {"A": "{uri}.wav"},
        "Protocols": {"A": {"SpeakerDiarization": {"B": {"train": entries}}}},
    }
    (folder / "database.yml").write_text(yaml.safe_dump(tree))
    (folder / "m.lst").write_text("m\n")
    (folder / "m.rttm").write_text(RTTM)
    (folder / "m.uem").write_text("m 1 0.000 3.000\n")
    soundfile.write(folder / "m.wav", np.zeros(4000), 1000)
    return folder / name, lambda: load_recordings(None, "train", folder / "database.yml")


def make_result(folder: Path, name: str) -> Reader:
    result = folder / "m"
    result.mkdir()
    soundfile.write(result / "A.wav", np.zeros(2000), 1000)
    description = {"uri": "m", "duration": 2.0, "sample_rate": 1000, "num_samples": 2000} | {
        "tracks": {"A": {"file": "A.wav", "peak": 0.0, "clipped_samples": 0}},
        "settings": {"source": "m.wav", "request": {"call": {"channel": "best"}}},
        "diarization": [{"speaker": "A", "start": 0.0, "end": 1.5}],
    }
    (result / "m.json").write_text(json.dumps(description))
    (result / "m.rttm").write_text(RTTM)
    return result / name, lambda: Separation.load(result)


def make_model(folder: Path, name: str) -> Reader:
    masker = {"name": "dprnn", "n_repeats": 1, "bn_chan": 4, "hid_size": 4, "chunk_size": 10}
    save_model(ToTaToNet(2, {"n_filters": 8}, masker, {"hidden_size": 4}), folder / "model", {})
    return folder / "model" / name, lambda: load_model(folder / "model")


def make_pickle(folder: Path, name: str) -> Reader:
    torch.save({"state_dict": {"a": torch.zeros(2)}, "global_step": 1}, folder / name)
    return folder / name, lambda: read_pickle(folder / name, "a checkpoint")


def make_speech_cache(folder: Path, name: str) -> Reader:
    np.save(folder / "samples.npy", np.zeros(50, np.int16))
    entry = {"speaker": "a", "num_samples": 50, "speech": [[0, 20]], "onsets": [0]}
    (folder / "index.json").write_text(json.dumps([entry]))
    return folder / name, lambda: _read_cache(folder)


def make_room_cache(folder: Path, name: str) -> Reader:
    bank = RoomBank(1, 2, cache=folder / name)
    arrays = {"key": np.array(bank._key()), "0-0": np.zeros(5), "0-1": np.zeros(5)}
    np.savez(folder / name, **arrays)
    return folder / name, bank.prepare


READERS: dict[str, Callable[[Path, str], Reader]] = {
    **dict.fromkeys(TEXTS, make_text),
    **dict.fromkeys(["database.yml", "m.lst", "m.rttm (protocol)", "m.uem (protocol)"], make_database),
    **dict.fromkeys(["m.json", "A.wav"], make_result),
    **dict.fromkeys(["config.json", "model.safetensors"], make_model),
    "last.ckpt": make_pickle,
    **dict.fromkeys(["samples.npy", "index.json"], make_speech_cache),
    "rooms.npz": make_room_cache,
}


def read_or_complain(read: Callable[[], Any]) -> None:
    message = ""
    try:
        read()
    except PixitError as error:
        message = str(error)
    assert "\n" not in message
    assert len(message) < 3000


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_read_or_told(name: str, tmp_path: Path) -> None:
    path, read = READERS[name](tmp_path, name.split()[0])
    read()  # the file as it should be
    content = path.read_bytes()

    @settings(
        max_examples=EXAMPLES or (4 if READERS[name] is make_database else 12),
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(damaged(content))
    def one(changed: bytes) -> None:
        path.write_bytes(changed)
        read_or_complain(read)

    one()
    slow = READERS[name] is make_database and not EXAMPLES
    for hostile in HOSTILE[:: 5 if slow else 1]:
        path.write_text(hostile, encoding="utf-8", errors="surrogatepass")
        read_or_complain(read)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes in folders")
@pytest.mark.parametrize("name", READERS)
def test_a_pipe_or_a_link_to_itself_is_told(name: str, tmp_path: Path) -> None:
    path, read = READERS[name](tmp_path, name.split()[0])
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(PixitError):
        read()
    path.unlink()
    path.symlink_to(path.name)
    if path.name not in ("rooms.npz", "m.transcription.jsonl"):  # it does not exist, and is made
        with pytest.raises(PixitError):
            read()


def test_folders_that_hold_themselves_are_searched_once(tmp_path: Path) -> None:
    from pixit.formats.names import find_results

    make_result(tmp_path, "m.json")
    for name in ("loop", "again"):
        (tmp_path / name).symlink_to(tmp_path, target_is_directory=True)
    assert [path.name for path in find_results([tmp_path])] == ["m"]
    assert Separation.load(tmp_path / "m").speakers == ["A"]
