"""The kill switch on the file level: in force at once, whether the control process answers, hangs or is gone.

An order is a file below ``run``. Who pulls the switch writes the order and then the route; the control process writes
no route past an order (see :class:`trimtab.app.routes.Routes`), records it in the ledger with who and why, and then
removes it. So an order that no control process has seen yet stays in force, and is in the ledger as soon as one runs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from trimtab.adapters.compute.jobdir import Lock
from trimtab.adapters.compute.supervisor import read_post
from trimtab.adapters.wire.routefile import replace_file, write_routes
from trimtab.adapters.wire.status import WorkerStatus, read_status
from trimtab.app.home import Home
from trimtab.core.clock import Micros
from trimtab.errors import InputError, TrimtabError, Unavailable
from trimtab.loop.observations import Asked
from trimtab.registry.manifest import Manifest, Tensor
from trimtab.serving.routing import Route, RouteTable, decode_table, killed
from trimtab.serving.tensors import NAMES

_PATIENCE_S = 1.0
_LOOK_S = 0.002


class KillOrder(msgspec.Struct, frozen=True):
    """That the kill switch of a model was pulled."""

    id: str
    """Of the request; the same order twice is one."""
    model: str
    actor: str
    reason: str
    constant: tuple[float, ...] = ()
    """Empty: back to the version that is held to go back to."""

    def asked(self) -> Asked:
        """The order as the loop takes it in."""
        data = {"constant": list(self.constant)} if self.constant else {}
        return Asked(self.id, "kill", self.actor, self.reason, data=data)


class Workers(NamedTuple):
    """How the living workers stand to a route table."""

    living: int
    obeying: int
    problem: str = ""
    """What the first one says that cannot obey it."""


def _path(run: Path, order: str) -> Path:
    return run / f"kill-{order}.json"


def standing_orders(run: Path) -> list[KillOrder]:
    """Orders that no control process has recorded yet, oldest first."""
    found: list[tuple[Micros, KillOrder]] = []
    for path in run.glob("kill-*.json"):
        try:
            found.append((path.stat().st_mtime_ns, msgspec.json.decode(path.read_bytes(), type=KillOrder)))
        except (FileNotFoundError, msgspec.DecodeError):  # another has removed it, or it is no order
            continue
    return [order for _, order in sorted(found, key=lambda pair: pair[0])]


def close_order(run: Path, order: str) -> None:
    """Forget an order: it is in the ledger."""
    _path(run, order).unlink(missing_ok=True)


def pull(route_file: Path, run: Path, order: KillOrder) -> RouteTable:
    """Put an order in force: every worker obeys it within 100 ms. Nothing else is needed but the route file.

    Raises
    ------
    Unavailable
        When there is no route to change yet, or the disk refuses.
    UnknownName
        When no such model is deployed.
    InputError
        When there is no version to go back to.
    """
    with route_lock(run):
        try:
            table = decode_table(route_file.read_bytes())
        except FileNotFoundError:
            raise Unavailable("nothing is deployed here", got=str(route_file), hint="`trimtab up` first") from None
        route = killed(table.route(order.model), constant=order.constant)
        replace_file(_path(run, order.id), msgspec.json.encode(order), sync=True)
        after = RouteTable(table.generation + 1, {**table.routes, order.model: route})
        write_routes(route_file, after)
    return after


def check_constant(home: Home, model: str, constant: Sequence[float]) -> None:
    """A constant is what the model could have said, as many numbers; where that cannot be read, anything goes.

    Whoever asks for a kill switch, the command line or the API, is held to this before anything is changed.

    Raises
    ------
    InputError
        When it is of another width, no probability where the model answers with these, or past what an output holds.
    """
    if not constant:
        return
    try:
        route = decode_table(home.route_file.read_bytes()).route(model)
        # Not the whole bundle: hashing a large model takes longer than the switch may.
        manifest = Manifest.from_json(home.blobs().open(route.arms[0].version))
    except (OSError, TrimtabError):
        return
    width = sum(math.prod(tensor.shape[1:]) for tensor in manifest.outputs)
    if len(constant) not in (1, width):
        raise InputError(
            "the constant has another number of values than the model has outputs",
            got=f"{len(constant)} for {width}",
            hint="give one value for all of them, or one for each",
        )
    odd = [value for value in constant if not 0 <= value <= 1]
    if odd and manifest.task in ("binary", "multiclass"):
        raise InputError("the model answers with probabilities", got=f"{odd[0]:g}", hint="give a value from 0 to 1")
    _check_held(manifest.outputs, np.resize(np.asarray(constant, np.float64), width).tolist())


def _check_held(outputs: Sequence[Tensor], values: Sequence[float]) -> None:
    """Whoever asks must get the number that the records say: each output holds its values as they are."""
    at = 0
    for tensor in outputs:
        end = at + math.prod(tensor.shape[1:])
        span = _span(tensor.dtype)
        odd = [value for value in values[at:end] if not _holds(tensor.dtype, value)]
        if odd:
            each = "" if len(outputs) == 1 else "; --value takes one for each output, with commas between"
            raise InputError(
                f"output {tensor.name!r} is of {tensor.dtype}, which cannot hold the constant",
                got=f"{odd[0]!r}",
                hint=f"give {span}{each}",
            )
        at = end


def _holds(dtype: str, value: float) -> bool:
    if dtype not in NAMES:  # of a bundle that another release has made
        return True
    kind = np.dtype(dtype).kind
    if kind == "b":
        return value in (0, 1)
    if kind == "f":
        with np.errstate(over="ignore"):
            return not np.isinf(np.float64(value).astype(dtype))
    held = np.iinfo(dtype)
    return value.is_integer() and held.min <= value <= held.max


def _span(dtype: str) -> str:
    """What an output of a dtype holds, in words."""
    kind = np.dtype(dtype).kind if dtype in NAMES else ""
    if kind == "b":
        return "0 or 1"
    if kind in ("i", "u"):
        return f"a whole number from {np.iinfo(dtype).min} to {np.iinfo(dtype).max}"
    return f"a number from {-np.finfo(dtype).max:g} to {np.finfo(dtype).max:g}" if kind == "f" else "another"


def under_orders(routes: Mapping[str, Route], run: Path) -> dict[str, Route]:
    """Routes with every open order applied; one that cannot be any more changes nothing."""
    found = dict(routes)
    for order in standing_orders(run):
        route = found.get(order.model)
        if route is not None:
            try:
                found[order.model] = killed(route, constant=order.constant)
            except InputError:
                continue
    return found


@contextmanager
def route_lock(run: Path) -> Iterator[None]:
    """Be the only one who changes the route file.

    It is held for milliseconds. Whoever holds it for a second hangs, and a kill switch cannot wait for that.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        lock = Lock(run / "route.lock", wait=False)
        if lock.__enter__() or time.monotonic() > deadline:
            break
        lock.__exit__()
        time.sleep(_LOOK_S)
    try:
        yield
    finally:
        lock.__exit__()


