"""The port of the online store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol


class OnlineRows(Protocol):
    """Packed feature rows by key; derived from the event log and rebuildable from it.

    Contract: ``get_many`` reads one consistent snapshot; ``put_many`` is one atomic step, visible to other processes
    when it returns. It may be lost in a crash as a whole, never in part, and never out of order: after a crash the
    rows are as they stood after some earlier ``put_many`` (the watermark stored among them says which). One
    writer at a time; any number of readers, in any process.
    """

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The rows under these keys, ``None`` where there is none, all from one snapshot."""
        ...

    def put_many(self, rows: Mapping[bytes, bytes]) -> None:
        """Write these rows in one atomic step."""
        ...

    def sync(self) -> None:
        """Force what was put to disk."""
        ...

    def clear(self) -> None:
        """Drop every row, before a rebuild."""
        ...
