"""The pieces of a chunk on all cores of this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait

from trimtab.serving.scoring import Each, Part


def shared(pool: ThreadPoolExecutor, threads: int) -> Each:
    """Pieces by this thread and those of a pool, each taking the next one: where a thread only waited for the others it
    would be woken for every piece, which costs more than a small model.
    """

    def each(do: Callable[[int], list[Part] | None], starts: Iterable[int]) -> Iterable[list[Part] | None]:
        every = list(starts)
        found: list[list[Part] | None] = [None] * len(every)
        left = iter(range(len(every)))

        def work() -> None:
            try:
                for at in left:
                    found[at] = do(every[at])
            except BaseException:
                for _ in left:  # nobody goes on
                    pass
                raise

        helping = [pool.submit(work) for _ in range(min(threads, len(every)) - 1)]
        try:
            work()
        finally:
            wait(helping)
        for one in helping:
            one.result()
        return found

    return each
