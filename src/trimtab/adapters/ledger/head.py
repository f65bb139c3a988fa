"""Signing the head of a ledger, so that a tail that was cut off shows.

The hash chain shows that an event was changed, but not that the last ones are missing. A signed head kept
elsewhere (a file, a log, another machine) shows that too.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

from trimtab.core.clock import Micros
from trimtab.core.ids import Json, canonical
from trimtab.core.ledger import GENESIS, Ledger
from trimtab.errors import LedgerCorrupt


def sign_head(ledger: Ledger, key: bytes, *, when: Micros) -> dict[str, Json]:
    """Sign where the ledger stands now.

    Parameters
    ----------
    ledger
        The ledger.
    key
        A secret; 32 random bytes will do.
    when
        The time of signing, microseconds.

    Returns
    -------
    dict
        JSON with ``seq``, ``hash``, ``epoch``, ``when`` and ``signature`` (HMAC-SHA256, RFC 2104).
    """
    seq, mark, epoch = ledger.head()
    body = {"seq": seq, "hash": mark, "epoch": epoch, "when": when}
    return body | {"signature": _signature(body, key)}


def check_head(ledger: Ledger, signed: Mapping[str, Json], key: bytes) -> None:
    """Check that the ledger still holds everything up to a signed head.

    Raises
    ------
    LedgerCorrupt
        When the signature is wrong, the ledger is shorter than it was, or another event stands at its end.
    """
    body = {name: value for name, value in signed.items() if name != "signature"}
    if not hmac.compare_digest(_signature(body, key), str(signed.get("signature", ""))):
        raise LedgerCorrupt(
            "the signature of the head is wrong",
            got=f"head {body.get('seq')}",
            hint="it was changed, or the key is another",
        )
    seq, mark = int(body["seq"]), str(body["hash"])
    if seq == 0 and mark == GENESIS:
        return
    event = next(ledger.read(after=seq - 1), None)
    if event is None:
        raise LedgerCorrupt(
            "the end of the ledger is missing",
            got=f"{ledger.head()[0]} events, {seq} were signed",
            hint="restore a backup",
        )
    if event.seq != seq or event.hash != mark:
        raise LedgerCorrupt(
            "the ledger is not the one that was signed",
            got=f"event {event.seq} with hash {event.hash[:12]}, signed {mark[:12]}",
        )


def _signature(body: Mapping[str, Json], key: bytes) -> str:
    return hmac.new(key, canonical(dict(body)), hashlib.sha256).hexdigest()
