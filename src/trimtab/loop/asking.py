"""Who asks, and how a request is refused."""

from __future__ import annotations

from trimtab.loop import events as e
from trimtab.loop.deliberation import Deliberation
from trimtab.loop.observations import Asked


def actor_of(asked: Asked) -> str:
    """The actor of what follows: ``operator:<name>``."""
    return asked.actor if ":" in asked.actor else f"operator:{asked.actor}"


def asker(asked: Asked) -> str:
    """The name of who asks."""
    return asked.actor.removeprefix("operator:")


def refuse(work: Deliberation, asked: Asked, reason: str) -> None:
    """Say in the ledger that nothing follows, and why."""
    data = {"asked": asked.id, "kind": asked.kind, "by": asker(asked), "reason": reason, "version": asked.version}
    work.record(e.REQUEST_REFUSED, data, actor=actor_of(asked))
