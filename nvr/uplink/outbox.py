"""What the hub has not confirmed yet, on disk: DATA/outbox. One writer; survives power cuts and outages of weeks.

SQLite, in WAL mode and synced at each commit, as the events it takes over (events.py): order by value, idempotence and bounds are then
one statement each, and `record` never touches it. Nothing is taken out before the hub said that it holds it. Events are kept by number:
their bodies stay in DATA/events. A clip is at first a span that the ring must keep (`holds.py`), then a file in DATA/outbox/clips.

    events    number, id, rank, clip                  not acknowledged yet
    clips     id, rank, what to cut, what was cut      not stored by the hub yet
    commands  id, answer                               so that a command that comes twice is done once
    facts     name, number                             the cursor into DATA/events; what had to be given up
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from nvr.errors import NvrError
from nvr.uplink.worth import value_name

log = logging.getLogger(__name__)

EVENTS_MOST = 300_000  # more than DATA/events keeps
CLIPS_MOST = 20_000  # a week of one every half minute; the span of each is in holds.json only while a budget lasts
COMMANDS_KEPT = 1_000
_VERSION = 1
_FILE = "outbox.db"

_TABLES = """
CREATE TABLE IF NOT EXISTS events (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, rank INTEGER NOT NULL, clip TEXT, came_ms INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS events_by_rank ON events (rank, number);
CREATE TABLE IF NOT EXISTS clips (id TEXT PRIMARY KEY, rank INTEGER NOT NULL, came_ms INTEGER NOT NULL, wanted TEXT NOT NULL, made TEXT);
CREATE INDEX IF NOT EXISTS clips_by_rank ON clips (rank, came_ms);
CREATE TABLE IF NOT EXISTS commands (id TEXT PRIMARY KEY, turn INTEGER NOT NULL, answer TEXT);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, number INTEGER NOT NULL, text TEXT NOT NULL DEFAULT '') WITHOUT ROWID;
"""


class OutboxFailed(NvrError):
    """The outbox cannot be read or written now; nothing was lost, it is tried again."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A span of a recorded stream that the hub shall have."""

    stream: str
    boot_id: (
        str  # with the mono times, so that a clock that is set later moves the clip with the footage; "": by wall time
    )
    from_ns: int  # box time of that boot, or wall time
    to_ns: int
    from_sequence: int = 0  # fragments near it; 0 not known
    to_sequence: int = 0
    event: str = ""
    command: str = ""
    size_bytes: int = 0  # expected
    is_held: bool = True  # its span is to be kept in the ring; False once the budget for that was spent


@dataclass(frozen=True, slots=True)
class Made:
    """The file that was cut of it."""

    file: str  # name in DATA/outbox/clips
    sha256: str
    size_bytes: int
    from_ms: int
    to_ms: int


@dataclass(frozen=True, slots=True)
class Clip:
    id: str
    rank: int
    came_ms: int
    wanted: Wanted
    made: Made | None


@dataclass(frozen=True, slots=True)
class Told:
    """An event that the hub has not acknowledged."""

    number: int
    id: str
    rank: int
    clip: str | None
    came_ms: int = 0


