"""The project is edited while a version answers that was trained before."""

import json
import time

from tests.e2e.live_house import MODEL, cli, wait_until

from trimtab.adapters.wire.client import JsonClient

pytest_plugins = ["tests.e2e.live_fixtures"]


def now():
    return time.time_ns() // 1000


def edit(project, old, new):
    text = (project / "project.py").read_text()
    assert old in text
    (project / "project.py").write_text(text.replace(old, new))


def features(live, visit):
    return wait_until(lambda: [row.feature_values() for row in live.records() if row.request_id == visit])[0]


def test_the_champions_features_go_on_moving_and_those_of_the_next_version_are_whole(live):
    edit(live.project, 'over=["3h", "24h"]', 'over=["3h", "48h"]')
    live.start()
    with live.console() as console, JsonClient(live.data) as data:
        champion = live.predict(data, "r1")["version"]
        for number in range(3):
            live.post_sale(console, f"s{number}", at=now())
        assert live.predict(data, "r2")["version"] == champion
        before, after = features(live, "r1"), features(live, "r2")
        assert [after[0] - before[0], after[3] - before[3]] == [3, 3]  # in 3 hours, and in 24

        # Edited once more, under the running control process: training reads what it finds.
        edit(live.project, 'over=["3h", "48h"]', 'over=["3h", "72h"]')
        trained = json.loads(cli("train", MODEL, "-p", live.project, "--json").stdout)["version"]
        assert trained != champion
        asked = {"version": trained, "reason": "a test", "actor": "ada"}
        assert console.post(f"/v1/models/{MODEL}/force", asked)["accepted"]
        seen = {}

        def canary():
            visit = f"c{time.monotonic_ns()}"
            seen[live.predict(data, visit)["version"]] = visit
            return trained in seen

        wait_until(canary, what="an answer of the canary")
        found = features(live, seen[trained])
        assert found[0] >= 3
        assert found[3] >= after[3]  # 72 hours hold more than 24: they were made from the history and the log
