"""``pixit evaluate``: score the files of any system; a file each kind of score."""

from __future__ import annotations

import click

from pixit.cli.options import LazyGroup


@click.group(
    cls=LazyGroup, package="pixit.cli.evaluate", names=["diarization", "separation", "transcript", "cpwer"]
)
def evaluate() -> None:
    """Score diarization, separation and transcripts of any system."""
