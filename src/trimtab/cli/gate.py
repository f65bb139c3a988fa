"""``trimtab gate``."""

from __future__ import annotations

from pathlib import Path

from trimtab.cli.answer import Result, answer, command, model, version


@command("trimtab gate buys 4f9c2a7be1d0", "trimtab gate buys 4f9c2a7be1d0 --json")
@model
@version
def gate(project: Path, *, home: Path | None, model: str, version: str, as_json: bool) -> None:
    """Judge VERSION of MODEL by the gates of the project.

    Ends with 1 when it does not pass.
    """
    from trimtab import app

    answer(
        lambda: app.gate(project, model, version, home=home), _text, as_json=as_json, good=lambda r: bool(r["passed"])
    )


def _text(result: Result) -> str:
    from trimtab.web.figures import plain
    from trimtab.web.terminal import aligned

    rows = [["check", "value", "bound", "", ""]]
    rows += [
        [
            str(check["name"]),
            plain(check.get("value")),
            f"{str(check.get('side', '')).replace('_', ' ')} {plain(check.get('bound'))}".strip(),
            "passed" if check["passed"] else "FAILED",
            str(check.get("detail", "")),
        ]
        for check in result["checks"]
    ]
    return f"{aligned(rows, left=(0, 2, 3, 4))}\n{'passed' if result['passed'] else 'not passed'}"
