"""The observer: turns answers and labels into what the loop decides on.

It only remembers; it never reads a clock. The same calls in another order give the same blocks, as long as each answer
arrives before its day closes, and everything it holds can be rebuilt from the prediction records
(:mod:`trimtab.monitoring.rebuild`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from trimtab.core.clock import DAY, WEEK, Micros
from trimtab.datasets.profile import Profile
from trimtab.errors import InputError
from trimtab.monitoring.blocks import ArmCount, DriftReport
from trimtab.monitoring.chunks import (
    Chunk,
    State,
    drawn_for,
    joined,
    pack,
    pack_drawn,
    pack_rows,
    pack_stamps,
    pack_together,
    rows_of,
    unpack,
    unpack_rows,
    unpack_stamps,
)
from trimtab.monitoring.days import Labels, MaturedDay, VersionDay, close_day
from trimtab.monitoring.draws import Draws, drew
from trimtab.monitoring.drift import DriftPolicy, compare
from trimtab.monitoring.tally import Tallies, day_of, tally_restored, tally_state
from trimtab.serving.answers import Answers
from trimtab.serving.record import ASIDE

_BATCH = 4096
_NEVER = 2**62


@dataclass(frozen=True, slots=True)
class ObserverConfig:
    """What an observer needs to know about a model, by its name.

    Parameters
    ----------
    task, outputs
        ``binary``, ``regression`` or ``multiclass``, and the numbers per answer.
    loss
        ``log_loss`` or ``squared_error``.
    matures
        Microseconds: labels known later than this after the request do not count.
    window
        Length of the drift window: whole days, and as long as the profile's reference blocks.
    slow_after
        Microseconds: an answer whose stages took longer in all counts as slow; None where time is virtual.
    """

    model: str
    task: Literal["binary", "regression", "multiclass"]
    loss: str
    matures: Micros
    window: Micros = WEEK
    slow_after: Micros | None = None
    drift: DriftPolicy = DriftPolicy()
    outputs: int = 1

    def __post_init__(self) -> None:
        if self.window < DAY or self.window % DAY:
            raise InputError("a drift window must be whole days", got=f"{self.window} µs", hint='write "7d"')
        if self.matures < 0:
            raise InputError("labels cannot mature before the request", got=f"{self.matures} µs")


class Observer:
    """Watches one model: every answer of every arm, and every label.

    Contract: ``answered``, ``labelled`` and ``failed`` are cheap and may be called in any order; a repeated answer
    (same request and version) or label counts once. Calls come from one thread. A request belongs to the UTC
    day on which it was asked; its day closes once, when the labels of its last request have had ``matures`` to arrive,
    and answers that come for a closed day are only counted in :attr:`late`.
    """

    def __init__(self, config: ObserverConfig) -> None:
        self.config = config
        self.late = 0
        """Answers that came after their day had closed."""
        self._pending: list[Chunk] = []
        self._rows = 0
        self._days: dict[Micros, dict[str, VersionDay]] = {}
        self._labels = Labels(numbers=config.outputs if config.task == "regression" else 1)
        self._tallies = Tallies(task=config.task)
        self._arms: dict[tuple[str, str, str], list[int]] = {}
        self._step: tuple[str, int] = ("", -1)
        self._before: dict[tuple[str, str, str], list[int]] = {}
        """Counts of the arms when the step under way began."""
        self._at_restore: dict[tuple[str, str, str], list[int]] | None = None
        """Counts of the arms in the snapshot that this was restored from, until a step has been asked for."""
        self._draws = Draws()
        self._rollouts: dict[str, str] = {}
        self._champion: tuple[Micros, str] = (-1, "")
        self._closed: Micros = -_NEVER
        self._due: Micros = _NEVER
        self._drift_day: Micros = -_NEVER

    def profile(self, version: str, profile: Profile) -> None:
        """Make a version's reference known; call it before its first answer, or its drift starts late."""
        self._count()
        self._tallies.profile(version, profile)

    def answered(self, answers: Answers) -> None:
        """Take in a batch that a version scored, or failed to score, in any arm.

        The one way from answers to counts, replayed or live: a batch with an ``error``, and a row whose output is not
        finite, is an error of its arm and never an answer.
        """
        requests, arm = answers.requests, answers.arm
        n = len(requests.ids)
        if n == 0:
            return
        if answers.error:
            units, together = drew(answers) or requests.ids, sum(answers.together)
            self.failed(answers.rollout, arm, answers.version, count=n, together=together, units=units)
            return
        at = requests.at
        first = int(at[0]) if n == 1 else int(at.min())
        self._due = min(self._due, day_of(first) + DAY + self.config.matures)
        given = arm not in ASIDE
        if arm == "champion" and first >= self._champion[0]:
            self._champion = (first, answers.version)
        slow = given and self.config.slow_after is not None and sum(answers.timings) > self.config.slow_after
        read = answers.features.values
        values = read if given and read.shape[1] else None  # an answer computed ahead has none
        shared = np.array(answers.together, dtype=np.bool_) if any(answers.together) else None
        given_by = (answers.version, arm, answers.rollout, requests.ids, at, answers.outputs, values)
        self._pending.append(Chunk(*given_by, slow, shared, drew(answers), self._draws.serial))
        self._rows += n
        if self._rows >= _BATCH:
            self._count()

    def labelled(self, ids: Sequence[str], values: NDArray[np.float64], known: NDArray[np.int64]) -> None:
        """Take labels in: those of unknown requests wait, NaN is none, of several in time the last known counts.

        Parameters
        ----------
        values
            float64, shape (n,): 0/1 for a binary task, the position of the class; (n, k) for k numbers.
        known
            int64 microseconds, shape (n,): when each became known.
        """
        self._labels.add(ids, values.tolist(), known.tolist())

    def failed(
        self, rollout: str, arm: str, version: str, *, count: int = 1, together: int = 0, units: Sequence[str] = ()
    ) -> None:
        """Requests that an arm should have answered and could not, where no :class:`Answers` says so.

        Parameters
        ----------
        together
            How many of them fell to the arm together with others.
        units
            What the arm was drawn for, per request: its own id, where that is all. Not given, each stands for itself.
        """
        counts = self._arm(rollout, arm, version)
        counts[1] += count
        counts[3] += together
        if arm not in ASIDE:
            self._draws.failed((rollout, arm, version), units, days=self._days_of(version), serial=self._draws.serial)

    def arms(self, rollout: str) -> tuple[ArmCount, ...]:
        """What the answering arms did since the rollout began: answers, errors (not among them), slow answers.

        Counts never start again; :meth:`step_arms` takes off what stood when a step began.
        """
        self._count()
        return tuple(
            _arm_count((rollout, arm, version), counts)
            for (of, arm, version), counts in sorted(self._arms.items())
            if of == rollout and arm not in ASIDE
        )

    def step_arms(self, rollout: str, step: int) -> tuple[ArmCount, ...]:
        """What the answering arms did since a step began; the first call for a step is where it begins.

        That is part of the snapshot. Restored from an older one, a step that is under way begins at the snapshot.
        """
        arms = self.arms(rollout)
        step_units = self._draws.step(new=self._step != (rollout, step))
        if self._step != (rollout, step):
            self._step = (rollout, step)
            held = self._arms if self._at_restore is None else self._at_restore
            self._before = {key: list(counts) for key, counts in held.items() if key[0] == rollout}
        self._at_restore = None
        nothing = [0, 0, 0, 0]
        found = (_since(arm, self._before.get((rollout, arm.arm, arm.version), nothing)) for arm in arms)
        return tuple(replace(arm, repeats=step_units.repeats(arm)) for arm in found)

    def no_step(self) -> None:
        """No step is under way: the next one begins when it is first asked for, not where this was restored."""
        self._at_restore = None
        self._draws.over()

    def advance(self, now: Micros) -> list[MaturedDay]:
        """Close every day whose labels have matured by ``now``: in order, each exactly once."""
        if now < self._due:
            return []
        self._count()
        ready = sorted(day for day in self._days if day + DAY + self.config.matures <= now)
        closed = [self._close(day) for day in ready]
        self._due = min((day + DAY + self.config.matures for day in self._days), default=_NEVER)
        if closed:
            self._closed = closed[-1].day
            kept = max(self.config.window, self.config.matures) + 2 * DAY
            self._tallies.forget(before=day_of(now) - kept)
        return closed

    def drift(self, now: Micros) -> DriftReport | None:
        """Compare the champion's last whole days with its reference; at most one report a day.

        The window ends at the last midnight (UTC). Features are those of answered requests, whichever arm answered;
        predictions are what the champion's version said of all requests. None when today's report was made, or nothing
        is known about a champion.
        """
        today = day_of(now)
        if today <= self._drift_day:
            return None
        self._count()
        version = self._champion[1]
        if version not in self._tallies.profiles:
            return None
        self._drift_day = today
        window = self._tallies.window(version, today - self.config.window, today)
        return compare(self._tallies.profiles[version], window, policy=self.config.drift)

    def histograms(self, day: Micros) -> dict[str, NDArray[np.float64]]:
        """Count vectors of one day by ``feature/<name>/<bins id>`` and ``prediction/<version>/<bins id>``.

        Kept until the drift window has passed over the day.
        """
        self._count()
        return self._tallies.histograms(day)

    def snapshot(self) -> bytes:
        """Everything held, as bytes. Taking one changes nothing, so that a resumed run equals an uninterrupted one."""
        state = State(
            pending=[pack(chunk) for chunk in self._pending],
            days={
                day: {version: pack_rows(rows) for version, rows in versions.items()}
                for day, versions in self._days.items()
            },
            labels=self._labels.reports,
            profiles={version: profile.to_json() for version, profile in self._tallies.profiles.items()},
            features=tally_state(self._tallies.features),
            predictions=tally_state(self._tallies.predictions),
            arms=[(key, counts) for key, counts in self._arms.items()],
            rollouts=self._rollouts,
            champion=self._champion,
            step=self._step,
            before=[(key, counts) for key, counts in self._before.items()],
            marks=(self.late, self._closed, self._due, self._drift_day),
            together=pack_together(self._pending),
            drawn=pack_drawn(self._pending),
            units=self._draws.pack(),
            stamps=pack_stamps(self._days, self._draws.since),
        )
        return msgspec.msgpack.encode(state)

    @staticmethod
    def restore(config: ObserverConfig, data: bytes) -> Observer:
        """The observer as it was when the snapshot was taken."""
        observer, counted = Observer._restored(config, data), Observer._restored(config, data)
        counted._count()
        observer._at_restore = counted._arms
        return observer

    @staticmethod
    def _restored(config: ObserverConfig, data: bytes) -> Observer:
        state = msgspec.msgpack.decode(data, type=State)
        observer = Observer(config)
        for version, text in state.profiles.items():
            observer._tallies.profile(version, Profile.from_json(text))
        observer._pending = [
            unpack(packed, config.outputs, together=state.together.get(place), drawn=state.drawn.get(place))
            for place, packed in enumerate(state.pending)
        ]
        observer._rows = sum(len(chunk.ids) for chunk in observer._pending)
        observer._days = {
            day: {version: unpack_rows(rows, config.outputs) for version, rows in versions.items()}
            for day, versions in state.days.items()
        }
        observer._draws = Draws.unpack(state.units)
        unpack_stamps(observer._days, state.stamps)
        observer._labels.reports = state.labels
        observer._tallies.features = tally_restored(state.features)
        observer._tallies.predictions = tally_restored(state.predictions)
        observer._arms = {key: _counts(counts) for key, counts in state.arms}
        observer._rollouts = state.rollouts
        observer._champion = state.champion
        observer._step, observer._before = state.step, {key: _counts(counts) for key, counts in state.before}
        observer.late, observer._closed, observer._due, observer._drift_day = state.marks
        return observer

    def _arm(self, rollout: str, arm: str, version: str) -> list[int]:
        return self._arms.setdefault((rollout, arm, version), [0, 0, 0, 0])

    def _days_of(self, version: str) -> list[dict[str, int]]:
        return [versions[version].ids for versions in self._days.values() if version in versions]

    def _close(self, day: Micros) -> MaturedDay:
        versions = self._days.pop(day)
        matured = close_day(
            day,
            versions,
            self._labels,
            loss=self.config.loss,
            task=self.config.task,
            matures=self.config.matures,
            champions=self._rollouts,
        )
        ids = list(dict.fromkeys(chain.from_iterable(rows.ids for rows in versions.values())))
        # A label that was known before any open day began cannot belong to a request that is still to be asked.
        self._labels.forget(ids, before=min(self._days, default=day + DAY))
        return matured

    def _count(self) -> None:
        """Sort what waits into days; one numpy pass per version and arm, not per batch."""
        if not self._pending:
            return
        groups: dict[tuple[str, str, str, bool, bool, bool], list[Chunk]] = {}
        for chunk in self._pending:
            bare, alone = chunk.values is None, chunk.together is None
            key = (chunk.version, chunk.arm, chunk.rollout, chunk.slow, bare, alone)
            groups.setdefault(key, []).append(chunk)
        self._pending, self._rows = [], 0
        for chunks in groups.values():
            chunk = joined(chunks)
            finite = np.isfinite(chunk.outputs if chunk.outputs.ndim == 1 else chunk.outputs.sum(axis=1))
            if not finite.all():
                self._not_finite(rows_of(chunk, ~finite))
                chunk = rows_of(chunk, finite)
            for day in np.unique(chunk.at // DAY).tolist():
                self._count_day(day * DAY, rows_of(chunk, chunk.at // DAY == day))

    def _not_finite(self, lost: Chunk) -> None:
        together = 0 if lost.together is None else int(lost.together.sum())
        self.failed(lost.rollout, lost.arm, lost.version, count=len(lost.ids), together=together)
        if lost.arm not in ASIDE:
            key, days = (lost.rollout, lost.arm, lost.version), self._days_of(lost.version)
            self._draws.failed(key, drawn_for(lost), days=days, serial=lost.serial)

    def _count_day(self, day: Micros, chunk: Chunk) -> None:
        if day <= self._closed:
            self.late += len(chunk.ids)
            return
        rows = self._days.setdefault(day, {}).setdefault(chunk.version, VersionDay())
        stamps = 0 if chunk.arm in ASIDE else self._draws.stamps(chunk)
        fresh = rows.add(chunk.ids, chunk.at, chunk.outputs, arm=chunk.arm, rollout=chunk.rollout, stamps=stamps)
        new = chunk if fresh is None else rows_of(chunk, fresh)
        if chunk.arm == "champion" and chunk.rollout:
            self._rollouts.setdefault(chunk.rollout, chunk.version)
        if chunk.arm not in ASIDE:
            counts = self._arm(chunk.rollout, chunk.arm, chunk.version)
            counts[0] += len(new.ids)
            counts[2] += len(new.ids) if chunk.slow else 0
            counts[3] += 0 if new.together is None else int(new.together.sum())
            self._draws.answered(new, today=rows.ids, days=self._days_of(chunk.version))
        if new.values is not None:
            self._tallies.add_features(chunk.version, day, new.values)
        self._tallies.add_predictions(chunk.version, day, new.outputs)


def _arm_count(arm: tuple[str, str, str], counts: Sequence[int]) -> ArmCount:
    answered, errors, slow, together = counts
    return ArmCount(*arm, answered, errors, slow, together)


def _since(arm: ArmCount, before: Sequence[int]) -> ArmCount:
    now = (arm.answered, arm.errors, arm.slow, arm.together)
    return _arm_count((arm.rollout, arm.arm, arm.version), [new - old for new, old in zip(now, before, strict=True)])


def _counts(stored: Sequence[int]) -> list[int]:
    """Counts of an arm; snapshots of old knew of none that came together with others."""
    return [*stored, 0][:4]