class Outbox:
    """For any thread of one process. Every method that changes something is durable on return, or raises OutboxFailed."""

    def __init__(self, folder: Path) -> None:
        """Raises OutboxFailed."""
        self.folder, self.clips_path = folder, folder / "clips"
        self._lock = threading.RLock()
        try:
            self.clips_path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._base = self._opened()
            # A connection of its own: whoever asks does not wait for a sync of whoever writes, which may be seconds on a card.
            self._reader, self._reading = _open_to_read(folder / _FILE), threading.Lock()
        except (sqlite3.Error, OSError) as error:
            raise _failed(error) from error

    def _opened(self) -> sqlite3.Connection:
        try:
            return _open(self.folder / _FILE)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            # What is in DATA/events is told again, and the hub knows by the ids what it has. Clips on demand are asked for again.
            for ending in ("", "-wal", "-shm"):
                path = self.folder / f"{_FILE}{ending}"
                if path.exists():
                    os.replace(path, self.folder / f"damaged-{_FILE}{ending}")
            log.error("the outbox was damaged (%s); it is kept as damaged-%s, a new one begins", error, _FILE)
            base = _open(self.folder / _FILE)
            _count(base, "damaged", 1)
            return base

    def close(self) -> None:
        self._reader.close()
        self._base.close()

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._lock, self._base:
                self._base.execute("BEGIN IMMEDIATE")
                yield self._base
        except sqlite3.Error as error:
            raise _failed(error) from error

    def _ask(self, question: str, values: Sequence[Any] = ()) -> list[Any]:
        try:
            with self._reading:
                return self._reader.execute(question, values).fetchall()
        except sqlite3.Error as error:
            raise _failed(error) from error

    # -- events

    def cursor(self) -> tuple[int, str]:
        """(number of the last event that was taken over, its life); (0, "") at first."""
        rows = self._ask("SELECT number, text FROM facts WHERE name = 'cursor'")
        return (rows[0][0], rows[0][1]) if rows else (0, "")

    def take(self, events: Iterable[Told], clips: Iterable[Clip], cursor: tuple[int, str], now_ms: int) -> None:
        """Take over what happened, and move the cursor, as one. The same again changes nothing."""
        with self._change() as base:
            for event in events:
                base.execute(
                    "INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?)",
                    (event.number, event.id, event.rank, event.clip, now_ms),
                )
            for clip in clips:
                base.execute(
                    "INSERT OR IGNORE INTO clips VALUES (?, ?, ?, ?, NULL)",
                    (clip.id, clip.rank, clip.came_ms, _text(clip.wanted)),
                )
            base.execute("INSERT OR REPLACE INTO facts VALUES ('cursor', ?, ?)", cursor)
            over = base.execute("SELECT count(*) FROM events").fetchone()[0] - EVENTS_MOST
            if over > 0:  # of what is counted by the thousand the oldest, then of the rest
                base.execute(
                    "DELETE FROM events WHERE number IN (SELECT number FROM events ORDER BY rank DESC, number LIMIT ?)",
                    (over,),
                )
                _count(base, "events given up", over)

    def begin_anew(self, cursor: tuple[int, str]) -> None:
        """DATA/events is another store than the one that was read before: its numbers begin again."""
        with self._change() as base:
            gone = base.execute("DELETE FROM events").rowcount
            if gone:
                _count(base, "events given up", gone)
            base.execute("INSERT OR REPLACE INTO facts VALUES ('cursor', ?, ?)", cursor)

    def events(self, limit: int, without: frozenset[str] = frozenset()) -> list[Told]:
        """What is to be told next, the most urgent first."""
        rows = self._ask(
            "SELECT number, id, rank, clip, came_ms FROM events ORDER BY rank, number LIMIT ?", (limit + len(without),)
        )
        return [told for told in (Told(*row) for row in rows) if told.id not in without][:limit]

    def acknowledged(self, ids: Iterable[str]) -> None:
        """The hub has committed these."""
        with self._change() as base:
            base.executemany("DELETE FROM events WHERE id = ?", [(each,) for each in ids])

    def give_up_events(self, ids: Sequence[str], why: str) -> None:
        """These cannot be told: they are gone from DATA/events, or the hub refused them by name."""
        with self._change() as base:
            gone = sum(base.execute("DELETE FROM events WHERE id = ?", (each,)).rowcount for each in ids)
            if gone:
                _count(base, "events given up", gone, why)

    # -- clips

    def clip(self, id: str) -> Clip | None:
        return next(iter(self._clips("WHERE id = ?", (id,))), None)

    def want(self, clip: Clip) -> None:
        """One more span, asked for by somebody; the same id again changes nothing."""
        with self._change() as base:
            base.execute(
                "INSERT OR IGNORE INTO clips VALUES (?, ?, ?, ?, NULL)",
                (clip.id, clip.rank, clip.came_ms, _text(clip.wanted)),
            )

    def to_cut(self, limit: int = 50) -> list[Clip]:
        return self._clips("WHERE made IS NULL ORDER BY rank, came_ms LIMIT ?", (limit,))

    def to_send(self, limit: int = 50) -> list[Clip]:
        return self._clips("WHERE made IS NOT NULL ORDER BY rank, came_ms, rowid LIMIT ?", (limit,))

    def owed(self, limit: int) -> list[Clip]:
        """Those whose footage lies only in the ring and is to be kept there, the most valuable first."""
        where = "WHERE made IS NULL AND json_extract(wanted, '$.is_held') ORDER BY rank, came_ms, rowid LIMIT ?"
        return self._clips(where, (limit,))

    def _clips(self, where: str, values: Sequence[Any]) -> list[Clip]:
        rows = self._ask(f"SELECT id, rank, came_ms, wanted, made FROM clips {where}", values)
        return [
            Clip(id, rank, came_ms, Wanted(**json.loads(wanted)), None if made is None else Made(**json.loads(made)))
            for id, rank, came_ms, wanted, made in rows
        ]

    def made(self, id: str, made: Sequence[Made]) -> None:
        """The clip was cut, durably, into these files: mostly one, more where the camera changed its settings."""
        with self._change() as base:
            rows = base.execute(
                "SELECT rank, came_ms, wanted FROM clips WHERE id = ? AND made IS NULL", (id,)
            ).fetchall()
            for number, each in enumerate(made if rows else ()):
                rank, came_ms, wanted = rows[0]
                part = id if number == 0 else sha256(f"{id} part {number}".encode()).hexdigest()[:32]
                base.execute(
                    "INSERT OR REPLACE INTO clips VALUES (?, ?, ?, ?, ?)", (part, rank, came_ms, wanted, _text(each))
                )

    def cut_again(self, id: str) -> None:
        """Its file is gone or is not what it was: the ring may still have it."""
        with self._change() as base:
            base.execute("UPDATE clips SET made = NULL WHERE id = ?", (id,))

    def held(self, ids: Iterable[str], is_held: bool) -> None:
        """Whether their spans are to be kept from now on."""
        with self._change() as base:
            for id in ids:
                row = base.execute("SELECT wanted FROM clips WHERE id = ?", (id,)).fetchone()
                if row is not None:
                    wanted = replace(Wanted(**json.loads(row[0])), is_held=is_held)
                    base.execute("UPDATE clips SET wanted = ? WHERE id = ?", (_text(wanted), id))

    def stored(self, id: str) -> None:
        """The hub has it, by its own word after its commit. The file goes afterwards, or by sweep()."""
        self._take_out(id)

    def give_up_clip(self, id: str, why: str) -> None:
        with self._change() as base:
            base.execute("DELETE FROM clips WHERE id = ?", (id,))
            _count(base, "clips given up", 1, why)
        log.warning("clip %s is given up: %s", id, why)

    def bound_clips(self) -> list[Clip]:
        """Give up what is over the bound, the least valuable and oldest first; returns them."""
        over = self._ask("SELECT count(*) FROM clips")[0][0] - CLIPS_MOST
        gone = self._clips("ORDER BY rank DESC, came_ms LIMIT ?", (over,)) if over > 0 else []
        for clip in gone:
            self.give_up_clip(clip.id, f"more than {CLIPS_MOST} clips wait")
        return gone

    def _take_out(self, id: str) -> None:
        row = self.clip(id)
        with self._change() as base:
            base.execute("DELETE FROM clips WHERE id = ?", (id,))
        if row is not None and row.made is not None:
            self._remove(self.clips_path / row.made.file)

    def _remove(self, path: Path) -> bool:
        """False where the disk does not let go of a file: no clip names it any more, and sweep() tries again."""
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("%s cannot be removed from the outbox: %s", path.name, error.strerror)
            return False
        return True

    def sweep(self) -> int:
        """Remove files that no clip names: a process was killed between two steps, or the disk refused. How many there were."""
        known = {clip.made.file for clip in self._clips("WHERE made IS NOT NULL", ()) if clip.made is not None}
        swept = 0
        for path in self.clips_path.iterdir():
            if path.name not in known:
                swept += self._remove(path)
        return swept

    def made_bytes(self) -> int:
        return int(
            self._ask("SELECT coalesce(sum(json_extract(made, '$.size_bytes')), 0) FROM clips WHERE made IS NOT NULL")[
                0
            ][0]
        )

    # -- commands

    def command(self, id: str) -> dict[str, Any] | None:
        """None: not seen before. {}: being done. Else what was answered."""
        rows = self._ask("SELECT answer FROM commands WHERE id = ?", (id,))
        return None if not rows else json.loads(rows[0][0] or "{}")

    def answered(self, id: str, answer: dict[str, Any] | None) -> None:
        """Remember a command, and what was answered; None: it is being done."""
        text = None if answer is None else json.dumps(answer)
        with self._change() as base:
            turn = base.execute("SELECT coalesce(max(turn), 0) + 1 FROM commands").fetchone()[0]
            base.execute("INSERT OR REPLACE INTO commands VALUES (?, ?, ?)", (id, turn, text))
            base.execute("DELETE FROM commands WHERE turn <= ?", (turn - COMMANDS_KEPT,))

    def taken_back(self) -> list[tuple[str, str]]:
        """Commands that were answered with yes and could not be done after all, and why; the newest hundred."""
        return self._ask(
            "SELECT id, json_extract(answer, '$.detail') FROM commands WHERE json_extract(answer, '$.taken_back') ORDER BY turn DESC LIMIT 100"
        )

    # -- what is told of it

    def depth(self) -> dict[str, Any]:
        """For the heartbeat: what waits, by value, since when, and what had to be given up."""
        by_value: dict[str, int] = {}
        oldest: list[int] = []
        size_bytes = 0
        for rank, number, came_ms in self._ask("SELECT rank, count(*), min(came_ms) FROM events GROUP BY rank"):
            name = value_name(rank)
            by_value[name] = by_value.get(name, 0) + number
            oldest.append(came_ms)
        for rank, number, came_ms, total_bytes in self._ask(
            "SELECT rank, count(*), min(came_ms), sum(json_extract(coalesce(made, wanted), '$.size_bytes')) FROM clips GROUP BY rank"
        ):
            name = value_name(rank)
            by_value[name] = by_value.get(name, 0) + number
            oldest.append(came_ms)
            size_bytes += total_bytes
        facts = {
            name: (number, text)
            for name, number, text in self._ask("SELECT name, number, text FROM facts WHERE name <> 'cursor'")
        }
        told: dict[str, Any] = {
            "depth": sum(by_value.values()), "bytes": size_bytes, "oldest_ms": min(oldest, default=0), "by_value": by_value,
            "given_up": {name: number for name, (number, _) in facts.items()},
        }  # fmt: skip
        why = facts.get("clips given up", (0, ""))[1] or facts.get("events given up", (0, ""))[1]
        return {**told, "given_up_why": why} if why else told


