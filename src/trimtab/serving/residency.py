"""Which models are in memory: loaded when they are asked, and given up, least recently used first, past a budget.

A request for a model that is not in memory waits until it is loaded; requests for others do not. A model that answers
at this moment is never given up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from trimtab.serving.ports import ModelRuntime


class LruBudget:
    """The policy alone: names with sizes, in the order of their last use, and a limit on the sum.

    Parameters
    ----------
    limit
        Most bytes; 0 for any number. What is in use stays even past the limit, and so does a single name that is
        larger than the limit by itself: to answer from too much memory is better than not to answer.

    Examples
    --------
    >>> budget = LruBudget(10)
    >>> budget.enter("a", 6), budget.enter("b", 4)
    ([], [])
    >>> budget.touch("a")
    >>> budget.enter("c", 4)
    ['b']
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held: dict[Hashable, int] = {}
        """Sizes by name, least recently used first."""
        self._in_use: Counter[Hashable] = Counter()

    @property
    def total(self) -> int:
        """Bytes held."""
        return sum(self._held.values())

    def __contains__(self, name: Hashable) -> bool:
        return name in self._held

    def in_use(self, name: Hashable) -> bool:
        """Whether somebody uses it now."""
        return self._in_use[name] > 0

    def fits(self, size: int) -> bool:
        """Whether something of that size could be held without giving anything up."""
        return not self.limit or self.total + size <= self.limit

    def enter(self, name: Hashable, size: int) -> list[Hashable]:
        """Hold a name from now on, as the one used last; the names that are given up for it."""
        self._held.pop(name, None)
        self._held[name] = size
        return self._evicted(keep=name)

    def touch(self, name: Hashable) -> None:
        """It was used now."""
        if name in self._held:
            self._held[name] = self._held.pop(name)

    def acquire(self, name: Hashable) -> None:
        """Somebody uses it: it is not given up before :meth:`release`."""
        self._in_use[name] += 1
        self.touch(name)

    def release(self, name: Hashable) -> list[Hashable]:
        """The use is over; the names that are given up now, because what was in use stood above the limit."""
        self._in_use[name] -= 1
        if not self._in_use[name]:
            del self._in_use[name]
        return self._evicted(keep=name)

    def remove(self, name: Hashable) -> None:
        """Hold it no longer."""
        self._held.pop(name, None)

    def _evicted(self, *, keep: Hashable) -> list[Hashable]:
        gone: list[Hashable] = []
        if not self.limit:
            return gone
        over = self.total - self.limit
        for name, size in list(self._held.items()):
            if over <= 0:
                break
            if name != keep and not self._in_use[name]:
                del self._held[name]
                over -= size
                gone.append(name)
        return gone


class LazyModel:
    """A model that may be in memory or not, implementing :class:`trimtab.serving.ports.ModelRuntime`.

    Made by :meth:`Residency.model`. Closing it while it answers frees it when the answer is there.
    """

    def __init__(self, residency: Residency, size: int, load: Callable[[], ModelRuntime]) -> None:
        self.size, self.load = size, load
        self._residency = residency
        self.loading = Lock()
        self.closed = False

    @property
    def resident(self) -> bool:
        """Whether it is in memory."""
        return self._residency.find(self) is not None

    @property
    def blocking(self) -> bool:
        """True while it must be loaded first."""
        found = self._residency.find(self)
        return found is None or found.blocking

    @property
    def note(self) -> str:
        """What it runs on; that it is not loaded while it is not."""
        found = self._residency.find(self)
        return "not loaded yet: the memory budget has no room for it" if found is None else found.note

    @property
    def trouble(self) -> str:
        """Why it cannot answer now; empty while it can, or must be loaded first."""
        found = self._residency.find(self)
        return "" if found is None else found.trouble

    def run(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Answer, after loading if need be.

        Raises
        ------
        TrimtabError
            What loading or the model itself raises.
        """
        runtime = self._residency.acquire(self)
        try:
            return runtime.run(values)
        finally:
            self._residency.release(self)

    def close(self) -> None:
        """Free it, at once or after the answer under way."""
        self._residency.close(self)


class Residency:
    """The models in memory of one process; thread-safe.

    Parameters
    ----------
    limit
        Most bytes; 0 for any number.
    freed
        Called when models have been given up, after what took their place was loaded: gives memory back.

    Attributes
    ----------
    loads, evictions
        How often a model was loaded and given up.
    """

    def __init__(self, limit: int = 0, *, freed: Callable[[], None] = lambda: None) -> None:
        self._freed = freed
        self._budget = LruBudget(limit)
        self._runtimes: dict[LazyModel, ModelRuntime] = {}
        self._lock = Lock()
        self.loads = self.evictions = 0

    @property
    def limit(self) -> int:
        return self._budget.limit

    @property
    def resident_bytes(self) -> int:
        """Bytes of the models in memory, by their declared sizes."""
        with self._lock:
            return self._budget.total

    def model(self, size: int, load: Callable[[], ModelRuntime]) -> LazyModel:
        """A model of ``size`` bytes in memory. It is loaded now when the budget has room for it, else when it is asked.

        Raises
        ------
        TrimtabError
            What ``load`` raises now.
        """
        made = LazyModel(self, size, load)
        with self._lock:
            room = self._budget.fits(size)
        if room:
            self.acquire(made)
            self.release(made)
        return made

    def find(self, model: LazyModel) -> ModelRuntime | None:
        """The runtime of a model that is in memory, which counts as a use."""
        with self._lock:
            self._budget.touch(model)
            return self._runtimes.get(model)

    def acquire(self, model: LazyModel) -> ModelRuntime:
        """Load it if need be and keep it until :meth:`release`.

        Raises
        ------
        TrimtabError
            What loading raises.
        """
        with self._lock:
            self._budget.acquire(model)
            found = self._runtimes.get(model)
        if found is not None:
            return found
        try:
            return self._loaded(model)
        except BaseException:
            self.release(model)
            raise

    def _loaded(self, model: LazyModel) -> ModelRuntime:
        with model.loading:  # the second who asks waits for the first
            with self._lock:
                found = self._runtimes.get(model)
                gone = [] if found is not None else self._taken(self._budget.enter(model, model.size))
            if found is not None:
                return found
            _close(gone)  # before the new one is loaded, not after: the budget is for the peak too
            try:
                runtime = model.load()
            except BaseException:
                with self._lock:
                    self._budget.remove(model)
                raise
            with self._lock:
                self._runtimes[model] = runtime
                self.loads += 1
            if gone:
                self._freed()
            return runtime

    def release(self, model: LazyModel) -> None:
        """The use is over."""
        with self._lock:
            gone = self._taken(self._budget.release(model))
            if model.closed and not self._budget.in_use(model):
                gone += self._dropped(model)
        if gone:
            _close(gone)
            self._freed()

    def close(self, model: LazyModel) -> None:
        """Free a model, at once or when its last use is over."""
        with self._lock:
            model.closed = True
            gone = [] if self._budget.in_use(model) else self._dropped(model)
        _close(gone)

    def _taken(self, names: list[Hashable]) -> list[ModelRuntime]:
        self.evictions += len(names)
        return [self._runtimes.pop(name) for name in names if isinstance(name, LazyModel)]

    def _dropped(self, model: LazyModel) -> list[ModelRuntime]:
        self._budget.remove(model)
        found = self._runtimes.pop(model, None)
        return [] if found is None else [found]


def _close(runtimes: list[ModelRuntime]) -> None:
    for runtime in runtimes:
        runtime.close()
