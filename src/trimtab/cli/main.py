"""The command ``trimtab``."""

from __future__ import annotations

import io
import sys

import click

from trimtab.cli.ab import ab
from trimtab.cli.answer import refuse
from trimtab.cli.approve import approve
from trimtab.cli.batch import batch
from trimtab.cli.check import check
from trimtab.cli.deploy import deploy
from trimtab.cli.export import export
from trimtab.cli.gate import gate
from trimtab.cli.kill import kill, revive
from trimtab.cli.latency import latency
from trimtab.cli.log import log
from trimtab.cli.predict import predict
from trimtab.cli.quantise import quantise
from trimtab.cli.register import register
from trimtab.cli.replay import replay
from trimtab.cli.restart_workers import restart_workers
from trimtab.cli.rollback import rollback
from trimtab.cli.send import send
from trimtab.cli.serve import serve
from trimtab.cli.status import status
from trimtab.cli.train import train
from trimtab.cli.tune import tune
from trimtab.cli.up import up
from trimtab.errors import InputError

COMMANDS = (
    *(check, up, replay, train, gate, deploy, approve, rollback, kill, revive, ab, status, latency, log, send, predict),
    *(restart_workers, batch, register, serve, quantise, tune, export),
)

_AS_JSON = "trimtab.json"


class _InOrder(click.Group):
    """Lists commands in the order in which one meets them, not by the alphabet."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_AS_JSON] = "--json" in args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; an option that cannot be read is told as JSON where JSON was asked for."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            if not ctx.meta[_AS_JSON]:
                raise
            command = error.ctx.command_path if error.ctx else "trimtab"
            refuse(InputError(error.format_message().rstrip("."), hint=f"{command} --help"), as_json=True)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return [command.name for command in COMMANDS if command.name]


@click.group(
    cls=_InOrder,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="\b\nExamples:\n  trimtab check\n  trimtab replay -p shop --report report.html",
)
@click.version_option(package_name="trimtab")
def trimtab() -> None:
    """Keep production models on course: train, judge, roll out, watch and retrain.

    Every command takes --json. Exit codes: 0 done, 1 the answer is no or the work failed, 2 bad input.
    """


for _command in COMMANDS:
    trimtab.add_command(_command)


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without a letter shows "?" rather than a traceback
    trimtab()


if __name__ == "__main__":
    main()
