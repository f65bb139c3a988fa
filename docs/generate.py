"""Write the reference pages from the code: ``docs/cli.md`` and ``docs/settings.md``.

python docs/generate.py            write them
python docs/generate.py --check    end with 1 when one is out of date
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from trimtab.cli.main import COMMANDS, trimtab
from trimtab.core.settings import SETTINGS

HERE = Path(__file__).parent
NOTE = "<!-- Written by docs/generate.py; change the code instead. -->"


def settings_page() -> str:
    """Every setting, its environment variable, its default and what it is for."""
    rows = []
    for setting in SETTINGS:
        default = f"`{setting.default}`" if setting.default else "none"
        rows.append(f"| `{setting.name}` | `TRIMTAB_{setting.name.upper()}` | {default} | {setting.help} |")
    lines = [
        "# Settings",
        NOTE,
        "A setting is read from its environment variable; options of a command win over it.",
        "\n".join(["| setting | variable | default | what it is for |", "|---|---|---|---|", *rows]),
    ]
    return "\n\n".join(lines) + "\n"


def cli_page() -> str:
    """The help of every command."""
    intro = "Exit codes: 0 done, 1 the answer is no or the work failed, 2 bad input."
    parts = ["# The command line", NOTE, intro, *_help(trimtab, "trimtab")]
    for command in COMMANDS:
        parts += [f"## trimtab {command.name}", *_help(command, f"trimtab {command.name}")]
    return "\n\n".join(parts) + "\n"


def _help(command: click.Command, name: str) -> Iterator[str]:
    names = trimtab.context_settings["help_option_names"]
    context = click.Context(command, info_name=name, terminal_width=100, help_option_names=names)
    yield f"```text\n{command.get_help(context).rstrip()}\n```"


PAGES = {"cli.md": cli_page, "settings.md": settings_page}


def outdated() -> list[str]:
    """The pages that differ from what the code says."""
    return [name for name, page in PAGES.items() if not (HERE / name).exists() or (HERE / name).read_text() != page()]


def main(arguments: list[str]) -> int:
    """Write or check."""
    if "--check" in arguments:
        for name in outdated():
            print(f"docs/{name} is out of date: run python docs/generate.py")
        return 1 if outdated() else 0
    for name, page in PAGES.items():
        (HERE / name).write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
