"""What is loaded, and the route table that it is loaded for."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from trimtab.errors import Unavailable, UnknownName
from trimtab.serving.codec import RequestCodec
from trimtab.serving.pipeline import Deployed
from trimtab.serving.routing import Arm, Route, RouteTable

_log = logging.getLogger("trimtab.serving")
LEAST_DIGITS = 8
"""Of a version that is named by its first digits."""


@dataclass(frozen=True, slots=True)
class Live:
    """A route table together with everything it needs, loaded."""

    table: RouteTable
    deployed: Mapping[str, Deployed]
    codecs: Mapping[str, RequestCodec]
    """By model: how the requests of its champion are read."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Versions that the table holds in reserve and that could not be loaded, and why."""
    over: int = 0
    """The generation that it was made from: with another in force meanwhile, it may name what is freed."""
    fresh: frozenset[str] = frozenset()
    """Versions that were loaded for it."""

    def answering(self, model: str) -> Deployed:
        """The version of the first arm with a share: how the model describes itself.

        Raises
        ------
        UnknownName
            When no such model is deployed.
        Unavailable
            While no route table is loaded at all.
        """
        if self.table.generation == 0:
            raise Unavailable(
                "no version is live yet",
                hint="the first training is still running, or has failed: `trimtab status` shows which and why",
            )
        return self.deployed[first_arm(self.table.route(model)).version]

    def pinned(self, model: str, version: str) -> Deployed:
        """A version of a model that takes part in its route; raises as :meth:`whole`."""
        return self.deployed[self.whole(model, version)]

    def whole(self, model: str, version: str) -> str:
        """The digest of a version that takes part in a model's route, given whole or by its first digits.

        Raises
        ------
        UnknownName
            When there is none, or more than one begins like that, or fewer than :data:`LEAST_DIGITS` are given.
        """
        arms = {arm.version for arm in self.table.route(model).arms}
        if version in arms:
            return version
        alike = [one for one in arms if len(version) >= LEAST_DIGITS and one.startswith(version.lower())]
        if len(alike) != 1:
            raise UnknownName(
                f"no such version of {model!r} is loaded",
                got=repr(version[:100]),
                hint=f"loaded: {', '.join(sorted(arms))}; the first {LEAST_DIGITS} digits or more will do",
            )
        return alike[0]

    def described(self, model: str, version: str = "") -> Deployed:
        """The named version of a model, or the one that describes it; raises as the two above."""
        return self.pinned(model, version) if version else self.answering(model)

    def trouble(self, model: str, version: str = "") -> str:
        """Why that version cannot answer now; empty while it can, or a constant does. Raises as :meth:`described`."""
        told = self.described(model, version).runtime.trouble
        return "" if self.table.route(model).constant else told

    def versions(self, model: str) -> list[str]:
        """The versions that take part in a model's route, sorted."""
        return sorted({arm.version for arm in self.table.route(model).arms})

    def arm(self, model: str, name: str) -> str:
        """The version behind an arm of a model's route.

        Raises
        ------
        UnknownName
            When there is no such arm.
        """
        arms = {arm.name: arm.version for arm in self.table.route(model).arms}
        if name not in arms:
            raise UnknownName(
                f"{model!r} has no such arm", got=repr(name), hint=f"the arms are {', '.join(sorted(arms))}"
            )
        return arms[name]


class Uses:
    """Keeps versions that a table no longer names from being freed while another thread still asks them.

    Examples
    --------
    >>> uses = Uses()
    >>> uses.begin(3)
    >>> uses.retire(3, [])
    >>> uses.end(3)
    """

    def __init__(self) -> None:
        self._under_way: Counter[int] = Counter()
        """By the generation of the table that they began with."""
        self._retired: list[tuple[int, list[Deployed]]] = []

    def begin(self, generation: int) -> None:
        """Another thread begins to ask what a table names."""
        self._under_way[generation] += 1

    def end(self, generation: int) -> None:
        """It is done; what nobody uses any more is freed."""
        self._under_way[generation] -= 1
        if not self._under_way[generation]:
            del self._under_way[generation]
        oldest = min(self._under_way, default=math.inf)
        free = [versions for retired, versions in self._retired if retired < oldest]
        self._retired = [one for one in self._retired if one[0] >= oldest]
        for versions in free:
            close_all(versions)

    def retire(self, generation: int, versions: Iterable[Deployed]) -> None:
        """Free versions that the table of a generation was the last to name, once nobody uses them."""
        if any(one <= generation for one in self._under_way):
            self._retired.append((generation, list(versions)))
        else:
            close_all(versions)


def close_all(versions: Iterable[Deployed]) -> None:
    """Free versions, whatever one of them has against it."""
    for one in versions:
        try:
            one.runtime.close()
        except Exception:  # noqa: BLE001 - whatever one of them raises, the others are to be freed too
            _log.exception("version %s cannot be freed", one.version[:12])


def first_arm(route: Route) -> Arm:
    """The first arm that answers."""
    return next(arm for arm in route.arms if arm.share > 0)
