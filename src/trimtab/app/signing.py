"""The signed head of the ledger in a home: written as the ledger grows, checked before anything builds on it."""

from __future__ import annotations

import json

import msgspec

from trimtab.adapters.files import write_atomic
from trimtab.adapters.ledger.head import check_head, sign_head
from trimtab.app.home import Home
from trimtab.core.clock import Micros
from trimtab.core.ledger import Ledger
from trimtab.errors import LedgerCorrupt

SIGNED = "head.json"
"""The signed head of the ledger: a ledger that ends before it has lost its tail."""
KEY = "ledger.key"
"""Made below ``run`` with the first signature, so where it is, a head must be."""


def write_signed_head(home: Home, ledger: Ledger, *, when: Micros) -> None:
    """Sign where the ledger stands now."""
    signed = sign_head(ledger, home.signing_key(), when=when)
    write_atomic(home.root / SIGNED, json.dumps(signed).encode())


def check_signed_head(home: Home, ledger: Ledger) -> None:
    """Check that the ledger holds everything up to its signed head.

    Raises
    ------
    LedgerCorrupt
        When it does not, or when the head or its key is gone although the ledger was signed before.
    """
    head, key = home.root / SIGNED, home.run / KEY
    if not head.exists() and not key.exists():
        return  # never signed
    if not head.exists() or not key.exists():
        gone, left = (head, key) if key.exists() else (key, head)
        raise LedgerCorrupt(
            "the ledger was signed before, and its signed head cannot be checked",
            got=f"{gone.name} is missing",
            hint=f"restore it from a backup; if you know that no event is missing, delete {left} to sign anew",
        )
    try:
        signed = msgspec.json.decode(head.read_bytes(), type=dict[str, object])
        check_head(ledger, signed, key.read_bytes())
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, TypeError) as error:
        hint = "restore it from a backup"
        raise LedgerCorrupt("the signed head cannot be read", got=f"{head}: {error}", hint=hint) from error
