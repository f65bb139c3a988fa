"""What a model predicts, what it learns from, and how it is scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from trimtab.core.clock import Micros
from trimtab.errors import ProjectError
from trimtab.features import declared
from trimtab.features.sources import Source, declared_at

if TYPE_CHECKING:  # a project file is read by every command; those that compute nothing need not wait for numpy
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Task:
    """``binary`` (the probability of a class) or ``regression`` (a number)."""

    kind: Literal["binary", "regression"]
    target: str
    loss: str
    """The loss that decides between models: ``log_loss`` or ``squared_error``."""


def binary(*, positive: str) -> Task:
    """Predict the probability that the boolean label is true; ``positive`` names that outcome.

    Examples
    --------
    >>> binary(positive="late").loss
    'log_loss'
    """
    return Task("binary", declared.text(positive, what="positive= of binary", where=declared_at()), "log_loss")


def regression(*, target: str) -> Task:
    """Predict a number; ``target`` names it."""
    return Task("regression", declared.text(target, what="target= of regression", where=declared_at()), "squared_error")


@dataclass(frozen=True)
class Label:
    """Where the truth comes from: a column of events that join the request by id, some time later, or never."""

    source: Source
    column: str
    on: str
    """The column of the events that holds the request id."""
    matures: Micros
    """A request this old has its label, or is taken never to get one; younger ones are not judged."""
    where: str = field(default="", compare=False, repr=False)


def label(source: Source, column: str, *, on: str, matures: str | Micros) -> Label:
    """Say where a model's labels come from.

    Examples
    --------
    >>> from trimtab.features.sources import Entity, Events
    >>> given = Events("deliveries", time="at", known="at", keys=[Entity("shop")], schema={"id": str, "late": bool})
    >>> label(given, "late", on="id", matures="48h").column
    'late'
    """
    where = declared_at()
    declared.a(Source, source, what="the source of a label", hint="pass what tt.Events(...) returned", where=where)
    declared.text(column, what="the column of a label", where=where)
    declared.text(on, what="on= of a label", where=where)
    return Label(
        source, column, on, declared.length(matures, what="matures= of a label", where=where, zero=True), where
    )


@dataclass(frozen=True)
class Span:
    """Which part of the history a training run learns from: everything, or the last ``length``."""

    length: Micros | None


def all_history() -> Span:
    """Learn from everything known."""
    return Span(None)


def last(length: str | Micros) -> Span:
    """Learn from the last ``length`` before the cutoff.

    Examples
    --------
    >>> last("1d").length
    86400000000
    """
    return Span(declared.length(length, what="the length of last", where=declared_at()))


@dataclass(frozen=True)
class TrainingData:
    """What a training function gets.

    Attributes
    ----------
    X
        float32, shape (n, features): cast before training, so that tree thresholds do not flip when served.
    y
        float64, shape (n,): 0/1 for a binary task.
    feature_names
        The columns of ``X``.
    at
        int64 microseconds, shape (n,), ascending: when each row was asked.
    seed
        Use it for everything random.
    """

    X: NDArray[np.float32]
    y: NDArray[np.float64]
    feature_names: tuple[str, ...]
    at: NDArray[np.int64]
    seed: int

    def __post_init__(self) -> None:
        if not (len(self.X) == len(self.y) == len(self.at)):
            raise ProjectError("training data of unequal lengths", got=f"{len(self.X)}, {len(self.y)}, {len(self.at)}")


Fit = Callable[[TrainingData, Mapping[str, Any]], Any]
"""A plain function: takes the data and the parameters, returns a fitted estimator."""
