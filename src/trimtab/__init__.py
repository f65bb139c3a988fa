"""Trimtab: the closed loop from data to a model in production and back, in one package.

This module holds the names that a project file uses, and nothing else.
"""

import typing

from trimtab.features.sources import Entity, Events, Requests, Table, column
from trimtab.features.views import latest, windows
from trimtab.gates.declare import at_least, beats_champion, p99_below, size_below
from trimtab.loop.declare import canary, every, shadow, slo, when_drifts, when_new_labels, when_quality_drops
from trimtab.loop.model import Model
from trimtab.training.task import TrainingData, binary, label, last, multiclass, regression

if typing.TYPE_CHECKING:
    from trimtab.training.task import all_history as all_history

__all__ = [
    "Entity",
    "Events",
    "Model",
    "Requests",
    "Table",
    "TrainingData",
    "at_least",
    "beats_champion",
    "binary",
    "canary",
    "column",
    "every",
    "label",
    "last",
    "latest",
    "multiclass",
    "p99_below",
    "regression",
    "shadow",
    "size_below",
    "slo",
    "when_drifts",
    "when_new_labels",
    "when_quality_drops",
    "windows",
]


def __getattr__(name: str) -> object:
    """``all_history`` is what ``on=`` means anyway; projects that write it go on working."""
    if name == "all_history":
        from trimtab.training.task import all_history

        return all_history
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
