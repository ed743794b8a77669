"""SpeechBrain's ECAPA-TDNN as its repositories on the hub hold it, read without SpeechBrain.

embedding_model.ckpt   the weights, a plain state_dict
hyperparams.yaml       HyperPyYAML: its tags make objects of any class, so it is never run; it is parsed, and a few
                       of its values are looked at
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from pixit.checkpoints.pyannote import Foreign
from pixit.config import YAML_BYTES
from pixit.files import read_text
from pixit.types import PixitError, one_line

ECAPA, HYPERPARAMS = "embedding_model.ckpt", "hyperparams.yaml"
BUILT_IN = {
    ("embedding_model", "dilations"): ["1", "2", "3", "4", "1"],
    ("embedding_model", "res2net_scale"): "8",
    ("embedding_model", "global_context"): "True",
    ("mean_var_norm", "norm_type"): "sentence",
    ("mean_var_norm", "mean_norm"): "True",
    ("mean_var_norm", "std_norm"): "False",
    ("compute_features", "deltas"): "False",
    ("compute_features", "context"): "False",
    ("compute_features", "f_min"): "0",
    ("compute_features", "n_fft"): "400",
    ("compute_features", "win_length"): "25",
    ("compute_features", "hop_length"): "10",
}
"""What does not show in the weights, and our network has built in; what a file leaves out is so."""


def is_ecapa(content: dict[str, Any]) -> bool:
    """Tell whether the content of a pickle is the state_dict of an ECAPA-TDNN of SpeechBrain."""
    return {"blocks.0.conv.conv.weight", "asp.conv.conv.weight", "fc.conv.weight"} <= set(content)


def parse_ecapa(content: dict[str, Any], path: Path) -> Foreign:
    """Understand the state_dict of an ECAPA-TDNN; its sizes are read off the weights.

    A ``hyperparams.yaml`` beside the file tells the sample rate. A PixitError if the file at `path`, which `content`
    was read from, or that one is of another network.
    """
    if not all(isinstance(tensor, Tensor) for tensor in content.values()):
        raise PixitError(f"{path}: does not hold tensors only; expected an ECAPA-TDNN of SpeechBrain")
    try:
        layers = [content[f"blocks.{i}.tdnn1.conv.conv.weight"].shape[0] for i in (1, 2, 3)]
        config = {
            "num_mels": content["blocks.0.conv.conv.weight"].shape[1],
            "channels": [
                content["blocks.0.conv.conv.weight"].shape[0],
                *layers,
                content["mfa.conv.conv.weight"].shape[0],
            ],
            "attention_channels": content["asp.tdnn.conv.conv.weight"].shape[0],
            "embedding_size": content["fc.conv.weight"].shape[0],
        }
    except LookupError as error:
        raise PixitError(f"{path}: lacks {error}; expected an ECAPA-TDNN of SpeechBrain") from None
    if (beside := path.with_name(HYPERPARAMS)).exists():
        config["sample_rate_hz"] = _check_hyperparams(beside)
    return Foreign("EcapaTdnn", config, content, {"written_by": "SpeechBrain"})


def _check_hyperparams(path: Path) -> int:
    """Return the sample rate in Hz; a PixitError if the network or its features are not as ours."""
    try:
        tree = yaml.compose(read_text(path, "SpeechBrain's settings", YAML_BYTES), Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise PixitError(f"{path}: is not valid YAML: {one_line(error)}") from None
    except RecursionError:
        raise PixitError(f"{path}: is not valid YAML: nested too deeply") from None
    for (section, key), expected in BUILT_IN.items():
        found = _value(tree, section, key)
        if found is not None and found not in (expected, str(expected).lower()):
            raise PixitError(f"{path}: {section}.{key} is {found}, expected {expected} with this network")
    rate = _value(tree, "sample_rate") or "16000"
    if not (isinstance(rate, str) and rate.isascii() and rate.isdigit() and 4000 <= int(rate[:9]) <= 192_000):
        raise PixitError(f"{path}: sample_rate is {one_line(rate)}, expected a number of Hz, as 16000")
    highest = _value(tree, "compute_features", "f_max")
    if highest is not None and highest not in (str(int(rate) // 2), str(int(rate) / 2)):
        raise PixitError(f"{path}: compute_features.f_max is {highest}, expected half of the sample rate")
    return int(rate)


def _value(tree: yaml.Node | None, *keys: str) -> str | list[str] | None:
    """Return the text, or the texts, at a place of a YAML tree, whatever their tags; None if it is not there."""
    node = tree
    for key in keys:
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        node = next((value for name, value in pairs if name.value == key), None)
    if isinstance(node, yaml.SequenceNode):
        return [str(item.value) for item in node.value if isinstance(item, yaml.ScalarNode)]
    if not isinstance(node, yaml.ScalarNode):
        return None
    reference = re.fullmatch(r"<(\w+)>", node.value)  # to another key: !ref <deltas>
    return _value(tree, reference[1]) if reference and len(keys) > 1 else str(node.value)
