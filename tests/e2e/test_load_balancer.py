"""What docs/deploy-behind-a-load-balancer.md promises: its probes, and its nginx in front of two instances."""

import asyncio
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from tests.e2e.restart_load import Load
from tests.e2e.worker_house import WorkerHouse, call
from tests.soak import long

PAGE = (Path(__file__).parents[2] / "docs" / "deploy-behind-a-load-balancer.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    return re.search(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[1]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def test_the_probes_are_answered(tmp_path):
    house = WorkerHouse(tmp_path)
    paths = re.findall(r"httpGet: \{path: (\S+),", block("yaml"))
    assert len(paths) == 3
    try:
        house.home.joinpath("route.json").unlink(missing_ok=True)
        port = house.start().port
        before = {path: call(port, "GET", path)[0] for path in paths}
        assert before == {"/v2/health/ready": 503, "/v2/health/live": 200}
        house.route(("champion", house.add(0.0), 1.0))
        house.until(lambda: call(port, "GET", "/v2/health/ready")[0] == 200)
        for path in [*paths, "/health", "/v2/models/m/ready"]:
            assert call(port, "GET", path)[0] == 200
    finally:
        house.kill()


class Nginx:
    """nginx with the configuration of the page, in front of two instances."""

    def __init__(self, folder: Path, *, repeat: bool) -> None:
        program = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
        assert program, "nginx is not installed: apt-get install nginx"
        self.port = free_port()
        self.houses = [WorkerHouse(folder / name) for name in ("one", "two")]
        for house in self.houses:
            house.route(("champion", house.add(0.0), 1.0))
            house.port = house.start().port
        text = block("nginx").replace("127.0.0.1:8080", f"127.0.0.1:{self.port}")
        for example, house in zip(("127.0.0.1:8081", "127.0.0.1:8082"), self.houses, strict=True):
            assert example in text
            text = text.replace(example, f"127.0.0.1:{house.port}")
        if repeat:
            text = text.replace("error timeout;", "error timeout non_idempotent;")
            assert "non_idempotent" in text
        temporary = "".join(
            f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        configuration = folder / "nginx.conf"
        configuration.write_text(
            f"daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1;\n"
            f"events {{ worker_connections 2000; }}\nhttp {{ access_log off; {temporary} {text} }}\n"
        )
        command = [program, "-p", str(folder), "-c", str(configuration), "-e", f"{folder}/error.log"]
        self.process = subprocess.Popen(command)
        self.houses[0].until(self._listens)

    def _listens(self) -> bool:
        try:
            return call(self.port, "GET", "/v2/health/ready")[0] == 200
        except OSError:
            return False

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)
        for house in self.houses:
            house.kill()


async def ended(nginx: Nginx, *, how: str, times: int) -> Load:
    """Load through nginx while an instance ends and comes again."""
    async with Load(nginx.port) as load:
        for turn in range(times):
            house = nginx.houses[turn % 2]
            process = house.processes[-1]
            process.kill() if how == "KILL" else process.terminate()
            await asyncio.to_thread(process.wait, 15)
            await asyncio.sleep(0.5)
            await asyncio.to_thread(house.start, port=house.port)
            await asyncio.sleep(1.5)  # until nginx tries it again
    kinds = sorted({failure.split("\r\n")[0] for failure in load.failures})
    print(
        f"{how} {times}: {load.answered} answers, {len(load.failures)} failed {kinds}, longest {load.longest_s:.2f} s"
    )
    return load


@long
@pytest.mark.parametrize(("how", "repeat", "lost"), [("KILL", False, 64 + 4), ("KILL", True, 0), ("TERM", False, 0)])
def test_soak_one_of_two_instances_ends_behind_nginx(tmp_path, how, repeat, lost):
    nginx = Nginx(tmp_path, repeat=repeat)
    try:
        load = asyncio.run(ended(nginx, how=how, times=6))
    finally:
        nginx.stop()
    assert len(load.failures) <= lost * 6
    assert all(failure.startswith("HTTP/1.1 502") for failure in load.failures)
    assert load.answered > 2000
