"""Which versions a model has and which one is live, now or at any time: folds over the ledger's events.

The events, all in the stream of the model, and the fields of their data:

======================  =====================================================================
``VersionRegistered``   ``version, number, metrics, dataset, job``: a bundle exists
``Approved``            ``version, by, reason``: a person or the policy lets it answer
``TrafficShifted``      ``rollout, version, share``: it answers this share (0: shadow only)
``Promoted``            ``version, replaces, evidence``: it answers everything
``RolledBack``          ``version, to, reason, evidence``: it answers nothing; ``to`` does again
``Rejected``            ``version, reason, evidence``: it will not answer
======================  =====================================================================

Other events are passed over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from trimtab.core.clock import Micros
from trimtab.core.ids import Json
from trimtab.core.ledger import Event, model_stream
from trimtab.errors import UnknownName

Status = Literal["staging", "production", "archived"]


@dataclass(frozen=True, slots=True)
class Version:
    """A registered version of a model."""

    model: str
    number: int
    """1, 2, 3…: what people call it."""
    digest: str
    """What it is."""
    status: Status
    registered_at: Micros
    metrics: Mapping[str, float]
    """On its held-out tail."""
    dataset: str
    """Digest of what it was trained on and judged by."""
    job: str
    approved_by: str = ""
    approved_reason: str = ""
    approved_at: Micros = 0
    deployed_at: Micros = 0
    """When it last began to answer requests; 0 for never."""
    share: float = 0.0
    """Share of the requests it answers now."""
    reason: str = ""
    """Why it was rejected or rolled back; empty otherwise."""


@dataclass(frozen=True, slots=True)
class LiveAnswer:
    """What was live at a time, and on what evidence."""

    model: str
    at: Micros
    version: Version | None
    """The version in production; None before the first promotion."""
    others: tuple[Version, ...]
    """Further versions that took part in the rollout under way, as canary or in the shadow."""
    rollout: str
    promoted_at: Micros
    evidence: Json
    """What the promotion, or the rollback that brought it back, was decided on."""
    event: str
    """The id of the ledger event that made it live."""
    previous: str
    """Digest of the stable version to roll back to; empty when there is none."""


@dataclass(frozen=True)
class Registry:
    """All versions of one model, as of the last event folded in."""

    model: str
    versions: Mapping[str, Version] = field(default_factory=dict)
    """By digest, in order of registration."""
    stable: tuple[str, ...] = ()
    """Digests that were in production and not rolled back, oldest first; the last one is in production."""
    rollout: str = ""
    shadows: tuple[str, ...] = ()
    promoted_at: Micros = 0
    evidence: Json = None
    event: str = ""

    @property
    def production(self) -> Version | None:
        """The version in production."""
        return self.versions[self.stable[-1]] if self.stable else None

    @property
    def previous(self) -> str:
        """Digest of the stable version before the one in production; empty when there is none."""
        return self.stable[-2] if len(self.stable) > 1 else ""

    def version(self, name: str | int) -> Version:
        """A version by number, or by digest or the beginning of one.

        Raises
        ------
        UnknownName
            When none, or more than one, fits.
        """
        text = str(name).removeprefix("v")
        fitting = [v for v in self.versions.values() if str(v.number) == text]
        if not fitting and len(text) >= 4:
            fitting = [v for v in self.versions.values() if v.digest.startswith(text)]
        if len(fitting) != 1:
            known = ", ".join(f"{v.number} ({v.digest[:8]})" for v in self.versions.values()) or "none"
            raise UnknownName(
                f"{'more than one' if fitting else 'no'} such version of {self.model!r}",
                got=repr(name),
                hint=f"its versions are {known}",
            )
        return fitting[0]

    def apply(self, event: Event) -> Registry:
        """The registry after one more event of the model's stream."""
        step = _STEPS.get(event.type)
        return self if step is None else step(self, event)

    def _with(self, digest: str, **changes: Json) -> dict[str, Version]:
        known = self.versions.get(digest)
        if known is None:
            raise UnknownName(
                f"the ledger decides about a version of {self.model!r} that was never registered",
                got=digest[:12],
                hint="VersionRegistered must come first",
            )
        return {**self.versions, digest: replace(known, **changes)}


def _registered(state: Registry, event: Event) -> Registry:
    data = event.data
    digest = str(data["version"])
    known = state.versions.get(digest)
    if known is not None:
        # The same training gives the same digest: it is the same version, and gets another chance.
        status: Status = "production" if known.status == "production" else "staging"
        return replace(state, versions=state._with(digest, status=status, reason=""))
    version = Version(
        model=state.model,
        number=int(data["number"]),
        digest=digest,
        status="staging",
        registered_at=event.known,
        metrics=dict(data.get("metrics") or {}),
        dataset=str(data.get("dataset", "")),
        job=str(data.get("job", "")),
    )
    return replace(state, versions={**state.versions, digest: version})


