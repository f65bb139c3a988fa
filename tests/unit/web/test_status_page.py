"""The status page: shows what there is, and does not fall over what there is not."""

import pytest
from tests.unit.web.test_report import read

from trimtab.web.status import render_status

STATUS = {
    "project": "flights",
    "now": "2013-12-29T06:00:00Z",
    "ledger": {"events": 1204, "head": "ab" * 32, "epoch": 3},
    "control": {"state": "running", "pid": 12, "since": "2013-12-29T05:59:00Z"},
    "models": [
        {
            "name": "late_arrival",
            "live": {
                "version": "4f9c2a7be1d0" * 5,
                "since": "2013-10-21T00:00:00Z",
                "actor": "loop",
                "reason": "it beats the champion",
                "approved_by": "policy",
            },
            "arms": [{"name": "champion", "version": "4f9c2a7be1d0", "share": 0.9}],
            "rollout": {
                "id": "r9",
                "challenger": "77aa",
                "step": "canary 10 %",
                "share": 0.1,
                "since": "2013-12-28T00:00:00Z",
                "rows": 812,
                "evidence": {"e_value": 13.2, "guardrails": [{"name": "errors", "e": 0.8}]},
            },
            "waiting": None,
            "training": {"job": "j1", "since": "2013-12-29T05:00:00Z", "trigger": "time"},
            "quality": {"week": "2013-12-16", "loss": 0.47, "limit": 0.51, "coverage": 0.97, "labelled": 6000},
            "drift": [
                {
                    "feature": "distance",
                    "severity": "ok",
                    "psi": 0.01,
                    "alarm": 0.12,
                    "rows": 6000,
                    "week": "2013-12-16",
                },
                {
                    "feature": "wind",
                    "severity": "critical",
                    "psi": 0.7,
                    "alarm": 0.2,
                    "rows": 6000,
                    "week": "2013-12-16",
                },
                {"feature": "temp", "severity": "insufficient_data", "psi": None, "alarm": None, "rows": 12},
            ],
            "decisions": [
                {
                    "when": "2013-12-28T00:00:00Z",
                    "kind": "canary",
                    "sentence": "77aa answers 10 %.",
                    "evidence": {"e": 13.2},
                }
            ],
        }
    ],
    "batches": [
        {
            "model": "late_arrival",
            "in": "/data/tomorrow.parquet",
            "out": "/data/{time}.parquet",
            "every": "1d",
            "next": "2013-12-30T00:00:00Z",
            "last": {"result": "failed", "due": "2013-12-29T00:00:00Z", "error": "<script>no file holds the rows"},
        }
    ],
    "sources": [
        {
            "name": "landings",
            "kind": "events",
            "rows": 300_000,
            "quarantined": 15,
            "watermark": {"seq": 300_000, "known": "2013-12-29T05:58:00Z"},
            "behind_s": 120.0,
        }
    ],
    "workers": [
        {"name": "w0", "pid": 13, "state": "ready", "generation": 9, "answered": 812, "errors": 0, "p99_ms": 3.1}
    ],
}


def test_it_shows_what_is_live_what_is_under_way_and_what_drifts():
    page = render_status(STATUS)
    read(page)
    for words in ("A rollout of late_arrival is under way", "it beats the champion", "77aa", "13.2", "120 s", "812"):
        assert words in page
    assert page.index(">wind<") < page.index(">temp<") < page.index(">distance<")


def test_it_says_when_the_control_process_is_gone():
    assert "nothing is decided" in render_status(STATUS | {"control": {"state": "gone"}})
    assert "nothing is decided" not in render_status(STATUS)


@pytest.mark.parametrize("name", sorted(STATUS))
def test_it_survives_a_missing_part(name):
    read(render_status({key: value for key, value in STATUS.items() if key != name}))


@pytest.mark.parametrize("name", sorted(STATUS["models"][0]))
def test_it_survives_a_model_without_a_part(name):
    model = {key: value for key, value in STATUS["models"][0].items() if key != name}
    read(render_status(STATUS | {"models": [model]}))


def test_it_shows_when_a_batch_runs_and_what_came_of_the_last():
    page = render_status(STATUS)
    for words in ("Scheduled batches", "/data/tomorrow.parquet", "2013-12-30 00:00", "failed", "&lt;script&gt;no file"):
        assert words in page
    ran = {"result": "ran", "due": "2013-12-29T00:00:00Z", "rows": 1200, "failed": 0, "quarantined": 7}
    page = render_status(STATUS | {"batches": [STATUS["batches"][0] | {"last": ran}]})
    assert "1,200 rows, 0 failed, 7 quarantined" in page
    assert "not yet" in render_status(STATUS | {"batches": [STATUS["batches"][0] | {"last": None}]})


def test_a_name_cannot_become_markup():
    page = render_status(STATUS | {"project": "<script>alert(1)</script>"})
    read(page)
    assert page.count("<script>") == 1
