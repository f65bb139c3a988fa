"""``trimtab restart-workers`` under load, with several workers and with one."""

import asyncio
import json

import pytest
from tests.e2e import restart_load
from tests.e2e.live_house import MODEL, VISIT, cli
from tests.e2e.restart_load import Load

pytest_plugins = ["tests.e2e.live_fixtures"]


@pytest.mark.parametrize("workers", [1, 2])
def test_every_worker_is_replaced_and_no_request_fails(live, monkeypatch, workers):
    live.start("--workers", str(workers))
    before = live.loaded(workers)
    body = json.dumps(VISIT).encode()
    kept = b"POST /predict/%b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (MODEL.encode(), len(body), body)
    monkeypatch.setattr(restart_load, "KEPT", kept)
    monkeypatch.setattr(restart_load, "ONCE", kept.replace(b"host: x", b"host: x\r\nconnection: close"))

    async def restarted() -> tuple[Load, dict]:
        port = int(live.data.rpartition(":")[2])
        async with Load(port, kept=16) as load:
            done = await asyncio.to_thread(cli, "restart-workers", "--project", live.project, "--json")
        assert done.returncode == 0, done.stdout + done.stderr + live.log
        return load, json.loads(done.stdout)

    load, told = asyncio.run(restarted())
    assert load.failures == []
    assert load.answered > 100
    assert sorted(one["before"] for one in told["workers"]) == sorted(before)
    assert sorted(one["after"] for one in told["workers"]) == sorted(live.loaded(workers))
    assert not set(before) & set(live.pids())


def test_without_a_control_process_nothing_is_restarted(live):
    live.start()
    live.stop()
    refused = cli("restart-workers", "--project", live.project)
    assert refused.returncode == 1
    assert "no control process runs" in refused.stderr
