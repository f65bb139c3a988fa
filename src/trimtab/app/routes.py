"""The route table that workers obey: one file for all models, with a generation that only grows."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from trimtab.adapters.wire.routefile import write_routes
from trimtab.adapters.wire.status import read_status
from trimtab.app.killing import Workers, route_lock, under_orders, wait_for, warmth
from trimtab.errors import InputError
from trimtab.serving.routing import Route, RouteTable, decode_table


class Routes:
    """Writes the route file. A kill switch that was pulled on the file level stays on until the loop has recorded it.

    Parameters
    ----------
    file
        The route file.
    run
        Where workers say which generation they obey: a lost file must not start again below it. Open orders lie there
        as well.
    models
        Routes of other models are taken out.
    """

    def __init__(self, file: Path, run: Path, *, models: Iterable[str]) -> None:
        self._file, self._run = file, run
        self._least = 0
        self.table = RouteTable(0, {})
        statuses = [read_status(path) for path in run.glob("worker-*.json")]
        seen = max((status.generation for status in statuses if status is not None), default=0)
        with route_lock(run):
            self._look()
            self._least = max(seen, self._least)
            kept = {name: route for name, route in self.table.routes.items() if name in set(models)}
            if kept != self.table.routes:
                self._put(kept)

    def apply(self, route: Route, *, generation: int) -> None:
        """Answer requests for a model by this route; nothing happens when that is so already.

        Raises
        ------
        Unavailable
            When the file cannot be written; the old table stays in force.
        """
        with route_lock(self._run):
            self._look()
            self._least = max(self._least, generation - 1)
            wanted = under_orders({**self.table.routes, route.model: route}, self._run)
            if self.table.generation == 0 or self.table.routes != wanted:
                self._put(wanted)

    def wait(self, *, timeout_s: float) -> bool:
        """Wait until every living worker obeys the table, or has said why it cannot; False when the time is up."""
        found = wait_for(self._run, self.table.generation, timeout_s=timeout_s)
        return found.obeying == found.living or bool(found.problem)

    def warmth(self, version: str) -> Workers:
        """How many of the living workers hold a version that stands in the table."""
        return warmth(self._run, self.table.generation, version)

    def _look(self) -> None:
        """Take up what stands in the file: a kill switch may have been written by another process."""
        try:
            found = decode_table(self._file.read_bytes())
        except (FileNotFoundError, InputError):
            return
        if found.generation >= self.table.generation:
            self.table = found
            self._least = max(self._least, found.generation)

    def _put(self, routes: dict[str, Route]) -> None:
        table = RouteTable(self._least + 1, routes)
        write_routes(self._file, table)
        self.table, self._least = table, table.generation
