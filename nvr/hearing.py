"""What the processes of a box announce to each other, heard in an event loop: `record` on announce.sock, `detect` on seen.sock.

For everybody but `record`, which announces and hears nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from nvr.announce import SEEN_SOCKET, SOCKET_NAME, Subscriber

log = logging.getLogger(__name__)

AGAIN_S = 0.5
AT_ONCE = 64  # messages; then the loop serves somebody else
SPEAKERS = {SOCKET_NAME: "the recorder", SEEN_SOCKET: "detection"}


async def packets(run_dir: Path, name: str, *, idle_s: float | None = None) -> AsyncGenerator[bytes | None, None]:
    """Everything that is announced there, still as JSON, however often the other process starts anew. Never ends by itself.

    None says that the other one is gone, at once and every AGAIN_S until it is back. With `idle_s`, b"" says that it is there and
    has said nothing for so long.
    """
    loop = asyncio.get_running_loop()
    while True:
        try:
            subscriber = Subscriber(run_dir, name)
        except OSError:
            yield None
            await asyncio.sleep(AGAIN_S)
            continue
        readable = asyncio.Event()
        loop.add_reader(subscriber.fileno(), readable.set)
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(idle_s):
                        await readable.wait()
                if not readable.is_set():
                    yield b""
                readable.clear()
                for _ in range(AT_ONCE):
                    packet = subscriber.packet(0)
                    if packet is None:
                        break
                    yield packet
                else:
                    readable.set()
                    await asyncio.sleep(0)
        except OSError as error:
            log.info("%s is gone (%s), waiting for the next one", SPEAKERS.get(name, name), error)
        finally:
            loop.remove_reader(subscriber.fileno())
            subscriber.close()
        yield None
        await asyncio.sleep(AGAIN_S)


async def messages(run_dir: Path, name: str) -> AsyncGenerator[dict[str, Any], None]:
    """The same as values; what is no message is left out."""
    async with contextlib.aclosing(packets(run_dir, name)) as heard:
        async for packet in heard:
            if not packet:
                continue
            try:
                message = json.loads(packet)
            except (ValueError, RecursionError) as error:
                log.warning("%s said something that is no JSON: %s", SPEAKERS.get(name, name), error)
                continue
            if isinstance(message, dict):
                yield message
