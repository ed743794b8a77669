"""Make a database.yml of your copy of VoxConverse.

python recipes/voxconverse/prepare.py ANNOTATIONS OUTPUT --development AUDIO --test AUDIO
"""

from __future__ import annotations

from pathlib import Path

import click

from pixit.cli.console import progress, run, say
from pixit.data.protocol import read_recording, split_development, write_database, write_subset
from pixit.types import Hook, PixitError, Recording

PROTOCOL = "VoxConverse.SpeakerDiarization.voxconverse"


@click.command()
@click.argument("annotations", type=click.Path(path_type=Path, file_okay=False))
@click.argument("output", type=click.Path(path_type=Path, file_okay=False))
@click.option("--development", type=click.Path(path_type=Path), help="folder of the wav files of the dev set")
@click.option("--test", type=click.Path(path_type=Path), help="folder of the wav files of the test set")
@click.option(
    "--train-share",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="share of the dev set to train on: the first by name",
)
@click.option("--quiet", is_flag=True, help="print errors only")
def main(
    annotations: Path,
    output: Path,
    development: Path | None,
    test: Path | None,
    train_share: float,
    quiet: bool,
) -> None:
    """Write into the folder OUTPUT a database.yml for ANNOTATIONS, a clone of github.com/joonson/voxconverse."""
    given = {
        subset: (audio, annotations / name)
        for subset, audio, name in (("development", development, "dev"), ("test", test, "test"))
        if audio is not None
    }
    if not given:
        raise PixitError("name the audio: --development, --test or both")
    surplus: dict[str, float] = {}
    with progress("VoxConverse", quiet) as hook:
        found = {subset: read_set(*folders, surplus, hook) for subset, folders in given.items()}
    subsets = split_development(found, train_share)
    entries = {subset: write_subset(output, subset, recordings) for subset, recordings in subsets.items()}
    templates = [str(audio.resolve() / "{uri}.wav") for audio, _ in given.values()]
    write_database(output / "database.yml", {"VoxConverse": templates}, {PROTOCOL: entries}, scope="file")
    for uri, surplus_s in surplus.items():
        say(f"{uri}: {surplus_s:.3f} s of annotation after the end of the audio were cut off", quiet)
    say(f"{PROTOCOL}: " + ", ".join(f"{len(found)} {name}" for name, found in subsets.items()), quiet)
    say(f"Check it: pixit data check {output / 'database.yml'}", quiet)


def read_set(audio: Path, rttms: Path, surplus: dict[str, float], hook: Hook) -> list[Recording]:
    """Read the recordings of one set; seconds of speech that the audio lacks go to `surplus`."""
    names = {
        kind: {p.stem for p in folder.glob(f"*.{kind}")} for kind, folder in (("wav", audio), ("rttm", rttms))
    }
    for kind, folder, other in (("wav", audio, "rttm"), ("rttm", rttms, "wav")):
        missing = sorted(names[other] - names[kind])
        if not names[kind]:
            raise PixitError(f"{folder}: holds no .{kind} files")
        if missing:
            raise PixitError(f"{folder}: lacks {missing[0]}.{kind}, one of {len(missing)} that are missing")
    recordings = []
    for completed, uri in enumerate(sorted(names["rttm"])):
        hook(f"reading {rttms.name}", None, total=len(names["rttm"]), completed=completed)
        recording, surplus_s = read_recording(audio / f"{uri}.wav", rttms / f"{uri}.rttm")
        if surplus_s > 0:
            surplus[uri] = surplus_s
        recordings.append(recording)
    return recordings


if __name__ == "__main__":
    run(main)
