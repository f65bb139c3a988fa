"""Load that counts what fails: connections that are kept, and connections for one request each."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Self

BODY = b'{"shop": "aa", "basket": 1}'
KEPT = b"POST /predict/m HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)
ONCE = KEPT.replace(b"host: x", b"host: x\r\nconnection: close")


@dataclass
class Load:
    """Runs while the ``with`` block does something."""

    port: int
    kept: int = 64
    fresh: int = 4
    answered: int = 0
    connections: int = 0
    failures: list[str] = field(default_factory=list)
    longest_s: float = 0.0
    """From the wish to connect to the answer."""
    pause_s: float = 0.005
    _stop: bool = False

    async def __aenter__(self) -> Self:
        callers = [self._caller(KEPT) for _ in range(self.kept)] + [self._caller(ONCE) for _ in range(self.fresh)]
        self._tasks = [asyncio.create_task(caller) for caller in callers]
        await asyncio.sleep(0.3)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop = True
        await asyncio.gather(*self._tasks)

    async def _caller(self, request: bytes) -> None:
        connection = None
        while not self._stop:
            began = time.monotonic()
            try:
                if connection is None:
                    connection = await asyncio.open_connection("127.0.0.1", self.port)
                    self.connections += 1
                reader, writer = connection
                writer.write(request)
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
                await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
            except (OSError, EOFError, TimeoutError) as error:
                self.failures.append(repr(error))
                connection = None
                continue
            self.answered += 1
            self.longest_s = max(self.longest_s, time.monotonic() - began)
            if not head.startswith(b"HTTP/1.1 200"):
                self.failures.append(head.decode())
            if b"connection: close" in head.lower():
                writer.close()
                connection = None
            await asyncio.sleep(self.pause_s)
        if connection is not None:
            connection[1].close()
