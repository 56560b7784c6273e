"""The newest picture of each camera, and whether it is late. A JPEG is passed on as it came; the hub never decodes one.

Newest stills are overwritten every ten seconds, so losing one to a power cut costs nothing, and they are not synced. They lie in a
folder that all hub processes share; where objects lie in S3 there is no such folder, and they lie in a table that
PostgreSQL does not log. Stills of events are objects like clips, durable before they are acknowledged.
"""

from __future__ import annotations

import hashlib
import os
import struct
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, select

from nvr import evidence, wire
from nvr.hub import tables
from nvr.hub.database import Store, upsert

STILL_BYTES_MOST = 512 * 1024
LATE_MS = 25_000  # a still comes every 10 s; two may be lost on the way
FUTURE_MS = 60_000  # a box whose clock runs ahead by more has no time
READS_MOST, READ_AGAIN_S = 5, 0.01
_HEAD = struct.Struct(
    ">II"
)  # CRC-32 and length of what follows: times, JPEG; behind it may be the rest of an older, longer one
_TIMES = struct.Struct(">qq")  # captured_ms, received_ms
_FOLDERS = 256


@dataclass(frozen=True, slots=True)
class Newest:
    captured_ms: int
    received_ms: int
    jpeg: bytes


def still_fault(message: wire.Message, public_key: bytes) -> str:
    """Why a still cannot be taken; "" when it can. `message` went through checking.checked()."""
    jpeg, body = message.payload, message.body
    if not 4 <= len(jpeg) <= STILL_BYTES_MOST or not jpeg.startswith(b"\xff\xd8\xff"):
        return f"a still of {len(jpeg)} bytes that is no JPEG, or more than {STILL_BYTES_MOST} bytes"
    if hashlib.sha256(jpeg).hexdigest() != body["sha256"]:
        return "a still with another hash than it says"
    try:
        signature = bytes.fromhex(body["signature"])
    except ValueError:
        signature = b""
    if not evidence.is_signed_by(
        public_key, wire.still_signed(body["camera"], body["captured_ms"], body["sha256"]), signature
    ):
        return "a still that this box did not sign"
    return ""


def age_ms(captured_ms: int, received_ms: int, now_ms: int) -> int:
    """How old a still is at least: by the box's clock where it knew the time, else since it came."""
    if captured_ms == 0 or captured_ms > received_ms + FUTURE_MS:
        return max(0, now_ms - received_ms)
    return max(0, now_ms - captured_ms)


def is_late(captured_ms: int, received_ms: int, now_ms: int) -> bool:
    return age_ms(captured_ms, received_ms, now_ms) > LATE_MS


class Stills(Protocol):
    def put_newest(self, camera_id: int, captured_ms: int, received_ms: int, jpeg: bytes) -> None:
        """Before the transaction that stores its row."""

    def put_rows(self, connection: Connection, rows: list[tuple[int, int, int, bytes]]) -> None:
        """Inside it."""

    def newest(self, camera_id: int) -> Newest | None:
        """As a whole: the bytes belong to the times."""

    def forget(self, camera_id: int) -> None: ...


class FolderStills:
    """A file for each camera, overwritten where it lies.

    Renaming a new file over the old one would make ext4 write it out at once (auto_da_alloc): 400 stills a second then took the disk for
    themselves, and every commit waited behind them. A reader that meets a half-written still sees it by its checksum and reads again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for number in range(_FOLDERS):
            (folder / f"{number:02x}").mkdir(parents=True, exist_ok=True)

    def _path(self, camera_id: int) -> Path:
        return self._folder / f"{camera_id % _FOLDERS:02x}" / str(camera_id)

    def put_newest(self, camera_id: int, captured_ms: int, received_ms: int, jpeg: bytes) -> None:
        body = _TIMES.pack(captured_ms, received_ms) + jpeg
        fd = os.open(self._path(camera_id), os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.pwrite(fd, _HEAD.pack(zlib.crc32(body), len(body)) + body, 0)
        finally:
            os.close(fd)

    def put_rows(self, connection: Connection, rows: list[tuple[int, int, int, bytes]]) -> None:
        pass

    def newest(self, camera_id: int) -> Newest | None:
        for _ in range(READS_MOST):
            try:
                data = self._path(camera_id).read_bytes()
            except FileNotFoundError:
                return None
            if len(data) > _HEAD.size + _TIMES.size:
                checksum, length = _HEAD.unpack_from(data)
                body = data[_HEAD.size : _HEAD.size + length]
                if len(body) == length and zlib.crc32(body) == checksum:
                    captured_ms, received_ms = _TIMES.unpack_from(body)
                    return Newest(captured_ms, received_ms, body[_TIMES.size :])
            time.sleep(READ_AGAIN_S)
        return None  # a power cut; ten seconds later there is a new one

    def forget(self, camera_id: int) -> None:
        self._path(camera_id).unlink(missing_ok=True)


class TableStills:
    """For several machines that share nothing but database and S3."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def put_newest(self, camera_id: int, captured_ms: int, received_ms: int, jpeg: bytes) -> None:
        pass

    def put_rows(self, connection: Connection, rows: list[tuple[int, int, int, bytes]]) -> None:
        statement = upsert(connection, tables.still_bytes)
        changed = {key: statement.excluded[key] for key in ("captured_ms", "received_ms", "jpeg")}
        connection.execute(
            statement.on_conflict_do_update(index_elements=["camera_id"], set_=changed),
            [dict(zip(("camera_id", "captured_ms", "received_ms", "jpeg"), row, strict=True)) for row in rows],
        )

    def newest(self, camera_id: int) -> Newest | None:
        table = tables.still_bytes
        with self._store.reading() as connection:
            row = connection.execute(
                select(table.c.captured_ms, table.c.received_ms, table.c.jpeg).where(table.c.camera_id == camera_id)
            ).one_or_none()
        return None if row is None else Newest(row.captured_ms, row.received_ms, bytes(row.jpeg))

    def forget(self, camera_id: int) -> None:
        with self._store.writing() as connection:
            connection.execute(tables.still_bytes.delete().where(tables.still_bytes.c.camera_id == camera_id))
