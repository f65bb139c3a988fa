"""``trimtab tune``: find batch size, threads and workers for a latency by measuring, and write them down."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from trimtab.adapters.compute.jobdir import Lock
from trimtab.adapters.files import write_atomic
from trimtab.app.batches import batch_home, resolve
from trimtab.app.driving import drive
from trimtab.app.home import Home, named_home
from trimtab.app.private_workers import private_workers
from trimtab.app.tuned_rows import Asked, requests_for
from trimtab.app.worker import read_profile
from trimtab.core.clock import duration
from trimtab.errors import InputError, UnknownName
from trimtab.registry.bundle import Bundle, load
from trimtab.serving.profile import FILE, ModelProfile, ServingProfile, encode_profile
from trimtab.serving.tuning import BATCHES, Measured, Target, Trial, choose, closest, grows, scales, sizes, worse_of

Result = dict[str, Any]
LOCK = "serving.lock"
"""Held while the profile is read and written again."""
_WARM_S = 0.3
_CONFIRMED = 3
"""How many choices are measured a second time before we give up."""


@dataclass(frozen=True)
class TuneRequest:
    """What a tuning was asked for.

    Parameters
    ----------
    rate
        Requests a second to carry; 0 for as many as possible.
    seconds
        Of load per combination.
    workers, batches, threads
        To try; for empty workers and threads powers of two up to the number of cores.
    connections
        Requests under way at once; a batch can hold no more rows.
    limit_s
        No combination is begun later than this.
    dry_run
        Write nothing.
    """

    project: Path
    model: str
    p99_ms: float
    rate: float = 0.0
    seconds: float = 2.0
    workers: Sequence[int] = ()
    batches: Sequence[int] = BATCHES
    threads: Sequence[int] = ()
    connections: int = 32
    limit_s: float = 300.0
    home: Path | None = None
    dry_run: bool = False


def tune(asked: TuneRequest, progress: Callable[[str], None] = lambda _: None) -> Result:
    """Measure, choose, and write the choice into the deployment profile of the home.

    Returns
    -------
    dict
        ``{model, version, requests, cores, target, measured: [...], chosen, why, closest, profile, file, written,
        next, skipped}``; ``next`` is what puts it in force.

    Raises
    ------
    InputError
        When what was asked for makes no sense.
    UnknownName, Unavailable
        When the model is not live here, or a worker does not start.
    """
    _check(asked)
    home = named_home(asked.home) or batch_home(asked.project)
    bundle = load(home.blobs(), resolve(home, asked.model, ""))
    if bundle.manifest.model != asked.model:
        raise UnknownName("the version is of another model", got=bundle.manifest.model)
    profile = read_profile(home.root)
    rows = requests_for(home, bundle)
    progress(f"requests: {rows.source}")
    with _ended_by_sigterm():
        session = _Session(asked, home, bundle, profile, rows=rows, progress=progress)
        chosen = session.run()
    result = session.told(chosen)
    if chosen is not None:
        chosen_sizes = session.model_profile(chosen.trial)
        with Lock(home.root / LOCK, wait=True):
            # Read again: it took minutes, and another model may have been tuned meanwhile.
            found = read_profile(home.root).with_model(asked.model, chosen_sizes, workers=chosen.trial.workers)
            result["profile"] = msgspec.to_builtins(found)
            if not asked.dry_run:
                write_atomic(home.root / FILE, encode_profile(found))
                result["written"] = True
    return result


class _Session:
    """The measurements of one tuning."""

    def __init__(
        self,
        asked: TuneRequest,
        home: Home,
        bundle: Bundle,
        profile: ServingProfile,
        *,
        rows: Asked,
        progress: Callable[[str], None],
    ) -> None:
        self._asked, self._home, self._bundle, self._profile = asked, home, bundle, profile
        self._rows, self._progress = rows, progress
        self._target = Target(asked.p99_ms, asked.rate)
        self._measured: list[Measured] = []
        self._skipped: list[str] = []
        self._deadline = time.monotonic() + asked.limit_s
        self._cores = len(os.sched_getaffinity(0))

    def run(self) -> Measured | None:
        """Measure what is worth it; the choice is measured a second time, and the worse of both counts."""
        self._sweep()
        chosen = choose(self._measured, self._target)
        confirmed: set[Trial] = set()
        while chosen is not None and chosen.trial not in confirmed and len(confirmed) < _CONFIRMED:
            again = self._measure(chosen.trial, "again")
            confirmed.add(chosen.trial)
            self._measured[self._measured.index(chosen)] = worse_of(chosen, again)
            chosen = choose(self._measured, self._target)
        if chosen is not None and chosen.trial not in confirmed:  # what was measured twice is surer than the first
            twice = [found for found in self._measured if found.trial in confirmed]
            return choose(twice, self._target)
        return chosen

    def _sweep(self) -> None:
        asked, cores = self._asked, self._cores
        powers = [2**power for power in range(cores.bit_length()) if 2**power <= cores]
        threads = asked.threads or powers if self._bundle.manifest.runtime == "onnx" else [1]
        for workers, count in scales(asked.workers or powers, threads, cores=cores):
            if asked.rate and any(map(self._target.met, self._measured)):
                self._skipped.append("more workers and threads: fewer carry the rate")
                return
            before: Measured | None = None
            for batch in sizes(asked.batches, waiting=max(1, asked.connections // workers)):
                if time.monotonic() > self._deadline:
                    self._skipped.append(f"what was left after {asked.limit_s:g} s")
                    return
                found = self._measure(Trial(workers, count, batch))
                self._measured.append(found)
                if before is not None and not grows(before, found):
                    self._skipped.append(f"batches over {batch} of {workers} x {count}: {batch} brought nothing")
                    break
                before = found

    def _measure(self, trial: Trial, note: str = "") -> Measured:
        asked = self._asked
        profile = ServingProfile({asked.model: self.model_profile(trial)})
        with private_workers(self._home, self._bundle, profile, count=trial.workers) as workers:
            # Whatever a model of old rows refuses today is no load.
            drive(workers.addresses, self._rows.requests, connections=asked.connections, seconds=_WARM_S)
            rows, batches = workers.batches()
            load = drive(
                workers.addresses,
                self._rows.requests,
                connections=asked.connections,
                seconds=asked.seconds,
                rate=asked.rate,
            )
            rows_after, batches_after = workers.batches()
        p50, p99 = load.quantile_ms(0.5), load.quantile_ms(0.99)
        mean = (rows_after - rows) / max(1, batches_after - batches)
        found = Measured(trial, load.requests, load.errors, load.rate, p50, p99, mean)
        sizes_said = f"workers {trial.workers}, threads {trial.threads}, batch {trial.batch}"
        said = f"{sizes_said}: {load.rate:,.0f}/s, p99 {p99:.2f} ms"
        self._progress(", ".join(filter(None, (said, note, load.first_error))))
        return found

    def model_profile(self, trial: Trial) -> ModelProfile:
        """The profile of the model as it was, with the sizes of a trial."""
        wait = self._profile.of(self._asked.model).max_wait_ms
        return ModelProfile(trial.batch, wait, trial.threads)

    def told(self, chosen: Measured | None) -> Result:
        best = closest(self._measured) if chosen is None else None
        return {
            "model": self._asked.model,
            "version": self._bundle.version,
            "requests": self._rows.source,
            "connections": self._asked.connections,
            "cores": self._cores,
            "max_wait_ms": self._profile.of(self._asked.model).max_wait_ms,
            "target": {"p99_ms": self._target.p99_ms, "rate": self._target.rate or None},
            "measured": [self._shown(found, chosen) for found in self._measured],
            "chosen": self._shown(chosen, chosen) if chosen else None,
            "closest": self._shown(best, None) if best else None,
            "why": self._why(chosen, best),
            "skipped": self._skipped,
            "profile": None,
            "file": str(self._home.root / FILE),
            "written": False,
            "next": "start `trimtab serve` again" if self._home.alone else "`trimtab restart-workers` puts it in force",
        }

    def _shown(self, found: Measured, chosen: Measured | None) -> Result:
        fields = found._asdict()
        trial = fields.pop("trial")
        return {**trial._asdict(), **fields, "met": self._target.met(found), "chosen": found is chosen}

    def _why(self, chosen: Measured | None, best: Measured | None) -> str:
        target = f"p99 of {self._target.p99_ms:g} ms"
        if self._target.rate:
            target += f" at {self._target.rate:,.0f} requests a second"
        if chosen is None:
            nearest = f"; closest: p99 {best.p99_ms:.2f} ms at {best.rate:,.0f}/s, {best.errors} errors" if best else ""
            return f"nothing that was measured keeps a {target}{nearest}"
        if self._target.rate:
            return f"the fewest workers and threads that keep a {target}, with their best p99; measured twice"
        return f"the highest rate that keeps a {target}; of equal ones the cheapest; measured twice"


def request_of(
    project: Path, model: str, *, p99: str, rate: float | None, home: Path | None, options: Mapping[str, Any]
) -> TuneRequest:
    """What the command was asked for; options that were not given are left at their defaults."""
    names = {"batch": "batches", "limit": "limit_s"}
    given = {names.get(name, name): value for name, value in options.items() if value is not None}
    return TuneRequest(project, model, duration(p99) / 1000, rate or 0.0, home=home, **given)


def _check(asked: TuneRequest) -> None:
    numbers = {
        "--p99": asked.p99_ms,
        "--seconds": asked.seconds,
        "--connections": asked.connections,
        **{f"--{name}": min(found, default=1) for name, found in _lists(asked)},
    }
    for name, value in numbers.items():
        if value <= 0:
            raise InputError(f"{name} must be above 0", got=str(value))
    if asked.rate < 0:
        raise InputError("--rate must be above 0", got=str(asked.rate))


def _lists(asked: TuneRequest) -> Iterator[tuple[str, Sequence[int]]]:
    yield from (("workers", asked.workers), ("batches", asked.batches), ("threads", asked.threads))


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the work as Ctrl-C does, so that no worker is left behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
