"""``trimtab log``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from trimtab.cli.answer import Result, answer, command, counted, lines, when


@command(
    "trimtab log --model buys --limit 20",
    "trimtab log --at 2013-08-15T14:05Z",
    "trimtab log --verify --json",
)
@click.option("--at", help="What was live at this time, who approved it, and on what evidence.")
@click.option("--model", help="Only this model's events.")
@click.option("--limit", type=click.IntRange(min=0), default=50, show_default=True, help="Newest events to show.")
@click.option("--verify", is_flag=True, help="Check the hash chain of the whole ledger first.")
def log(
    project: Path, *, home: Path | None, at: str | None, model: str | None, limit: int, verify: bool, as_json: bool
) -> None:
    """Show what was decided, when, by whom and why.

    Ends with 1 when the ledger was changed after it was written.
    """
    from trimtab import app

    answer(
        lambda: app.log(project, home=home, at=at, model=model, limit=limit, verify=verify),
        lambda result: "\n".join(_text(result, at)),
        as_json=as_json,
    )


def _text(result: Result, at: str | None) -> Iterator[str]:
    if result.get("verified") is not None:
        yield f"verified: {counted(result['verified'], 'event')}, no hash broken"
    if at is not None:
        live = result.get("live") or []
        yield f"at {at}: {'nothing was live' if not live else ''}".rstrip(": ")
        for item in live:
            yield from _live(item)
        yield ""
    for event in result["events"]:
        yield f"{when(event['when'])}  {event['stream']:<24} {event['text']}"


def _live(item: Mapping[str, Any]) -> Iterator[str]:
    yield f"{item['model']}: {item['version']}"
    yield f"  live since {when(item.get('since'))}, put live by {item.get('actor') or 'unknown'}"
    yield f"  approved by {item.get('approved_by') or 'nobody, the policy asks none'}"
    yield f"  because {item.get('reason') or 'no reason was given'}"
    for arm in item.get("arms") or []:
        yield f"  {arm.get('name')} {str(arm.get('version'))[:12]} answers {100 * float(arm.get('share', 0)):.0f} %"
    if item.get("evidence"):
        yield "  evidence:"
        yield from _evidence(item["evidence"])


def _evidence(evidence: Mapping[str, Any]) -> Iterator[str]:
    """Floors as sentences, each with what was found, also where that was measured by a clock; the rest by name."""
    from trimtab.web.figures import plain

    yield from lines({name: value for name, value in evidence.items() if name != "floors"}, indent=4)
    floors = evidence.get("floors") or {}
    measured = floors.get("measured_values") or {}
    for check in floors.get("checks") or ():
        value = check["value"] if check.get("value") is not None else measured.get(check["measure"])
        found = "not measured" if value is None else plain(value)
        bound = f"{str(check['side']).replace('_', ' ')} {plain(check['bound'])}"
        yield f"    {check['measure']} {found}, {bound}: {'passed' if check['passed'] else 'FAILED'}"
