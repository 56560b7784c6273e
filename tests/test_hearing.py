"""What processes announce, heard in an event loop: whoever comes, goes and comes again is heard, nonsense is left out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

from nvr.announce import SEEN_SOCKET, SOCKET_NAME, Announcer
from nvr.hearing import messages, packets

PATIENCE_S = 60


async def speak(announcer: Announcer, done: asyncio.Event) -> None:
    while not done.is_set():
        announcer.welcome()
        announcer.flush()
        await asyncio.sleep(0.01)


async def next_of(heard: AsyncGenerator[Any, None], wanted: Any) -> None:
    async with asyncio.timeout(PATIENCE_S):
        async for each in heard:
            if each == wanted:
                return


def test_the_other_process_may_come_late_go_and_come_again(tmp_path):
    async def story() -> None:
        async with contextlib.aclosing(packets(tmp_path, SEEN_SOCKET)) as heard:
            await next_of(heard, None)  # nobody is there
            for generation in (1, 2):
                announcer, done = Announcer(tmp_path, SEEN_SOCKET), asyncio.Event()
                announcer.status({"generation": generation})
                speaking = asyncio.create_task(speak(announcer, done))
                await next_of(heard, b'{"kind":"status","generation":%d}' % generation)
                done.set()
                await speaking
                announcer.close()
                await next_of(heard, None)

    asyncio.run(story())


def test_one_that_is_there_and_says_nothing_is_told_from_one_that_is_gone(tmp_path):
    async def story() -> None:
        announcer, done = Announcer(tmp_path, SEEN_SOCKET), asyncio.Event()
        speaking = asyncio.create_task(speak(announcer, done))
        async with contextlib.aclosing(packets(tmp_path, SEEN_SOCKET, idle_s=0.05)) as heard:
            await next_of(heard, b"")
            await next_of(heard, b"")
        done.set()
        await speaking
        announcer.close()

    asyncio.run(story())


def test_what_is_no_message_is_left_out(tmp_path, caplog):
    async def story() -> None:
        announcer, done = Announcer(tmp_path), asyncio.Event()
        announcer.status({"number": 0})
        speaking = asyncio.create_task(speak(announcer, done))
        async with contextlib.aclosing(messages(tmp_path, SOCKET_NAME)) as heard:
            await next_of(heard, {"kind": "status", "number": 0})
            for packet in (b"{", b"7", b"\xff" * 10):
                announcer._put(packet)
            announcer.status({"number": 1})
            await next_of(heard, {"kind": "status", "number": 1})
        done.set()
        await speaking
        announcer.close()

    asyncio.run(story())
    assert "no JSON" in caplog.text
