"""The events of the platform's own stream, and the sentence for each."""

from __future__ import annotations

from trimtab.core.ids import Json
from trimtab.core.ledger import Event
from trimtab.loop.sentences import describe

EPOCH_TAKEN = "EpochTaken"
HISTORY_READ = "HistoryRead"
BATCH_RAN = "BatchRan"
BATCH_FAILED = "BatchFailed"


def sentence(event: Event) -> str:
    """What an event of any stream says."""
    data: dict[str, Json] = dict(event.data)
    match event.type:
        case "EpochTaken":
            return f"A control process has taken over: epoch {data['epoch']}"
        case "HistoryRead":
            return f"The history of {data['source']!r} counts {data['rows']} rows, content {data['digest'][:12]}"
        case "BatchRan":
            told = f"{data['rows']} rows, {data['quarantined']} quarantined, {data['failed']} failed"
            return f"The batch of {data['model']!r} for {data['due']} ran: {told}, to {data['out']}"
        case "BatchFailed":
            return f"The batch of {data['model']!r} for {data['due']} failed: {data['error']}"
        case _:
            return describe(event)
