"""Where the chunks of a batch are scored: here, or on a Ray cluster. Either way the answers come back in order.

Whatever is kept (answers, notes, records) is kept by the process that was asked, chunk after chunk: where a chunk was
scored, and how often, makes no difference to what is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from trimtab.adapters.offline.tables import Chunk
from trimtab.app.batches import HERE, RAY, Run, Scorer, make_scorer
from trimtab.app.home import Home
from trimtab.errors import InputError
from trimtab.registry.bundle import Bundle
from trimtab.serving.scoring import Scored

EachChunk = Callable[[Iterator[Chunk]], Iterator[tuple[Chunk, Scored]]]
"""Chunks in, each with its answers out, in the same order."""


@contextmanager
def spread(where: str, scorer: Scorer, *, project: Path, home: Home, bundle: Bundle, run: Run) -> Iterator[EachChunk]:
    """What scores chunks, as long as it is needed.

    Raises
    ------
    InputError
        When there is no such place.
    MissingExtra, Unavailable
        When Ray is not installed, or its cluster is not there.
    """
    if where == HERE:
        yield lambda chunks: ((chunk, scorer.chunk(chunk)) for chunk in chunks)
        return
    if where != RAY:
        raise InputError("no such place to score", got=repr(where), hint=f"{HERE} or {RAY}")
    from trimtab.adapters.compute.ray_actors import RayActors

    actors: RayActors[Chunk, Scored] = RayActors(
        partial(scoring, str(project.resolve()), str(home.root.resolve()), bundle, run)
    )
    try:
        yield actors.map
    finally:
        actors.close()


def scoring(project: str, root: str, bundle: Bundle, run: Run) -> Callable[[Chunk], Scored]:
    """In an actor: load the version for one thread, and score chunks with it."""
    scorer = make_scorer(Path(project), Home(Path(root)), bundle, run, threads=1)
    kept = run.record or run.precompute > 0

    def score(chunk: Chunk) -> Scored:
        scored = scorer.chunk(chunk)
        if not kept:
            scored.answers.clear()  # they would be sent back for nothing
        return scored

    return score
