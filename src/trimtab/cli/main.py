"""The command ``trimtab``."""

from __future__ import annotations

import io
import sys

import click

from trimtab.cli.approve import approve
from trimtab.cli.check import check
from trimtab.cli.deploy import deploy
from trimtab.cli.gate import gate
from trimtab.cli.log import log
from trimtab.cli.predict import predict
from trimtab.cli.replay import replay
from trimtab.cli.rollback import rollback
from trimtab.cli.send import send
from trimtab.cli.status import status
from trimtab.cli.train import train
from trimtab.cli.up import up

COMMANDS = (check, up, replay, train, gate, deploy, approve, rollback, status, log, send, predict)


class _InOrder(click.Group):
    """Lists commands in the order in which one meets them, not by the alphabet."""

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
