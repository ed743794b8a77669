"""pyannote.audio's pipelines: every key is followed, named, or refused; every form of a name finds its file."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import soundfile
import yaml
from click.testing import CliRunner

from pixit.checkpoints import save_model
from pixit.checkpoints.pipelines import Pipeline, find_pipeline, read_pipeline
from pixit.cli import cli
from pixit.files import file_hash
from pixit.models.embedders import WeSpeakerResNet34
from pixit.models.totatonet import ToTaToNet
from pixit.pipeline.separate import Separator
from pixit.types import PixitError


def config(**changes: Any) -> dict[str, Any]:
    """The form of 3.x, with every key that such files have."""
    return {
        "version": "3.3.0",
        "pipeline": {
            "name": "pyannote.audio.pipelines.SpeechSeparation",
            "params": {
                "segmentation": "pyannote/separation-ami-1.0",
                "segmentation_step": 0.2,
                "segmentation_batch_size": 3,
                "embedding": "pyannote/wespeaker-voxceleb-resnet34-LM@v1",
                "embedding_batch_size": 32,
                "embedding_exclude_overlap": True,
                "clustering": "AgglomerativeClustering",
                "der_variant": {"collar": 0.0, "skip_overlap": False},
            },
        },
        "params": {
            "segmentation": {"min_duration_off": 0.1, "threshold": 0.6},
            "clustering": {"method": "centroid", "min_cluster_size": 15, "threshold": 0.68},
            "separation": {"leakage_removal": True, "asr_collar": 0.32},
        },
    } | changes


def read(folder: Path, tree: dict[str, Any], **hub: Any) -> Pipeline:
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(tree))
    return read_pipeline(folder, **hub)


def with_params(**changes: Any) -> dict[str, Any]:
    tree = config()
    tree["pipeline"]["params"] |= changes
    return tree


def test_every_key_of_the_form_of_3_is_followed(tmp_path: Path) -> None:
    found = read(tmp_path, config())
    assert (found.kind, found.unknown, found.warning) == ("SpeechSeparation", (), None)
    assert (found.model.name, found.model.revision) == ("pyannote/separation-ami-1.0", None)
    assert found.embedder is not None
    assert str(found.embedder) == "pyannote/wespeaker-voxceleb-resnet34-LM@v1"
    settings = found.settings_for(5.0)
    assert settings["step_s"] == pytest.approx(1.0)
    assert "batch_size" not in settings  # it is for another machine, and changes no result
    activity = settings["activity"]
    assert (activity["onset"], activity["offset"], activity["min_duration_off_s"]) == (0.6, 0.6, 0.1)
    assert settings["embedding"]["exclude_overlap"] is True
    assert settings["clustering"] == {
        **{"method": "agglomerative", "linkage": "centroid", "threshold": 0.68, "min_cluster_size": 15},
        "max_vectors": 10_000,
    }
    assert (settings["stitching"]["leakage_removal_db"], settings["stitching"]["collar_s"]) == (200, 0.32)


def test_the_form_of_4_and_its_subfolders(tmp_path: Path) -> None:
    tree = config(dependencies={"pyannote.audio": "4.0.0"}, device="cuda")
    del tree["version"]
    tree["pipeline"]["params"] |= {
        "segmentation": "$model/segmentation",
        "embedding": {
            "checkpoint": "org/name",
            "subfolder": "sub",
            "revision": "r",
            "token": "t",
            "cache_dir": "c",
        },
    }
    found = read(tmp_path, tree)
    assert found.unknown == ()
    assert found.device == "cuda"
    assert (found.model.name, found.model.subfolder) == (str(tmp_path), "segmentation")
    voice = found.embedder
    assert voice is not None
    assert (voice.name, voice.subfolder, voice.revision) == ("org/name", "sub", "r")
    assert (voice.token, voice.cache_dir) == ("t", "c")


def test_a_collar_of_nothing_and_no_leakage_removal(tmp_path: Path) -> None:
    tree = config()
    tree["params"]["separation"] = {"leakage_removal": True, "asr_collar": 0.0}
    assert read(tmp_path, tree).settings["stitching"]["collar_s"] == 0.0
    tree["params"]["separation"] = {"leakage_removal": False}
    assert read(tmp_path, tree).settings["stitching"]["leakage_removal_db"] == 0.0


def test_a_path_is_looked_for_beside_the_config_and_then_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, beside = tmp_path / "here", tmp_path / "beside"
    for folder in (here / "a", here / "b", beside / "a"):
        folder.mkdir(parents=True)
    monkeypatch.chdir(here)
    found = read(beside, with_params(segmentation="a", embedding="./b"))
    assert found.embedder is not None
    assert (found.model.name, found.embedder.name) == (str(beside / "a"), str(here / "b"))


def test_what_is_frozen_goes_before_what_is_given(tmp_path: Path) -> None:
    tree = config(freeze={"segmentation": {"threshold": 0.7}})
    found = read(tmp_path, tree)
    assert found.settings["activity"]["onset"] == 0.7
    assert found.settings["activity"]["min_duration_off_s"] == 0.1


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("KMeansClustering", {}, {"method": "kmeans", "max_vectors": 10_000}),
        ("OracleClustering", {}, {"method": "oracle"}),
        (
            "VBxClustering",
            {"threshold": 0.6, "Fa": 0.07, "Fb": 0.8},
            {"method": "vbx", "threshold": 0.6, "fa": 0.07, "fb": 0.8, "max_vectors": 10_000},
        ),
    ],
)
def test_every_clustering_has_its_counterpart(
    tmp_path: Path, kind: str, given: dict[str, Any], expected: dict[str, Any]
) -> None:
    tree = with_params(clustering=kind)
    tree["params"]["clustering"] = given
    found = read(tmp_path, tree)
    assert found.settings["clustering"] == expected
    assert found.unknown == ()
    assert (found.embedder is None) == (kind == "OracleClustering")


def test_speaker_diarization_has_no_tracks_and_may_have_no_threshold(tmp_path: Path) -> None:
    tree = with_params(plda="$model/plda", clustering="VBxClustering", legacy=False)
    tree["pipeline"]["name"] = "pyannote.audio.pipelines.SpeakerDiarization"
    clustering = {"threshold": 0.6, "Fa": 0.07, "Fb": 0.8}
    tree["params"] = {"segmentation": {"min_duration_off": 0.0}, "clustering": clustering}
    (tmp_path / "plda").mkdir()
    found = read(tmp_path, tree)
    assert found.kind == "SpeakerDiarization"
    assert "stitching" not in found.settings
    assert found.unknown == ()
    assert found.plda is not None
    assert found.plda.subfolder == "plda"
    assert found.settings_for(10.0)["clustering"]["plda"] == str(tmp_path / "plda")


def test_every_unknown_key_is_named_in_one_line(tmp_path: Path) -> None:
    tree = config(extra=1)
    tree["pipeline"]["colour"] = "red"
    tree["pipeline"]["params"] |= {"beam": 3, "embedding": {"checkpoint": "org/name", "strict": False}}
    tree["params"]["clustering"]["alpha"] = 0.1
    tree["params"]["postprocessing"] = {"beta": 2}
    tree["freeze"] = {"separation": {"gamma": 3}}
    found = read(tmp_path, tree)
    expected = ["extra", "pipeline.colour", "pipeline.params.beam", "org/name: strict"]
    expected += ["params.clustering.alpha", "params.postprocessing.beta", "params.separation.gamma"]
    assert sorted(found.unknown) == sorted(expected)
    assert found.warning is not None
    assert "\n" not in found.warning
    assert all(key in found.warning for key in expected)


@pytest.mark.parametrize(
    ("tree", "named"),
    [
        (
            config(pipeline={"name": "pyannote.audio.pipelines.VoiceActivityDetection"}),
            "VoiceActivityDetection",
        ),
        (config(pipeline="SpeechSeparation"), "pipeline: SpeechSeparation"),
        (config(params={"segmentation": {"min_duration_off": 0.0}}), "params.segmentation.threshold"),
        (config(params={"segmentation": 0.5}), "segmentation: 0.5"),
        (with_params(clustering="FINCHClustering"), "FINCHClustering"),
        (with_params(clustering=["AgglomerativeClustering"]), "clustering"),
        (with_params(segmentation_step="half"), "segmentation_step: half"),
        (with_params(segmentation_step=1.5), "segmentation_step: 1.5"),
        (with_params(embedding=3), "found 3"),
        (with_params(segmentation={"subfolder": "x"}), "subfolder"),
        (config(preprocessors={"audio": {"name": "evil.Class"}}), "preprocessors"),
    ],
)
def test_what_cannot_be_followed_is_refused_in_one_line(
    tmp_path: Path, tree: dict[str, Any], named: str
) -> None:
    with pytest.raises(PixitError) as caught:
        read(tmp_path, tree)
    message = str(caught.value)
    assert named in message
    assert str(tmp_path / "config.yaml") in message
    assert "\n" not in message


def test_what_is_no_pipeline(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("task: {name: pixit}\n")
    assert find_pipeline(tmp_path) is None
    assert find_pipeline(tmp_path / "config.yaml") is None
    with pytest.raises(PixitError, match="is no pipeline"):
        read_pipeline(tmp_path)
    with pytest.raises(PixitError, match="no such model"):
        read_pipeline(tmp_path / "missing")


def test_a_pipeline_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its revision is that of its subfolders too, but where one is named."""
    asked: list[tuple[Any, ...]] = []

    def snapshot_download(
        repository: str, *, revision: Any, token: Any, cache_dir: Any, allow_patterns: Any
    ) -> str:
        asked.append((repository, revision, token, tuple(allow_patterns)))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    tree = with_params(segmentation="$model/one", embedding="$model/two@other")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree))
    found = read_pipeline("org/pipeline@v2", token="secret")
    assert asked == [("org/pipeline", "v2", "secret", ("config.yaml",))]
    assert found.embedder is not None
    sources = found.model, found.embedder
    assert [source.name for source in sources] == ["org/pipeline"] * 2
    assert [(source.subfolder, source.revision) for source in sources] == [("one", "v2"), ("two", "other")]
    assert [source.token for source in sources] == ["secret"] * 2
    with pytest.raises(PixitError):
        found.model.load()  # the folder holds nothing
    assert asked[1][:3] == ("org/pipeline", "v2", "secret")
    assert "one/model.safetensors" in asked[1][3]


