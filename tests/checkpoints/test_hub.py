"""Models by name, and models for others: against a local cache, and a hub that is a folder."""

from __future__ import annotations

import fnmatch
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import huggingface_hub.constants
import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner, Result

from pixit.checkpoints import find_model, load_model, push_to_hub, save_model, save_pretrained
from pixit.checkpoints.card import model_card
from pixit.checkpoints.hub import named_models
from pixit.checkpoints.native import provenance_of
from pixit.checkpoints.share import push_folder
from pixit.cli import cli
from pixit.models.embedders import EcapaTdnn, SpeakerEncoder, WeSpeakerResNet34
from pixit.models.pyannet import PyanNet
from pixit.models.totatonet import ToTaToNet
from pixit.pipeline.separate import Separator
from pixit.pipeline.streaming import StreamingSeparator
from pixit.types import PixitError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PIPELINE = """
version: 3.1.0
pipeline:
  name: pyannote.audio.pipelines.SpeechSeparation
  params:
    segmentation: {checkpoint: some/separation, revision: v1}
    embedding: speechbrain/ecapa@5c0be38
    plda: $model/plda
"""


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], catch_exceptions=False)


def tiny(**changes: Any) -> ToTaToNet:
    masker = {"name": "dprnn", "n_repeats": 1, "bn_chan": 6, "hid_size": 4, "chunk_size": 100}
    model = ToTaToNet(**{"n_sources": 2, "encoder_decoder": {"n_filters": 8}, "masker": masker} | changes)
    torch.nn.init.constant_(model.classifier.bias, 5.0)  # hears speech everywhere
    return model


def small_ecapa(path: Path) -> Path:
    model = EcapaTdnn(20, channels=(16, 16, 16, 16, 48), attention_channels=8)
    path.mkdir(parents=True)
    torch.save(model.state_dict(), path / "embedding_model.ckpt")
    return path


def put_in_cache(cache: Path, folder: Path, name: str, revision: str = "main") -> Path:
    """Lay out a repository as the hub's client keeps it."""
    repository = cache / f"models--{name.replace('/', '--')}"
    snapshot = shutil.copytree(folder, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / revision).write_text(COMMIT)
    return snapshot


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What HF_HUB_OFFLINE=1 and HF_HUB_CACHE come to in the client, which reads them when it is imported."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))
    return folder


