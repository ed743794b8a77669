"""The model card of a model or a separator: what its folder says of itself, as a ``README.md`` for the hub."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pixit.checkpoints.build import build_empty
from pixit.checkpoints.hub import CONFIG, SEPARATOR
from pixit.checkpoints.native import read_description
from pixit.files import read_text
from pixit.types import one_line

ROLES = {
    "ToTaToNet": "separates and diarizes windows of a recording",
    "PyanNet": "diarizes windows of a recording",
    "SpeakerEncoder": "computes speaker embeddings",
    "WeSpeakerResNet34": "computes speaker embeddings",
    "EcapaTdnn": "computes speaker embeddings",
}
TASKS = {"ToTaToNet": "speech-separation", "PyanNet": "speaker-diarization"}
"""What a model is for, or a separator that has it; all others compute speaker embeddings."""
SEPARATOR_ROLES = ("model", "embedder")
UNKNOWN = "Not stated."
METRICS = ("metrics_at_the_end", "validation", "metrics", "results")
"""Where trainings keep what they measured, in a model's provenance."""
ORIGIN = (
    *("repository", "revision", "file", "written_by", "sha256"),
    *("init", "database", "protocol", "created", "steps", "step", "pixit", "torch"),
)
"""What of a model's provenance is told as it is."""


def model_card(folder: Path, repo_id: str | None = None, licence: str | None = None) -> str:
    """Return a model card, with front matter as the hub reads it.

    Parameters
    ----------
    folder
        Of a model (`save_model`), or of a separator.
    repo_id
        Where it will be, for the examples; by default the folder's name.
    licence
        Of the weights: an identifier of the hub's, as ``"cc-by-4.0"``. By default what the model's provenance says.

    Raises
    ------
    PixitError
        If the folder holds neither.
    """
    from huggingface_hub import ModelCardData

    is_separator = (folder / SEPARATOR).exists()
    parts = {role: folder / role for role in SEPARATOR_ROLES} if is_separator else {"": folder}
    described = {role: _describe(place) for role, place in parts.items()}
    name = repo_id or folder.name
    licence = licence or _first(described, "licence")
    base = [
        str(each["provenance"]["repository"])
        for each in described.values()
        if each["provenance"].get("repository")
    ]
    kinds = {each["architecture"] for each in described.values()}
    task = next((task for kind, task in TASKS.items() if kind in kinds), "speaker-embedding")
    data = ModelCardData(
        library_name="pixit",
        license=licence,
        pipeline_tag="audio-to-audio" if task == "speech-separation" else None,
        tags=["speech-separation", "speaker-diarization"] if task == "speech-separation" else [task],
        base_model=base or None,
    )
    lines = [f"# {one_line(name)}", "", *_use(name, is_separator, task)]
    for role, each in described.items():
        lines += _section(role, each)
    if is_separator:
        settings = read_text(folder / SEPARATOR, "settings of a separator").strip() or "{}"
        lines += ["## Settings", "", "Differences from the defaults:", "", "```yaml", settings, "```", ""]
    lines += [
        "## Licence",
        "",
        f"`{one_line(licence)}`" if licence else UNKNOWN,
        "",
        *_limits(described.values()),
    ]
    return f"---\n{data.to_yaml()}\n---\n\n" + "\n".join(lines)


def _describe(folder: Path) -> dict[str, Any]:
    """Return the ``config.json`` of a model, with the network, without its weights, and its number of parameters."""
    description = read_description(folder)
    network = build_empty(description["architecture"], description["config"], folder / CONFIG)
    provenance = description.get("provenance")
    return {
        "architecture": description["architecture"],
        "config": description["config"],
        "provenance": provenance if isinstance(provenance, dict) else {},
        "parameters": sum(each.numel() for each in network.parameters()),
        "network": network,
    }


def _first(described: Mapping[str, Any], key: str) -> str | None:
    return next(
        (str(each["provenance"][key]) for each in described.values() if each["provenance"].get(key)), None
    )


