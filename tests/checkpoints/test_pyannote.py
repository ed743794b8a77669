"""Import of pyannote.audio's checkpoints; its trainer saved the golden one (scripts/make_golden_pyannote.py)."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from pixit.checkpoints import load_model, save_model
from pixit.checkpoints.native import import_pyannote
from pixit.checkpoints.pyannote import STAND_INS, Problem, Resolution, Specifications, rename_like
from pixit.models.pyannet import PyanNet
from pixit.models.totatonet import ToTaToNet
from pixit.types import PixitError

GOLDEN = Path(__file__).parent / "golden" / "pyannote_pytorch_model.bin.gz"
EXPECTED = Path(__file__).parents[1] / "models" / "golden" / "totatonet_wavlm.safetensors"
TINY: dict[str, Any] = {
    "encoder_decoder": {"fb_name": "free", "kernel_size": 32, "n_filters": 8, "stride": 16},
    "linear": {"hidden_size": 64, "num_layers": 1},
    "diar": {"frames_per_second": 125},
}
TINY_DPRNN = {"n_repeats": 1, "bn_chan": 6, "hid_size": 4, "chunk_size": 10}


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    pytest.importorskip("transformers")
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(gzip.decompress(GOLDEN.read_bytes()))
    return path


@pytest.fixture
def as_pyannote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Save what pyannote.audio 3 would, and changes of it; its classes are stand-ins under their real names."""
    module = types.ModuleType("pyannote.audio.core.task")
    for stand_in in STAND_INS:
        setattr(module, stand_in.__name__, stand_in)
    for name in ("pyannote.audio", "pyannote.audio.core", "pyannote.audio.core.task"):
        monkeypatch.setitem(sys.modules, name, module)

    def save(model: torch.nn.Module, **changes: Any) -> Path:
        first, second = Specifications(), Specifications()
        first.__dict__ |= {"problem": Problem.MULTI_LABEL_CLASSIFICATION, "resolution": Resolution.FRAME}
        first.__dict__ |= {"duration": 5.0, "warm_up": (0.0, 0.0), "classes": ["speaker#1"]}
        second.__dict__ |= first.__dict__ | {"problem": Problem.MONO_LABEL_CLASSIFICATION}
        versions = {"torch": torch.torch_version.TorchVersion("2.0.0"), "pyannote.audio": "3.3.2"}
        module_name = "pyannote.audio.models.separation.ToTaToNet"
        content = {
            "epoch": 1,
            "pytorch-lightning_version": "1.8.6",
            "hparams_name": "kwargs",
            "hyper_parameters": {"sample_rate": 16000, "num_channels": 1, **TINY, "dprnn": TINY_DPRNN},
            "pyannote.audio": {
                "versions": versions,
                "architecture": {"module": module_name, "class": "ToTaToNet"},
                "specifications": (first, second),
            },
            "state_dict": model.state_dict(),
        }
        path = tmp_path / "pyannote3.ckpt"
        torch.save(content | changes, path)
        return path

    return save


def tiny(**changes: Any) -> ToTaToNet:
    return ToTaToNet(**TINY | {"masker": {"name": "dprnn"} | TINY_DPRNN} | changes).eval()


def error_of(path: Path) -> str:
    with pytest.raises(PixitError) as error:
        load_model(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    return str(error.value)


def test_golden_checkpoint_computes_what_pyannote_does(golden: Path) -> None:
    model = import_pyannote(golden, stable_layer_norm=True).eval()
    assert isinstance(model, ToTaToNet)
    assert model.num_speakers == 2
    assert model.window_samples == 80000
    assert model.config["wavlm"]["num_hidden_layers"] == 2
    with safe_open(EXPECTED, "pt") as file:
        length = json.loads(file.metadata()["arguments"])["lengths"][0]
        with torch.inference_mode():
            output = model(file.get_tensor("input")[..., :length])
        sources, scores = file.get_tensor(f"sources.{length}"), file.get_tensor(f"scores.{length}")
    torch.testing.assert_close(output.sources.transpose(1, 2), sources, atol=1e-5, rtol=0)
    torch.testing.assert_close(output.activities.transpose(1, 2), scores, atol=1e-5, rtol=0)


def test_golden_checkpoint_becomes_ours(golden: Path, tmp_path: Path) -> None:
    model = import_pyannote(golden, stable_layer_norm=True)
    again = load_model(save_model(model, tmp_path / "model", {"imported": golden.name}))
    assert all(
        torch.equal(a, b)
        for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True)
    )


def test_a_folder_as_in_a_snapshot_from_the_hub(as_pyannote: Callable[..., Path], tmp_path: Path) -> None:
    as_pyannote(tiny()).rename(tmp_path / "pytorch_model.bin")
    assert isinstance(load_model(tmp_path), ToTaToNet)


