"""``trimtab serve``."""

from __future__ import annotations

from pathlib import Path

import click

from trimtab.cli.answer import Result, as_text, command, lines, refuse, server, version
from trimtab.errors import TrimtabError

_port = click.IntRange(0, 65535)


@command(
    "trimtab serve 4f9c2a7be1d0 --port 8080",
    "trimtab serve 4f9c2a7be1d0 --home served --grpc-port 8081 --json",
)
@version
@click.option("--host", help="Address to bind to.  [default: setting host]")
@click.option("--port", type=_port, help="Port; 0 takes a free one.  [default: setting port]")
@click.option("--grpc-port", type=_port, help="Port of gRPC predictions.  [default: none]")
@server
@click.option("--memory-budget", help="Most memory for models, as in 2GB.  [default: setting memory_budget]")
def serve(
    project: Path,
    *,
    version: str,
    home: Path | None,
    host: str | None,
    port: int | None,
    grpc_port: int | None,
    as_json: bool,
    **settings: str | None,
) -> None:
    """Serve VERSION, as `trimtab register` printed it, without a project: from one worker, with records and metrics.

    Eight digits of it are enough. What does not exist is answered with the versions that do.

    Stays in the foreground until it is told to stop (0). Nothing is decided here, and a worker that ends is not started
    again (1). Versions of a project, features and rollouts need `trimtab up`. The settings are those of its workers.
    """

    def ready(result: Result) -> None:
        click.echo(as_text(result) if as_json else "\n".join(lines({**result, "pid": str(result["pid"])})))

    from trimtab.app.foreground import serve_here
    from trimtab.app.home import HOME, Home, named_home

    try:
        folder = project if project.is_dir() else project.parent
        place = named_home(home) or Home(folder.resolve() / HOME)
        serve_here(place.root, version, host=host, port=port, grpc_port=grpc_port, settings=settings, ready=ready)
    except TrimtabError as error:
        refuse(error, as_json=as_json)
