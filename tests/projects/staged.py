"""The projects that tests replay, set up in a directory of their own with the history they need and no more."""

from __future__ import annotations

import importlib.util
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[2]
FLIGHTS = ROOT / "examples" / "flights"
SALES, PARCELS = ROOT / "tests" / "projects" / "sales", ROOT / "tests" / "projects" / "parcels"
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "data", ".trimtab", "report.html")


def script(path: Path) -> ModuleType:
    """A script as a module, without putting its directory on the import path."""
    spec = importlib.util.spec_from_file_location(f"script_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stage_sales(root: Path) -> Path:
    """The sales project with its invented history."""
    shutil.copytree(SALES, root, ignore=_LEFT_OUT)
    script(SALES / "generate.py").generate(root)
    return root


def stage_parcels(root: Path) -> Path:
    """The parcels project with its invented history, in which the world changes once."""
    shutil.copytree(PARCELS, root, ignore=_LEFT_OUT)
    script(PARCELS / "generate.py").generate(root)
    return root


def prepare_flights(data: Path) -> Path:
    """The histories of the flights of 2013, from the package that has them."""
    script(FLIGHTS / "prepare.py").main(data)
    return data


def stage_flights(root: Path, data: Path, *, since: str = "2013-01-01", until: str) -> Path:
    """The flights project with what was asked from ``since`` to ``until`` and became known until two days later."""
    shutil.copytree(FLIGHTS, root, ignore=_LEFT_OUT)
    first, last = datetime.fromisoformat(since), datetime.fromisoformat(until)
    for name, column in (("departures", "ask_at"), ("landings", "landed_at"), ("weather", "known_at")):
        cut(data / f"{name}.parquet", root / "data" / f"{name}.parquet", column, (first, last + timedelta(days=2)))
    return root


def cut(source: Path, target: Path, column: str, span: tuple[datetime, datetime]) -> None:
    """The rows of a file whose time lies in a span (UTC)."""
    first, last = (pa.scalar(moment.replace(tzinfo=UTC), pa.timestamp("us", "UTC")) for moment in span)
    table = pq.read_table(source)
    kept = table.filter(pc.and_(pc.greater_equal(table[column], first), pc.less(table[column], last)))
    target.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(kept, target)
