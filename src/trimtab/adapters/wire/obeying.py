"""Putting route tables in force: at once where nothing must be loaded for it, else when that is loaded."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from trimtab.adapters.wire.routefile import RouteFile
from trimtab.errors import TrimtabError, Unavailable
from trimtab.serving.engine import Engine, Loader
from trimtab.serving.live import Live
from trimtab.serving.pipeline import Deployed
from trimtab.serving.routing import Arm, Route, RouteTable, decode_table, without_loading

_log = logging.getLogger("trimtab.serving")


class Obeying:
    """Watches the route file and switches the engine, between two batches.

    Versions are loaded in a thread, beside the traffic, one table after the other. A table that needs nothing loaded, a
    kill switch above all, waits for none of that; of one that needs more, what can be is in force at once.

    Parameters
    ----------
    tell
        Told of every change, with the problem when a table cannot be obeyed, else with nothing.
    poll_s
        How often the file is looked at.
    retry_s
        After so long what could not be loaded is tried again.
    """

    def __init__(
        self,
        engine: Engine,
        load: Loader,
        path: Path,
        *,
        tell: Callable[[str], None],
        poll_s: float,
        retry_s: float,
    ) -> None:
        self._engine, self._load, self._path, self._routes = engine, load, path, RouteFile(path)
        self._tell, self._poll_s, self._retry_s = tell, poll_s, retry_s
        self._thread = ThreadPoolExecutor(1, "trimtab-load")
        self._loading: asyncio.Task[None] | None = None
        self._problem, self._retry_at, self._again, self._failures = "", 0.0, False, 0
        self.ahead: dict[str, int] = {}
        """Models whose route in force is that of a newer table than the whole, and its generation."""
        self._kept: dict[str, Deployed] = {}
        """Loaded for a table that another overtook; the next one will want them."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()
        self._free()

    async def begin(self) -> None:
        """Load what the table says, or of one that cannot be obeyed what can stand in for it."""
        self._look()
        if self._loading is not None:
            await self._loading

    async def run(self) -> None:
        """Obey the file, until cancelled."""
        while True:
            await asyncio.sleep(self._poll_s)
            due = self._problem and asyncio.get_running_loop().time() >= self._retry_at
            if due and self._loading is None:
                self._routes.forget()
            if not self._routes.moved():
                continue
            try:
                self._look()
            except Exception:  # noqa: BLE001 - whatever it is, the next route change must still be heard
                _log.exception("a route change failed")

    def _look(self) -> None:
        """Do at once what can be done at once, and begin to load the rest."""
        try:
            data = self._routes.changed()
            if data is None:
                return
            table = decode_table(data)
            whole = self._at_once(table)
        except (TrimtabError, OSError) as error:
            self._failed(error)
            return
        if whole:
            self._obeyed()
            if self._loading is None:
                self._free()
        elif self._loading is None:
            self._loading = asyncio.get_running_loop().create_task(self._load_rest(table))
        else:
            self._again = True

    def _at_once(self, table: RouteTable) -> bool:
        """Switch to what needs nothing loaded; whether that is all of it."""
        engine, current = self._engine, self._engine.live
        if table.generation <= current.table.generation:
            return True
        now = without_loading(table, current.table, current.deployed)
        if now is table or (now.generation > current.table.generation > 0 and now.routes != current.table.routes):
            live = engine.prepare(now, _nothing)
            if now is table:
                self._obeyed(tell=live is None)
            if live is not None:
                self._switch(live)
        if now is not table:
            self._say_ahead(table)
        return now is table

    async def _load_rest(self, table: RouteTable) -> None:
        loop, engine, failures = asyncio.get_running_loop(), self._engine, self._failures
        try:
            live = await loop.run_in_executor(self._thread, engine.prepare, table, self._kept_or_loaded)
            if live is not None and live.over != engine.live.table.generation:  # another table came to be in force
                self._kept |= {version: live.deployed[version] for version in live.fresh}
                self._again = True
                return
            if failures == self._failures:  # else a newer table cannot be obeyed
                self._obeyed(tell=live is None)
            if live is not None:
                self._switch(live)
            self._free()
        except (TrimtabError, OSError) as error:
            if engine.live.table.generation == 0:
                stand_in = await loop.run_in_executor(self._thread, self._stand_in)
                if stand_in is not None:
                    engine.switch(stand_in)
            self._failed(error)
        except Exception as error:  # noqa: BLE001 - as in `run`
            _log.exception("a route change failed")
            self._failed(error)
        finally:
            self._loading = None
            if self._again:
                self._again = False
                self._routes.forget()

    def _switch(self, live: Live) -> None:
        self._engine.switch(live)
        self.ahead = {}
        self._tell(self._problem)

    def _say_ahead(self, table: RouteTable) -> None:
        """Say which models' routes of a table are in force, that is not in force as a whole."""
        routes = self._engine.live.table.routes
        ahead = {
            model: table.generation
            for model, route in table.routes.items()
            if model in routes and routes[model].arms == route.arms and routes[model].constant == route.constant
        }
        if self._engine.live.table.generation and ahead != self.ahead:
            self.ahead = ahead
            self._tell(self._problem)

    def _kept_or_loaded(self, version: str) -> Deployed:
        return self._kept.pop(version, None) or self._load(version)

    def _free(self) -> None:
        """Free what was loaded for a table that another has overtaken, and that the one in force does not name."""
        while self._kept:
            self._kept.popitem()[1].runtime.close()

    def _obeyed(self, *, tell: bool = True) -> None:
        if self._problem:
            self._problem = ""
            if tell:  # else the switch does: nobody is to read of a table in force and of its problem together
                self._tell("")

    def _failed(self, error: Exception) -> None:
        self._problem, self._retry_at = str(error), asyncio.get_running_loop().time() + self._retry_s
        self._failures += 1
        self._tell(self._problem)

    def _stand_in(self) -> Live | None:
        """With nothing to go on with: the champions that can be loaded, so that a bad challenger is no outage.

        The table counts as older than the one that could not be obeyed, and gives way to it.
        """
        try:
            table = decode_table(self._path.read_bytes())
        except (TrimtabError, OSError):
            return None
        generation = max(table.generation - 1, 1)
        routes: dict[str, Route] = {}
        for name, route in table.routes.items():
            alone = Route(name, (Arm(route.arms[0].name, route.arms[0].version, 1.0),), constant=route.constant)
            try:
                tried = self._engine.prepare(RouteTable(generation, {name: alone}), self._load)
            except (TrimtabError, OSError):
                continue
            routes[name] = alone
            for deployed in tried.deployed.values() if tried else ():
                deployed.runtime.close()
        return self._engine.prepare(RouteTable(generation, routes), self._load) if routes else None


def _nothing(version: str) -> Deployed:
    raise Unavailable("a version was to be loaded where nothing is", got=version[:12])
