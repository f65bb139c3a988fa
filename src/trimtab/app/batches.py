"""What a batch is asked for, what it reads, and the version that scores it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from trimtab.adapters.offline.answers import Answered, FileAnswers
from trimtab.adapters.offline.database import Address, is_url
from trimtab.adapters.offline.overlap import refuse_own_input
from trimtab.adapters.offline.queries import ordered
from trimtab.adapters.offline.sql import SqlAnswers, SqlTable
from trimtab.adapters.offline.tables import Chunk, FrameTable, Table, open_files
from trimtab.adapters.project.file import load_project
from trimtab.app.history import history_limit, read_limited
from trimtab.app.home import HOME, Home, named_home
from trimtab.app.judging import champion_of
from trimtab.app.loading import bundle_modules, deployed, live_pipeline
from trimtab.app.naming import SHORTEST, is_digest, meant, registered
from trimtab.app.sharing import shared
from trimtab.core.clock import Clock, Micros, instant
from trimtab.core.ledger import model_stream
from trimtab.datasets.ingest import logged_columns
from trimtab.errors import InputError, ProjectError, SchemaError, Unavailable, UnknownName
from trimtab.features.asof import HistoryReader
from trimtab.features.history import History
from trimtab.features.plan import ModulePart
from trimtab.registry.bundle import Bundle
from trimtab.serving.pipeline import Deployed, Pipeline
from trimtab.serving.routing import decode_table
from trimtab.serving.scoring import PIECE, Intake, RowNumbers, Scored, output_width, piece_for, score

if TYPE_CHECKING:
    import pyarrow as pa

CHUNK = 8 * PIECE
"""Rows of a chunk: what a killed run does again at most, and one row group of the answers."""
HERE, RAY = "here", "ray"
SENT = "the table's columns"
LIVE = "online rows"
HISTORY = "history, each row as of its own time"
AS_OF = "history, every row as of one time"


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """What is to be scored, by what, and where the answers go."""

    model: str
    rows: object
    """A file, directory or glob, an address of a database, or a data frame."""
    out: str
    version: str = ""
    """Empty for the version that answers, which a resumed run keeps."""
    query: str = ""
    id: str = ""
    """The column that names the rows in the answers; empty: the model's own id, or else the number of the row."""
    as_of: str = ""
    """ISO 8601: answer every row as of then; ``now``: from the online rows, whatever columns there are."""
    record: bool = False
    precompute: Micros = 0
    """How long the answers are good for when workers give them out; 0 to keep none."""
    anew: bool = False
    threads: int = 0
    """Of the model; 0 for one per processor."""
    chunk: int = CHUNK
    on: str = HERE
    """Where chunks are scored: in this process, or on a Ray cluster, ``ray``."""


class Run(msgspec.Struct, frozen=True):
    """What makes two runs the same: then one goes on where the other ended."""

    input: str
    identity: str
    model: str
    version: str
    id: str
    features: str
    at: Micros
    """When rows that do not say it were asked: when the run began, or as of when it was told."""
    chunk: int
    record: bool
    precompute: Micros


# -- what is asked


def batch_home(project: Path, given: Path | None = None) -> Home:
    """The home that was named, that of a project, or the directory itself where models were registered without one."""
    if (named := named_home(given)) is not None:
        return _with_models(named)
    folder = project if project.is_dir() else project.parent
    if (folder / HOME).is_dir():
        return Home(folder.resolve() / HOME)
    if (folder / "blobs").is_dir():
        return Home(folder.resolve())
    raise Unavailable(
        "there is no model here yet", got=str(folder.resolve()), hint="`trimtab up` or `trimtab train` makes one"
    )


def _with_models(home: Home) -> Home:
    if (home.root / "blobs").is_dir():
        return home
    raise Unavailable(
        "there is no model in the home that was named",
        got=str(home.root),
        hint="name another one: --home, TRIMTAB_HOME",
    )


def resolve(home: Home, model: str, version: str) -> str:
    """The digest of the version that is to score: the one named, or the champion.

    Raises
    ------
    UnknownName
        When there is none.
    """
    if version:
        return version if is_digest(version) else _named(home, model, version)
    try:
        table = decode_table(home.route_file.read_bytes())
    except FileNotFoundError:
        raise Unavailable(
            f"no version of {model!r} is live", got=str(home.root), hint="name one with --version, or train one first"
        ) from None
    route = table.route(model)
    champion = _champion(home, model)
    # An A/B test has its arms in any order, or goes without the champion; past a kill switch the route alone counts.
    if any(arm.version == champion for arm in route.arms) or (route.rollout and champion in route.held):
        return champion
    return next(arm.version for arm in route.arms if arm.share > 0)


