"""The serving worker's process: ``python -m trimtab.app.worker HOME NUMBER OPTIONS``.

It loads bundles and the route table and needs nothing else: no project file, no training library, no control process.
Everything imported here is paid for by every worker.
"""

from __future__ import annotations

import itertools
import logging
import os
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from trimtab.adapters.blobs.directory import DirectoryBlobs
from trimtab.adapters.clock.shared import SharedClock
from trimtab.adapters.clock.system import SystemClock
from trimtab.adapters.compute.jobdir import mark
from trimtab.adapters.compute.parent import end_with
from trimtab.adapters.compute.supervisor import claim
from trimtab.adapters.models.memory import trim
from trimtab.adapters.models.providers import read_order
from trimtab.adapters.online.lmdb import LmdbRows
from trimtab.adapters.online.precomputed import PRECOMPUTED, OpenedWhenThere
from trimtab.adapters.records.spool import SpoolRecords
from trimtab.adapters.records.tail import SEGMENT_BYTES
from trimtab.adapters.wire.cells import METRICS
from trimtab.adapters.wire.worker import Worker, WorkerSettings, serve
from trimtab.app.loading import Runtimes, load_deployed
from trimtab.core.clock import Clock
from trimtab.core.ids import Json
from trimtab.errors import InputError, TrimtabError
from trimtab.serving.pipeline import Deployed
from trimtab.serving.profile import FILE, ServingProfile, decode_profile
from trimtab.serving.record import PREDICTIONS
from trimtab.serving.residency import Residency

MODULE = "trimtab.app.worker"
POSTS = "worker-*"
CLOCK = "clock"
"""Name below ``run`` of the clock that a driver moves."""


class WorkerOptions(msgspec.Struct, frozen=True):
    """What the control process says to a worker on its command line, as JSON."""

    host: str
    port: int
    driven: bool = False
    """Whether time is what the driver says."""
    max_body: int = 1_048_576
    max_rows: int = 10_000
    max_queue: int = 1024
    deadline_ms: int = 10_000
    """How long a caller waits who does not say; 0 for ever."""
    software: str = ""
    server: str = "httptools"
    """What carries HTTP: ``httptools`` or ``uvicorn``."""
    access_log: str = ""
    access_log_share: float = 1.0
    trace_share: float = 0.0
    grpc_port: int = -1
    """-1 serves no gRPC."""
    providers: str = "cpu"
    """What models run on, best first."""
    memory_budget: int = 0
    """Most bytes of models in memory; 0 for any number."""
    records: str = "sync"
    """When predictions are recorded."""
    records_when_full: str = "refuse"
    records_segment: int = SEGMENT_BYTES
    """Bytes at which a file of records is followed by a new one."""
    model_python: str = ""
    """Interpreter of models in child processes; ours when empty."""
    cache_bytes: int = 0
    cache_ttl_ms: int = 60_000
    precomputed: bool = True
    """Whether answers computed ahead are looked for."""
    stand_in: bool = False
    """Stays for the time of a rolling restart."""
    parent: int = 0
    """It ends when the process of this number is its parent no longer; 0 for a worker that outlives who started it."""


def post_name(number: int) -> str:
    """The post of a worker."""
    return f"worker-{number}"


def command(home: Path, number: int, options: WorkerOptions) -> list[str]:
    """The arguments that start a worker."""
    return [str(home), str(number), msgspec.json.encode(options).decode()]


def options_of(arguments: Sequence[str]) -> WorkerOptions:
    """The options among the arguments that a worker was started with; the defaults, at port 0, of what is no worker."""
    try:
        return msgspec.json.decode(arguments[2], type=WorkerOptions)
    except (IndexError, msgspec.DecodeError):  # of an older release
        return WorkerOptions("", 0)


