"""``pixit download``, ``convert`` and ``push``: models from elsewhere, in other forms, and for others."""

from __future__ import annotations

from pathlib import Path

import click

from pixit.cli.console import PATH, examples, quiet_option, say, warn

revision_option = click.option("--revision", help="branch, tag or commit on the hub, as NAME@REVISION")
cache_option = click.option("--cache-dir", type=PATH, help="folder of downloads  [default: HF_HUB_CACHE]")


@click.command(
    epilog=examples(
        "pixit download pyannote/speech-separation-ami-1.0",
        "pixit download speechbrain/spkrec-ecapa-voxceleb --cache-dir models",
    )
)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@revision_option
@cache_option
def download(names: tuple[str, ...], revision: str | None, cache_dir: Path | None) -> None:
    """Fetch models, separators or pipelines from the Hugging Face hub, for a machine that will be offline.

    Of a pipeline of pyannote.audio the models that it names are fetched too. It prints where each lies. With
    HF_HUB_OFFLINE=1, or on a machine that the cache was copied to, the same names are found there. For gated
    models set HF_TOKEN.
    """
    from pixit.checkpoints.hub import download_all

    for name, path in download_all(names, revision, cache_dir=cache_dir):
        say(f"{name}: {path}")


@click.command(
    epilog=examples(
        "pixit convert pytorch_model.bin mine/model",
        "pixit convert experiments/mine/model pytorch_model.bin",
        "pixit convert speechbrain/spkrec-ecapa-voxceleb ecapa",
    )
)
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT", type=PATH)
@revision_option
@cache_option
@quiet_option
def convert(source: str, target: Path, revision: str | None, cache_dir: Path | None, quiet: bool) -> None:
    """Write the model IN in another library's form.

    IN is a folder of pixit, a file of pyannote.audio or SpeechBrain, or the name of any on the hub. OUT is a
    folder of pixit; or, where it ends with .bin or .ckpt, a file that pyannote.audio 4 loads (ToTaToNet,
    WeSpeakerResNet34), or SpeechBrain (EcapaTdnn).
    """
    from pixit.checkpoints.convert import convert as convert_model

    written, notes = convert_model(source, target, revision, cache_dir=cache_dir)
    warn(notes)
    say(f"{source}: → {written}", quiet)


@click.command(epilog=examples("pixit push experiments/mine/model me/meetings --licence cc-by-4.0 --private"))
@click.argument("folder", type=PATH)
@click.argument("repository")
@click.option("--licence", help="of the weights, as the hub names it: cc-by-4.0, mit, …")
@click.option("--private", is_flag=True, help="seen by yourself alone, where it is new")
@click.option("--revision", help="branch  [default: main]")
@click.option("--message", default="Upload with pixit", show_default=True, help="of the commit")
def push(
    folder: Path, repository: str, licence: str | None, private: bool, revision: str | None, message: str
) -> None:
    """Put FOLDER, a model or model and embedder together, on the Hugging Face hub as REPOSITORY.

    Its README.md is the model card; where there is none, one is made of what the model knows of its training. Needs
    a token that may write, in HF_TOKEN or by `hf auth login`.
    """
    from pixit.checkpoints.share import push_folder

    say(push_folder(folder, repository, private, revision, message, licence))
