"""The live finale in small: real processes go on from a replay's checkpoint, and come to the same answers and decisions."""

import pytest
from tests.e2e.live_house import make_project, rehearsed

from trimtab.app.home import Home
from trimtab.app.replaying import ReplayRequest, run_replay
from trimtab.core.clock import instant
from trimtab.core.ledger import decision_digest

START, CHECKPOINT, END = "2024-03-05", "2024-03-07", "2024-03-11"


@pytest.fixture(scope="module")
def replayed(tmp_path_factory):
    root = make_project(tmp_path_factory.mktemp("rehearsal") / "clicks", until=instant(END), days=10)
    request = ReplayRequest(root, start=START, checkpoint=(CHECKPOINT, root / "live"), out=root / "replay")
    return root, run_replay(request).staging


def test_live_answers_and_decisions_equal_the_replays(replayed, monkeypatch):
    """Two days before a retraining: it learns from the event log and the records what the replay learned from files."""
    root, staging = replayed
    monkeypatch.setenv("TRIMTAB_TOKEN", "a token")
    home, now = root / "live", instant(CHECKPOINT)
    found = rehearsed(root, staging, home=home, now=now, token="a token")
    assert found.requests > 1000
    assert found.largest_difference <= 1e-6
    assert found.other_version == 0
    replay, live = (decisions(at) for at in (staging.home.root, home))
    assert [event.type for event in live] == [event.type for event in replay]
    assert "TrainingFinished" in {event.type for event in live if event.known > now}
    assert decision_digest(live) == decision_digest(replay)


def decisions(home):
    return [event for event in Home(home).ledger().read() if event.stream.startswith("model:")]