def living(run: Path) -> Iterator[WorkerStatus | None]:
    """What each living worker says of itself; None of one that has yet to say something."""
    for path in run.glob("worker-*.pid"):
        post = read_post(run, path.stem)
        if post.held and post.process is not None:
            said = read_status(path.with_suffix(".json"))
            yield said if said is not None and said.pid == post.process.pid else None


def workers_at(run: Path, generation: int, *, model: str = "") -> Workers:
    """How the living workers stand to a generation of the route table, or to its route of one model."""
    said = list(living(run))
    behind = [one for one in said if one is None or max(one.generation, one.ahead.get(model, 0)) < generation]
    problems = [one.problem for one in behind if one is not None and one.problem]
    return Workers(len(said), len(said) - len(behind), problems[0] if problems else "")


def wait_for(run: Path, generation: int, *, timeout_s: float, model: str = "") -> Workers:
    """Wait until every living worker obeys a generation, or has said why it cannot, or the time is up.

    Parameters
    ----------
    model
        Whose route matters; empty for all of them.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        found = workers_at(run, generation, model=model)
        if found.obeying == found.living or found.problem or time.monotonic() > deadline:
            return found
        time.sleep(_LOOK_S)


def warmth(run: Path, generation: int, version: str) -> Workers:
    """How many living workers hold a version, loaded and warm; the problem is that of the first one that cannot."""
    said = list(living(run))
    holding, problem = 0, ""
    for one in said:
        if one is None or one.generation < generation:
            problem = problem or (one.problem if one is not None else "")
        elif version in one.versions:
            holding += 1
        else:
            problem = problem or one.missing.get(version, "it is not loaded")
    return Workers(len(said), holding, problem)
