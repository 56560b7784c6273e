"""What was told stays told: bounded, readable meanwhile, and there after a kill."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nvr.events import WAITING_MOST, EventLog, Events, EventsUnreadable, Evidence
from nvr.scene import Event

ROOT = Path(__file__).parents[1]
NS = 1_000_000_000
WHERE = Evidence("hall/main", "00" * 16, 1, 2)


def event(
    kind: str = "queue", state: str = "3", *, zone: str = "counter", is_end: bool = False, wall_ns: int | None = 5 * NS
) -> Event:
    return Event(
        kind, "hall", zone, state, NS, 2 * NS, wall_ns, (7, 8), (("waiting", 3.0),), (("by", "people"),), "why", is_end
    )


def log_of(folder: Path, life: str = "one", **options: int) -> EventLog:
    return EventLog(folder, life, **options)


def states(folder: Path) -> list[tuple[str, str, int, str]]:
    return [(each.stored.event.kind, each.stored.event.state, each.open, each.life) for each in Events(folder).states()]


def test_an_event_comes_back_as_it_was_told(tmp_path):
    log = log_of(tmp_path)
    told = event(wall_ns=None)
    log.add(told, WHERE, b"jpeg")
    log.add(event("line_crossing", "crossed"), WHERE)
    first, second = log.commit()
    assert (first.event, first.evidence, first.has_still) == (told, WHERE, True)
    assert Events(tmp_path).newest() == [second, first]
    assert Events(tmp_path).after(first.number) == [second]
    assert Events(tmp_path).still(first.number) == b"jpeg"
    assert Events(tmp_path).still(second.number) is None


def test_a_store_that_is_not_there_is_empty(tmp_path):
    events = Events(tmp_path / "nowhere")
    assert (events.newest(), events.states(), events.still(1)) == ([], [], None)


def test_a_following_state_replaces_the_one_before(tmp_path):
    log = log_of(tmp_path)
    for state in ("2", "3", "cannot tell"):
        log.add(event(state=state), WHERE)
    log.add(event(state="long queue"), WHERE)
    log.add(event(state="visit"), WHERE)
    log.commit()
    assert states(tmp_path) == [("queue", "cannot tell", 1, "one"), ("queue", "long queue", 1, "one")]


def test_states_that_begin_and_end_are_counted(tmp_path):
    log = log_of(tmp_path)
    for is_end in (False, False, True):
        log.add(event("stopped_vehicle", "stopped", is_end=is_end), WHERE)
    log.commit()
    assert states(tmp_path) == [("stopped_vehicle", "stopped", 1, "one")]
    log.close()
    # The next process knows nothing of the vehicles of the one before.
    log = log_of(tmp_path, "two")
    log.add(event("stopped_vehicle", "stopped", is_end=True), WHERE)
    log.commit()
    assert states(tmp_path) == [("stopped_vehicle", "stopped", 0, "two")]


def test_numbers_are_never_used_again(tmp_path):
    log = log_of(tmp_path, events_kept=3)
    for _ in range(10):
        log.add(event("line_crossing", "crossed"), WHERE)
        log.commit()
    log.close()
    log = log_of(tmp_path, "two")
    log.add(event(), WHERE)
    assert [stored.number for stored in log.commit()] == [11]


def test_it_does_not_grow_beyond_its_budgets_and_keeps_what_is_true_now(tmp_path):
    log = log_of(tmp_path, events_kept=50, stills_bytes=100_000)
    log.add(event("tamper", "covered"), WHERE)
    for _ in range(120):
        log.add(event("line_crossing", "crossed"), WHERE, bytes(4000))
        log.commit()
    found = Events(tmp_path).newest(limit=1000)
    assert len(found) <= 51
    assert found[-1].event.kind == "tamper"
    with_still = [stored for stored in found if stored.has_still]
    assert 4000 * len(with_still) <= 100_000 + 20 * 4000
    assert [stored.number for stored in with_still] == [stored.number for stored in found[: len(with_still)]]
    assert (tmp_path / "events.db").stat().st_size < 1_000_000


def test_a_disk_that_takes_nothing_is_waited_for_in_bounded_memory(tmp_path):
    (tmp_path / "events").write_text("a file where a folder should be")
    log = log_of(tmp_path / "events")
    for _ in range(WAITING_MOST + 5):
        log.add(event(), WHERE)
    assert log.commit() == []
    assert log.trouble
    assert log.dropped == 5
    (tmp_path / "events").unlink()
    log._retry_s = 0.0
    assert len(log.commit()) == WAITING_MOST
    assert not log.trouble


def test_a_damaged_store_is_put_aside_and_a_new_one_begins(tmp_path):
    (tmp_path / "events.db").write_bytes(b"a dying card wrote this" * 500)
    with pytest.raises(EventsUnreadable):
        Events(tmp_path).newest()
    log = log_of(tmp_path)
    log.add(event(), WHERE)
    assert log.commit() == []
    assert len(log.commit()) == 1
    assert (tmp_path / "damaged-events.db").exists()
    assert len(Events(tmp_path).newest()) == 1


def test_a_reader_sees_events_while_they_are_written(tmp_path):
    log = log_of(tmp_path)
    reader = Events(tmp_path)
    for number in range(1, 6):
        log.add(event(), WHERE)
        log.commit()
        assert len(reader.newest()) == number


KILLED = """
import os, signal, sys
from pathlib import Path
from nvr.events import Evidence, EventLog
from nvr.scene import Event
log = EventLog(Path(sys.argv[1]), "one")
for number in range(50):
    log.add(Event("queue", "hall", "counter", str(number), 0, 1, None), Evidence("hall/main", ""))
    log.commit()
    print(number, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_committed_is_there_after_a_kill(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert [stored.event.state for stored in Events(tmp_path).newest(limit=100)] == [str(n) for n in range(49, -1, -1)]
    log = log_of(tmp_path, "two")
    log.add(event(), WHERE)
    assert [stored.number for stored in log.commit()] == [51]


def test_a_state_that_a_new_process_finds_again_is_no_event(tmp_path):
    log = log_of(tmp_path)
    log.add(event(state="3"), WHERE)
    log.commit()
    log.close()
    log = log_of(tmp_path, "two")
    log.add(event(state="3", wall_ns=90 * NS), WHERE)
    assert log.commit() == []
    assert states(tmp_path) == [("queue", "3", 1, "two")]
    log.add(event(state="4", wall_ns=95 * NS), WHERE)
    assert len(log.commit()) == 1
    log.close()
    log = log_of(tmp_path, "three")
    log.add(event(state="4", wall_ns=95 * NS + 25 * 3600 * NS), WHERE)
    assert len(log.commit()) == 1, "of yesterday: told anew"


def test_a_store_whose_tables_were_not_made_yet_is_empty(tmp_path):
    """A detect process that was killed in its first moment left a file without tables; the page called it damaged."""
    (tmp_path / "events.db").touch()
    assert (Events(tmp_path).newest(), Events(tmp_path).states()) == ([], [])
    log = log_of(tmp_path)
    log.add(event(), WHERE)
    assert len(log.commit()) == 1
