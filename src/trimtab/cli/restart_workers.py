"""``trimtab restart-workers``."""

from __future__ import annotations

from pathlib import Path

from trimtab.cli.answer import answer, command


@command("trimtab restart-workers", "trimtab restart-workers --project shop --json")
def restart_workers(project: Path, *, home: Path | None, as_json: bool) -> None:
    """Replace every worker by a new process, one after the other, without a failed request.

    Run on the machine of `trimtab up`, which does it; needed after a library was updated, never for a new version of a
    model. Ends with 1 when a new worker does not get ready; the others go on then.
    """
    from trimtab import app

    answer(
        lambda: app.restart_workers(project, home=home),
        lambda result: "\n".join(f"{one['name']}: process {one['before']} gave way to {one['after']}"
                                 for one in result["workers"]),
        as_json=as_json,
    )  # fmt: skip
