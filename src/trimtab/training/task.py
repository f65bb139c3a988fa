"""What a model predicts, what it learns from, and how it is scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    """``binary`` (a probability), ``regression`` (a number, or several) or ``multiclass`` (a probability per class)."""

    kind: Literal["binary", "regression", "multiclass"]
    target: str
    loss: str
    """The loss that decides between models: ``log_loss`` or ``squared_error``."""
    names: tuple[str, ...] = ()
    """Of the outputs, where there are several: the classes, or the numbers that are predicted together."""

    @property
    def outputs(self) -> int:
        """How many numbers the model gives for a row."""
        return max(1, len(self.names))


def binary(*, positive: str) -> Task:
    """Predict the probability that the boolean label is true; ``positive`` names that outcome.

    Examples
    --------
    >>> binary(positive="late").loss
    'log_loss'
    """
    return Task("binary", declared.text(positive, what="positive= of binary", where=declared_at()), "log_loss")


def regression(*, target: str | Sequence[str]) -> Task:
    """Predict a number; ``target`` names it. Several names: as many numbers at once, from one model.

    The loss of several is the mean of their squared errors: give them units in which an error of 1 is as bad in each.

    Examples
    --------
    >>> regression(target=["hours", "cost"]).outputs
    2
    """
    where = declared_at()
    if isinstance(target, str):
        return Task("regression", declared.text(target, what="target= of regression", where=where), "squared_error")
    names = _several(target, what="target= of regression", where=where)
    return Task("regression", ", ".join(names), "squared_error", names)


def multiclass(*, classes: Sequence[str], target: str = "class") -> Task:
    """Predict the probability of each of several classes; ``target`` names what they are classes of.

    The label column is text that holds one of ``classes``, or an int that counts them from 0. The order of
    ``classes`` is the order of the outputs.

    Examples
    --------
    >>> multiclass(classes=["cash", "card", "voucher"]).outputs
    3
    """
    where = declared_at()
    names = _several(classes, what="classes= of multiclass", where=where)
    return Task("multiclass", declared.text(target, what="target= of multiclass", where=where), "log_loss", names)


def _several(names: Sequence[str], *, what: str, where: str) -> tuple[str, ...]:
    if isinstance(names, str) or len(names) < 2 or len(set(names)) < len(names):
        raise ProjectError(f"{what} are not several different names", got=repr(names), hint='["a", "b"]', where=where)
    return tuple(declared.text(name, what=what, where=where) for name in names)


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
    others: tuple[str, ...] = ()
    """Further columns, where the model gives several numbers."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that hold the truth: one, or one for each number that is predicted."""
        return (self.column, *self.others)


def label(source: Source, column: str | Sequence[str], *, on: str, matures: str | Micros) -> Label:
    """Say where a model's labels come from: a column, or one for each number of a regression with several.

    Examples
    --------
    >>> from trimtab.features.sources import Entity, Events
    >>> given = Events("deliveries", time="at", known="at", keys=[Entity("shop")], schema={"id": str, "late": bool})
    >>> label(given, "late", on="id", matures="48h").column
    'late'
    """
    where = declared_at()
    declared.a(Source, source, what="the source of a label", hint="pass what tt.Events(...) returned", where=where)
    columns = (column,) if isinstance(column, str) else tuple(column)
    for name in columns or ("",):
        declared.text(name, what="the column of a label", where=where)
    declared.text(on, what="on= of a label", where=where)
    return Label(
        source,
        columns[0],
        on,
        declared.length(matures, what="matures= of a label", where=where, zero=True),
        where,
        columns[1:],
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
        float64, shape (n,): 0/1 for a binary task, the position in ``classes`` for a multiclass one; (n, k) for a
        regression of k numbers.
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
