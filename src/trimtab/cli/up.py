"""``trimtab up``."""

from __future__ import annotations

from pathlib import Path

import click

from trimtab.cli.answer import Result, as_text, command, lines, refuse, server
from trimtab.errors import TrimtabError

_port = click.IntRange(0, 65535)


@command("trimtab up", "trimtab up --project shop --workers 2 --port 8080")
@click.option("--host", help="Address to bind to.  [default: setting host]")
@click.option("--port", type=_port, help="Port of the data plane.  [default: setting port]")
@click.option("--console-port", type=_port, help="Port of the console and the API.  [default: setting console_port]")
@click.option("--grpc-port", type=_port, help="Port of gRPC predictions.  [default: setting grpc_port, off]")
@click.option("--workers", type=click.IntRange(min=1), help="Serving workers.  [default: setting workers]")
@click.option(
    "--memory-budget", help="Most memory for models in a worker, as in 2GB.  [default: setting memory_budget]"
)
@server
@click.option("--clock", help="Rehearse: time stands here until POST /v1/clock moves it.  [default: the real time]")
@click.option("--take-over", is_flag=True, help="Replace a control process of this project that is alive.")
@click.option("--new-token", is_flag=True, help="Make a new token for the console and the API; the old one ends.")
def up(
    project: Path,
    *,
    home: Path | None,
    clock: str | None,
    take_over: bool,
    new_token: bool,
    host: str | None,
    port: int | None,
    console_port: int | None,
    grpc_port: int | None,
    workers: int | None,
    memory_budget: str | None,
    server: str | None,
    as_json: bool,
) -> None:
    """Run the platform: console, API, serving workers, monitors and the loop.

    Stays in the foreground until it is told to stop. State lives in the project's home; after a crash, the
    same command goes on where it ended. Where a control process of the project is alive, a second one is refused
    (1): --take-over replaces it, and the workers serve on.

    The console and the API need a token. It is printed once, at the first start; TRIMTAB_TOKEN sets another.
    """
    from trimtab import app
    from trimtab.web.status import render_status

    def ready(result: Result) -> None:
        click.echo(as_text(result) if as_json else "\n".join(_text(result)))

    try:
        app.up(
            project,
            home=home,
            host=host,
            port=port,
            console_port=console_port,
            grpc_port=grpc_port,
            workers=workers,
            memory_budget=memory_budget,
            server=server,
            clock=clock,
            take_over=take_over,
            new_token=new_token,
            ready=ready,
            page=render_status,
        )
    except TrimtabError as error:
        refuse(error, as_json=as_json)


_TOKENS = {
    "new": "{token} (shown this once: keep it)",
    "before": "the one of the first start; if it is lost, end this and start `trimtab up --new-token`",
    "environment": "that of TRIMTAB_TOKEN",
}


def _text(result: Result) -> list[str]:
    token = _TOKENS[str(result["token_from"])].format(token=result.get("token"))
    shown = {name: value for name, value in result.items() if name not in ("token", "token_from", "console")}
    return lines(shown | {"pid": str(result["pid"]), "token": token})