# --- a separator of a pipeline --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with config.yaml and two tiny networks."""
    folder = tmp_path_factory.mktemp("pipeline")
    masker = {"name": "dprnn", "n_repeats": 1, "bn_chan": 6, "hid_size": 4, "chunk_size": 10}
    model = ToTaToNet(n_sources=2, encoder_decoder={"n_filters": 8}, masker=masker, window_s=1.0)
    save_model(model, folder / "segmentation", {})
    save_model(WeSpeakerResNet34(num_mels=8, base_channels=2, embedding_size=4), folder / "embedding", {})
    tree = with_params(segmentation="$model/segmentation", embedding="embedding", segmentation_step=0.5)
    (folder / "config.yaml").write_text(yaml.safe_dump(tree))
    return folder


@pytest.mark.parametrize("name", ["", "config.yaml"])
def test_a_separator_follows_a_pipeline(whole: Path, name: str) -> None:
    separator = Separator.from_pretrained(whole / name, device="cpu", settings={"activity": {"onset": 0.7}})
    settings = separator.settings
    assert (settings.step_s, settings.windows, settings.precision) == (0.5, "regular", "float32")
    assert (settings.activity.onset, settings.activity.offset) == (0.7, 0.6)
    assert (settings.clustering.threshold, settings.clustering.linkage) == (0.68, "centroid")
    assert settings.stitching.keep_room is False
    noise = np.random.default_rng(0).normal(0, 0.1, (1, 40_000)).astype(np.float32)
    result = separator({"waveform": noise, "sample_rate": 16_000, "uri": "x"})
    assert {track.num_samples for track in result.tracks.values()} <= {40_000}


