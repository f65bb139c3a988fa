"""The events of the platform's own stream, and the sentence for each."""

from __future__ import annotations

from trimtab.core.ids import Json
from trimtab.core.ledger import Event
from trimtab.loop.sentences import describe

EPOCH_TAKEN = "EpochTaken"
HISTORY_READ = "HistoryRead"


def sentence(event: Event) -> str:
    """What an event of any stream says."""
    data: dict[str, Json] = dict(event.data)
    match event.type:
        case "EpochTaken":
            return f"A control process has taken over: epoch {data['epoch']}"
        case "HistoryRead":
            return f"The history of {data['source']!r} counts {data['rows']} rows, content {data['digest'][:12]}"
        case _:
            return describe(event)
