from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

from clocks import ManualClock, record

from nvr.announce import Announcer, fragment_message
from nvr.media import Position
from nvr.web.live import QUEUE_LENGTH, RECENT_LENGTH, WINDOW, Live, StreamQueue, Watcher

NAMES = frozenset({"street/main", "gate/main"})


def fragment(sequence: int, stream: str = "street/main", **changes):
    told = replace(
        record(sequence=sequence, stream=stream, mono_ns=sequence * 10**9), **{"is_keyframe": True, **changes}
    )
    return Position(stream, 0, 1, 4096 * sequence, 4096), told


def live_with(*fragments) -> Live:
    live = Live(Path("/nowhere"), NAMES, ManualClock(mono_ns=10**9))
    for each in fragments:
        live.take(fragment_message(*each))
    return live


def sequences(queue: StreamQueue) -> list[int]:
    return [told.sequence for _, told in queue.waiting]


def test_a_new_page_begins_with_the_last_keyframe_at_once():
    live = live_with(fragment(1), fragment(2), fragment(3, is_keyframe=False), fragment(4, is_keyframe=False))
    watcher = live.add()
    watcher.watch(["street/main"])
    assert sequences(watcher.queues["street/main"]) == [2, 3, 4]


def test_a_page_is_not_begun_with_a_picture_of_long_ago():
    live = live_with(fragment(1))
    live._clock.advance(60 * 10**9)
    watcher = live.add()
    watcher.watch(["street/main"])
    assert sequences(watcher.queues["street/main"]) == []
    live.take(fragment_message(*fragment(70, is_keyframe=False)))
    assert sequences(watcher.queues["street/main"]) == []
    live.take(fragment_message(*fragment(71)))
    assert sequences(watcher.queues["street/main"]) == [71]


def test_a_page_that_is_too_slow_loses_its_oldest_fragments_and_is_told_how_many():
    live = live_with()
    watcher = live.add()
    watcher.watch(["street/main"])
    for sequence in range(1, 1001):
        live.take(fragment_message(*fragment(sequence)))
    queue = watcher.queues["street/main"]
    assert len(queue.waiting) <= QUEUE_LENGTH
    assert sequences(queue)[-1] == 1000
    assert queue.skipped + len(queue.waiting) == 1000


def test_after_a_loss_the_page_goes_on_with_a_keyframe():
    queue = StreamQueue([])
    queue.put(fragment(1))
    for sequence in range(2, 50):
        queue.put(fragment(sequence, is_keyframe=False))
    assert len(queue.waiting) <= RECENT_LENGTH
    queue.waiting.clear()
    queue.put(fragment(50, is_keyframe=False))
    assert sequences(queue) == []
    queue.put(fragment(51))
    queue.put(fragment(52, is_keyframe=False))
    assert sequences(queue) == [51, 52]


def test_no_more_than_a_window_is_on_its_way_until_the_page_says_it_arrived():
    live = live_with()
    watcher = live.add()
    watcher.watch(["street/main"])
    for sequence in range(1, 5):
        live.take(fragment_message(*fragment(sequence)))
    sent = []
    while (item := watcher.next_fragment()) is not None:
        sent.append(item)
    assert len(sent) == WINDOW
    watcher.got("street/main")
    assert watcher.next_fragment() is not None
    for _ in range(100):
        watcher.got("street/main")
        watcher.got("no/such")
    assert watcher.queues["street/main"].on_the_way == 0


def test_streams_take_turns():
    live = live_with()
    watcher = live.add()
    watcher.watch(["street/main", "gate/main"])
    for sequence in (1, 2):
        for stream in ("street/main", "gate/main"):
            live.take(fragment_message(*fragment(sequence, stream)))
    order = [watcher.next_fragment()[1][0].stream for _ in range(4)]
    assert order == ["street/main", "gate/main", "street/main", "gate/main"]


def test_only_streams_of_this_box_are_watched_or_kept():
    live = live_with(fragment(1, "../../etc/main"))
    watcher = live.add()
    watcher.watch(["street/main", "../../etc/main", "nobody/main"] * 1000)
    assert list(watcher.queues) == ["street/main"]
    assert set(live._recent) <= NAMES


def test_a_decoder_that_gave_up_gets_init_segment_and_keyframe_again():
    live = live_with(fragment(1))
    watcher = live.add()
    watcher.watch(["street/main"])
    queue, _ = watcher.next_fragment()
    queue.init_of = (0, 1)
    watcher.again("street/main")
    assert watcher.queues["street/main"].init_of is None
    assert sequences(watcher.queues["street/main"]) == [1]


def test_what_a_newer_recorder_says_is_skipped_and_nonsense_too():
    live = live_with()
    for message in ({}, {"kind": "fragment"}, {"kind": "fragment", "record": 3, "position": []}, {"kind": "new"}, {"kind": "status", "streams": []},
                    {"kind": "status", "streams": {"street/main": 7}}):  # fmt: skip
        live.take(message)
    assert live.stream_status()["street/main"]["recording"] is False


def test_a_cause_begins_by_box_time_even_when_the_clock_was_set_meanwhile():
    clock = ManualClock(mono_ns=500 * 10**9, wall_ns=1_800_000_000 * 10**9)
    live = Live(Path("/nowhere"), NAMES, clock)
    state = {"recording": False, "cause": "network", "detail": "", "since_ms": 17, "since_mono_ns": 400 * 10**9}
    live.take({"kind": "status", "streams": {"street/main": state}})
    assert live.stream_status()["street/main"]["since_ms"] == (1_800_000_000 - 100) * 1000


def test_pages_are_told_when_the_recorder_comes_falls_silent_and_comes_again(tmp_path):
    async def story() -> list[dict]:
        live = Live(tmp_path, NAMES)
        listening = asyncio.create_task(live.listen())
        heard = []
        for generation in (1, 2):
            announcer = Announcer(tmp_path)
            announcer.status({"streams": {"street/main": {"recording": True, "detail": f"generation {generation}"}}})
            for _ in range(300):
                announcer.welcome()
                announcer.flush()
                await asyncio.sleep(0.02)
                if live.stream_status()["street/main"]["detail"] == f"generation {generation}":
                    break
            heard.append(live.stream_status()["street/main"]["detail"])
            announcer.close()
        listening.cancel()
        return heard

    assert asyncio.run(story()) == ["generation 1", "generation 2"]


def test_a_header_says_how_old_the_newest_picture_is():
    live = live_with()
    _, told = fragment(1)
    live._clock.advance(3 * 10**9)
    text = live.header("street/main", told, 700, 2)
    header = json.loads(text[4:])
    assert int.from_bytes(text[:4], "big") == len(text) - 4
    assert header["age_ms"] == live._clock.mono_ns() // 10**6 - 2000
    assert (header["init_bytes"], header["skipped"]) == (700, 2)


def test_a_watcher_sends_nothing_it_does_not_watch():
    watcher = Watcher(live_with(fragment(1)))
    assert watcher.next_fragment() is None
    watcher.got("street/main")
    watcher.again("street/main")
    assert watcher.queues == {}
