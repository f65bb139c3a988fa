"""Work on a Ray cluster: each thing is done by one of several actors, and what came of it is given back in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from trimtab.errors import MissingExtra, TrimtabError, Unavailable

Thing = TypeVar("Thing")
Made = TypeVar("Made")

_AGAIN = 3
"""How often an actor is started anew, and a thing done again, when a machine of the cluster is lost."""
_ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0"}  # nothing is told to anybody


class RayActors(Generic[Thing, Made]):
    """Actors, one for each processor of the cluster. Each makes for itself what does the work.

    Connects to the cluster that ``RAY_ADDRESS`` names, uses one that this process is connected to already, or else
    starts one on this machine, which ends with :meth:`close`.

    Parameters
    ----------
    make
        Called once in each actor; gives the function that does the work. It must be pure: a thing whose actor was lost
        is done again by another.

    Raises
    ------
    MissingExtra
        When Ray is not installed.
    Unavailable
        When there is no cluster.
    """

    def __init__(self, make: Callable[[], Callable[[Thing], Made]]) -> None:
        try:
            import ray
        except ImportError:
            raise MissingExtra("Ray is not installed", got="ray", hint="pip install 'trimtab[ray]'") from None
        self._ray, self._ours = ray, not ray.is_initialized()
        if self._ours:
            _connect(ray)
        count = max(1, int(ray.cluster_resources().get("CPU", 1)))
        actor = ray.remote(num_cpus=1, max_restarts=_AGAIN, max_task_retries=_AGAIN)(_Actor)
        self._actors = [actor.remote(make) for _ in range(count)]

    def map(self, things: Iterator[Thing]) -> Iterator[tuple[Thing, Made]]:
        """Each thing and what came of it, in order; no more than two for each actor are on their way.

        Raises
        ------
        Unavailable
            When the cluster is lost.
        """
        waiting: deque[tuple[Thing, Any]] = deque()
        for number, thing in enumerate(things):
            actor = self._actors[number % len(self._actors)]
            waiting.append((thing, actor.do.remote(thing)))
            if len(waiting) >= 2 * len(self._actors):
                first, reference = waiting.popleft()
                yield first, self._get(reference)
        while waiting:
            first, reference = waiting.popleft()
            yield first, self._get(reference)

    def close(self) -> None:
        """End the actors, and the cluster where it is ours."""
        for actor in self._actors:
            self._ray.kill(actor)
        self._actors = []
        if self._ours:
            self._ray.shutdown()

    def _get(self, reference: Any) -> Made:
        exceptions = self._ray.exceptions
        try:
            found: Made = self._ray.get(reference)
        except exceptions.RayTaskError as error:
            if isinstance(error.cause, TrimtabError):
                raise error.cause from None
            raise
        except exceptions.RayError as error:
            said = " ".join(str(error).split())[:300]
            raise Unavailable(
                "the Ray cluster lost the work", got=said, hint="run the same again: it goes on where it ended"
            ) from None
        return found


class _Actor:
    """What runs in the cluster."""

    def __init__(self, make: Callable[[], Callable[[Any], Any]]) -> None:
        self._work = make()

    def do(self, thing: Any) -> Any:
        """One thing."""
        return self._work(thing)


def _connect(ray: Any) -> None:
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    here = {} if os.environ.get("RAY_ADDRESS") else {"include_dashboard": False}
    try:
        ray.init(log_to_driver=False, **here)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise Unavailable(
            "no Ray cluster", got=" ".join(str(error).split())[:300], hint="see RAY_ADDRESS, or leave it out"
        ) from None
