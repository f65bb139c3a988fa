"""A server of the data plane over a plane that shows what it was given: ``python -m … KIND LIMITS``; prints its port."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import uvloop

from trimtab.adapters.wire.asgi import UvicornServer
from trimtab.adapters.wire.exchange import WANTED, Incoming, Respond
from trimtab.adapters.wire.limits import Limits
from trimtab.adapters.wire.listening import listening_socket
from trimtab.adapters.wire.reply import Reply, refuse, reply_json
from trimtab.adapters.wire.server import HttpServer
from trimtab.core.ids import sha256

ROOT = Path(__file__).parents[2]


class Mirror:
    """``POST /echo`` tells what came; ``GET /after/<ms>`` takes its time; ``GET /large/<bytes>``; ``GET /count``."""

    def __init__(self) -> None:
        self.taken = 0

    def counted(self, reply: Reply, _method: str = "", _path: str = "") -> Reply:
        return reply

    def take(self, incoming: Incoming, respond: Respond) -> None:
        self.taken += 1
        kind, _, number = incoming.path[1:].partition("/")
        if kind == "after":
            reply = reply_json({"after": number})
            asyncio.get_running_loop().call_later(int(number) / 1000, respond, reply)
        elif kind == "large":
            respond(Reply(200, b"x" * int(number)))
        elif kind == "count":
            respond(reply_json({"taken": self.taken}))
        elif kind == "echo" and incoming.method != "POST":
            respond(refuse(405, "this path takes a POST", headers=((b"allow", b"POST"),)))
        elif kind == "echo":
            headers = {
                name.decode(): value.decode("latin-1") for name, value in incoming.headers.items() if name in WANTED
            }
            seen = {"path": incoming.path, "headers": headers, "size": len(incoming.body), "sha": sha256(incoming.body)}
            respond(reply_json(seen))
        else:
            respond(refuse(404, "no such path", got=incoming.path))


def main(kind: str, limits: Limits) -> None:
    listener = listening_socket("127.0.0.1", 0)
    listener.listen(2048)
    print(listener.getsockname()[1], flush=True)
    plane = Mirror()
    server = HttpServer(plane, limits) if kind == "httptools" else UvicornServer(plane, max_body=limits.body)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(server.run(listener))


class Answer:
    """One response."""

    def __init__(self, head: bytes, body: bytes) -> None:
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split()[1])
        self.headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        self.body = body

    def json(self):
        assert self.headers["content-type"] == "application/json", self.headers
        return json.loads(self.body)


class Caller:
    """A socket that says exactly what it is told to."""

    def __init__(self, port: int, *, receive: int = 0, within: float = 15.0) -> None:
        self.socket = socket.socket()
        if receive:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        self.socket.settimeout(within)
        self.socket.connect(("127.0.0.1", port))
        self.rest = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> Self:
        self.socket.sendall(data)
        return self

    def answer(self, *, head_only: bool = False) -> Answer | None:
        """The next response; None at the end of the connection."""
        while b"\r\n\r\n" not in self.rest:
            if not self._more():
                assert not self.rest, self.rest
                return None
        head, _, self.rest = self.rest.partition(b"\r\n\r\n")
        found = Answer(head, b"")
        size = int(found.headers.get("content-length", 0)) if not head_only and found.status >= 200 else 0
        while len(self.rest) < size:
            assert self._more(), "the answer is cut off"
        found.body, self.rest = self.rest[:size], self.rest[size:]
        return found

    def answers(self) -> list[Answer]:
        """All up to the end of the connection."""
        return list(iter(self.answer, None))

    def ended(self) -> bool:
        """Whether nothing but the end comes."""
        try:
            return self.rest == b"" and not self._more()
        except ConnectionError:
            return True

    def _more(self) -> bool:
        data = self.socket.recv(65536)
        self.rest += data
        return bool(data)


class Served:
    """A server process of one kind."""

    def __init__(self, kind: str, *, files: int = 0, **limits: float) -> None:
        self.kind = kind
        command = [sys.executable, "-m", "tests.conformance.http_server", kind, json.dumps(limits)]
        command = ["prlimit", f"--nofile={files}", *command] if files else command
        environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE)
        self.port = int(self.process.stdout.readline())

    def caller(self, **options: float) -> Caller:
        return Caller(self.port, **options)

    def one(self, data: bytes, *, head_only: bool = False) -> Answer | None:
        """The first answer to these bytes."""
        with self.caller() as caller:
            return caller.send(data).answer(head_only=head_only)

    def taken(self) -> int:
        """How many requests the plane has seen, without this one."""
        return self.one(b"GET /count HTTP/1.1\r\nhost: x\r\n\r\n").json()["taken"] - 1

    def well(self) -> bool:
        """Whether another caller is answered soon."""
        began = time.monotonic()
        answer = self.one(post(b"hello"))
        return self.process.poll() is None and answer.status == 200 and time.monotonic() - began < 2

    def mebibytes(self) -> float:
        """Resident memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(10)
        self.process.stdout.close()


def post(body: bytes, *headers: bytes, path: bytes = b"/echo") -> bytes:
    """An ordinary request."""
    lines = [b"POST " + path + b" HTTP/1.1", b"host: x", b"content-length: %d" % len(body), *headers, b"", b""]
    return b"\r\n".join(lines) + body


if __name__ == "__main__":
    main(sys.argv[1], Limits(**json.loads(sys.argv[2])))