def test_another_embedder_needs_its_own_threshold(whole: Path) -> None:
    with pytest.raises(PixitError, match=r"give clustering\.threshold"):
        Separator.from_pretrained(whole, whole / "embedding", device="cpu")
    given = {"clustering": {"threshold": 0.4}}
    found = Separator.from_pretrained(whole, whole / "embedding", device="cpu", settings=given)
    assert found.settings.clustering.threshold == 0.4


def test_unknown_keys_are_one_warning_in_python_and_one_line_on_the_command_line(
    whole: Path, tmp_path: Path
) -> None:
    tree = yaml.safe_load((whole / "config.yaml").read_text())
    for name in ("segmentation", "embedding"):
        tree["pipeline"]["params"][name] = str(whole / name)
    tree["params"]["separation"]["wiener"] = True
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree))
    with pytest.warns(UserWarning, match=r"params\.separation\.wiener") as caught:
        Separator.from_pretrained(tmp_path, device="cpu")
    assert len(caught) == 1
    soundfile.write(tmp_path / "talk.wav", np.zeros(20_000), 16_000)
    command = ["separate", str(tmp_path / "talk.wav"), "--model", str(tmp_path), "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 0, done.output
    lines = [line for line in done.output.splitlines() if "wiener" in line]
    assert len(lines) == 1
    assert lines[0].startswith("pixit: warning: ")


def test_networks_in_the_wrong_place_and_values_out_of_range_are_named(whole: Path, tmp_path: Path) -> None:
    tree = yaml.safe_load((whole / "config.yaml").read_text())
    names = {"segmentation": str(whole / "embedding"), "embedding": str(whole / "segmentation")}
    for changes in (names, {key: str(whole / key) for key in names}):
        tree["pipeline"]["params"] |= changes
        tree["params"]["segmentation"]["threshold"] = 1.5
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree))
        expected = "is it the other one" if changes is names else r"config\.yaml: activity\.onset"
        with pytest.raises(PixitError, match=expected):
            Separator.from_pretrained(tmp_path, device="cpu")


