"""From a fitted estimator to bytes that serve: the port, and the check that nothing was lost on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from trimtab.errors import ParityError
from trimtab.training.task import Task

TOLERANCE = 1e-5
"""Largest difference that is put down to float32 arithmetic."""


class ExportParity(msgspec.Struct, frozen=True):
    """How far the exported model is from the original on real rows; all three are checked and stated."""

    rows: int
    largest_difference: float
    share_beyond: float
    """Share of rows that differ by more than the tolerance."""
    flipped: int
    """Rows whose decision differs."""
    tolerance: float


def compare_exported(
    original: NDArray[np.float64],
    exported: NDArray[np.float64],
    *,
    binary: bool,
    multiclass: bool = False,
    tolerance: float = TOLERANCE,
) -> ExportParity:
    """Compare the predictions of an exported model with those of the original.

    Differences are those of :func:`relative_difference`: absolute for probabilities and small numbers, relative for
    large ones, whose float32 representation is itself coarse.

    Parameters
    ----------
    original, exported
        Predictions, shape (n,), probabilities or numbers; (n, k) for k outputs, of which the worst counts.
    binary, multiclass
        Whether a decision is made, at 0.5 or for the most probable class. A flip within the tolerance is counted but
        does not refuse the export: float32 cannot tell the two sides apart.
    tolerance
        Largest difference that is put down to float32 arithmetic.

    Raises
    ------
    ParityError
        When a row differs by more than the tolerance, or is not a number on one side only.

    Examples
    --------
    >>> compare_exported(np.array([0.2, 0.8]), np.array([0.2, 0.8]), binary=True).flipped
    0
    """
    difference = relative_difference(original, exported)
    flipped = 0
    if binary or multiclass:
        flipped = int(np.sum(decisions(original) != decisions(exported)))
    if original.ndim == 2:
        place = np.arange(len(original)), difference.argmax(axis=1)
        original, exported, difference = original[place], exported[place], difference[place]
    beyond = difference > tolerance
    parity = ExportParity(
        rows=len(original),
        largest_difference=float(difference.max(initial=0.0)),
        share_beyond=float(beyond.mean()) if len(original) else 0.0,
        flipped=flipped,
        tolerance=float(tolerance),
    )
    if beyond.any():
        worst = int(difference.argmax())
        raise ParityError(
            "the exported model does not say what the original says, so it is not packed",
            got=f"largest difference {parity.largest_difference:.3g} (row {worst}: {original[worst]:.9g} became "
            f"{exported[worst]:.9g}), {parity.share_beyond:.2%} of {parity.rows} rows beyond {tolerance:g}, "
            f"{flipped} flipped decisions",
            hint="train on the float32 matrix that the training function gets, without casting it to float64; "
            "scaling or encoding inside the estimator is best moved into a feature",
        )
    return parity


def relative_difference(original: NDArray[np.float64], exported: NDArray[np.float64]) -> NDArray[np.float64]:
    """``|original - exported| / max(1, |original|)``; 0 where both are missing, infinite where one is."""
    if original.shape != exported.shape:
        raise ParityError(
            "the exported model gives another number of outputs than the original",
            got=f"shape {exported.shape}, not {original.shape}",
        )
    both_missing = np.isnan(original) & np.isnan(exported)
    with np.errstate(invalid="ignore"):
        difference = np.abs(original - exported) / np.maximum(1.0, np.abs(original))
    difference = np.where(both_missing | (original == exported), 0.0, difference)
    return np.where(np.isnan(difference), np.inf, difference)


def decisions(said: NDArray[np.float64]) -> NDArray[np.int64]:
    """The most probable class of each row; of a single probability whether it is at least a half."""
    return (said >= 0.5).astype(np.int64) if said.ndim == 1 else said.argmax(axis=1)


def predictions(outputs: NDArray[np.float32]) -> NDArray[np.float64]:
    """What a runtime gives, as it is compared and judged: float64, shape (n,) for one output, else (n, k)."""
    found = outputs.astype(np.float64)
    return found[:, 0] if found.ndim == 2 and found.shape[1] == 1 else found


@dataclass(frozen=True, slots=True)
class Exported:
    """A model as it will be served.

    Attributes
    ----------
    data
        The file that goes into the bundle.
    file
        Its path in the bundle: ``model.onnx``.
    runtime
        Which runtime loads it: ``onnx``.
    predict
        The model loaded from ``data``: (n, features) float32 to (n,) or (n, k) float64.
    parity
        How far it is from the estimator it was made of.
    libraries
        Versions of what trained, exported and runs it.
    """

    data: bytes
    file: str
    runtime: str
    predict: Callable[[NDArray[np.float32]], NDArray[np.float64]]
    parity: ExportParity
    libraries: Mapping[str, str]


class Exporter(Protocol):
    """Turns a fitted estimator into a served model.

    Contract: equal estimators give equal bytes. The result has been loaded again and compared with the
    estimator on ``rows``.
    """

    def export(self, estimator: Any, rows: NDArray[np.float32], *, task: Task) -> Exported:
        """Export, load and compare.

        Raises
        ------
        InputError
            When no exporter knows this kind of estimator.
        MissingExtra
            When the library that exports it is not installed.
        ParityError
            When the two disagree on the rows by more than float32 explains.
        """
        ...
