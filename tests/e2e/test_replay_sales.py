"""The second project through the whole loop: regression, integer keys, no windows, a person who approves."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tests.projects.staged import stage_sales

from trimtab.adapters.records.spool import SpoolRecords
from trimtab.app.replaying import ReplayRequest, run_replay
from trimtab.app.results import parity_of
from trimtab.core.ledger import verify
from trimtab.loop import events as e
from trimtab.serving.record import PREDICTIONS, decode_record


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return stage_sales(tmp_path_factory.mktemp("replayed") / "sales")


@pytest.fixture(scope="module")
def replayed(root):
    return run_replay(ReplayRequest(root, out=root / "first"))


@pytest.fixture(scope="module")
def events(replayed):
    return list(replayed.staging.home.ledger().read())


def of_type(events, *types):
    return [event for event in events if event.type in types]


def test_every_order_after_the_first_training_was_answered(replayed):
    counts = replayed.result["counts"]
    assert counts["requests answered"] == counts["requests asked"] > 1000
    served = replayed.staging.replay.served
    rows = replayed.staging.replay.answered
    assert np.isfinite(served.champion[rows.start : rows.stop]).all()
    assert np.isnan(served.champion[: rows.start]).all()


def test_it_retrains_and_judges(events):
    assert len(of_type(events, e.TRAINING_FINISHED)) >= 3
    assert not of_type(events, e.TRAINING_FAILED)
    judged = of_type(events, e.GATE_JUDGED)
    assert judged
    assert len(of_type(events, e.PROMOTED, e.REJECTED)) == len(judged) + 1  # and the first, which has no rival


def test_a_person_is_asked_and_the_ledger_says_who_answered(events):
    approved = of_type(events, e.APPROVED)
    assert [event.draft.actor for event in approved] == ["operator:rehearsal"] * len(
        of_type(events, e.APPROVAL_REQUESTED)
    )
    assert approved


def test_no_gate_scores_a_day_that_the_challenger_could_have_learned_from(events):
    learned = {event.data["version"]: event.data["trained_until"] for event in of_type(events, e.TRAINING_FINISHED)}
    progress = of_type(events, e.GATE_PROGRESSED)
    assert len(progress) > 10
    for event in progress:
        assert event.data["day"] > learned[event.data["version"]]


def test_every_served_value_is_what_training_computes(replayed):
    found = parity_of(replayed.staging, share=1.0)
    assert found["sampled"] == replayed.result["counts"]["requests answered"]
    assert (found["mismatch"], found["missing"], found["extra"]) == (0, 0, 0)


def test_the_records_hold_every_answer_once(replayed):
    found = [
        decode_record(row)
        for _, row in SpoolRecords(replayed.staging.home.root / "records", "reader").scan(PREDICTIONS)
    ]
    given = [record.request_id for record in found if record.arm != "shadow"]
    assert len(given) == len(set(given)) == replayed.result["counts"]["requests answered"]


def test_bad_rows_are_told(replayed):
    assert replayed.result["quarantine"] == {"deliveries": {"confirmed_at: known before it happened": 3}}


def test_the_ledger_is_whole_and_the_result_is_json(replayed, events):
    assert verify(events) == len(events)
    assert json.loads(json.dumps(replayed.result))["digest"] == replayed.result["digest"]


def test_the_same_again_gives_the_same_digest(root, replayed):
    again = run_replay(ReplayRequest(root, out=root / "second"))
    assert again.result["digest"] == replayed.result["digest"]
    np.testing.assert_array_equal(again.staging.replay.served.champion, replayed.staging.replay.served.champion)