def test_vbx_takes_its_plda_from_the_pipeline(whole: Path, tmp_path: Path) -> None:
    networks = {name: str(whole / name) for name in ("segmentation", "embedding")}
    tree = with_params(clustering="VBxClustering", plda="$model/plda", **networks)
    tree["params"]["clustering"] = {"threshold": 0.6, "Fa": 0.07, "Fb": 0.8}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(PixitError, match=r"xvec_transform\.npz: cannot be read"):
        Separator.from_pretrained(tmp_path, device="cpu")  # before anything is heard
    write_plda(tmp_path / "plda")
    separator = Separator.from_pretrained(tmp_path, device="cpu")
    settings = separator.settings.clustering
    assert (settings.method, settings.plda) == ("vbx", str(tmp_path / "plda"))
    # it is saved with the separator, of which another place changes nothing
    saved = separator.save_pretrained(tmp_path / "saved")
    shutil.rmtree(tmp_path / "plda")
    again = Separator.from_pretrained(saved, device="cpu")
    assert again.settings.clustering.plda == str(saved / "plda")
    assert again.fingerprint["separation"]["clustering"]["plda"] == hashes_of(saved / "plda")
    write_plda(saved / "plda", np.nan)
    with pytest.raises(PixitError, match="it holds NaN or infinite values"):
        Separator.from_pretrained(saved, device="cpu")
    (saved / "plda" / "plda.npz").write_bytes(b"PK nothing")
    with pytest.raises(PixitError, match=r"plda\.npz: cannot be read"):
        Separator.from_pretrained(saved, device="cpu")


def write_plda(folder: Path, variance: float = 2.0, size: int = 4) -> None:
    folder.mkdir(exist_ok=True)
    np.savez(folder / "xvec_transform.npz", mean1=np.zeros(size), mean2=np.zeros(3), lda=np.eye(size, 3))
    np.savez(folder / "plda.npz", mu=np.zeros(3), tr=np.eye(3), psi=np.full(3, variance))


def hashes_of(folder: Path) -> list[str]:
    return [file_hash(folder / name) for name in ("xvec_transform.npz", "plda.npz")]


def test_another_embedder_needs_another_plda(whole: Path, tmp_path: Path) -> None:
    networks = {name: str(whole / name) for name in ("segmentation", "embedding")}
    tree = with_params(clustering="VBxClustering", plda="$model/plda", **networks)
    tree["params"]["clustering"] = {"threshold": 0.6, "Fa": 0.07, "Fb": 0.8}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree))
    write_plda(tmp_path / "plda")
    asked = {"clustering": {"threshold": 0.5}}
    with pytest.raises(PixitError, match=r"whose clustering plda does not fit it; give clustering\.plda too"):
        Separator.from_pretrained(tmp_path, networks["embedding"], "cpu", asked)


@pytest.mark.parametrize("subfolder", ["../elsewhere", "/etc"])
def test_a_config_names_nothing_outside_its_folder(whole: Path, tmp_path: Path, subfolder: str) -> None:
    networks = {
        "segmentation": {"checkpoint": "$model", "subfolder": subfolder},
        "embedding": str(whole / "embedding"),
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(with_params(**networks)))
    with pytest.raises(PixitError, match="leaves the folder of the config"):
        Separator.from_pretrained(tmp_path, device="cpu")
