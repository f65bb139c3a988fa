"""The route table that workers obey: one file for all models, with a generation that only grows."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from trimtab.adapters.compute.supervisor import read_post
from trimtab.adapters.wire.routefile import write_routes
from trimtab.adapters.wire.worker import read_status
from trimtab.errors import InputError
from trimtab.serving.routing import Route, RouteTable, decode_table


class Routes:
    """Writes the route file.

    Parameters
    ----------
    file
        The route file.
    run
        Where workers say which generation they obey: a lost file must not start again below it.
    models
        Routes of other models are taken out.
    """

    def __init__(self, file: Path, run: Path, *, models: Iterable[str]) -> None:
        self._file, self._run = file, run
        try:
            self.table = decode_table(file.read_bytes())
        except (FileNotFoundError, InputError):
            self.table = RouteTable(0, {})
        statuses = [read_status(path) for path in run.glob("worker-*.json")]
        seen = max((status.generation for status in statuses if status is not None), default=0)
        self._least = max(seen, self.table.generation)
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
        self._least = max(self._least, generation - 1)
        if self.table.generation == 0 or self.table.routes.get(route.model) != route:
            self._put({**self.table.routes, route.model: route})

    def wait(self, *, timeout_s: float) -> bool:
        """Wait until every living worker obeys the table, or has said why it cannot; False when the time is up."""
        deadline = time.monotonic() + timeout_s
        while not all(map(self._obeyed, self._run.glob("worker-*.pid"))):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return True

    def _obeyed(self, path: Path) -> bool:
        post = read_post(self._run, path.stem)
        if not post.held or post.process is None:
            return True
        said = read_status(path.with_suffix(".json"))
        if said is None or said.pid != post.process.pid:
            return False
        return said.generation >= self.table.generation or bool(said.problem)

    def _put(self, routes: dict[str, Route]) -> None:
        table = RouteTable(self._least + 1, routes)
        write_routes(self._file, table)
        self.table, self._least = table, table.generation
