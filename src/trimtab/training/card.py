"""The model card: what a model is, in words for people. A function of the run, with no clock in it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from trimtab.core.clock import iso
from trimtab.core.ids import Json, canonical
from trimtab.datasets.frozen import Dataset, FrozenSplit
from trimtab.training.export import ExportParity
from trimtab.training.task import Task


def model_card(
    *,
    model: str,
    task: Task,
    description: str,
    data: FrozenSplit,
    metrics: Mapping[str, float],
    train_metrics: Mapping[str, float],
    parity: ExportParity,
    facts: Mapping[str, Json],
) -> str:
    """Write the card in Markdown.

    Parameters
    ----------
    metrics, train_metrics
        Of the exported model on the held-out and on the training rows.
    facts
        ``params``, ``seed``, ``code_revision`` and ``libraries``; the modules of the stages, where there are any.
    """
    sections = [
        [f"# {model}", "", description or f"A {task.kind} model of `{task.target}`."],
        _what(task),
        _data(task, data),
        _metrics(task, metrics, train_metrics),
        _features(data.train),
        _limits(data, parity),
        _facts(facts),
    ]
    return "\n\n".join("\n".join(lines) for lines in sections) + "\n"


def _what(task: Task) -> list[str]:
    names = ", ".join(f"`{name}`" for name in task.names)
    match task.kind:
        case "binary":
            says = f"the probability of `{task.target}`"
        case "multiclass":
            says = f"the probability of each `{task.target}`: {names}"
        case "regression":
            says = f"{len(task.names)} numbers: {names}" if names else f"`{task.target}`, a number"
    return ["## What it says", "", f"For each request {says}. Models are compared by `{task.loss}`."]


def _data(task: Task, data: FrozenSplit) -> list[str]:
    lines = ["## Data", "", "| part | rows | from | to | mean label |", "|---|---|---|---|---|"]
    for name, part in (("training", data.train), ("held out", data.holdout)):
        if len(part):
            span = f"{iso(int(part.at[0]))} | {iso(int(part.at[-1]))}"
            means = ", ".join(f"{mean:.4f}" for mean in _label_means(task, part))
            lines.append(f"| {name} | {len(part)} | {span} | {means} |")
    kind = "Its label is 1 when the outcome took place." if task.kind == "binary" else ""
    if task.names:
        kind = "The mean label is given for each output in turn; of classes it is their share."
    return [
        *lines,
        "",
        f"Nothing asked or known after {iso(data.trained_until)} was learned from. {kind}".rstrip(),
        f"Digest of the dataset: `{data.digest}`.",
    ]


def _label_means(task: Task, part: Dataset) -> list[float]:
    if task.kind == "multiclass":
        counts = np.bincount(part.y.astype(np.int64), minlength=task.outputs)
        return [float(count) / len(part) for count in counts]
    return [float(mean) for mean in np.atleast_1d(part.y.mean(axis=0))]


def _metrics(task: Task, metrics: Mapping[str, float], train_metrics: Mapping[str, float]) -> list[str]:
    names = sorted(metrics, key=lambda name: (name != task.loss, name))
    rows = [f"| {name} | {metrics[name]:.4f} | {train_metrics.get(name, float('nan')):.4f} |" for name in names]
    return ["## Quality", "", "| metric | held out | training |", "|---|---|---|", *rows]


def _features(part: Dataset) -> list[str]:
    missing = np.isnan(part.X).mean(axis=0) if len(part) else np.zeros(len(part.names))
    rows = [f"| `{name}` | {share:.1%} |" for name, share in zip(part.names, missing, strict=True)]
    return ["## Features", "", f"{len(part.names)} columns.", "", "| feature | missing |", "|---|---|", *rows]


def _limits(data: FrozenSplit, parity: ExportParity) -> list[str]:
    return [
        "## Limits",
        "",
        f"- It has seen {iso(int(data.train.at[0]))} to {iso(int(data.train.at[-1]))} and nothing else.",
        "- Its quality was measured on one stretch of time; live quality is what the monitors say once labels mature.",
        f"- Served and trained form differ by at most {parity.largest_difference:.2g} on {parity.rows} rows.",
        "- It was not examined for fairness between groups.",
    ]


def _facts(facts: Mapping[str, Json]) -> list[str]:
    return ["## How it was made", "", *(f"- {name}: `{canonical(value).decode()}`" for name, value in facts.items())]