class Loader:
    """Loads versions; the online store is opened when it is first needed, because there may be none yet."""

    def __init__(self, root: Path, options: WorkerOptions, profile: ServingProfile = ServingProfile()) -> None:
        self._root = root
        self._blobs = DirectoryBlobs(root / "blobs")
        self._rows: LmdbRows | None = None
        self.runtimes = Runtimes(
            Residency(options.memory_budget, freed=trim),
            scratch=root / "run" / "models",
            python=options.model_python,
            providers=read_order(options.providers),
            threads_of={name: one.threads for name, one in profile.models.items()},
        )

    def __call__(self, version: str) -> Deployed:
        if self._rows is None:
            self._rows = LmdbRows(self._root / "online", readonly=True)
        return load_deployed(self._blobs, self._rows, version, runtimes=self.runtimes)


def _ids() -> Callable[[], str]:
    """Ids that no other process gives: 64 random bits of this one, and a count."""
    front, numbers = secrets.token_hex(8), itertools.count()
    return lambda: f"{front}{next(numbers):08x}"


def _page(document: Json) -> str:
    from trimtab.web.api_page import render_api  # only a worker that is asked for its page pays for it

    return render_api(document)


def _ahead(root: Path, clock: Clock) -> OpenedWhenThere:
    return OpenedWhenThere(root / PRECOMPUTED, clock=clock, timer=time.perf_counter_ns)


def read_profile(root: Path) -> ServingProfile:
    """The deployment profile of a home; an empty one when it has none.

    Raises
    ------
    InputError
        When there is one that cannot be used.
    """
    try:
        return decode_profile((root / FILE).read_bytes())
    except FileNotFoundError:
        return ServingProfile()
    except OSError as error:
        raise InputError(f"the deployment profile {FILE} cannot be read", got=str(error)) from None


def _profile(root: Path) -> ServingProfile:
    """The same; one that cannot be used costs what was tuned, not the answers."""
    try:
        return read_profile(root)
    except InputError as error:
        logging.getLogger("trimtab.serving").error("%s; serving with defaults", error)  # noqa: TRY400 - it says it all
        return ServingProfile()


def main(arguments: list[str]) -> int:
    """Serve until told to stop; 3 when another process holds the post."""
    root, number = Path(arguments[0]), int(arguments[1])
    options = msgspec.json.decode(arguments[2], type=WorkerOptions)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    post = claim(root / "run", post_name(number), arguments)
    if post is None:
        return 3
    ours = mark(os.getpid())
    if options.parent:
        end_with(options.parent)
    # Its own spool, whatever process had this post before: two writers never share one.
    name = f"worker-{number}-{ours.pid}-{ours.started or 0}"
    records = SpoolRecords(root / "records", name, segment_bytes=options.records_segment)
    clock: Clock = SharedClock(root / "run" / CLOCK) if options.driven else SystemClock()
    records.prepare(PREDICTIONS)
    profile = _profile(root)
    worker = Worker(
        load=Loader(root, options, profile),
        records=records,
        clock=clock,
        timer=time.perf_counter_ns,
        new_id=_ids(),
        page=_page,
        ahead=_ahead(root, clock) if options.precomputed else None,
    )
    settings = WorkerSettings(
        number,
        root / "route.json",
        root / "run" / f"{post_name(number)}.json",
        host=options.host,
        port=options.port,
        max_body=options.max_body,
        max_rows=options.max_rows,
        max_queue=options.max_queue,
        deadline_ms=options.deadline_ms,
        software=options.software,
        server=options.server,
        metrics_folder=root / "run" / METRICS,
        access_log=Path(options.access_log) if options.access_log else None,
        access_log_share=options.access_log_share,
        trace_share=options.trace_share,
        grpc_port=options.grpc_port,
        cache_bytes=options.cache_bytes,
        cache_ttl_ms=options.cache_ttl_ms,
        records=options.records,
        records_when_full=options.records_when_full,
        profile=profile,
        stand_in=options.stand_in,
    )
    try:
        serve(worker, settings)
    except TrimtabError as error:
        logging.getLogger("trimtab.serving").error("%s", error)  # noqa: TRY400 - the message says it all
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