def test_pyannote_is_not_needed(golden: Path) -> None:
    code = (
        "import sys; from pixit.checkpoints.native import import_pyannote as load; load(sys.argv[1], True); "
        "assert not [m for m in sys.modules if m.startswith(('pyannote.audio', 'lightning', 'torchaudio'))]"
    )
    subprocess.run([sys.executable, "-c", code, str(golden)], check=True)


@pytest.mark.parametrize("n_sources", [1, 2, 4])
def test_version_3_without_wavlm(as_pyannote: Callable[..., Path], n_sources: int) -> None:
    model = tiny(n_sources=n_sources)
    loaded = import_pyannote(as_pyannote(model)).eval()
    assert loaded.config == model.config
    waveforms = torch.randn(1, 1, 900)
    assert torch.equal(loaded(waveforms).sources, model(waveforms).sources)


def test_names_of_weight_norm_map_both_ways(golden: Path) -> None:
    new = import_pyannote(golden, stable_layer_norm=True).state_dict()
    names = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    old = {}
    for name, tensor in new.items():
        suffix = next((suffix for suffix in names if name.endswith(suffix)), None)
        old[name.removesuffix(suffix) + names[suffix] if suffix else name] = tensor
    assert set(old) != set(new)
    for there, back in ((old, new), (new, old)):
        renamed = rename_like(there, back)
        assert set(renamed) == set(back)
        assert all(torch.equal(renamed[name], back[name]) for name in back)


def test_version_3_with_old_weight_norm(golden: Path, as_pyannote: Callable[..., Path]) -> None:
    model = import_pyannote(golden, stable_layer_norm=True)
    state = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): tensor
        for name, tensor in model.state_dict().items()
    }
    hyper = {k: model.config[k] for k in ("encoder_decoder", "linear", "diar")}
    hyper["encoder_decoder"] = {k: v for k, v in hyper["encoder_decoder"].items() if k != "center"}
    hyper["dprnn"] = {k: v for k, v in model.config["masker"].items() if k != "name"}
    loaded = import_pyannote(as_pyannote(model, state_dict=state, hyper_parameters=hyper), True)
    assert loaded.config == model.config
    assert all(torch.equal(a, loaded.state_dict()[name]) for name, a in model.state_dict().items())


def test_frame_rates_that_pyannote_rounds(as_pyannote: Callable[..., Path]) -> None:
    hyper = {**TINY, "dprnn": TINY_DPRNN, "diar": {"frames_per_second": 130}}  # 7.69 encoder frames: 7
    assert import_pyannote(as_pyannote(tiny(), hyper_parameters=hyper)).pooling == 7