def _text(value: Wanted | Made) -> str:
    return json.dumps(asdict(value), separators=(",", ":"))


def _count(base: sqlite3.Connection, name: str, number: int, why: str = "") -> None:
    base.execute(
        "INSERT INTO facts VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET number = number + excluded.number, text = excluded.text",
        (name, number, why[:200]),
    )


def _open(path: Path) -> sqlite3.Connection:
    # psow=0: a card that loses power while it writes may harm what was durable beside it in the same page, so nothing is appended there.
    where = f"{path.absolute().as_uri()}?psow=0"
    base = sqlite3.connect(where, uri=True, timeout=5.0, isolation_level=None, check_same_thread=False)
    try:
        os.chmod(path, 0o600)
        base.execute("PRAGMA journal_mode = WAL")
        base.execute(
            "PRAGMA synchronous = FULL"
        )  # the log is synced at each commit: a power cut takes nothing that was taken
        base.execute("PRAGMA wal_autocheckpoint = 500")
        version = base.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, _VERSION):
            raise sqlite3.DatabaseError(f"it has version {version}, this program writes {_VERSION}")
        base.executescript(_TABLES)
        base.execute(f"PRAGMA user_version = {_VERSION}")
    except BaseException:
        base.close()
        raise
    return base


def _open_to_read(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5.0, isolation_level=None, check_same_thread=False
    )


def _failed(error: Exception) -> OutboxFailed:
    return OutboxFailed(
        f"the outbox cannot be used: {error}", hint="Look at the disk on the health page; it is tried again."
    )
