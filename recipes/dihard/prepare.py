"""Make a database.yml of your copy of DIHARD III, as the LDC delivers it.

python recipes/dihard/prepare.py OUTPUT --development RELEASE --evaluation RELEASE
"""

from __future__ import annotations

from pathlib import Path

import click

from pixit.cli.console import progress, run, say
from pixit.data.protocol import read_recording, split_development, write_database, write_subset
from pixit.formats.rttm import read_uem
from pixit.types import Hook, PixitError, Recording

CONDITIONS = ("full", "core")
"""All recordings, and the part of them in which the domains weigh about the same."""


@click.command()
@click.argument("output", type=click.Path(path_type=Path, file_okay=False))
@click.option("--development", type=click.Path(path_type=Path), help="release of the development set")
@click.option("--evaluation", type=click.Path(path_type=Path), help="release of the evaluation set")
@click.option(
    "--train-share",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="share of the development set to train on: the first by name",
)
@click.option("--quiet", is_flag=True, help="print errors only")
def main(
    output: Path, development: Path | None, evaluation: Path | None, train_share: float, quiet: bool
) -> None:
    """Write into the folder OUTPUT a database.yml with DIHARD3.SpeakerDiarization.full and .core."""
    given = {"development": development, "test": evaluation}
    releases = {subset: find_data(path) for subset, path in given.items() if path is not None}
    if not releases:
        raise PixitError("name the releases: --development, --evaluation or both")
    protocols: dict[str, dict[str, dict[str, str]]] = {}
    with progress("DIHARD", quiet) as hook:
        for condition in CONDITIONS:
            found = {subset: read_set(data, condition, hook) for subset, data in releases.items()}
            subsets = split_development(found, train_share)
            if subsets:
                entries = {
                    name: write_subset(output, name, files, condition) for name, files in subsets.items()
                }
                protocols[f"DIHARD3.SpeakerDiarization.{condition}"] = entries
                counts = ", ".join(f"{len(files)} {name}" for name, files in subsets.items())
                say(f"DIHARD3.SpeakerDiarization.{condition}: {counts}", quiet)
    templates = [str(data.resolve() / "flac" / "{uri}.flac") for data in releases.values()]
    write_database(output / "database.yml", {"DIHARD3": templates}, protocols, scope="file")
    say(f"Check it: pixit data check {output / 'database.yml'}", quiet)


def find_data(release: Path) -> Path:
    """Return the folder ``data`` of a release, which may lie one folder down."""
    for data in (release, release / "data", *sorted(release.glob("*/data"))):
        if (data / "flac").is_dir():
            if not (data / "rttm").is_dir():
                raise PixitError(f"{data}: holds no rttm; the evaluation set was first released without")
            return data
    raise PixitError(f"{release}: holds no data/flac; expected a release of DIHARD III")


def read_set(data: Path, condition: str, hook: Hook) -> list[Recording]:
    """Read the recordings of one release in one condition; none if it does not say what is ``core``."""
    uem = data / "uem_scoring" / condition / "all.uem"
    if uem.is_file():
        stretches = read_uem(uem)
    elif condition == "full":
        stretches = {
            uri: found
            for path in sorted((data / "uem").glob("*.uem"))
            for uri, found in read_uem(path).items()
        }
    else:
        return []
    if not stretches:
        raise PixitError(f"{data}: holds no UEM; expected uem_scoring/full/all.uem or uem/*.uem")
    recordings = []
    for completed, (uri, annotated) in enumerate(sorted(stretches.items())):
        hook(f"reading {condition}", None, total=len(stretches), completed=completed)
        recording, _ = read_recording(data / "flac" / f"{uri}.flac", data / "rttm" / f"{uri}.rttm", annotated)
        recordings.append(recording)
    return recordings


if __name__ == "__main__":
    run(main)
