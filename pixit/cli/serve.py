"""``pixit serve`` and ``client``: streams and jobs for many, and one who asks for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pixit.cli.console import PATH, SettingsCommand, examples, networks_options, quiet_option, warn
from pixit.types import printable

token_option = click.option(
    "--token",
    envvar="PIXIT_TOKEN",
    show_envvar=True,
    help="what clients have to know; better in the environment, as others see the command line",
)


@click.command(
    cls=SettingsCommand,
    settings="pixit.serve.limits.ServeSettings",
    fields={
        "folder": "--folder",
        "storage": "--storage",
        "jobs": "--jobs/-j",
        "keep_s": "--keep",
        "max_queue": "--max-queue",
        "max_upload_bytes": "--max-upload",
        "max_recording_s": "--max-recording",
        "max_streams": "--max-streams",
        "max_stream_s": "--max-stream",
        "max_speakers": "--max-speakers",
        "max_message_bytes": "--max-message",
        "resume_s": "--resume",
        "ahead_s": "--ahead",
        "replay_bytes": "--replay",
        "idle_s": "--idle",
        "requests_per_minute": "--requests",
        "grace_s": "--grace",
        "batch_size": "--batch-size",
        "known_speakers": "--known-speakers",
    },
    epilog=examples(
        "pixit serve",
        "export PIXIT_TOKEN=$(openssl rand -hex 24); pixit serve --host 0.0.0.0 --folder /srv/pixit",
        "pixit serve --cluster auto --storage postgresql://pixit@db/pixit --folder /shared/pixit",
    ),
)
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="address; any but loopback needs a token"
)
@click.option("--port", default=8000, show_default=True, type=int, help="0 for any free one")
@token_option
@click.option(
    "--cors", multiple=True, metavar="ORIGIN", help="origin whose pages may use the server; may be repeated"
)
@networks_options
@click.option(
    "--cluster",
    metavar="auto|ADDRESS",
    help="jobs are done on the machines of a Ray cluster, which share the folder",
)
@click.option(
    "--set-jobs", multiple=True, metavar="KEY=VALUE", help="any setting of pixit separate, for jobs"
)
@click.option(
    "--set-streams", multiple=True, metavar="KEY=VALUE", help="any setting of pixit stream, for streams"
)
def serve(
    host: str,
    port: int,
    token: str | None,
    cors: tuple[str, ...],
    model: str | None,
    embedder: str | None,
    device: str,
    cluster: str | None,
    set_jobs: tuple[str, ...],
    set_streams: tuple[str, ...],
    **options: Any,
) -> None:
    """Serve a page, jobs and live streams to many clients.

    http://HOST:PORT/ is a page to drop recordings on and to talk to; programs use the HTTP interface that
    /openapi.json describes, and the WebSocket /v1/stream. What happens is written to standard error, as
    lines of JSON. SIGTERM and Ctrl-C end it: jobs are finished, or begun again at the next start.
    """
    from pixit.config import load_settings, settings_from_mapping
    from pixit.pipeline.settings import SeparationSettings, StreamingSettings
    from pixit.serve.limits import ServeSettings
    from pixit.serve.server import serve as run

    given = {name: value for name, value in options.items() if value is not None}
    settings = settings_from_mapping(ServeSettings, given | {"cors": cors}, "pixit serve")
    separation = load_settings(SeparationSettings, overrides=set_jobs).model_dump(exclude_unset=True)
    streaming = load_settings(StreamingSettings, overrides=set_streams).model_dump(exclude_unset=True)
    run(host, port, token, (model, embedder, device), settings, separation, streaming, cluster)


@click.command(
    cls=SettingsCommand,
    settings="pixit.serve.client.ClientSettings",
    fields={
        "latency_s": "--latency",
        "step_s": "--step",
        "max_speakers": "--max-speakers",
        "patience_s": "--patience",
    },
    epilog=examples(
        "pixit client meeting.wav",
        "pixit client microphone --latency 1 -o live",
        "pixit client meeting.wav --server https://pixit.example.org --jsonl",
    ),
)
@click.argument("source", metavar="SOURCE")
@click.option("--server", default="http://127.0.0.1:8000", show_default=True, help="address of the server")
@token_option
@click.option("-o", "--output", type=PATH, help="folder of the result, which grows in OUTPUT/NAME")
@click.option("--overwrite", is_flag=True, help="replace an older result of that name")
@click.option("--jsonl", is_flag=True, help="print a line of JSON for all that happens")
@click.option("--realtime", is_flag=True, help="send a file as slowly as it was spoken")
@quiet_option
def client(
    source: str,
    server: str,
    token: str | None,
    output: Path | None,
    overwrite: bool,
    jsonl: bool,
    realtime: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Send SOURCE, a file or microphone[:ID], to a pixit server, and print turns as they come.

    It prints and writes what pixit stream does, but the work is the server's. A connection that breaks is taken
    up again where it broke, for as long as the server keeps the stream.
    """
    from pixit.cli.stream import show
    from pixit.config import settings_from_mapping
    from pixit.serve.client import ClientSettings
    from pixit.serve.following import Following

    given = {name: value for name, value in options.items() if value is not None}
    settings = settings_from_mapping(ClientSettings, given, "pixit client")

    def tell(line: str) -> None:
        warn([line])

    run = Following(source, server, settings, token, output, overwrite, realtime, tell)
    show(run, jsonl, quiet)
    if not quiet and not jsonl:
        place = "" if run.folder is None else f" → {run.folder}"
        click.echo(printable(f"{run.duration_s:.1f} s, speakers: {', '.join(run.speakers)}{place}"), err=True)
