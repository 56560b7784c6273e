"""The way from boxes to the hub, one port for each: `python -m tools.city.simulator.link` with JSON lines on stdin.

    {"listen": {"poka-1": [40001, 8443], ...}}      at first: port to listen on, port of this machine to pass on to
    {"set": "poka-1", "how": "down"}                nothing passes, connections break, new ones are refused
    {"set": "poka-1", "how": "slow"}                64 kbit/s each way, 0.4 s late
    {"set": "poka-1", "how": "lossy"}               what TCP makes of a radio link: it stands still for one to three seconds, and now and then breaks
    {"set": "poka-1", "how": ""}                    as it was

It answers "ready" once. Packets themselves are lost in tools/bench/shaped_link.py, which needs root and two network namespaces; this needs neither.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys

SLOW_BYTES_PER_S = 8_000
SLOW_DELAY_S = 0.4
STALL_S = (1.0, 3.0)
STALL_CHANCE = 0.1  # of each piece
BREAK_EVERY_S = 25.0
PIECE_BYTES = 16 * 1024


class Link:
    def __init__(self, name: str, port: int, to_port: int) -> None:
        self.name, self.port, self.to_port = name, port, to_port
        self.how = ""
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._chance = random.Random(f"link {name}")

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._one, "127.0.0.1", self.port)

    async def set(self, how: str) -> None:
        was, self.how = self.how, how
        if how == "down":
            if self._server is not None:
                self._server.close()
                self._server = None
            self._break()
        elif was == "down":
            await self.listen()

    def _break(self) -> None:
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            hub_reader, hub_writer = await asyncio.open_connection("127.0.0.1", self.to_port)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, hub_writer}
        try:
            await asyncio.gather(self._pass(reader, hub_writer), self._pass(hub_reader, writer))
        finally:
            for each in (writer, hub_writer):
                self._writers.discard(each)
                each.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(512 if self.how == "slow" else PIECE_BYTES):
                await self._wait(len(data))
                writer.write(data)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()
            return
        writer.transport.abort()

    async def _wait(self, size_bytes: int) -> None:
        if self.how == "slow":
            await asyncio.sleep(size_bytes / SLOW_BYTES_PER_S + (SLOW_DELAY_S if size_bytes < 512 else 0))
        elif self.how == "lossy" and self._chance.random() < STALL_CHANCE:
            await asyncio.sleep(self._chance.uniform(*STALL_S))

    async def misbehave(self) -> None:
        """Break a lossy link now and then. Until cancelled."""
        while True:
            await asyncio.sleep(self._chance.uniform(0.5, 1.5) * BREAK_EVERY_S)
            if self.how == "lossy":
                self._break()


async def main() -> None:
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    wanted = json.loads(await lines.readline())["listen"]
    links = {name: Link(name, *ports) for name, ports in wanted.items()}
    for link in links.values():
        await link.listen()
    tasks = [loop.create_task(link.misbehave()) for link in links.values()]
    print("ready", flush=True)
    while line := await lines.readline():
        told = json.loads(line)
        await links[told["set"]].set(told["how"])
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
