"""Bodies that take several batches, or fail: what is recorded of them, and when.

A body is answered as a whole or not at all. So what was said of its first rows is recorded with the last of them, and
of a body that fails only the rows that failed: a record of an answer is one of an answer that was given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace

from trimtab.errors import TrimtabError, Unavailable
from trimtab.serving.allotment import features_of, rows_of
from trimtab.serving.answers import Answers
from trimtab.serving.ask import Ask, Part
from trimtab.serving.batching import Piece

MOST_TIMES = 8
"""How often a body is begun again because its version changed on its way."""


class Due(NamedTuple):
    """What is recorded of a batch."""

    answers: list[Answers]
    records: list[bytes]
    arms: Sequence[int]
    """Per body that ends with this batch, which of the answers it was told with."""


def outcome(ask: Ask) -> Any:
    """What a body is told after a batch that was not the whole of it, or that failed; None while it goes on."""
    if ask.dropped:
        return None
    error = ask.failure()
    if error is not None or ask.left:
        return error
    if not _mixed(ask):
        return ask.encode(ask)
    if ask.times >= MOST_TIMES:
        return Unavailable("the model changes faster than it answers this body", hint="send fewer rows at a time")
    return None


def begun_again(pieces: Sequence[Piece[Ask]]) -> list[Ask]:
    """The bodies that a swap met between two of their batches, ready to wait once more."""
    found = [ask for ask, _, _ in pieces if not ask.left and not ask.dropped]
    for ask in found:
        ask.again()
    return found


def _mixed(ask: Ask) -> bool:
    """Whether a body that must name one version was answered by several."""
    if ask.lane.codec is not None:  # each of its rows names its own
        return False
    return len({told.answers.version for told in ask.told}) > 1


def due(
    answered: Sequence[tuple[Answers, Sequence[int]]],
    pieces: Sequence[Piece[Ask]],
    *,
    ended: Sequence[tuple[Ask, Any]],
    encode: Callable[[Answers], list[bytes]],
) -> Due:
    """What is recorded now of a batch in which a body goes on, ends, or fails; the rest is kept with its body.

    Parameters
    ----------
    answered
        What was said, with the places of its rows in the batch.
    pieces
        Whose rows the batch holds. They were told.
    ended
        The bodies that end with it, and what they are told, an answer or an error. The others go on, or are begun
        again.
    encode
        Makes the records of answers.
    """
    owners = [ask for ask, start, stop in pieces for _ in range(start, stop)]
    gone = {id(ask) for ask in owners if ask.dropped}
    failed = gone | {id(ask) for ask, said in ended if isinstance(said, TrimtabError)}
    over = gone | {id(ask) for ask, _ in ended}
    given: list[Answers] = []
    by_body: dict[int, int] = {}
    for answers, places in answered:
        now: list[int] = []
        later: dict[int, tuple[Ask, list[int]]] = {}
        for row, place in enumerate(places):
            ask = owners[place]
            if id(ask) not in over:
                later.setdefault(id(ask), (ask, []))[1].append(row)
            elif id(ask) not in failed or answers.error:
                by_body.setdefault(id(ask), len(given))
                now.append(row)
        for ask, rows in later.values():
            kept = some(answers, rows)
            ask.parts.append(Part(kept, encode(kept)))
        if now:
            given.append(some(answers, now))
    records = [record for answers in given for record in encode(answers)]
    for ask, _ in ended:
        if id(ask) not in failed:
            given += [part.answers for part in ask.parts]
            records += [record for part in ask.parts for record in part.records]
    return Due(given, records, [by_body.get(id(ask), 0) for ask, _ in ended])


def some(answers: Answers, rows: Sequence[int]) -> Answers:
    """What was said about some rows."""
    if len(rows) == len(answers.requests):
        return answers
    return replace(
        answers,
        requests=rows_of(answers.requests, rows),
        features=features_of(answers.features, rows),
        outputs=answers.outputs[rows],
        units=[answers.units[row] for row in rows] if answers.units else (),
        together=[answers.together[row] for row in rows] if answers.together else (),
    )
