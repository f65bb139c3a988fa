"""Stages of a project through the whole loop: trained, gated, replayed, and served by the real processes.

Every answer equals what its version says stage by stage, computed here by hand from its bundle and the recorded features.
"""

from __future__ import annotations

import numpy as np
import pytest
from tests.e2e.live_house import make_project, rehearsed

from trimtab.adapters.models.onnx_runtime import OnnxModel
from trimtab.app.home import Home
from trimtab.app.replaying import ReplayRequest, run_replay
from trimtab.core.clock import instant
from trimtab.core.ledger import decision_digest
from trimtab.loop import events as e
from trimtab.registry.bundle import load
from trimtab.serving.record import PREDICTIONS, decode_record

START, CHECKPOINT, END = "2024-03-05", "2024-03-07", "2024-03-10"
SCALING = "import numpy as np\n\n\ndef preprocess(values):\n    return np.log1p(np.nan_to_num(values))\n"
CALIBRATE = "def postprocess(outputs):\n    return 0.1 + 0.6 * outputs\n"


@pytest.fixture(scope="module")
def replayed(tmp_path_factory):
    root = make_project(tmp_path_factory.mktemp("stages") / "clicks", until=instant(END), days=10)
    (root / "features" / "scaling.py").write_text(SCALING)
    (root / "features" / "calibrate.py").write_text(CALIBRATE)
    file = root / "project.py"
    stages = 'preprocess="features.scaling", postprocess="features.calibrate", holdout='
    file.write_text(file.read_text().replace("holdout=", stages))
    request = ReplayRequest(root, start=START, checkpoint=(CHECKPOINT, root / "live"), out=root / "replay")
    return root, run_replay(request)


def records(home):
    found = [decode_record(row) for _, row in home.records("reader").scan(PREDICTIONS)]
    return [record for record in found if record.status == "ok"]


def check_by_hand(home, found):
    """Each recorded answer, from the features recorded beside it and the files of its version."""
    models = {version: OnnxModel(load(home.blobs(), version).model) for version in {one.version for one in found}}
    for version, model in models.items():
        ours = [one for one in found if one.version == version]
        features = np.array([one.feature_values() for one in ours], np.float32)
        made = np.log1p(np.nan_to_num(features)).astype(np.float32)
        by_hand = 0.1 + 0.6 * model.run(made)[:, 0].astype(np.float64)
        np.testing.assert_allclose([one.outputs[0] for one in ours], by_hand, atol=1e-6)
    return set(models)


def test_every_answer_of_the_replay_is_made_stage_by_stage(replayed):
    _, done = replayed
    found = records(done.staging.home)
    versions = check_by_hand(done.staging.home, found)
    events = list(done.staging.home.ledger().read())
    trained = [event.data for event in events if event.type == e.TRAINING_FINISHED]
    assert len(trained) >= 2
    assert {one.arm for one in found} >= {"champion", "shadow"}
    assert versions == {data["version"] for data in trained}
    for data in trained:
        manifest = load(done.staging.home.blobs(), data["version"]).manifest
        assert (manifest.preprocess, manifest.postprocess) == ("features.scaling", "features.calibrate")
    assert [event.data for event in events if event.type == e.FLOORS_JUDGED]
    assert done.result["parity"]["mismatch"] == 0


def test_live_answers_equal_the_replays_and_those_by_hand(replayed, monkeypatch):
    root, done = replayed
    staging = done.staging
    monkeypatch.setenv("TRIMTAB_TOKEN", "a token")
    home, now = root / "live", instant(CHECKPOINT)
    found = rehearsed(root, staging, home=home, now=now, token="a token")
    assert found.requests > 500
    assert found.largest_difference <= 1e-6
    assert found.other_version == 0
    live = Home(home)
    assert len(check_by_hand(live, records(live))) >= 2
    replay, ours = (
        [event for event in Home(at).ledger().read() if event.stream.startswith("model:")]
        for at in (staging.home.root, home)
    )
    assert decision_digest(ours) == decision_digest(replay)
