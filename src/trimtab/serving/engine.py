"""The data plane without its sockets: what is loaded, which arm answers, what is scored in the shadow and recorded.

One thread answers, mirrors and switches; only :meth:`Engine.prepare`, which loads versions, may run beside it.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from msgspec.structs import replace

from trimtab.errors import BundleCorrupt, InputError, ModelFailed, TrimtabError, Unavailable
from trimtab.features.batch import FeatureBatch, RequestBatch
from trimtab.serving.ahead import Ahead
from trimtab.serving.allotment import (
    constant_answers,
    drawn_together,
    failed_answers,
    features_of,
    rows_of,
    units_of,
    with_units,
)
from trimtab.serving.answers import Answers
from trimtab.serving.codec import MAX_ROWS, RequestCodec
from trimtab.serving.live import Live, Uses, close_all, first_arm
from trimtab.serving.pipeline import Deployed, Pipeline
from trimtab.serving.record import PINNED, SHADOW, UNCOUNTED
from trimtab.serving.recording import encode_records
from trimtab.serving.residency import LazyModel
from trimtab.serving.routing import Arm, Route, RouteTable, split
from trimtab.serving.shadow import ShadowWork, knows_more

_log = logging.getLogger("trimtab.serving")

Loader = Callable[[str], Deployed]
"""Loads a version by its digest; raises ``BundleCorrupt``, ``UnknownName`` or ``Unavailable``."""


class Engine:
    """Answers with what the current route table says.

    Parameters
    ----------
    pipeline
        The stages.
    shadow_limit
        Most rows that wait for a shadow score; further ones are dropped and counted, so that a slow challenger can
        never slow or fail a request.
    max_rows
        Most requests in one body.
    """

    def __init__(self, pipeline: Pipeline, *, shadow_limit: int = 10_000, max_rows: int = MAX_ROWS) -> None:
        self.pipeline = self._tried = pipeline
        self.ahead: Ahead | None = None
        """Answers computed ahead, which are looked for before the pipeline runs."""
        self.max_rows = max_rows
        self.live = Live(RouteTable(0, {}), {}, {})
        self.uses = Uses()
        """Told of every use in another thread."""
        self.counts: Counter[tuple[str, str, str, str]] = Counter()
        """Rows by (what, model, version, arm); what is ``answered``, ``failed`` or ``dropped``."""
        self._shadow: deque[ShadowWork] = deque()
        self._shadow_rows = 0
        self._shadow_limit = shadow_limit
        self._models: dict[str, str] = {}
        self._complained: set[tuple[str, str]] = set()
        """Versions with the kinds of failure that were logged."""

    # -- what is loaded

    def prepare(self, table: RouteTable, loader: Loader) -> Live | None:
        """Load what a newer table needs and try each new version on a row of zeros; None when the table is not newer.

        Nothing is switched yet, and what was loaded is freed again when any of it fails.

        Raises
        ------
        TrimtabError
            A version cannot be loaded, or does not belong where the table puts it.
        """
        before = self.live  # another may be in force when everything is loaded
        if table.generation <= before.table.generation:
            return None
        loaded: dict[str, Deployed] = {}
        try:
            for version in table.versions():
                if version not in before.deployed:
                    loaded[version] = self._load(version, loader)
            missing = self._load_held([one for one in table.held() if one not in before.deployed], loader, loaded)
            here = {**before.deployed, **loaded}
            deployed = {version: here[version] for version in (*table.versions(), *table.held()) if version in here}
            for route in table.routes.values():
                _check_route(route, deployed)
        except TrimtabError:
            close_all(loaded.values())
            raise
        codecs = self._codecs(table, deployed)
        return Live(table, deployed, codecs, missing, over=before.table.generation, fresh=frozenset(loaded))

    def switch(self, live: Live) -> list[str]:
        """Answer with another table from now on, and free the versions it does not name; these are returned.

        One that was not prepared over the table in force is ignored, and what was loaded for it freed.
        """
        before = self.live
        if live.over != before.table.generation:
            close_all(one for version, one in live.deployed.items() if version in live.fresh)
            return []
        self.live = live
        gone = {version: one for version, one in before.deployed.items() if live.deployed.get(version) is not one}
        self._models |= {version: one.manifest.model for version, one in live.deployed.items()}
        self.uses.retire(before.table.generation, gone.values())
        return sorted(gone)

    def swap(self, table: RouteTable, loader: Loader) -> TrimtabError | None:
        """Load what is missing, then switch. On an error the old table stays in force and the error is returned."""
        try:
            live = self.prepare(table, loader)
        except TrimtabError as error:
            return error
        if live is not None:
            self.switch(live)
        return None

    def _load(self, version: str, loader: Loader) -> Deployed:
        """Load and run once: the first run of a session is slow, and a model that cannot run must not go live."""
        deployed = None
        try:
            deployed = loader(version)
            if isinstance(deployed.runtime, LazyModel) and not deployed.runtime.resident:
                return deployed  # there is no room for it now: it is tried when it is asked
            nothing = np.empty((1, 0), dtype=np.float32)
            self._tried.score(  # the model itself, whatever cache is put before it later
                deployed, FeatureBatch(np.zeros((1, deployed.width), dtype=np.float32), nothing, {}, ())
            )
        except Exception as error:  # a bundle's own modules may raise anything
            close_all([] if deployed is None else [deployed])
            if isinstance(error, TrimtabError):
                raise
            raise BundleCorrupt(
                f"version {version[:12]} cannot be loaded", got=f"{type(error).__name__}: {error}"[:200]
            ) from error
        return deployed

    def _load_held(self, held: Sequence[str], loader: Loader, loaded: dict[str, Deployed]) -> dict[str, str]:
        """Load what is only held, where it can be: one that cannot is no reason to go on with an older table."""
        missing = {}
        for version in held:
            try:
                loaded[version] = self._load(version, loader)
            except TrimtabError as error:
                missing[version] = str(error)
        return missing

    def _codecs(self, table: RouteTable, deployed: Mapping[str, Deployed]) -> dict[str, RequestCodec]:
        codecs = {}
        for model, route in table.routes.items():
            shape = deployed[first_arm(route).version].plan.requests
            old = self.live.codecs.get(model)
            codecs[model] = old if old and old.shape == shape else RequestCodec(shape, max_rows=self.max_rows)
        return codecs

    # -- answering

    def answer(
        self,
        model: str,
        batch: RequestBatch,
        *,
        features: FeatureBatch | None = None,
        version: str = "",
        units: Sequence[str] | None = None,
    ) -> list[tuple[Answers, Sequence[int]]]:
        """Answer a batch: one :class:`Answers` per arm that took part, with the numbers of the rows that it answers.

        Parameters
        ----------
        features
            Given when the caller brings them.
        version
            Given when the caller names a version; the arm is then ``pinned``.
        units
            What stays with one arm, per row. Where it is not given, or only the request id, the field that the route
            names, else the request id.

        Raises
        ------
        InputError
            The requests are at fault; none was answered.
        UnknownName
            No such model or version takes part.
        Unavailable
            A store cannot be reached.
        """
        live = self.live
        route = live.table.route(model)
        if route.constant:
            outputs = live.answering(model).manifest.outputs
            return [(constant_answers(batch, model, route.constant, outputs), list(range(len(batch))))]
        taken_apart = bool(version or route.unit) or (features is None and self.ahead is not None)
        if len(route.arms) == 1 and not taken_apart:
            arm = route.arms[0]
            whole = self._predict(live.deployed[arm.version], batch, arm.name, route.rollout, features)
            return [(whole, range(len(batch.ids)))]
        if version:
            live.pinned(model, version)
            parts = [(Arm(PINNED, version, 0.0), list(range(len(batch))))]
        else:
            parts = split(route, units_of(route, batch, units))
        given: list[tuple[Answers, Sequence[int]]] = []
        if self.ahead is not None and features is None:
            given, parts = self.ahead.take(model, batch, parts, rollout=route.rollout)
        for one, rows in parts:
            every = len(rows) == len(batch)
            ours = batch if every else rows_of(batch, rows)
            sent = features if features is None or every else features_of(features, rows)
            given.append((self._predict(live.deployed[one.version], ours, one.name, route.rollout, sent), rows))
        if route.unit:
            return [(replace(answers, units=units_of(route, batch, units, rows)), rows) for answers, rows in given]
        if version or len(route.arms) == 1:
            return given
        shared = drawn_together(route, batch, units)
        return [(with_units(answers, shared, batch, rows), rows) for answers, rows in given]

    def _predict(
        self, deployed: Deployed, batch: RequestBatch, arm: str, rollout: str, features: FeatureBatch | None
    ) -> Answers:
        try:
            return self.pipeline.predict(deployed, batch, arm=arm, rollout=rollout, features=features)
        except Unavailable:
            raise
        except InputError as error:
            front = self.live.answering(deployed.manifest.model)
            told = arm in UNCOUNTED or front.version == deployed.version  # its inputs are those that callers know
            if told or not _takes(self.pipeline, front, batch, features):
                raise
            return failed_answers(batch, deployed.version, arm=arm, rollout=rollout, error=type(error).__name__)
        except Exception as error:  # noqa: BLE001 - a bundle's own modules may raise anything; a failed answer is evidence
            kind = error.kind if isinstance(error, ModelFailed) else type(error).__name__
            if (deployed.version, kind) not in self._complained:
                self._complained.add((deployed.version, kind))
                _log.warning("version %s failed, which is said once of %s: %s", deployed.version[:12], kind, error)
            return failed_answers(batch, deployed.version, arm=arm, rollout=rollout, error=kind)

    # -- shadow

    def mirror(self, model: str, answers: Iterable[Answers]) -> None:
        """Queue the scores of the arms that did not answer; call it once the answers are recorded. Never blocks."""
        live = self.live
        route = live.table.routes.get(model)
        if route is None or len(route.arms) == 1 or route.unit:
            return
        for given in answers:
            answered = live.deployed.get(given.version)
            if given.arm in UNCOUNTED or answered is None:
                continue
            raw = not (given.requests.keys or given.requests.inputs)
            for version in {arm.version for arm in route.arms} - {given.version}:
                if self._shadow_rows + len(given.requests) > self._shadow_limit:
                    self.count("dropped", version, SHADOW, len(given.requests))
                    continue
                self._shadow.append(ShadowWork(version, given, answered.plan_digest, raw))
                self._shadow_rows += len(given.requests)

    @property
    def shadow_rows(self) -> int:
        """Rows that wait for a shadow score."""
        return self._shadow_rows

    def run_shadow(self, max_rows: int = MAX_ROWS) -> list[Answers]:
        """Score waiting rows, at least one batch and further ones up to ``max_rows``, and return what to record.

        A version with the plan of the one that answered scores the same features; another reads its own, now, and its
        score is dropped when events have come since: it would know more than the version that it is compared with.
        Work for a version that is no longer loaded, or that cannot be done, is dropped and counted.
        """
        return self.keep_shadow(self.score_shadow(self.take_shadow(max_rows)))

    def take_shadow(self, max_rows: int = MAX_ROWS) -> list[ShadowWork]:
        """The work whose turn it is; what blocks the thread that asks stands alone."""
        taken: list[ShadowWork] = []
        rows = 0
        while self._shadow and (not rows or rows + len(self._shadow[0].answers.requests) <= max_rows):
            if taken and (self.blocks((taken[-1].version,)) or self.blocks((self._shadow[0].version,))):
                break
            taken.append(self._shadow.popleft())
            rows += len(taken[-1].answers.requests)
        self._shadow_rows -= rows
        return taken

    def blocks(self, versions: Iterable[str]) -> bool:
        """Whether one of these versions blocks the thread that asks it."""
        deployed = self.live.deployed
        for version in versions:
            found = deployed.get(version)
            if found is not None and found.runtime.blocking:
                return True
        return False

    def blocking(self, model: str, version: str = "") -> bool:
        """Whether a version that may answer blocks the one who asks it; of one version, where it is named."""
        route = self.live.table.routes.get(model)
        if route is not None and route.constant:  # no version is asked
            return False
        if version:
            return self.blocks((version,))
        return route is not None and self.blocks([arm.version for arm in route.arms if arm.share])

    def score_shadow(self, works: Sequence[ShadowWork]) -> list[tuple[ShadowWork, Answers | None]]:
        """Each with its score; changes nothing, so that it may run in another thread."""
        deployed = self.live.deployed
        return [
            (work, self._score(deployed[work.version], work) if work.version in deployed else None) for work in works
        ]

    def keep_shadow(self, scored: Iterable[tuple[ShadowWork, Answers | None]]) -> list[Answers]:
        """What of it is to be recorded; the rest is counted as dropped."""
        kept = []
        for work, found in scored:
            if found is None:
                self.count("dropped", work.version, SHADOW, len(work.answers.requests))
            else:
                kept.append(found)
        return kept

    def _score(self, deployed: Deployed, work: ShadowWork) -> Answers | None:
        given = work.answers
        same = deployed.plan_digest == work.plan_digest and not (given.error or given.precomputed)
        if work.raw and not same:
            return None  # the caller brought the features of another plan and no keys to read ours by
        try:
            found = self._predict(deployed, given.requests, SHADOW, given.rollout, given.features if same else None)
            return None if knows_more(found, given) else found
        except (InputError, Unavailable) as error:
            return failed_answers(
                given.requests, deployed.version, arm=SHADOW, rollout=given.rollout, error=type(error).__name__
            )

    # -- records

    def records(self, answers: Iterable[Answers], *, counted: bool = True) -> list[bytes]:
        """The prediction records of answers, encoded, in the order of their rows; also counts them."""
        rows: list[bytes] = []
        for given in answers:
            if counted:
                self.count("failed" if given.error else "answered", given.version, given.arm, len(given.requests))
            rows.extend(encode_records(given, given.model or self._models[given.version]))
        return rows

    def count(self, what: str, version: str, arm: str, rows: int) -> None:
        """Count rows of an arm that were ``answered``, ``failed``, or ``dropped``."""
        self.counts[what, self._models.get(version, ""), version, arm] += rows


def _takes(pipeline: Pipeline, front: Deployed, batch: RequestBatch, features: FeatureBatch | None) -> bool:
    """Whether the version whose inputs callers were told takes a request that another one refuses.

    Then it is no fault of the caller. Asked for lone requests only: those of a batch are tried one by one first.
    """
    if len(batch) != 1:
        return False
    try:
        pipeline.predict(front, batch, features=features)
    except Exception:  # noqa: BLE001 - whatever it is, it does not take it
        return False
    return True


def _check_route(route: Route, deployed: Mapping[str, Deployed]) -> None:
    shapes = []
    for arm in route.arms:
        one = deployed[arm.version]
        if one.manifest.model != route.model:
            raise BundleCorrupt(
                f"a version of {one.manifest.model!r} is routed as {route.model!r}", got=arm.version[:12]
            )
        if arm.share > 0:
            shapes.append(one.plan.requests)
    if any(shape != shapes[0] for shape in shapes):
        raise InputError(
            f"two answering arms of {route.model!r} take different requests",
            hint="callers send one kind of request: move all traffic at once",
        )