def _champion(home: Home, model: str) -> str:
    """By the ledger; empty where no loop keeps one."""
    if not (home.root / "ledger.db").exists():
        return ""
    return champion_of(list(home.ledger().read(stream=model_stream(model))), model)


def _named(home: Home, model: str, version: str) -> str:
    """The version that is meant; where no loop has registered it, what is stored may be named by its digest."""
    known = registered(home.ledger().read(stream=model_stream(model))) if (home.root / "ledger.db").exists() else {}
    try:
        return meant(version, known)
    except UnknownName:
        if len(version) < SHORTEST or not version.isalnum():
            raise
        stored = (home.root / "blobs").glob(f"{version[:2]}/{version[2:]}*")
        return meant(version, {path.parent.name + path.name: 0 for path in stored} or known)


def open_rows(asked: BatchRequest) -> Table:
    """The table that was named."""
    if not isinstance(asked.rows, str | Path):
        return FrameTable(asked.rows)
    place = str(asked.rows)
    if is_url(place):
        return SqlTable(Address.of(place), asked.query)
    if asked.query:
        raise InputError(
            "a query needs a database", got=place, hint="as in --in sqlite:///shop.db --query 'SELECT ...'"
        )
    return open_files(place)


def caution(query: str) -> str:
    """What somebody should know before a query is run; empty when there is nothing.

    Examples
    --------
    >>> caution("SELECT * FROM visits ORDER BY id")
    ''
    """
    if not query or ordered(query):
        return ""
    return (
        "the query has no ORDER BY: a run that is interrupted goes on only if the rows come in the same order again; "
        "end it with ORDER BY and a unique column"
    )


def open_output(out: str, *, rows: object = None, query: str = "") -> Answered:
    """The place of the answers that was named; never that of the rows.

    Raises
    ------
    InputError
        When it is no place for answers, or the rows come from there.
    """
    refuse_own_input(rows, query, out)
    return SqlAnswers(Address.of(out)) if is_url(out) else FileAnswers(out)


def as_of(asked: BatchRequest, clock: Clock) -> Micros:
    """The time of rows that do not say their own."""
    return clock.now() if asked.as_of in ("", "now") else instant(asked.as_of)


def features_of(bundle: Bundle, table: Table, asked: BatchRequest) -> str:
    """Where the features come from."""
    if not bundle.plan.parts:
        return SENT
    if asked.as_of:
        return LIVE if asked.as_of == "now" else AS_OF
    return HISTORY if bundle.plan.requests.at in table.columns else LIVE


def check_precompute(asked: BatchRequest, features: str) -> None:
    """Make sure that answers which workers give out later are as of now: nobody may be told what held once.

    Raises
    ------
    InputError
        When they would be as of another time, or good for less than no time.
    """
    if asked.precompute < 0:
        raise InputError("answers cannot be good for less than no time", got=f"{asked.precompute} us")
    if asked.precompute and (features in (HISTORY, AS_OF) or asked.as_of not in ("", "now")):
        raise InputError(
            "answers that are kept for workers must be as of now",
            got=f"--as-of {asked.as_of}" if asked.as_of else f"features from {features}",
            hint="--as-of now answers every row as of now; or leave --precompute out",
        )


def id_column(bundle: Bundle, table: Table, asked: BatchRequest) -> str:
    """The column that names the rows; empty when they have but their number."""
    if asked.id:
        if asked.id not in table.columns:
            raise UnknownName("no such column", got=repr(asked.id), hint=f"the columns are {', '.join(table.columns)}")
        return asked.id
    return next((name for name in (bundle.plan.requests.id, "id") if name in table.columns), "")


def check_columns(table: Table, intake: Intake, id: str) -> None:
    """See that what is read is there, and once.

    Raises
    ------
    SchemaError
        When a column is missing, or is there twice; it names the column.
    """
    intake.check(list(table.columns))
    for name in (*intake.kinds, id):
        if (times := table.columns.count(name)) > 1:
            raise SchemaError(
                f"column {name!r} is there {times} times",
                got=f"columns {', '.join(table.columns)}"[:300],
                hint="give each column a name of its own",
            )


# -- what scores


