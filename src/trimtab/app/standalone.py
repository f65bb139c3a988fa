"""The home of a model that is served by itself: what can be said of it without a project, and what cannot be asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trimtab.adapters.clock.system import SystemClock
from trimtab.adapters.compute.supervisor import read_post
from trimtab.app.home import HOME, Home, named_home
from trimtab.app.overview import counts_of, records_status, workers_status
from trimtab.core.clock import iso
from trimtab.errors import Unavailable
from trimtab.serving.routing import RouteTable, decode_table


def alone_home(path: Path, given: Path | None = None) -> Home | None:
    """The home that was named, or the one in a directory, where models are served by themselves; None elsewhere."""
    folder = path if path.is_dir() else path.parent
    home = named_home(given) or Home(folder.resolve() / HOME)
    return home if home.alone else None


def refuse_alone(home: Home | None) -> None:
    """Where there is no project, nothing decides, and nobody can be asked to.

    Raises
    ------
    Unavailable
        When models are served from this home by themselves.
    """
    if home is not None and home.alone:
        raise Unavailable(
            "this home serves a model by itself: no project decides here",
            got=str(home.root),
            hint="end `trimtab serve` and start it again, with another version if you like; "
            "`trimtab status`, `latency` and `predict` take this home",
        )


def alone_routes(home: Home) -> RouteTable:
    """What answers."""
    return decode_table(home.route_file.read_bytes())


def alone_status(home: Home) -> dict[str, Any]:
    """The status of such a home, with the fields of a project's that it has."""
    living = {path.stem: "running" for path in home.run.glob("worker-*.pid") if read_post(home.run, path.stem).held}
    found = counts_of(home.root)
    return {
        "project": home.root.parent.name if home.root.name == HOME else home.root.name,
        "now": iso(SystemClock().now()),
        "ledger": None,
        "control": {"state": "none: `trimtab serve` serves this home", "pid": None, "since": None},
        "models": [
            {"name": name, "live": {"version": arm.version, "since": None, "reason": "trimtab serve"}}
            for name, route in sorted(alone_routes(home).routes.items())
            for arm in route.arms[:1]
        ],
        "sources": [],
        "workers": workers_status(home.run, living, found),
        "records": records_status(found, home),
    }
