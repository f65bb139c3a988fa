"""Routing: a pure function of the route table and a sticky key."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Container, Sequence

import msgspec

from trimtab.errors import InputError, UnknownName
from trimtab.serving.record import CONSTANT, PINNED, SHADOW

PREVIOUS = "previous"
"""The arm that answers behind a kill switch that goes back."""


class Arm(msgspec.Struct, frozen=True):
    """A version that takes part in answering."""

    name: str
    """``champion``, ``canary`` or ``shadow``; ``previous`` behind a kill switch; in an A/B test, its name there."""
    version: str
    """Digest of the bundle."""
    share: float
    """Share of requests that it answers; 0 for a shadow."""


class Route(msgspec.Struct, frozen=True):
    """How requests for one model are answered.

    The shares of the arms add up to 1. Every arm that does not answer a request scores it in the shadow, except in an
    A/B test, which asks what each answer led to and not what the other would have said.
    """

    model: str
    arms: tuple[Arm, ...]
    rollout: str = ""
    salt: str = ""
    """Makes the split of one rollout independent of the next."""
    held: tuple[str, ...] = ()
    """Versions kept loaded and warm that neither answer nor score, so that a switch to them takes no time: first the
    one to go back to, then a green that waits for its switch. One that cannot be loaded is left out: it must not keep
    the others from answering."""
    constant: tuple[float, ...] = ()
    """The kill switch: every request is answered with these outputs, and no model is asked."""
    unit: str = ""
    """Of an A/B test: the field of a request (key or input) that stays with one arm, or ``request`` for its id. Empty
    outside of one."""


class RouteTable(msgspec.Struct, frozen=True):
    """What every worker needs to know; replaced as a whole, never changed."""

    generation: int
    """Grows with every change; a worker never goes back."""
    routes: dict[str, Route]

    def versions(self) -> list[str]:
        """The versions that a worker must hold for it, sorted."""
        return sorted({arm.version for route in self.routes.values() for arm in route.arms})

    def held(self) -> list[str]:
        """Further versions that a worker loads where it can, sorted."""
        return sorted({version for route in self.routes.values() for version in route.held} - set(self.versions()))

    def route(self, model: str) -> Route:
        """The route of a model.

        Raises
        ------
        UnknownName
            When no version of that model is deployed.
        """
        found = self.routes.get(model)
        if found is None:
            raise UnknownName(
                "no such model is deployed",
                got=repr(model),
                hint=f"deployed: {', '.join(sorted(self.routes)) or 'none'}",
            )
        return found


def position(salt: str, unit: str) -> float:
    """Where a unit stands in [0, 1): fixed for its life, uniform over units, independent between salts.

    Examples
    --------
    >>> position("r1", "user-7") == position("r1", "user-7")
    True
    """
    raw = hashlib.blake2b(f"{salt}\x1f{unit}".encode(), digest_size=8).digest()
    return int.from_bytes(raw) / 2**64


def without_loading(table: RouteTable, current: RouteTable, loaded: Container[str]) -> RouteTable:
    """What of a table can be in force at once: itself when every version is loaded, or a table between it and the
    current one, in which models that wait for a version keep their route.

    Examples
    --------
    >>> one, two = Route("one", (Arm("champion", "a", 1.0),)), Route("two", (Arm("champion", "b", 1.0),))
    >>> before = RouteTable(1, {"one": one, "two": two})
    >>> slow, stopped = Route("one", (Arm("champion", "large", 1.0),)), killed(two, constant=(0.2,))
    >>> now = without_loading(RouteTable(3, {"one": slow, "two": stopped}), before, {"a", "b"})
    >>> now.generation, now.routes["one"].arms[0].version, now.routes["two"].constant
    (2, 'a', (0.2,))
    """
    if all(version in loaded for version in (*table.versions(), *table.held())):
        return table
    routes: dict[str, Route] = {}
    for model, route in table.routes.items():
        if all(arm.version in loaded for arm in route.arms):
            held = tuple(version for version in route.held if version in loaded)
            routes[model] = msgspec.structs.replace(route, held=held)
        elif model in current.routes:
            routes[model] = current.routes[model]
    return RouteTable(table.generation - 1, routes)


def killed(route: Route, *, constant: tuple[float, ...] = ()) -> Route:
    """The route behind a kill switch: a constant answer, or the version that is held to go back to.

    Pulling it a second time changes nothing.

    Raises
    ------
    InputError
        When no version is held to go back to, or the constant is not made of finite numbers.

    Examples
    --------
    >>> one = Route("m", (Arm("champion", "b", 0.9), Arm("canary", "c", 0.1)), "r1", "r1", held=("a",))
    >>> [(arm.name, arm.version) for arm in killed(one).arms]
    [('previous', 'a')]
    >>> killed(one, constant=(0.2,)).constant
    (0.2,)
    """
    stable = route.arms[0].version
    if constant:
        if not all(map(math.isfinite, constant)):
            raise InputError("a constant answer must be made of finite numbers", got=str(constant))
        return Route(route.model, (Arm("champion", stable, 1.0),), held=route.held, constant=constant)
    if route.arms[0].name == PREVIOUS and not route.constant:
        return route
    if not route.held:
        raise InputError(
            f"no earlier version of {route.model!r} is held to go back to", hint="answer with a constant instead"
        )
    back = route.held[0]
    return Route(route.model, (Arm(PREVIOUS, back, 1.0),), held=(stable,))


def takes_part(route: Route, version: str, name: str) -> bool:
    """Whether a version answers or scores now under the name of an arm, as records and counts have it.

    Examples
    --------
    >>> one = Route("m", (Arm("champion", "a", 0.9), Arm("canary", "b", 0.1)))
    >>> [takes_part(one, "a", name) for name in ("champion", "canary", "shadow", "pinned")]
    [True, False, True, True]
    """
    if name == PINNED:  # the caller chose it
        return True
    if route.constant or name == CONSTANT:
        return name == CONSTANT and bool(route.constant)
    if name == SHADOW:  # of those who are asked anyway
        return len(route.arms) > 1 and not route.unit and any(arm.version == version for arm in route.arms)
    return any((arm.version, arm.name) == (version, name) for arm in route.arms)


def choose(route: Route, unit: str) -> Arm:
    """The arm that answers a unit (a request, or a user who should stay with one version).

    A unit that a canary answers at 10 % is still answered by it at 50 %: the canary's share is taken from the
    top of the line.

    Examples
    --------
    >>> one = Route("m", (Arm("champion", "a", 1.0), Arm("shadow", "b", 0.0)))
    >>> choose(one, "r1").name
    'champion'
    """
    answering = [arm for arm in route.arms if arm.share > 0]
    if len(answering) == 1:
        return answering[0]
    where = position(route.salt, unit)
    edge = 1.0
    for arm in reversed(answering):
        edge -= arm.share
        if where >= edge - 1e-12:
            return arm
    return answering[0]


def split(route: Route, units: Sequence[str]) -> list[tuple[Arm, list[int]]]:
    """Which rows each arm answers: pairs of an arm and row numbers, in the order of the arms; no empty ones.

    Examples
    --------
    >>> one = Route("m", (Arm("champion", "a", 1.0), Arm("shadow", "b", 0.0)))
    >>> [(arm.name, rows) for arm, rows in split(one, ["r1", "r2"])]
    [('champion', [0, 1])]
    """
    answering = [arm for arm in route.arms if arm.share > 0]
    if len(answering) == 1:
        return [(answering[0], list(range(len(units))))]
    rows: dict[str, list[int]] = {arm.name: [] for arm in answering}
    for row, unit in enumerate(units):
        rows[choose(route, unit).name].append(row)
    return [(arm, rows[arm.name]) for arm in answering if rows[arm.name]]


def encode_table(table: RouteTable) -> bytes:
    """The route table as JSON, as it stands in ``route.json``."""
    return msgspec.json.format(msgspec.json.encode(table, order="deterministic"), indent=2)


def decode_table(data: bytes) -> RouteTable:
    """Read a route table and check that it can be obeyed.

    Raises
    ------
    InputError
        When it is not a route table, a model has no answering arm, two arms share a name, or shares do not add up to 1.

    Examples
    --------
    >>> table = RouteTable(1, {"m": Route("m", (Arm("champion", "a", 1.0),))})
    >>> decode_table(encode_table(table)) == table
    True
    """
    try:
        table = msgspec.json.decode(data, type=RouteTable)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError("not a route table", got=str(error), hint="only the control process writes it") from None
    for name, route in table.routes.items():
        names = [arm.name for arm in route.arms]
        if route.model != name or len(set(names)) != len(names):
            raise InputError(
                f"the route of {name!r} contradicts itself", got=f"{route.model!r}, arms {', '.join(names)}"
            )
        if not all(map(math.isfinite, route.constant)):
            raise InputError(f"the constant answer of {name!r} is not finite", got=str(route.constant))
        shares = [arm.share for arm in route.arms]
        if any(share < 0 for share in shares) or abs(sum(shares) - 1) > 1e-6:
            raise InputError(f"the shares of {name!r} do not add up to 1", got=str(shares))
    return table