class Hub:
    """The network's other end: repositories are folders, and downloads follow the patterns that are asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls: list[dict[str, Any]] = []
        self.fails: Exception | None = None

    def __call__(self, token: str | None = None) -> Hub:  # as HfApi(token=…)
        self.calls.append({"token": token})
        return self

    def snapshot_download(self, repo_id: str, allow_patterns: list[str], **call: Any) -> str:
        self.calls.append({"repo_id": repo_id, "allow_patterns": allow_patterns, **call})
        if not (self.folder / repo_id).is_dir():
            raise FileNotFoundError("404 Not Found")
        target = Path(call["cache_dir"]) / f"models--{repo_id.replace('/', '--')}" / "snapshots" / COMMIT
        for path in (self.folder / repo_id).rglob("*"):
            relative = path.relative_to(self.folder / repo_id)
            if path.is_file() and any(
                fnmatch.fnmatch(relative.as_posix(), pattern) for pattern in allow_patterns
            ):
                (target / relative).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target / relative)
        target.mkdir(parents=True, exist_ok=True)
        return str(target)

    def create_repo(self, repo_id: str, **call: Any) -> str:
        if self.fails is not None:
            raise self.fails
        self.calls.append({"repo_id": repo_id, **call})
        return f"https://huggingface.co/{repo_id}"

    def create_branch(self, repo_id: str, **call: Any) -> None:
        self.calls.append({"repo_id": repo_id, **call})

    def create_commit(self, repo_id: str, operations: list[Any], **call: Any) -> None:
        self.calls.append({"repo_id": repo_id, **call})
        for operation in operations:
            path = self.folder / repo_id / operation.path_in_repo
            path.parent.mkdir(parents=True, exist_ok=True)
            with operation.as_file() as file:
                path.write_bytes(file.read())


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    there = Hub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", there.snapshot_download)
    monkeypatch.setattr(huggingface_hub, "HfApi", there)
    return there


# --- from the hub ---------------------------------------------------------------------------------------


def test_embedders_by_name(cache: Path, originals: dict[str, Path], tmp_path: Path) -> None:
    put_in_cache(cache, originals["wespeaker"], "pyannote/wespeaker-voxceleb-resnet34-LM")
    put_in_cache(cache, small_ecapa(tmp_path / "ecapa"), "speechbrain/spkrec-ecapa-voxceleb", "v1")
    assert isinstance(load_model("pyannote/wespeaker-voxceleb-resnet34-LM"), WeSpeakerResNet34)
    ecapa = load_model("speechbrain/spkrec-ecapa-voxceleb@v1")
    assert isinstance(ecapa, EcapaTdnn)
    assert provenance_of(ecapa)["repository"] == "speechbrain/spkrec-ecapa-voxceleb"
    assert provenance_of(ecapa)["revision"] == COMMIT
    with pytest.raises(
        PixitError, match=r"^speechbrain/spkrec-ecapa-voxceleb: no such file here, and the hub"
    ):
        load_model("speechbrain/spkrec-ecapa-voxceleb")


def test_an_embedder_by_name_from_the_command_line(cache: Path, tmp_path: Path) -> None:
    put_in_cache(cache, small_ecapa(tmp_path / "ecapa"), "speechbrain/spkrec-ecapa-voxceleb")
    put_in_cache(cache, save_model(tiny(), tmp_path / "model", {}), "some/model")
    speech = tmp_path / "a.wav"
    soundfile.write(speech, np.random.default_rng(0).uniform(-0.1, 0.1, 6 * 16000), 16000)
    given = ("--model", "some/model", "--embedder", "speechbrain/spkrec-ecapa-voxceleb", "--device", "cpu")
    done = run("separate", speech, "-o", tmp_path / "out", "-n", 1, *given)
    assert done.exit_code == 0, done.stderr
    settings = json.loads((tmp_path / "out" / "a" / "a.json").read_text())["settings"]
    assert settings["separation"]["clustering"]["threshold"] == EcapaTdnn().clustering_threshold
    done = run("separate", speech, "-o", tmp_path / "other", "--embedder", "speechbrain/absent")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "speechbrain/absent: no such file here" in done.stderr


def test_an_embedder_by_name_is_evaluated(cache: Path, tmp_path: Path) -> None:
    put_in_cache(cache, small_ecapa(tmp_path / "ecapa"), "speechbrain/spkrec-ecapa-voxceleb")
    noise = np.random.default_rng(0)
    for speaker in "ab":
        (tmp_path / "voices" / speaker).mkdir(parents=True)
        for i in range(2):
            path = tmp_path / "voices" / speaker / f"{i}.wav"
            soundfile.write(path, noise.uniform(-0.1, 0.1, 16000), 16000)
    done = run(
        "evaluate", "verification", tmp_path / "voices", "--embedder", "speechbrain/spkrec-ecapa-voxceleb"
    )
    assert done.exit_code == 0, done.stderr
    assert "EER" in done.stdout


def test_a_separator_by_name(cache: Path, tmp_path: Path) -> None:
    separator = Separator(tiny(), SpeakerEncoder(8, 16, 2, 1), device="cpu")
    put_in_cache(cache, separator.save_pretrained(tmp_path / "separator"), "some/separator", "v2")
    loaded = Separator.from_pretrained("some/separator@v2", device="cpu")
    assert loaded.fingerprint == separator.fingerprint
    assert Separator.from_pretrained("some/separator", revision="v2", device="cpu").name == "some/separator"
    snapshot = find_model("some/separator@v2")
    with pytest.raises(PixitError, match="is a separator, model and embedder together") as error:
        load_model("some/separator@v2")
    assert f"pass {snapshot / 'model'} or {snapshot / 'embedder'} instead" in str(error.value)


def test_only_what_is_read_is_downloaded(hub: Hub, tmp_path: Path) -> None:
    there = small_ecapa(hub.folder / "speechbrain" / "ecapa")
    for name in ("config.json", "hyperparams.yaml", "classifier.ckpt", "example.wav"):
        (there / name).write_text("{}")
    path = find_model("speechbrain/ecapa@abc", token="secret", cache_dir=tmp_path / "cache")
    assert isinstance(load_model(path), EcapaTdnn)
    assert {file.name for file in path.iterdir()} == {
        *("config.json", "hyperparams.yaml", "embedding_model.ckpt"),
    }
    assert all((call["revision"], call["token"]) == ("abc", "secret") for call in hub.calls)
    (hub.folder / "some" / "other").mkdir(parents=True)
    with pytest.raises(
        PixitError, match=r"some/other: holds nothing that pixit reads; expected one of config\.json"
    ):
        find_model("some/other", cache_dir=tmp_path / "cache")


def test_download_of_all_that_a_pipeline_names(hub: Hub, tmp_path: Path, cache: Path) -> None:
    pipeline = hub.folder / "some" / "pipeline"
    (pipeline / "plda").mkdir(parents=True)
    (pipeline / "config.yaml").write_text(PIPELINE)
    (pipeline / "plda" / "plda.npz").write_text("")
    (pipeline / "huge.wav").write_text("")
    save_model(tiny(), hub.folder / "some" / "separation", {})
    small_ecapa(hub.folder / "speechbrain" / "ecapa")
    done = run("download", "some/pipeline", "--revision", "v3", "--cache-dir", cache)
    assert done.exit_code == 0, done.stderr
    lines = dict(line.split(": ") for line in done.stdout.splitlines())
    assert list(lines) == ["some/pipeline", "some/separation", "speechbrain/ecapa@5c0be38"]
    assert {path.name for path in Path(lines["some/pipeline"]).rglob("*")} == {
        "config.yaml",
        "plda",
        "plda.npz",
    }
    revisions = {call["repo_id"]: call["revision"] for call in hub.calls}
    assert revisions == {"some/pipeline": "v3", "some/separation": "v1", "speechbrain/ecapa": "5c0be38"}
    assert isinstance(load_model(lines["some/separation"]), ToTaToNet)
    done = run("download", "some/absent")
    assert done.exit_code == 2
    assert "the hub did not provide it (404 Not Found)" in done.stderr


def test_what_lies_here_is_only_named(hub: Hub, tmp_path: Path) -> None:
    model = save_model(tiny(), tmp_path / "model", {})
    assert run("download", model).stdout == f"{model}: {model}\n"
    assert hub.calls == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pipeline: 1",
        "pipeline: {params: [1]}",
        "pipeline: {params: {segmentation: 1, embedding: {checkpoint: [1]}}}",
        "pipeline: {params: {segmentation: $model/segmentation, embedding: ./here/model.bin}}",
    ],
)
def test_pipelines_that_name_no_models(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(text)
    assert named_models(tmp_path / "config.yaml") == []


# --- to the hub -----------------------------------------------------------------------------------------


@pytest.fixture
def card_of() -> Callable[[Path], huggingface_hub.ModelCard]:
    return lambda folder: huggingface_hub.ModelCard.load(folder / "README.md")


PROVENANCE = {
    "licence": "cc-by-4.0",
    "database": "ami.yml",
    "protocol": "AMI-SDM.SpeakerDiarization.only_words",
    "steps": 1234,
    "settings": {"data": {"simulation": {"speech": "train-clean-100"}}, "seed": 7},
    "metrics_at_the_end": {"val/der": 0.31, "by set": {"dev|eval": 0.2}},
}


def test_a_model_with_its_card(tmp_path: Path, card_of: Any) -> None:
    folder = save_pretrained(tiny(), tmp_path / "model", PROVENANCE, repo_id="me/meetings")
    card = card_of(folder)
    card.data.to_dict()
    assert (card.data.license, card.data.library_name) == ("cc-by-4.0", "pixit")
    assert card.data.pipeline_tag == "audio-to-audio"
    assert {"speech-separation", "speaker-diarization"} <= set(card.data.tags)
    num_parameters = sum(parameter.numel() for parameter in tiny().parameters())
    for told in (
        *(
            "# me/meetings",
            "pixit separate meeting.wav --model me/meetings",
            f"{num_parameters:,} parameters",
        ),
        *("- steps: 1234", "- protocol: AMI-SDM", "- speech of simulated meetings: train-clean-100"),
        *("| val/der | 0.31 |", "| by set, dev/eval | 0.2 |", "`cc-by-4.0`", "At most 2 speakers in any 5 s"),
    ):
        assert told in card.text, told
    assert provenance_of(load_model(folder)) == PROVENANCE
    save_pretrained(load_model(folder), folder)  # replaces, and keeps the origin
    assert card_of(folder).data.license == "cc-by-4.0"


def test_the_card_of_a_model_that_diarizes(tmp_path: Path, card_of: Any) -> None:
    network = PyanNet(num_speakers=4, lstm={"hidden_size": 4, "num_layers": 1}, linear={"num_layers": 0})
    folder = save_pretrained(network, tmp_path / "model", {}, repo_id="me/who")
    path = folder / "config.json"
    description = json.loads(path.read_text())
    del description["config"]["window_s"]  # as who writes it by hand may leave out what is as by default
    path.write_text(json.dumps(description))
    (folder / "README.md").write_text(model_card(folder, "me/who"))
    card = card_of(folder)
    assert (card.data.tags, card.data.pipeline_tag) == (["speaker-diarization"], None)
    for told in (
        *("`PyanNet`, which diarizes windows of a recording", "pixit diarize meeting.wav --model me/who"),
        *('separator.diarize("meeting.wav")', "At most 4 speakers in any 10 s, at 16000 Hz"),
    ):
        assert told in card.text, told
    assert "embedding, by which" not in card.text


def test_the_card_of_an_imported_embedder(originals: dict[str, Path], tmp_path: Path, card_of: Any) -> None:
    snapshot = put_in_cache(tmp_path, originals["wespeaker"], "pyannote/wespeaker")
    folder = save_pretrained(load_model(snapshot), tmp_path / "model", licence="mit")
    card = card_of(folder)
    assert (card.data.base_model, card.data.license) == (["pyannote/wespeaker"], "mit")
    assert card.data.tags == ["speaker-embedding"]
    assert "--embedder model" in card.text
    assert f"- revision: {COMMIT}" in card.text
    assert "### Results\n\nNot stated." in card.text


def test_a_separator_and_its_card(tmp_path: Path, card_of: Any) -> None:
    settings = {"step_s": 2.5, "clustering": {"threshold": 0.3}, "batch_size": 2}
    separator = Separator.from_pretrained(device="cpu", settings=settings)
    folder = separator.save_pretrained(tmp_path / "mine", licence="cc-by-4.0")
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "embedder",
        "model",
        "separator.yaml",
        "streaming.yaml",
    ]
    again = Separator.from_pretrained(folder, device="cpu")
    live, bundled = (StreamingSeparator.from_pretrained(name, device="cpu") for name in (folder, None))
    assert live.settings == bundled.settings
    assert again.fingerprint == separator.fingerprint
    assert again.settings.batch_size is None, "that belongs to the machine"
    card = card_of(folder)
    assert "step_s: 2.5" in card.text
    num_parameters = sum(parameter.numel() for parameter in again.model.parameters())  # type: ignore[attr-defined]
    assert f"{num_parameters:,} parameters" in card.text
    assert "## The model" in card.text
    assert "## The embedder" in card.text
    (row,) = re.findall(r"\| 1\.5 s, eer \| (0\.\d+) \|", card.text)  # the bundled embedder's provenance
    assert 0 < float(row) < 0.1
    separator.save_pretrained(folder)
    (folder / "thesis.tex").write_text("years of work")
    with pytest.raises(PixitError, match="is not a model's folder"):
        separator.save_pretrained(folder)


def test_the_threshold_stays_with_the_embedder(tmp_path: Path) -> None:
    embedder = SpeakerEncoder(8, 16, 2, 1, clustering_threshold=0.42)
    folder = Separator(tiny(), embedder, device="cpu").save_pretrained(tmp_path / "mine")
    assert (folder / "separator.yaml").read_text() == "{}\n"
    assert Separator.from_pretrained(folder, device="cpu").settings.clustering.threshold == 0.42


def test_pushed_and_loaded_is_the_same(hub: Hub, tmp_path: Path) -> None:
    separator = Separator(tiny(), SpeakerEncoder(8, 16, 2, 1), device="cpu")
    address = separator.push_to_hub(
        "me/separator", "mit", private=True, revision="v1", message="First", token="t"
    )
    assert address == "https://huggingface.co/me/separator"
    assert hub.calls == [
        {"token": "t"},
        {"repo_id": "me/separator", "private": True, "exist_ok": True},
        {"repo_id": "me/separator", "branch": "v1", "exist_ok": True},
        {"repo_id": "me/separator", "commit_message": "First", "revision": "v1"},
    ]
    loaded = Separator.from_pretrained("me/separator", device="cpu", cache_dir=tmp_path / "cache")
    assert loaded.fingerprint == separator.fingerprint
    push_to_hub(separator.embedder, "me/embedder", dtype=torch.float16, provenance={"data": "none"})
    assert load_model("me/embedder", cache_dir=tmp_path / "cache").config == separator.embedder.config
    card = (hub.folder / "me" / "embedder" / "README.md").read_text()
    assert "# me/embedder" in card


def test_a_folder_is_pushed_as_it_is(hub: Hub, tmp_path: Path) -> None:
    folder = save_model(tiny(), tmp_path / "model", {}, dtype=torch.float16)
    (folder / "secret.txt").write_text("password")
    done = run("push", folder, "me/model", "--licence", "mit")
    assert (done.exit_code, done.stdout) == (0, "https://huggingface.co/me/model\n")
    there = hub.folder / "me" / "model"
    assert {path.name for path in there.iterdir()} == {"README.md", "config.json", "model.safetensors"}
    assert (there / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    assert "license: mit" in (there / "README.md").read_text()
    (folder / "README.md").write_text("# By hand")
    push_folder(folder, "me/model")
    assert (there / "README.md").read_text() == "# By hand"


def test_what_cannot_be_pushed_is_told(hub: Hub, tmp_path: Path) -> None:
    done = run("push", tmp_path / "absent", "me/model")
    assert done.exit_code == 2
    assert "config.json: no such file; expected the folder of a model or of a separator" in done.stderr
    folder = save_model(tiny(), tmp_path / "model", {})
    hub.fails = OSError("401 Unauthorized")
    with pytest.raises(PixitError, match=r"me/model: the hub did not take it \(401 Unauthorized\)"):
        push_folder(folder, "me/model")
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(PixitError, match=r"model\.safetensors: damaged"):
        push_folder(folder, "me/model")
    assert not hub.folder.exists()
