"""What requests of one lane have in common: how the plainest are read and written, and their features as a matrix."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trimtab.errors import TrimtabError, Unavailable
from trimtab.features.sent import SentReader
from trimtab.serving.answers import Answers
from trimtab.serving.ask import Ask, Lane, Steer, Told, row_status
from trimtab.serving.batching import Bounds, Piece
from trimtab.serving.codec import Decoded, RequestCodec
from trimtab.serving.live import Live
from trimtab.serving.plain import PlainReader, PlainWriter
from trimtab.serving.profile import ServingProfile
from trimtab.serving.recording import OK, all_finite, usual_status
from trimtab.serving.tensors import TensorAnswer, TensorRequest

_FLOAT32 = np.dtype("<f4")


class PlainLane(NamedTuple):
    """How the plainest requests of one model are read, and their answers written, by version."""

    lane: Lane
    reader: PlainReader
    writers: Mapping[str, PlainWriter]


def plain_lane(live: Live, model: str) -> PlainLane | None:
    """None when requests or answers of a model are not of the plain kind."""
    front = live.answering(model)
    versions = {arm.version for arm in live.table.route(model).arms if arm.share > 0}
    outputs = {tensor.name for version in versions for tensor in live.deployed[version].manifest.outputs}
    reader = PlainReader.of(front.manifest.inputs, output=outputs.pop() if len(outputs) == 1 else "")
    writers = {version: PlainWriter.of(model, version, live.deployed[version].manifest.outputs) for version in versions}
    if reader is None or not all(writers.values()) or live.table.route(model).constant:
        return None
    return PlainLane(
        Lane(model, "", None, front.width), reader, {name: one for name, one in writers.items() if one is not None}
    )


def later_writer(live: Live, model: str, version: str) -> PlainWriter:
    """For an answer of a version that came after the request, or of none.

    Raises
    ------
    Unavailable
        When it has other outputs than one of floats.
    """
    found = PlainWriter.of(model, version, (live.deployed.get(version) or live.answering(model)).manifest.outputs)
    if found is None:
        raise Unavailable("the model now gives other outputs", hint="read its description and send again")
    return found


def tensor_answer(ask: Ask, asked: TensorRequest, live: Live) -> TensorAnswer:
    """What a protocol writes down."""
    values = np.array([told.value for told in ask.told], dtype=np.float64).reshape(ask.size, -1)
    said = {id(told.answers): told.answers for told in ask.told}.values()
    versions = list(dict.fromkeys(answers.version for answers in said))
    status = ""
    if not all_finite(values) or any(usual_status(answers) != OK for answers in said):
        found = [row_status(told.answers, told.value) for told in ask.told]
        status = found[0] if len(set(found)) == 1 else ";".join(found)
    outputs = (live.deployed.get(versions[0]) or live.answering(ask.lane.model)).manifest.outputs
    return TensorAnswer(ask.lane.model, ",".join(versions), asked.id, values, outputs, asked.outputs, status)


def matrix_of(pieces: Sequence[Piece[Ask]], width: int) -> NDArray[np.float32]:
    """The features that the callers sent, one under the other."""
    if len(pieces) == 1:
        ask, start, stop = pieces[0]
        found: NDArray[np.float32] = (
            np.ndarray((1, width), _FLOAT32, ask.rows) if type(ask.rows) is bytes else ask.rows[start:stop]
        )
        return found
    parts = [
        ask.rows if type(ask.rows) is bytes else ask.rows[start:stop].astype("<f4", copy=False).tobytes()
        for ask, start, stop in pieces
    ]
    return np.frombuffer(b"".join(parts), _FLOAT32).reshape(-1, width)


def told_in_order(answered: Sequence[tuple[Answers, Sequence[int]]]) -> list[Told]:
    """What was said, in the order of the rows of the batch."""
    if len(answered) == 1:
        answers = answered[0][0]
        values = answers.outputs.tolist()
        if len(values) == 1:
            return [Told(answers, 0, values[0])]
        return [Told(answers, row, value) for row, value in enumerate(values)]
    rows: dict[int, Told] = {}
    for answers, places in answered:
        for row, (place, value) in enumerate(zip(places, answers.outputs.tolist(), strict=True)):
            rows[place] = Told(answers, row, value)
    return [rows[place] for place in range(len(rows))]


def any_failed(answered: Sequence[tuple[Answers, Sequence[int]]]) -> bool:
    """Whether a version failed."""
    if len(answered) == 1:
        return answered[0][0].error != ""
    return any(answers.error for answers, _ in answered)


def fail_all(pieces: Sequence[Piece[Ask]], error: Exception) -> None:
    """Whatever goes wrong, everybody gets an answer."""
    for ask, _, _ in pieces:
        ask.fail(TrimtabError("an internal error", got=type(error).__name__, hint="see the log of the worker"))


def decoded(live: Live, model: str, codec: RequestCodec, body: bytes, new_id: Callable[[], str]) -> Decoded:
    """A friendly request taken apart.

    Where the caller sends the features, a value that they cannot hold refuses the body before any of it is answered
    and recorded: bodies are answered in slices.

    Raises
    ------
    InputError
        The body is not acceptable.
    """
    found = codec.decode(body, new_id=new_id)
    if len(found.ids) > 1 and isinstance(reader := live.answering(model).reader, SentReader):
        reader.read(codec.batch(found.rows, found.ids, at=0))
    return found


def arms_of(answered: Sequence[tuple[Answers, Sequence[int]]], first: Sequence[Told]) -> list[int]:
    """Per body, which of the answers holds the first of its rows that are in this batch."""
    places = {id(answers): place for place, (answers, _) in enumerate(answered)}
    return [places[id(told.answers)] for told in first]


def pinned_version(live: Live, model: str, steer: Steer) -> str:
    """The version that a caller names, himself or by its arm; empty for none."""
    version = steer.version or (live.arm(model, steer.arm) if steer.arm else "")
    return live.whole(model, version) if version else ""


def bounds_of(profile: ServingProfile | None, max_batch: int, max_queue: int) -> Callable[[Any], Bounds] | None:
    """The bounds of a lane, by its model; None where every lane has the same.

    A batch is held back while it has less than an eighth of the queue at most: or else callers would be refused so
    that others may wait.
    """
    if profile is None or not profile.models:
        return None
    usual, most = Bounds(max_batch), max(1, max_queue // 8)
    found = {
        name: Bounds(one.max_batch, round(one.max_wait_ms * 1e6), min(one.max_batch, most))
        for name, one in profile.models.items()
    }
    return lambda lane: found.get(lane.model, usual)