class Evil:
    """Runs a command when it is unpickled in the ordinary way."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("place", ["state_dict", "hyper_parameters", "epoch", "all"])
@pytest.mark.parametrize("way", ["system", "eval", "touch"])
def test_code_in_a_pickle_is_refused_and_does_not_run(
    as_pyannote: Callable[..., Path], tmp_path: Path, place: str, way: str
) -> None:
    marker = tmp_path / "owned"
    evil = {
        "system": Evil(os.system, f"touch {marker}"),
        "eval": Evil(eval, f"open({str(marker)!r}, 'w')"),
        "touch": Evil(Path.touch, marker),
    }[way]
    if place == "all":
        path = tmp_path / "evil.bin"
        path.write_bytes(pickle.dumps(evil))
    else:
        path = as_pyannote(tiny(), **{place: evil})
    message = error_of(path)
    assert "refused" in message or "cannot be loaded" in message
    assert not marker.exists()


def test_the_marker_of_the_test_above_would_appear(tmp_path: Path) -> None:
    marker = tmp_path / "owned"
    pickle.loads(pickle.dumps(Evil(os.system, f"touch {marker}")))
    assert marker.exists()


@pytest.mark.parametrize("kept", [0, 1, 30, 1000, 20_000, -1])
def test_truncated_files_are_told(golden: Path, kept: int) -> None:
    golden.write_bytes(golden.read_bytes()[:kept])
    assert "expected a whole checkpoint" in error_of(golden)


@pytest.mark.parametrize("content", [b"not a checkpoint", b"\x80\x02}q\x00.", b"PK\x03\x04" + bytes(100)])
def test_other_files_are_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "meeting.wav"
    path.write_bytes(content)
    error_of(path)


def test_other_content_is_told(as_pyannote: Callable[..., Path]) -> None:
    model = tiny()
    other = {"architecture": {"module": "x", "class": "SSeRiouSS"}, "specifications": ()}
    assert "holds a SSeRiouSS" in error_of(as_pyannote(model, **{"pyannote.audio": other}))
    assert "is not a ToTaToNet" in error_of(as_pyannote(model, **{"pyannote.audio": None}))
    assert "is not a ToTaToNet" in error_of(as_pyannote(model, state_dict={}))
    assert "tensors only" in error_of(as_pyannote(model, state_dict={"a": 1}))
    state = model.state_dict()
    state.pop("classifier.bias")
    assert "lacks weight 'classifier.bias'" in error_of(as_pyannote(model, state_dict=state))
    hyper = {**TINY, "dprnn": TINY_DPRNN | {"use_mulcat": True}}
    assert "use_mulcat" in error_of(as_pyannote(model, hyper_parameters=hyper))


@pytest.mark.parametrize(
    ("num_speakers", "most", "lstm"),
    [(3, 2, {"monolithic": True}), (4, None, {"monolithic": False, "num_layers": 3})],
)
def test_pyannet(
    as_pyannote: Callable[..., Path],
    num_speakers: int,
    most: int | None,
    lstm: dict[str, Any],
    tmp_path: Path,
) -> None:
    """As of ``pyannote/segmentation-3.0`` (powerset), and of the older kind: all that these checkpoints hold."""
    small: dict[str, Any] = {"lstm": lstm | {"hidden_size": 6}, "linear": {"hidden_size": 5, "num_layers": 1}}
    model = PyanNet(num_speakers, most, **small).eval()
    given = Specifications()
    given.__dict__ |= {"problem": Problem.MONO_LABEL_CLASSIFICATION, "resolution": Resolution.FRAME}
    given.__dict__ |= {
        "duration": 10.0,
        "min_duration": None,
        "warm_up": (0.0, 0.0),
        "permutation_invariant": True,
    }
    given.__dict__ |= {"classes": [f"speaker#{n + 1}" for n in range(num_speakers)]}
    if most is not None:  # checkpoints of pyannote.audio 2 lack it
        given.__dict__ |= {"powerset_max_classes": most, "powerset": True, "num_powerset_classes": 7}
    named = {"module": "pyannote.audio.models.segmentation.PyanNet", "class": "PyanNet"}
    parts = {"lstm": small["lstm"] | {"batch_first": True, "dropout": 0.5}, "linear": small["linear"]}
    changes = {
        "hyper_parameters": {"sincnet": {"stride": 10, "sample_rate": 16000}, **parts},
        "pyannote.audio": {"architecture": named, "specifications": given},
    }
    as_pyannote(model, **changes).rename(tmp_path / "pytorch_model.bin")  # as a snapshot of the hub has it
    loaded = load_model(tmp_path)
    assert isinstance(loaded, PyanNet)
    waveforms = torch.randn(2, 1, 12_000)
    assert torch.equal(loaded.classify(waveforms), model.classify(waveforms))
    assert loaded.config == model.config | {"lstm": model.config["lstm"] | {"dropout": 0.5}}
    again = load_model(save_model(loaded, tmp_path / "ours", {}))
    assert torch.equal(again.classify(waveforms), model.classify(waveforms))
    changes["hyper_parameters"]["num_channels"] = 2
    assert "num_channels=2" in error_of(as_pyannote(model, **changes))


def test_safe_globals_are_left_as_they_were(golden: Path) -> None:
    import_pyannote(
        golden, True
    )  # what transformers and torch register when they are first imported is not ours
    before = torch.serialization.get_safe_globals()
    import_pyannote(golden, True)
    assert set(torch.serialization.get_safe_globals()) == set(before)


def test_the_way_of_asteroids_dprnn_that_is_ours_may_be_named(as_pyannote: Callable[..., Path]) -> None:
    hyper = {**TINY, "dprnn": TINY_DPRNN | {"use_mulcat": False}}
    model = tiny()
    assert import_pyannote(as_pyannote(model, hyper_parameters=hyper)).config == model.config


def test_what_the_weights_of_wavlm_do_not_show_is_asked_for(golden: Path) -> None:
    """Layer norms before or after attention: the same weights, another network."""
    assert "do_stable_layer_norm does not show in weights" in error_of(golden)
    for stable in (True, False):
        config = import_pyannote(golden, stable_layer_norm=stable).config["wavlm"]
        assert config["do_stable_layer_norm"] is stable


def test_a_wavlm_without_masks(as_pyannote: Callable[..., Path]) -> None:
    pytest.importorskip("transformers")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12}
    sizes |= {"conv_dim": [4] * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}
    model = tiny(wavlm=sizes | {"mask_time_prob": 0.0, "mask_feature_prob": 0.0})
    assert "wavlm.masked_spec_embed" not in model.state_dict()
    loaded = import_pyannote(as_pyannote(model), stable_layer_norm=True)
    assert loaded.state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "pipeline: {name: pyannote.audio.pipelines.SpeechSeparation, params: {segmentation: a/separation}}",
            "is a pipeline of pyannote.audio (pyannote.audio.pipelines.SpeechSeparation), expected the model in it; "
            "pass a/separation instead",
        ),
        ("pipeline: {params: {segmentation: {checkpoint: $model/segmentation}}}", "/segmentation instead"),
        ("pipeline: {}", "pass pyannote/separation-ami-1.0 instead"),
        ("other: 1", "holds no model, but config.yaml"),
    ],
)
def test_a_pipeline_is_no_model_but_names_one(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    assert message in error_of(tmp_path)
