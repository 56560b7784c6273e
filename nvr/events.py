"""Events and states as they were told, on disk: DATA/events. `detect` writes; the page and the outbox read at any time.

An event is never changed once it is stored; what is true now (a state) stands beside it and names the event that
made it so. One transaction holds what came within a second and is synced when it is committed, so a power cut costs that second
at most. `record` never touches this file, so a database is allowed here. It is bounded: beyond their budgets the
oldest stills go, then the oldest events.

    events   number, life, camera, kind, zone, state, wall_ns, body (JSON: all the rest)
    stills   event, jpeg
    states   camera, kind, zone, state -> event, how many are open, life
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nvr.errors import NvrError
from nvr.scene import Event

log = logging.getLogger(__name__)

STILLS_BYTES = 200_000_000  # some 5,000 stills
EVENTS_KEPT = 200_000  # a busy road counts 20,000 vehicles a day
WAITING_MOST = 2_000  # while the disk does not take them
TIDY_BYTES = 2_000_000
EVENT_BYTES = 12_000  # the pages that a small event changes in the log, about
BUSY_S = 5.0  # a reader holds nothing for long; a backup may
_VERSION = 1
_AGAIN_NS = 24 * 3600 * 1_000_000_000  # a state of yesterday is told anew
_FILE = "events.db"

# Rules whose states follow each other; of all others a state begins, and ends by itself.
FOLLOWING = frozenset(("service_open", "queue", "congestion"))
MOMENTS = frozenset((("line_crossing", "crossed"), ("queue", "visit")))  # things that happen and are over
BEGINS_AND_ENDS = frozenset((("queue", "long queue"),))

_TABLES = """
CREATE TABLE IF NOT EXISTS events (number INTEGER PRIMARY KEY AUTOINCREMENT, life TEXT NOT NULL, camera TEXT NOT NULL,
  kind TEXT NOT NULL, zone TEXT NOT NULL, state TEXT NOT NULL, wall_ns INTEGER, body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS of_camera ON events (camera, number);
CREATE TABLE IF NOT EXISTS stills (event INTEGER PRIMARY KEY, size_bytes INTEGER NOT NULL, jpeg BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS states (camera TEXT NOT NULL, kind TEXT NOT NULL, zone TEXT NOT NULL, state TEXT NOT NULL,
  event INTEGER NOT NULL, open INTEGER NOT NULL, life TEXT NOT NULL, PRIMARY KEY (camera, kind, zone, state)) WITHOUT ROWID;
"""


class EventsUnreadable(NvrError):
    """What was stored cannot be read now."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Where the footage lies that an event rests on, and when that was by the clock that never steps."""

    stream: str  # "camera/main": a recorded stream, also when another one was looked at
    boot_id: str  # with the mono times it finds the wall time when the clock was set later
    from_sequence: int = 0  # fragments of `stream`; 0 where they are not known
    to_sequence: int = 0


@dataclass(frozen=True, slots=True)
class Stored:
    """An event as it lies on disk."""

    number: int  # rises by one for each event, and is never used again
    life: str  # of the detect process that told it
    event: Event
    evidence: Evidence
    has_still: bool

    @property
    def is_moment(self) -> bool:
        return (self.event.kind, self.event.state) in MOMENTS

    def to_json(self) -> dict[str, Any]:
        event, evidence = self.event, self.evidence
        from_ms = None if event.wall_ns is None else event.wall_ns // 1_000_000
        return {
            "number": self.number,
            "camera": event.camera,
            "kind": event.kind,
            "zone": event.zone,
            "state": event.state,
            "is_end": event.is_end,
            "is_moment": self.is_moment,
            "from_ms": from_ms,
            "to_ms": None if from_ms is None else from_ms + (event.to_ns - event.from_ns) // 1_000_000,
            "tracks": list(event.tracks),
            "numbers": dict(event.numbers),
            "words": dict(event.words),
            "detail": event.detail,
            "stream": evidence.stream,
            "from_sequence": evidence.from_sequence,
            "to_sequence": evidence.to_sequence,
            "has_still": self.has_still,
        }


@dataclass(frozen=True, slots=True)
class State:
    """What is true now, or was when the process that told it ended."""

    stored: Stored  # the event that made it so
    open: int  # of states that begin and end: how many are open, such as vehicles that stand; else 1
    life: str


@dataclass(frozen=True, slots=True, eq=False)  # two that look alike are two
class _Waiting:
    event: Event
    evidence: Evidence
    jpeg: bytes | None


def _slot(event: Event) -> str | None:
    """Which state of its rule and zone an event changes; None: none."""
    if (event.kind, event.state) in MOMENTS:
        return None
    if event.kind in FOLLOWING and (event.kind, event.state) not in BEGINS_AND_ENDS:
        return ""
    return event.state


def _body(event: Event, evidence: Evidence) -> str:
    fields = {
        "from_ns": event.from_ns, "to_ns": event.to_ns, "tracks": event.tracks, "numbers": event.numbers,
        "words": event.words, "detail": event.detail, "is_end": event.is_end, "stream": evidence.stream,
        "boot_id": evidence.boot_id, "from_sequence": evidence.from_sequence, "to_sequence": evidence.to_sequence,
    }  # fmt: skip
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False)


def _stored(row: tuple[Any, ...]) -> Stored:
    number, life, camera, kind, zone, state, wall_ns, body, has_still = row
    fields = json.loads(body)
    event = Event(
        kind, camera, zone, state, fields["from_ns"], fields["to_ns"], wall_ns, tuple(fields["tracks"]),
        tuple((name, float(value)) for name, value in fields["numbers"]),
        tuple((name, str(value)) for name, value in fields["words"]), fields["detail"], fields["is_end"],
    )  # fmt: skip
    evidence = Evidence(fields["stream"], fields["boot_id"], fields["from_sequence"], fields["to_sequence"])
    return Stored(number, life, event, evidence, bool(has_still))


_COLUMNS = (
    "events.number, events.life, events.camera, events.kind, events.zone, events.state, events.wall_ns, events.body, "
    "EXISTS (SELECT 1 FROM stills WHERE stills.event = events.number)"
)


class EventLog:
    """The writing side; one process has one. A disk that does not take events is waited for, and nothing else waits."""

    def __init__(
        self, folder: Path, life: str, *, stills_bytes: int = STILLS_BYTES, events_kept: int = EVENTS_KEPT
    ) -> None:
        """`life`: names the process, for states that ended with it. Never raises for the disk: `trouble` then says why."""
        self.folder, self.life = folder, life
        self.stored = 0  # by this process
        self.dropped = 0  # events that the disk did not take for too long
        self.trouble = ""
        self._stills_bytes, self._events_kept = stills_bytes, events_kept
        self._waiting: deque[_Waiting] = deque()
        self._unsure: dict[
            _Waiting, int
        ] = {}  # the numbers they got in a transaction of which nobody knows whether it was committed
        self._base: sqlite3.Connection | None = None
        self._retry_s = 0.0
        self._commits = 0
        self._untidy_bytes = 0  # committed since tidy(), about

    def add(self, event: Event, evidence: Evidence, jpeg: bytes | None = None) -> None:
        """Keep an event until commit()."""
        if len(self._waiting) == WAITING_MOST:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(_Waiting(event, evidence, jpeg))

    def commit(self) -> list[Stored]:
        """Make everything durable that was added; what is stored now. Empty while the disk does not take it."""
        if not self._waiting or (self.trouble and time.monotonic() < self._retry_s):
            return []
        waiting = list(self._waiting)
        try:
            base = self._base or self._open()
            if self._unsure:
                # Nobody knows what the disk has of a log whose sync failed: all of it goes to its place, and is synced there.
                base.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            with base:
                base.execute("BEGIN IMMEDIATE")
                found = self._found_again(base)
                new = [each for each in waiting if each not in found and not self._is_repeated(base, each.event)]
                self._unsure = {**found, **{each: self._insert(base, each) for each in new}}
                self._bound(base)
        except (sqlite3.Error, OSError) as error:
            self._failed(error)
            return []
        stored, self._unsure = self._unsure, {}
        self._waiting.clear()
        self._untidy_bytes += sum(EVENT_BYTES + len(each.jpeg or b"") for each in stored)
        self.trouble = ""
        self.stored += len(stored)
        return [
            Stored(number, self.life, each.event, each.evidence, each.jpeg is not None)
            for each, number in sorted(stored.items(), key=lambda item: item[1])
        ]

    def _found_again(self, base: sqlite3.Connection) -> dict[_Waiting, int]:
        """What lies in the store although its commit failed: a sync that fails leaves a whole transaction in the log, and whoever opens it next takes
        it for done. Told again, an alarm would come twice."""
        has = "SELECT 1 FROM events WHERE number = ? AND life = ?"
        return {
            each: number
            for each, number in self._unsure.items()
            if base.execute(has, (number, self.life)).fetchone() is not None
        }

    def tidy(self) -> None:
        """Bring what was committed to its place in the file, now and then: that is two syncs more. To be called after commit(), and never raises."""
        try:
            if self._base is not None and self._untidy_bytes > TIDY_BYTES:
                self._base.execute("PRAGMA wal_checkpoint(PASSIVE)")
                self._untidy_bytes = 0
        except sqlite3.Error as error:
            log.debug("the store of events is not tidied: %s", error)

    def close(self) -> None:
        self.commit()
        if self._base is not None:
            self._base.close()
            self._base = None

    def _open(self) -> sqlite3.Connection:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # psow=0: a card that loses power while it writes may harm what was durable beside it in the same page, so nothing is appended there.
        where = f"{(self.folder / _FILE).absolute().as_uri()}?psow=0"
        base = sqlite3.connect(where, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            os.chmod(self.folder / _FILE, 0o600)
            base.execute("PRAGMA journal_mode = WAL")  # readers do not wait for the writer, nor it for them
            base.execute(
                "PRAGMA synchronous = FULL"
            )  # the log is synced at each commit: a power cut takes nothing committed
            base.execute("PRAGMA wal_autocheckpoint = 0")  # tidy() does it, when everybody knows what happened
            version = base.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, _VERSION):
                raise sqlite3.DatabaseError(f"it has version {version}, this program writes {_VERSION}")
            base.executescript(_TABLES)
            base.execute(f"PRAGMA user_version = {_VERSION}")
        except BaseException:
            base.close()
            raise
        self._base = base
        return base

    def _failed(self, error: Exception) -> None:
        if self._base is not None:
            self._base.close()
            self._base = None
        if not self.trouble:
            log.warning("events cannot be stored, they wait in memory: %s", error)
        self.trouble = str(error)
        self._retry_s = time.monotonic() + 10.0
        # A file that a dying card damaged is put aside: what happens from now on matters more.
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(
            error, sqlite3.OperationalError | sqlite3.IntegrityError
        ):
            try:
                os.replace(self.folder / _FILE, self.folder / f"damaged-{_FILE}")
                for ending in ("-wal", "-shm"):
                    (self.folder / f"{_FILE}{ending}").unlink(missing_ok=True)
                self._retry_s = 0.0
                log.error("the store of events was damaged; it is kept as damaged-%s, a new one begins", _FILE)
            except OSError:
                pass

    def _is_repeated(self, base: sqlite3.Connection, event: Event) -> bool:
        """Whether a new process only finds again what the one before had told: then it stays true, and nothing happened."""
        if _slot(event) != "":
            return False
        row = base.execute(
            "SELECT states.life, events.state, events.wall_ns, events.body FROM states JOIN events ON events.number = states.event "
            "WHERE states.camera = ? AND states.kind = ? AND states.zone = ? AND states.state = ''",
            (event.camera, event.kind, event.zone),
        ).fetchone()
        if row is None or row[0] == self.life or row[1] != event.state or None in (row[2], event.wall_ns):
            return False
        words = dict(json.loads(row[3])["words"])
        if words.get("due") != dict(event.words).get("due") or not 0 <= event.wall_ns - row[2] < _AGAIN_NS:
            return False
        base.execute(
            "UPDATE states SET life = ? WHERE camera = ? AND kind = ? AND zone = ? AND state = ''",
            (self.life, event.camera, event.kind, event.zone),
        )
        return True

    def _insert(self, base: sqlite3.Connection, each: _Waiting) -> int:
        event = each.event
        cursor = base.execute(
            "INSERT INTO events (life, camera, kind, zone, state, wall_ns, body) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (self.life, event.camera, event.kind, event.zone, event.state, event.wall_ns, _body(event, each.evidence)),
        )
        number = int(cursor.lastrowid or 0)
        if each.jpeg is not None:
            base.execute("INSERT INTO stills VALUES (?, ?, ?)", (number, len(each.jpeg), each.jpeg))
        slot = _slot(event)
        if slot is not None:
            key = (event.camera, event.kind, event.zone, slot)
            row = base.execute(
                "SELECT open, life FROM states WHERE camera=? AND kind=? AND zone=? AND state=?", key
            ).fetchone()
            before = row[0] if row and row[1] == self.life else 0
            now_open = 1 if slot == "" else max(0, before - 1) if event.is_end else before + 1
            base.execute(
                "INSERT OR REPLACE INTO states VALUES (?, ?, ?, ?, ?, ?, ?)", (*key, number, now_open, self.life)
            )
        return number

    def _bound(self, base: sqlite3.Connection) -> None:
        """The oldest goes first; an event that a state rests on stays."""
        self._commits += 1
        if self._commits % 20 == 1:  # adding up some thousand rows is not for every event
            used = base.execute("SELECT coalesce(sum(size_bytes), 0) FROM stills").fetchone()[0]
            oldest = base.execute("SELECT event, size_bytes FROM stills ORDER BY event LIMIT 500").fetchall()
            for event, size_bytes in oldest:
                if used <= self._stills_bytes:
                    break
                base.execute("DELETE FROM stills WHERE event = ?", (event,))
                used -= size_bytes
        newest = base.execute("SELECT coalesce(max(number), 0) FROM events").fetchone()[0]
        gone = base.execute(
            "SELECT number FROM events WHERE number <= ? AND number NOT IN (SELECT event FROM states) ORDER BY number LIMIT 2000",
            (newest - self._events_kept,),
        ).fetchall()
        for (number,) in gone:
            base.execute("DELETE FROM events WHERE number = ?", (number,))
            base.execute("DELETE FROM stills WHERE event = ?", (number,))


class Events:
    """The reading side, for any process; opened for each question, so that nothing is held. A store that is not there is empty."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILE

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection | None]:
        if not self._path.exists():
            yield None
            return
        try:
            with closing(
                sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_S)
            ) as base:
                # Killed while it made the tables, the last of which is `states`: then nothing was stored yet.
                has_tables = base.execute("SELECT 1 FROM sqlite_master WHERE name = 'states'").fetchone()
                yield base if has_tables else None
        except (sqlite3.Error, ValueError, KeyError, TypeError) as error:
            raise EventsUnreadable(
                f"the stored events cannot be read: {error}",
                hint="Look at the disk on the health page, then try again.",
            ) from None

    def newest(
        self, *, camera: str | None = None, before: int | None = None, limit: int = 50, moments: bool = True
    ) -> list[Stored]:
        """The last ones first. `moments` False: only what begins or ends."""
        where, values = ["1"], []
        if camera is not None:
            where.append("camera = ?")
            values.append(camera)
        if before is not None:
            where.append("number < ?")
            values.append(str(before))
        if not moments:
            for kind, state in sorted(MOMENTS):
                where.append("NOT (kind = ? AND state = ?)")
                values += [kind, state]
        question = f"SELECT {_COLUMNS} FROM events WHERE {' AND '.join(where)} ORDER BY number DESC LIMIT ?"
        return self._rows(question, (*values, limit))

    def after(self, number: int, limit: int = 500) -> list[Stored]:
        """What follows on an event, in order: for whoever passes all of them on."""
        return self._rows(f"SELECT {_COLUMNS} FROM events WHERE number > ? ORDER BY number LIMIT ?", (number, limit))

    def states(self) -> list[State]:
        """All states; those whose `life` is not of the running process are of yesterday."""
        question = f"SELECT {_COLUMNS}, states.open, states.life FROM states JOIN events ON events.number = states.event ORDER BY events.number"
        with self._reading() as base:
            rows = [] if base is None else base.execute(question).fetchall()
            return [State(_stored(row[:9]), row[9], row[10]) for row in rows]

    def still(self, number: int) -> bytes | None:
        """The JPEG of an event; None where there is none, or none any more."""
        with self._reading() as base:
            row = (
                None if base is None else base.execute("SELECT jpeg FROM stills WHERE event = ?", (number,)).fetchone()
            )
        return None if row is None else bytes(row[0])

    def _rows(self, question: str, values: tuple[Any, ...]) -> list[Stored]:
        with self._reading() as base:
            return [] if base is None else [_stored(row) for row in base.execute(question, values)]
