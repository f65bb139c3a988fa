"""Fourteen days of real flights: the decisions, digest and all, are the ones kept in ``fortnight.json``.

A version's name covers the text of the project file, so that a comment there would change every decision that names it.
Here versions are numbered instead, and what they are made of is compared file by file.

After an intended change, write them anew and read the difference before committing it::

    python -m tests.golden.test_fortnight
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.projects.staged import prepare_flights, stage_flights

from trimtab.app.replaying import Replayed, ReplayRequest, run_replay
from trimtab.app.results import parity_report
from trimtab.core.clock import iso
from trimtab.core.ids import rounded
from trimtab.core.ledger import Event, decision_digest
from trimtab.loop import events as e
from trimtab.registry.bundle import CARD, load

KEPT = Path(__file__).parent / "fortnight.json"
START, UNTIL = "2013-03-04", "2013-03-18"


def replay(root: Path) -> Replayed:
    """The flights project from 4 to 18 March, one thread per fit."""
    stage_flights(root / "flights", prepare_flights(root / "data"), until=UNTIL)
    return run_replay(ReplayRequest(root / "flights", start=START, until=UNTIL, out=root / "out"))


def numbered(events: Sequence[Event]) -> list[Event]:
    """The events with versions named by the order in which they were trained."""
    versions = [event.data["version"] for event in events if event.type == e.TRAINING_FINISHED]

    def renamed(event: Event) -> Event:
        text = json.dumps(dict(event.data))
        for number, version in enumerate(versions, 1):
            text = text.replace(version, f"version {number}")
        return replace(event, draft=replace(event.draft, data=json.loads(text)))

    return [renamed(event) for event in events]


def told(replayed: Replayed) -> dict[str, object]:
    """What is kept: the digest, and enough to see what changed when it does."""
    events = list(replayed.staging.home.ledger().read())
    trained = [event.data for event in events if event.type == e.TRAINING_FINISHED]
    bundles = [load(replayed.staging.home.blobs(), data["version"]) for data in trained]
    return {
        "digest": decision_digest(numbered(events)),
        "events": [f"{iso(event.known)} {event.type}" for event in events],
        "trained": [
            {name: rounded(data[name]) for name in ("dataset", "rows", "metrics", "reference_weeks")}
            for data in trained
        ],
        "files": [{path: name for path, name in bundle.manifest.files.items() if path != CARD} for bundle in bundles],
        "libraries": trained[0]["other"]["libraries"],
        "answered": replayed.result["counts"]["requests answered"],
        "months": [rounded(month) for month in replayed.result["months"]],
    }


@pytest.fixture(scope="module")
def replayed(tmp_path_factory):
    return replay(tmp_path_factory.mktemp("fortnight"))


def test_the_decisions_are_the_golden_ones(replayed):
    kept, found = json.loads(KEPT.read_text()), json.loads(json.dumps(told(replayed)))
    assert found == kept  # the digest stands in it; the rest says what moved


def test_every_flight_was_answered_with_what_training_computes(replayed):
    assert replayed.result["counts"]["requests answered"] == replayed.result["counts"]["requests asked"] > 13_000
    report = parity_report(replayed.staging, share=0.2)
    assert report.rows > 2_500
    assert (report.mismatched, report.missing, report.extra) == (0, 0, 0)
    assert report.worst <= 2.0**-23  # one unit in the last place of float32; before the cast it is 1e-9


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        KEPT.write_text(json.dumps(told(replay(Path(folder))), indent=1) + os.linesep)
