"""Models by name: what lies on this machine, and on the Hugging Face hub.

Only a name such as ``organisation/name`` or ``organisation/name@revision``, if no file has it, uses the network.
`HF_TOKEN`, `HF_HUB_OFFLINE`, `HF_HUB_CACHE` and the other variables of huggingface_hub are respected.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pixit.config import read_yaml
from pixit.types import PixitError, one_line

WEIGHTS, CONFIG = "model.safetensors", "config.json"
SEPARATOR, STREAMING, PIPELINE = "separator.yaml", "streaming.yaml", "config.yaml"
PLDA = "plda"
PYANNOTE, ECAPA, HYPERPARAMS = "pytorch_model.bin", "embedding_model.ckpt", "hyperparams.yaml"
LAYOUTS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    ((CONFIG, WEIGHTS), ()),
    ((PYANNOTE,), ()),
    ((ECAPA,), (HYPERPARAMS,)),
    ((SEPARATOR,), (STREAMING, "model/*", "embedder/*", f"{PLDA}/*.npz")),
    ((PIPELINE,), (f"*/{PYANNOTE}", f"{PLDA}/*.npz")),
)
"""Files of a repository that make it a model, a separator or a pipeline; and what else is fetched of it."""
HUB_NAME = re.compile(r"([\w-][\w.-]*/[\w-][\w.-]*)(?:@([\w./-]+))?")


def find_model(
    name: str,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: Path | str | None = None,
    subfolder: str = "",
    layouts: Sequence[tuple[Sequence[str], Sequence[str]]] = LAYOUTS,
) -> Path:
    """Return where a model, separator or pipeline lies: a file, a folder, or a snapshot in the hub's cache.

    What is named as on the hub, and is not in the cache, is downloaded; of a repository only what pixit reads.

    Parameters
    ----------
    name
        A path, or ``"organisation/name"`` or ``"organisation/name@revision"``.
    revision, token, cache_dir
        Of the hub: branch, tag or commit; access token; folder of downloads.
    subfolder
        Of the folder or the repository, where it holds several models.
    layouts
        What is looked for, as `LAYOUTS`.

    Raises
    ------
    PixitError
        If it is not here, and the hub does not provide it.
    """
    path = Path(name).expanduser()
    if path.exists():
        return path / subfolder
    named = HUB_NAME.fullmatch(name)
    beside = Path(name.partition("/")[0])
    if named is not None and beside.is_dir():  # it is a path with an error, more likely
        raise PixitError(
            f"{name}: no such model in the folder {beside}/ that is here; if it is a name on the hub, go to another "
            "folder"
        )
    if named is None:
        raise PixitError(
            f"{name}: no such model; expected a folder with {CONFIG} and {WEIGHTS}, a {PYANNOTE} of "
            f"pyannote.audio, an {ECAPA} of SpeechBrain, or a name on the hub, as organisation/name"
        )
    found = _download(name, named[1], revision or named[2], token, cache_dir, subfolder, layouts)
    if found is None:
        files = ", ".join(file for needed, _ in layouts for file in needed)
        raise PixitError(f"{name}: holds nothing that pixit reads; expected one of {files}")
    return found


def _download(
    name: str,
    repository: str,
    revision: str | None,
    token: str | None,
    cache_dir: Path | str | None,
    subfolder: str,
    layouts: Sequence[tuple[Sequence[str], Sequence[str]]],
) -> Path | None:
    """Return the snapshot of a repository with the first of the layouts that it has; None if it has none."""
    import huggingface_hub  # only here: a model that is at hand needs no client of the network

    try:
        for needed, more in layouts:
            files = [str(Path(subfolder, file)) for file in (*needed, *more)]
            place: Any = {"revision": revision, "token": token, "cache_dir": cache_dir}
            snapshot = Path(huggingface_hub.snapshot_download(repository, allow_patterns=files, **place))
            if all((snapshot / subfolder / file).exists() for file in needed):
                return snapshot / subfolder
    except hub_errors() as error:
        raise PixitError(
            f"{name}: no such file here, and the hub did not provide it ({one_line(error)}); check the name, "
            "the network, HF_HUB_OFFLINE, and for a gated model accept its terms and set HF_TOKEN"
        ) from None
    return None


def hub_errors() -> tuple[Any, ...]:
    """Return the errors that a call of huggingface_hub may end in."""
    from huggingface_hub.errors import HfHubHTTPError

    # The base of the hub's own errors is that of its HTTP client: another one in each major version.
    return (OSError, ValueError, *HfHubHTTPError.__bases__)


def hub_origin(path: Path) -> dict[str, str]:
    """Return repository and commit of what lies in the hub's cache; nothing of what lies elsewhere."""
    place = re.search(r"models--([\w.-]+?)--([\w.-]+)/snapshots/(\w+)", path.absolute().as_posix())
    return {"repository": f"{place[1]}/{place[2]}", "revision": place[3]} if place else {}


def download_all(
    names: Iterable[str],
    revision: str | None = None,
    token: str | None = None,
    cache_dir: Path | str | None = None,
) -> Iterator[tuple[str, Path]]:
    """Fetch models, separators, and pipelines with the models that they name; yield each name and where it lies.

    Parameters and errors are those of `find_model`.
    """
    for name in names:
        path = find_model(name, revision, token, cache_dir)
        yield name, path
        pipeline = path / PIPELINE if path.is_dir() else path
        is_model = any((path / file).exists() for needed, _ in LAYOUTS[:-1] for file in needed)
        if pipeline.name == PIPELINE and pipeline.exists() and not is_model:
            for part, part_revision in named_models(pipeline):
                yield part, find_model(part, part_revision, token, cache_dir)


def named_models(pipeline: Path) -> list[tuple[str, str | None]]:
    """Return the models that a ``config.yaml`` of pyannote.audio names on the hub, with their revisions.

    Those that come with the pipeline (``$model/…``), or lie on this machine, are not among them.
    """
    section = read_yaml(pipeline).get("pipeline")
    parameters = section.get("params") if isinstance(section, dict) else None
    found: dict[str, str | None] = {}
    for role in ("segmentation", "embedding", "plda"):
        given = parameters.get(role) if isinstance(parameters, dict) else None
        asked = given if isinstance(given, dict) else {"checkpoint": given}
        name, revision = asked.get("checkpoint"), asked.get("revision")
        if isinstance(name, str) and HUB_NAME.fullmatch(name) and not Path(name).exists():
            found[name] = revision if isinstance(revision, str) else None
    return [*found.items()]
