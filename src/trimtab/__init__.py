"""Trimtab: the closed loop from data to a model in production and back, in one package.

This module holds the names that a project file uses, and nothing else.
"""

from trimtab.features.sources import Entity, Events, Requests, Table, column
from trimtab.features.views import latest, windows
from trimtab.gates.declare import at_least, at_most, beats_champion, p99_below, size_below
from trimtab.loop.declare import canary, every, shadow, slo, when_drifts, when_new_labels, when_quality_drops
from trimtab.loop.model import Model
from trimtab.training.task import TrainingData, all_history, binary, label, last, multiclass, regression

__all__ = [
    "Entity",
    "Events",
    "Model",
    "Requests",
    "Table",
    "TrainingData",
    "all_history",
    "at_least",
    "at_most",
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
