"""A worker without prediction records and without counting, to measure what these cost; started as the worker is."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from trimtab.adapters.wire.http import DataPlane
from trimtab.app import worker
from trimtab.core.ports import Place
from trimtab.serving.engine import Engine


class NoRecords:
    """Takes records and keeps none."""

    def __init__(self, *_: object, **_named: object) -> None:
        self._place = Place("none", 0)

    def prepare(self, *_tables: str) -> None:
        """Nothing to open."""

    def write(self, _table: str, _rows: Sequence[bytes], *, sync: bool = False) -> Place:  # noqa: ARG002
        """Nothing to write."""
        return self._place


def _replace(where: object, name: str, by: object) -> None:
    if not hasattr(where, name):
        raise SystemExit(f"{where} has no {name} any more: mend bench/serving/rig/bare_worker.py")
    setattr(where, name, by)


def main() -> int:
    """Serve, with the parts that record and count replaced."""
    _replace(worker, "SpoolRecords", NoRecords)
    _replace(Engine, "records", lambda _self, _answers: [])
    _replace(DataPlane, "counted", lambda _self, reply: reply)
    return worker.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
