"""The features of live answers are the ones that training would compute, and the status would say if they were not."""

import time

import msgspec
import numpy as np
from tests.e2e.live_house import wait_until

from trimtab.adapters.project.file import load_project
from trimtab.adapters.records.spool import SpoolRecords
from trimtab.adapters.wire.client import JsonClient
from trimtab.app.home import Home
from trimtab.app.live_parity import LiveParity
from trimtab.core.clock import HOUR
from trimtab.serving.record import PREDICTIONS, encode_record

pytest_plugins = ["tests.e2e.live_fixtures"]

CLEAN = {"mismatch": 0, "missing": 0, "extra": 0}


def test_served_features_are_checked_against_history_and_event_log(live):
    live.start()
    with live.console() as console, JsonClient(live.data) as data:
        for number in range(4):
            live.predict(data, f"r{number}")
            live.post_sale(console, f"s{number}", at=time.time_ns() // 1000 - HOUR)  # late
        assert console.get("/v1/status")["parity"] == {"sampled": 0, **CLEAN}
    wait_until(lambda: len(live.records()) == 4)
    parity = LiveParity(load_project(live.project), Home(live.home))
    parity.check()
    assert parity.status() == {"sampled": 4, **CLEAN}
    parity.check()
    assert parity.status()["sampled"] == 4  # each once

    served = live.records()[0]
    wrong = served.feature_values() + np.float32(1)
    tampered = msgspec.structs.replace(served, features=wrong.tobytes())
    SpoolRecords(live.home / "records", "worker-x").write(PREDICTIONS, [encode_record(tampered)])
    parity.check()
    assert parity.status() == {"sampled": 5, "mismatch": len(wrong), "missing": 0, "extra": 0}