class NoRows:
    """In place of the online rows where nothing of them is read."""

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Nothing is asked for."""
        if keys:
            raise Unavailable("no online rows were opened", got=f"{len(keys)} keys")
        return []

    def put_many(self, rows: Mapping[bytes, bytes]) -> None:
        """Nothing writes."""

    def sync(self) -> None:
        """Nothing was written."""

    def clear(self) -> None:
        """There is nothing."""


@dataclass(frozen=True, slots=True)
class Scorer:
    """A version that is ready to score tables."""

    pipeline: Pipeline
    deployed: Deployed
    intake: Intake
    width: int
    at: Micros
    threads: int = 1
    pool: ThreadPoolExecutor | None = None
    """Takes pieces through the pipeline beside the thread that asks; None: one after the other."""

    def close(self) -> None:
        """Free the model and the threads."""
        if self.pool is not None:
            self.pool.shutdown()
        self.deployed.runtime.close()

    def chunk(self, chunk: Chunk) -> Scored:
        """Score one chunk."""
        numbers = np.arange(chunk.first, chunk.first + chunk.rows)
        ids: Sequence[str] = RowNumbers(numbers)
        if chunk.ids is not None and not self.intake.straight:
            found = chunk.ids.to_pylist()
            ids = [str(n if value is None else value) for n, value in zip(numbers.tolist(), found, strict=True)]
        taken = self.intake.take(chunk.columns, chunk.rows, ids=ids, at=self.at)
        side_by_side: dict[str, Any] = {}
        if self.pool is not None:
            side_by_side = {
                "piece": piece_for(len(taken.batch), threads=self.threads),
                "each": shared(self.pool, self.threads),
            }
        return score(self.pipeline, self.deployed, taken, width=self.width, first=chunk.first, **side_by_side)

    def schema(self, ids: Any) -> pa.Schema:
        """The columns of the answers; ``ids`` is the Arrow type of the ids."""
        import pyarrow as pa

        text = pa.dictionary(pa.int32(), pa.string())
        predictions = [(name, pa.float64()) for name in prediction_names(self.width)]
        return pa.schema([("id", ids), *predictions, ("version", text), ("status", text)])

    def table(self, chunk: Chunk, scored: Scored) -> pa.Table:
        """The answers of a chunk: id, predictions, version and status of every row."""
        import pyarrow as pa

        ids = chunk.ids
        if ids is None:
            ids = pa.array(np.arange(chunk.first, chunk.first + chunk.rows))
        gone: Any = np.array([not status.startswith(("ok", "stale")) for status in scored.statuses])
        gone = gone[scored.codes] if gone.any() else gone
        columns: dict[str, Any] = {"id": ids}
        for place, name in enumerate(prediction_names(self.width)):
            columns[name] = pa.array(scored.outputs[:, place], mask=gone if gone.any() else None)
        version = pa.DictionaryArray.from_arrays(np.zeros(chunk.rows, np.int32), [self.deployed.version])
        columns["version"] = version
        columns["status"] = pa.DictionaryArray.from_arrays(scored.codes, scored.statuses)
        return pa.table(columns)


def prediction_names(width: int) -> list[str]:
    """The columns that hold the predictions: one by its plain name, several numbered as the outputs of the model."""
    return ["prediction"] if width == 1 else [f"prediction_{place}" for place in range(width)]


def make_scorer(project: Path, home: Home, bundle: Bundle, run: Run, *, threads: int = 0) -> Scorer:
    """Load a version with the reader of features that the run needs, and try it on a row of zeros."""
    count = threads or len(os.sched_getaffinity(0))
    rows = home.online(readonly=True) if run.features == LIVE and bundle.plan.sources() else NoRows()
    alike = count > 1 and _own_threads(bundle)
    ready = deployed(bundle, rows, threads=1 if alike else count)
    if run.features in (HISTORY, AS_OF):
        modules = bundle_modules(bundle)
        ready = replace(ready, reader=HistoryReader(bundle.plan, _histories(project, home, bundle), modules))
    pipeline = live_pipeline()
    exact = run.record or run.precompute > 0
    intake = Intake(bundle.plan, timed=run.features == HISTORY, exact=exact)
    pool = ThreadPoolExecutor(count - 1, "score") if alike else None
    return Scorer(pipeline, ready, intake, output_width(pipeline, ready), run.at, count, pool)


def _own_threads(bundle: Bundle) -> bool:
    """Whether several of our threads may call the pipeline at once: a bundle's own code was never promised that."""
    manifest = bundle.manifest
    own = manifest.preprocess or manifest.postprocess or any(isinstance(part, ModulePart) for part in bundle.plan.parts)
    return manifest.runtime == "onnx" and not own


def _histories(project: Path, home: Home, bundle: Bundle) -> dict[str, History]:
    """What is known of every source of a plan: the history files as far as they count, then the event log."""
    names = bundle.plan.sources()
    if not names:
        return {}
    declared = load_project(project)
    records, until = home.records("reader"), history_limit(home.root)
    found = {}
    for name in names:
        source = declared.sources.get(name)
        if source is None:
            raise ProjectError(f"the project has no source {name!r} any more", hint="this version needs its history")
        history = read_limited(declared, name, until)
        logged = logged_columns(source, records)
        found[name] = history if logged is None else history.extend(logged)
    return found