def _use(name: str, is_separator: bool, task: str) -> list[str]:
    command, option = "separate", "--model"
    python = f'separator = pixit.Separator.from_pretrained("{name}")\n'
    if task == "speech-separation":
        what = "a recording of a meeting in, a track of each speaker and who spoke when out"
        python += 'diarization, sources = separator("meeting.wav")'
    elif task == "speaker-diarization":
        what, command = "a recording of a meeting in, who spoke when out", "diarize"
        python += 'diarization = separator.diarize("meeting.wav")'
    else:
        what = "speaker embeddings, by which a separator finds the same voice in all of a recording"
        option = "--embedder"
        python = f'separator = pixit.Separator.from_pretrained(embedder="{name}")'
    parts = ", model and speaker embedder together" if is_separator else ""
    return [
        *(
            f"For pixit{parts}: {what}.",
            "",
            "## How to use",
            "",
            "With pixit, installed from its repository:",
            "",
        ),
        *("```bash", f"pixit {command} meeting.wav {option} {name}", "```", ""),
        *("```python", "import pixit", "", python, "```", ""),
    ]


def _section(role: str, described: dict[str, Any]) -> list[str]:
    """Return what is known of one network: what it is, where it came from, what was measured."""
    provenance, kind = described["provenance"], described["architecture"]
    heading = f"## The {role}" if role else "## What it is"
    lines = [
        heading,
        "",
        f"`{kind}`, which {ROLES.get(kind, 'is a network')}; {described['parameters']:,} parameters.",
        "",
    ]
    lines += [
        f"- {key}: `{json.dumps(value)}`" for key, value in described["config"].items() if value is not None
    ]
    origin = [
        f"- {key}: {one_line(provenance[key])}" for key in ORIGIN if provenance.get(key) not in (None, "")
    ]
    settings = provenance.get("settings")
    data = _data(settings) if isinstance(settings, dict) else []
    lines += ["", "### Data and training", "", *(origin + data or [UNKNOWN])]
    if isinstance(settings, dict):
        text = json.dumps(settings, indent=1)
        lines += [
            "",
            "<details><summary>All settings</summary>",
            "",
            "```json",
            text,
            "```",
            "",
            "</details>",
        ]
    measured = [
        row for key in METRICS if isinstance(provenance.get(key), dict) for row in _rows(provenance[key])
    ]
    table = ["| measured | |", "|---|---|", *(f"| {key} | {value} |" for key, value in measured)]
    return [*lines, "", "### Results", "", *(table if measured else [UNKNOWN]), ""]


def _data(settings: Mapping[str, Any]) -> list[str]:
    """Return the data of a training, as its settings name them."""
    section = settings.get("data")
    simulation = section.get("simulation") if isinstance(section, dict) else None
    named = simulation if isinstance(simulation, dict) else {}
    keys = ("speech", "turn_taking", "noise")
    return [f"- {key} of simulated meetings: {one_line(named[key])}" for key in keys if named.get(key)]


def _rows(tree: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _rows(value, f"{before}{key}, ")
        else:
            yield one_line(f"{before}{key}").replace("|", "/"), one_line(value).replace("|", "/")


def _limits(described: Any) -> list[str]:
    lines = ["## Limits", ""]
    for each in described:
        network = each["network"]
        if each["architecture"] in TASKS:
            lines.append(
                f"- At most {network.num_speakers} speakers in any "
                f"{network.window_samples / network.sample_rate_hz:g} s, at {network.sample_rate_hz} Hz; "
                "more over a whole recording."
            )
    lines.append(
        "- Languages, rooms, microphones and noise other than those of the training data may be served worse; try it "
        "on recordings of your own (`pixit evaluate`)."
    )
    lines.append("- Speaker embeddings are biometric data: ask those whose voices you process.")
    return [*lines, ""]
