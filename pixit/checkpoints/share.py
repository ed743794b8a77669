"""Models and separators for others: a folder with a model card, and the Hugging Face hub."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from pixit.checkpoints.card import SEPARATOR_ROLES, model_card
from pixit.checkpoints.hub import CONFIG, PLDA, SEPARATOR, STREAMING, WEIGHTS, hub_errors
from pixit.checkpoints.native import CARD, check_target, provenance_of, read_description, write_model
from pixit.files import check_file, temporary_folder, whole_folder
from pixit.types import PixitError, one_line


def save_pretrained(
    model: nn.Module,
    folder: Path | str,
    provenance: Mapping[str, Any] | None = None,
    repo_id: str | None = None,
    licence: str | None = None,
    dtype: torch.dtype | None = None,
) -> Path:
    """Write a model with a model card; the folder appears whole or not at all.

    Parameters
    ----------
    model, folder, dtype
        As for `save_model`.
    provenance
        The model's origin; by default what it had when it was loaded.
    repo_id, licence
        As for `model_card`.

    Raises
    ------
    PixitError
        If the folder cannot be written, or holds something other than a model.
    """
    folder = check_target(folder, {WEIGHTS, CONFIG, CARD})
    with whole_folder(folder) as new:
        write_model(model, new, dict(provenance_of(model) if provenance is None else provenance), dtype)
        _write_card(new, repo_id or folder.name, licence)
    return folder


def save_separator(
    networks: Mapping[str, Any],
    settings: Mapping[str, Any],
    streaming: Mapping[str, Any],
    folder: Path | str,
    repo_id: str | None = None,
    licence: str | None = None,
    dtype: torch.dtype | None = None,
    plda: Sequence[Path] = (),
) -> Path:
    """Write a separator's ``model`` and ``embedder``, its settings and a model card; see `save_pretrained`.

    `settings` are its differences from the defaults, for ``separator.yaml``, and `streaming` what streams have
    besides, for ``streaming.yaml``. The files of a `plda`, that of the clustering's settings, go with it.
    """
    folder = check_target(folder, {*SEPARATOR_ROLES, SEPARATOR, STREAMING, PLDA, CARD})
    if plda:
        settings = {**settings, "clustering": {**settings["clustering"], "plda": PLDA}}
    with whole_folder(folder) as new:
        for role in SEPARATOR_ROLES:
            (new / role).mkdir()
            write_model(networks[role], new / role, provenance_of(networks[role]), dtype)
        for file in plda:
            (new / PLDA).mkdir(exist_ok=True)
            shutil.copyfile(file, new / PLDA / file.name)
        for name, chosen in ((SEPARATOR, settings), (STREAMING, streaming)):
            if chosen or name == SEPARATOR:
                (new / name).write_text(yaml.safe_dump(dict(chosen), sort_keys=False), encoding="utf-8")
        _write_card(new, repo_id or folder.name, licence)
    return folder


def push_to_hub(model: nn.Module, repo_id: str, licence: str | None = None, **options: Any) -> str:
    """Put a model on the hub, with a model card; return its address there.

    `options` are ``private``, ``revision``, ``message`` and ``token`` of `push_folder`, which says what is raised,
    and ``provenance`` and ``dtype`` of `save_pretrained`.
    """
    kept = {key: options.pop(key) for key in ("provenance", "dtype") if key in options}
    with temporary_folder() as work:
        folder = save_pretrained(model, Path(work) / "model", repo_id=repo_id, licence=licence, **kept)
        return push_folder(folder, repo_id, **options)


def push_folder(
    folder: Path | str,
    repo_id: str,
    private: bool = False,
    revision: str | None = None,
    message: str = "Upload with pixit",
    licence: str | None = None,
    token: str | None = None,
) -> str:
    """Put the folder of a model or of a separator on the hub, in one commit; return its address there.

    Only what pixit reads is sent, and the folder's ``README.md``; where there is none, a model card is made.

    Parameters
    ----------
    repo_id
        ``organisation/name``; it is made if it is not there, seen by yourself alone if `private`.
    revision
        Branch; made if it is not there.
    message, licence, token
        Of the commit; of the weights, for the model card (`model_card`); and access token, by default ``HF_TOKEN``.

    Raises
    ------
    PixitError
        If the folder holds neither, or the hub refuses it.
    """
    folder = Path(folder)
    parts = [folder / role for role in SEPARATOR_ROLES] if (folder / SEPARATOR).exists() else [folder]
    files = [part / name for part in parts for name in (CONFIG, WEIGHTS)]
    files += [folder / name for name in (SEPARATOR, STREAMING, CARD) if (folder / name).exists()]
    for path in files:
        check_file(path, "a file of a model")
        if not path.is_file():
            raise PixitError(f"{path}: no such file; expected the folder of a model or of a separator")
    for part in parts:
        read_description(part)  # nothing damaged is sent
    content: dict[str, Path | bytes] = {path.relative_to(folder).as_posix(): path for path in files}
    if CARD not in content:
        content[CARD] = model_card(folder, repo_id, licence).encode()
    return _commit(content, repo_id, private, revision, message, token)


def _write_card(folder: Path, name: str, licence: str | None) -> None:
    (folder / CARD).write_text(model_card(folder, name, licence), encoding="utf-8", newline="\n")


def _commit(
    content: Mapping[str, Path | bytes],
    repo_id: str,
    private: bool,
    revision: str | None,
    message: str,
    token: str | None,
) -> str:
    from huggingface_hub import CommitOperationAdd, HfApi

    operations = [
        CommitOperationAdd(path_in_repo=name, path_or_fileobj=data) for name, data in content.items()
    ]
    try:
        api = HfApi(token=token)
        address = api.create_repo(repo_id, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        api.create_commit(repo_id, operations, commit_message=message, revision=revision)
    except hub_errors() as error:
        raise PixitError(
            f"{repo_id}: the hub did not take it ({one_line(error)}); expected organisation/name, and a token that "
            "may write in HF_TOKEN"
        ) from None
    return str(address)