def _approved(state: Registry, event: Event) -> Registry:
    data = event.data
    approval = {
        "approved_by": str(data["by"]),
        "approved_reason": str(data.get("reason", "")),
        "approved_at": event.known,
    }
    return replace(state, versions=state._with(str(data["version"]), **approval))


def _shifted(state: Registry, event: Event) -> Registry:
    digest, share = str(event.data["version"]), float(event.data["share"])
    if state.stable and state.stable[-1] == digest:
        return state  # the champion's share is what the others leave
    before = state.versions.get(digest)
    begins = share > 0 and before is not None and before.share == 0
    changes = {"share": share} | ({"deployed_at": event.known} if begins else {})
    state = replace(state, versions=state._with(digest, **changes), rollout=str(event.data["rollout"]))
    if digest not in state.shadows:
        state = replace(state, shadows=(*state.shadows, digest))
    return _champion_keeps_the_rest(state)


def _champion_keeps_the_rest(state: Registry) -> Registry:
    champion = state.production
    if champion is None:
        return state
    given = sum(v.share for v in state.versions.values() if v.digest != champion.digest)
    return replace(state, versions=state._with(champion.digest, share=max(0.0, 1.0 - given)))


def _promoted(state: Registry, event: Event) -> Registry:
    digest = str(event.data["version"])
    replaced = state.production
    if replaced is not None and replaced.digest != digest:
        state = replace(state, versions=state._with(replaced.digest, status="archived", share=0.0))
    before = state.versions.get(digest)
    began = before.deployed_at if before is not None and before.share > 0 else event.known
    versions = state._with(digest, status="production", share=1.0, deployed_at=began, reason="")
    stable = (*(one for one in state.stable if one != digest), digest)
    return _decided(replace(state, versions=versions, stable=stable), event)


def _rolled_back(state: Registry, event: Event) -> Registry:
    digest, to = str(event.data["version"]), str(event.data["to"])
    champion = state.production
    state = _archived(state, digest, event)
    if champion is not None and champion.digest == to:
        # A canary went back; who was in production still is.
        return _champion_keeps_the_rest(state)
    versions = state._with(to, status="production", share=1.0, deployed_at=event.known, reason="")
    stable = (*(one for one in state.stable if one != to), to)
    return _decided(replace(state, versions=versions, stable=stable), event)


def _rejected(state: Registry, event: Event) -> Registry:
    return _champion_keeps_the_rest(_archived(state, str(event.data["version"]), event))


def _archived(state: Registry, digest: str, event: Event) -> Registry:
    reason = str(event.data.get("reason", ""))
    shadows = tuple(one for one in state.shadows if one != digest)
    return replace(
        state,
        versions=state._with(digest, status="archived", share=0.0, reason=reason),
        stable=tuple(one for one in state.stable if one != digest),
        shadows=shadows,
        rollout=state.rollout if shadows else "",
    )


def _decided(state: Registry, event: Event) -> Registry:
    """A new version is in production: whatever rollout there was is over."""
    live = state.stable[-1]
    return replace(
        state,
        versions={name: v if name == live else replace(v, share=0.0) for name, v in state.versions.items()},
        rollout="",
        shadows=(),
        promoted_at=event.known,
        evidence=event.data.get("evidence"),
        event=event.id,
    )


_STEPS = {
    "VersionRegistered": _registered,
    "Approved": _approved,
    "TrafficShifted": _shifted,
    "Promoted": _promoted,
    "RolledBack": _rolled_back,
    "Rejected": _rejected,
}


def fold_registry(events: Iterable[Event], model: str, *, until: Micros | None = None) -> Registry:
    """Fold a model's events, in ledger order, up to and including those known at ``until``.

    Events of other streams are passed over, so the whole ledger may be given.
    """
    state, stream = Registry(model), model_stream(model)
    for event in events:
        if event.stream == stream and (until is None or event.known <= until):
            state = state.apply(event)
    return state


def live_at(events: Iterable[Event], model: str, when: Micros) -> LiveAnswer:
    """Which version answered requests at ``when``, what it was trained on, who approved it, on what evidence.

    Parameters
    ----------
    events
        The ledger, or the model's stream, from its beginning.
    """
    state = fold_registry(events, model, until=when)
    return LiveAnswer(
        model=model,
        at=when,
        version=state.production,
        others=tuple(state.versions[digest] for digest in state.shadows),
        rollout=state.rollout,
        promoted_at=state.promoted_at,
        evidence=state.evidence,
        event=state.event,
        previous=state.previous,
    )
