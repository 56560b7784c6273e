"""Clips and other large objects of boxes: tus 1.0.0 with checksums, by content. docs/formats/wire.md is the contract.

A piece is a blob of its own and durable before its answer; what the `piece` table names counts, nothing else. When all are there they become
one object: hashed again as a whole, judged (clips), put, and committed; only then `Nvr-Stored` is said. A process that is killed in between
leaves pieces, and the next question about the upload finishes it.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import logging
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy import Row as Found

from nvr import wire
from nvr.errors import NvrError
from nvr.hub import proof, tables
from nvr.hub.blobs import BlobGone, Blobs, BlobsUnusable, object_key, piece_key
from nvr.hub.changes import Changes
from nvr.hub.database import Store, upsert
from nvr.hub.identity import Box

log = logging.getLogger(__name__)

VERSION = "1.0.0"
EXTENSIONS = "creation,checksum,termination,expiration"
ALGORITHMS = ("sha256", "sha1")
KINDS = ("clip", "bundle-log", "report")
PIECE_BYTES_MOST = 1024 * 1024
PIECE_BYTES_LEAST = (
    4096  # but for the last: each is a file until all are there, and a box must not fill the hub with files
)
METADATA_BYTES_MOST = 4096
OPEN_MOST = 64  # unfinished uploads of one box; the one touched longest ago goes
OPEN_BYTES_MOST = 8 << 30  # and what they hold together
FINISHING_AT_ONCE = 2
_MB = 1024 * 1024


class UploadRefused(NvrError):
    """With HTTP's status, and headers that help."""

    def __init__(self, message: str, status: int, *, hint: str = "", headers: dict[str, str] | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status, self.headers = status, headers or {}


class Uploads:
    """Every method is one request of a box that proved who it is; all may be called from any thread and any process."""

    def __init__(
        self, store: Store, blobs: Blobs, changes: Changes, work_dir: Path, now_ms: Callable[[], int], *,
        upload_most_mb: int, free_least_mb: int, keep_days: int,
    ) -> None:  # fmt: skip
        self._store, self._blobs, self._changes, self._now_ms = store, blobs, changes, now_ms
        self.size_most_bytes = upload_most_mb * _MB
        self._free_least_bytes, self._keep_ms = free_least_mb * _MB, keep_days * 24 * 3600 * 1000
        self._work_dir = work_dir
        work_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._finishing = threading.Semaphore(FINISHING_AT_ONCE)
        self._strangers: set[str] = set()

    def create(self, box: Box, length: str | None, metadata: str | None) -> Found[Any]:
        """The upload of this content: a new one, the one that is under way, or one that is stored. Raises UploadRefused."""
        size_bytes = _whole(length, "Upload-Length")
        if size_bytes > self.size_most_bytes:
            raise UploadRefused(
                f"{size_bytes} bytes, at most {self.size_most_bytes} are taken", 413, hint="Cut shorter clips."
            )
        if size_bytes == 0:
            raise UploadRefused("nothing has no content", 400)
        about = checked_metadata(metadata or "")
        self._check_room(self._free_least_bytes + size_bytes)
        now_ms = self._now_ms()
        gone: list[str] = []
        with self._store.writing() as connection:
            stored = self._object(connection, box, about["sha256"])
            known = self._of_content(connection, box, about["sha256"])
            if known is not None and known.size_bytes != size_bytes and known.stored_ms is None and stored is None:
                gone += self._forget(
                    connection, [known.id]
                )  # it was begun with another length: one of them was a mistake
                known = None
            if known is None:
                gone += self._make_room(connection, box, size_bytes)
                stored_ms = None if stored is None else stored.stored_ms
                known_bytes = size_bytes if stored is None else stored.size_bytes
                connection.execute(
                    insert(tables.upload).values(
                        id=wire.new_id(), tenant_id=box.tenant_id, box_id=box.id, sha256=about["sha256"], size_bytes=known_bytes,
                        offset_bytes=0 if stored is None else known_bytes, about=about, created_ms=now_ms, touched_ms=now_ms, stored_ms=stored_ms,
                    )
                )  # fmt: skip
            else:
                connection.execute(
                    update(tables.upload).where(tables.upload.c.id == known.id).values(touched_ms=now_ms)
                )
            upload = self._of_content(connection, box, about["sha256"])
            assert upload is not None
            if upload.stored_ms is not None:
                self._link(connection, box, about)  # the same clip for a second event or command
        self._delete(gone)
        return self._finished(box, upload)

    def status(self, box: Box, upload_id: str) -> Found[Any]:
        """What the hub holds of it. Raises UploadRefused."""
        with self._store.reading() as connection:
            upload = self._find(connection, box, upload_id)
        return self._finished(box, upload)

    def take(self, box: Box, upload_id: str, offset: str | None, checksum: str | None, data: bytes) -> Found[Any]:
        """Keep one piece, durably. Raises UploadRefused."""
        offset_bytes = _whole(offset, "Upload-Offset")
        check_piece(data, checksum)
        with self._store.reading() as connection:
            upload = self._find(connection, box, upload_id)
        self._check_place(upload, offset_bytes, len(data))
        if data:
            self._check_room(
                self._free_least_bytes // 2
            )  # uploads begun while there was room do not use up what is kept free
            upload = self._put_piece(box, upload, data)
        return self._finished(box, upload)

    def terminate(self, box: Box, upload_id: str) -> None:
        """Forget an unfinished upload; what is stored stays. Raises UploadRefused."""
        with self._store.writing() as connection:
            gone = self._forget(connection, [self._find(connection, box, upload_id).id])
        self._delete(gone)

    def expire(self) -> int:
        """Uploads nobody touched for long, and pieces that belong to none; how many uploads."""
        table = tables.upload
        with self._store.writing() as connection:
            old = (
                connection.execute(
                    select(table.c.id).where(table.c.touched_ms < self._now_ms() - self._keep_ms).limit(1000)
                )
                .scalars()
                .all()
            )
            gone = self._forget(connection, list(old))
        self._delete(gone)
        self._delete_strangers()
        for path in self._work_dir.iterdir():  # of processes that were killed; no clip takes an hour to put together
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < time.time() - 3600:
                    path.unlink()
        return len(old)

    def expires_ms(self, upload: Found[Any]) -> int:
        return int(upload.touched_ms + self._keep_ms)

    # -- steps

    def _check_room(self, least_bytes: int) -> None:
        free_bytes = self._blobs.free_bytes()
        if free_bytes is not None and free_bytes < least_bytes:
            raise UploadRefused("no room on the hub", 507, hint="It is told to the administrator; try again later.")

    def _find(self, connection: Connection, box: Box, upload_id: str) -> Found[Any]:
        table = tables.upload
        found = connection.execute(select(table).where(table.c.id == upload_id, table.c.box_id == box.id)).one_or_none()
        if found is None:
            raise UploadRefused(
                "no such upload", 404, hint="Begin it again; what the hub holds of the same content is not sent twice."
            )
        return found

    def _of_content(self, connection: Connection, box: Box, digest: str) -> Found[Any] | None:
        table = tables.upload
        return connection.execute(select(table).where(table.c.box_id == box.id, table.c.sha256 == digest)).one_or_none()

    def _object(self, connection: Connection, box: Box, digest: str) -> Found[Any] | None:
        """Also one that was deleted by now: it was held once, and is not taken back."""
        table = tables.object_
        return connection.execute(select(table).where(table.c.box_id == box.id, table.c.sha256 == digest)).one_or_none()

    def _check_place(self, upload: Found[Any], offset_bytes: int, size_bytes: int) -> None:
        if upload.stored_ms is not None and offset_bytes == upload.offset_bytes and size_bytes == 0:
            return
        if offset_bytes != upload.offset_bytes:
            raise UploadRefused(
                f"the hub holds {upload.offset_bytes} bytes, this begins at {offset_bytes}", 409,
                hint="Go on at Upload-Offset.", headers={"upload-offset": str(upload.offset_bytes)},
            )  # fmt: skip
        if 0 < size_bytes < PIECE_BYTES_LEAST and offset_bytes + size_bytes < upload.size_bytes:
            raise UploadRefused(
                f"a piece of {size_bytes} bytes", 400, hint=f"Only the last may have less than {PIECE_BYTES_LEAST}."
            )
        if offset_bytes + size_bytes > upload.size_bytes:
            raise UploadRefused(f"{offset_bytes + size_bytes} bytes of an upload of {upload.size_bytes}", 400)

    def _put_piece(self, box: Box, upload: Found[Any], data: bytes) -> Found[Any]:
        key = piece_key(upload.id, upload.offset_bytes)
        self._blobs.put(key, data)
        table, after = tables.upload, upload.offset_bytes + len(data)
        with self._store.writing() as connection:
            moved = connection.execute(
                update(table)
                .where(
                    table.c.id == upload.id, table.c.offset_bytes == upload.offset_bytes, table.c.stored_ms.is_(None)
                )
                .values(offset_bytes=after, touched_ms=self._now_ms())
            )
            if moved.rowcount == 1:
                connection.execute(
                    insert(tables.piece).values(
                        upload_id=upload.id, offset_bytes=upload.offset_bytes, size_bytes=len(data), blob=key
                    )
                )
                return self._find(connection, box, upload.id)
            now = connection.execute(select(table.c.offset_bytes).where(table.c.id == upload.id)).scalar_one_or_none()
        self._delete([key])
        if now is None:
            raise UploadRefused("this upload was ended meanwhile", 404)
        raise UploadRefused("another request was first", 409, headers={"upload-offset": str(now)})

    def _finished(self, box: Box, upload: Found[Any]) -> Found[Any]:
        """The same upload, stored if all of it is here. Raises UploadRefused (422) when the content is not what it said."""
        if upload.stored_ms is not None or upload.offset_bytes < upload.size_bytes:
            return upload
        with self._finishing, self._assembled(upload) as (path, digest):
            with self._store.reading() as connection:
                upload = self._find(connection, box, upload.id)
            if upload.stored_ms is not None:
                return upload  # another request was first
            if digest != upload.sha256:
                with self._store.writing() as connection:
                    gone = self._forget(connection, [upload.id])
                self._delete(gone)
                raise UploadRefused(
                    f"the whole has hash {digest}, not {upload.sha256}",
                    422,
                    hint="Read it again from the disk and begin anew.",
                )
            genuine, said = None, None
            if upload.about["kind"] == "clip":
                genuine, said = proof.verdict(path, box.public_key, upload.about["camera"])
            key = object_key(box.tenant_id, box.id, digest)
            self._blobs.put_file(key, path)
            return self._commit(box, upload, key, genuine, said)

    @contextlib.contextmanager
    def _assembled(self, upload: Found[Any]) -> Iterator[tuple[Path, str]]:
        """All pieces behind each other in a file of their own, and its hash."""
        path = self._work_dir / secrets.token_hex(8)
        digest, size_bytes = hashlib.sha256(), 0
        try:
            with self._store.reading() as connection:
                table = tables.piece
                pieces = connection.execute(
                    select(table).where(table.c.upload_id == upload.id).order_by(table.c.offset_bytes)
                ).all()
            with open(path, "xb", buffering=0) as file:
                for piece in pieces:
                    if piece.offset_bytes != size_bytes:
                        break
                    for data in self._blobs.read(piece.blob):
                        digest.update(data)
                        file.write(data)
                        size_bytes += len(data)
            yield path, digest.hexdigest()
        except BlobGone as error:
            with self._store.reading() as connection:
                now = connection.execute(select(tables.upload).where(tables.upload.c.id == upload.id)).one_or_none()
            if now is None or now.stored_ms is not None:
                raise UploadRefused(
                    "another request was first", 409, headers={"upload-offset": str(upload.size_bytes)}
                ) from None
            # A store that lost a piece it had promised: say so in the log, and let the box send it all again.
            log.error("upload %s of box %s: %s; it begins anew", upload.id, upload.box_id, error)
            with self._store.writing() as connection:
                gone = self._forget(connection, [upload.id])
            self._delete(gone)
            raise UploadRefused("the hub lost a piece of it", 404, hint="Begin it again.") from None
        finally:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def _commit(
        self, box: Box, upload: Found[Any], key: str, genuine: bool | None, said: dict[str, Any] | None
    ) -> Found[Any]:
        about, now_ms = upload.about, self._now_ms()
        with self._store.writing() as connection:
            camera = connection.execute(
                select(tables.camera.c.id, tables.camera.c.place_id).where(
                    tables.camera.c.box_id == box.id, tables.camera.c.name == about["camera"]
                )
            ).one_or_none()
            place_id = None if camera is None else camera.place_id
            connection.execute(
                upsert(connection, tables.object_)
                .values(
                    sha256=upload.sha256, tenant_id=box.tenant_id, box_id=box.id, camera_id=None if camera is None else camera.id,
                    place_id=place_id, kind=about["kind"], value=about["value"], from_ms=about["from_ms"], to_ms=about["to_ms"],
                    size_bytes=upload.size_bytes, blob=key, event_id=about["event"], command_id=about["command"], genuine=genuine, proof=said,
                    stored_ms=now_ms, held=False,
                )
                .on_conflict_do_nothing(index_elements=["box_id", "sha256"])
            )  # fmt: skip
            connection.execute(
                update(tables.upload).where(tables.upload.c.id == upload.id).values(stored_ms=now_ms, touched_ms=now_ms)
            )
            self._link(connection, box, about)
            pieces = (
                connection.execute(
                    delete(tables.piece).where(tables.piece.c.upload_id == upload.id).returning(tables.piece.c.blob)
                )
                .scalars()
                .all()
            )
            self._changes.tell(connection, "places", [] if place_id is None else [place_id])
            upload = self._find(connection, box, upload.id)
        self._delete(pieces)
        return upload

    def _link(self, connection: Connection, box: Box, about: dict[str, Any]) -> None:
        """The event names its clip."""
        if about["event"] is not None and about["kind"] == "clip":
            table = tables.event
            connection.execute(
                update(table)
                .where(table.c.id == about["event"], table.c.box_id == box.id, table.c.clip_sha256.is_(None))
                .values(clip_sha256=about["sha256"])
            )

    def _make_room(self, connection: Connection, box: Box, size_bytes: int) -> list[str]:
        """A box that begins more and more pushes out its own oldest; the blobs to delete after the commit."""
        gone: list[str] = []
        table = tables.upload
        is_open = (table.c.box_id == box.id, table.c.stored_ms.is_(None))
        count, held = connection.execute(
            select(func.count(), func.coalesce(func.sum(table.c.size_bytes), 0)).where(*is_open)
        ).one()
        if count < OPEN_MOST and held + size_bytes <= OPEN_BYTES_MOST:
            return gone
        for old in connection.execute(
            select(table.c.id, table.c.size_bytes).where(*is_open).order_by(table.c.touched_ms)
        ).all():
            gone += self._forget(connection, [old.id])
            count, held = count - 1, held - old.size_bytes
            if count < OPEN_MOST and held + size_bytes <= OPEN_BYTES_MOST:
                break
        return gone

    def _forget(self, connection: Connection, upload_ids: list[str]) -> list[str]:
        """Take the rows away; the blobs to delete after the commit. Those of a process killed in between are found as strangers."""
        table = tables.piece
        gone = (
            connection.execute(delete(table).where(table.c.upload_id.in_(upload_ids)).returning(table.c.blob))
            .scalars()
            .all()
        )
        connection.execute(delete(tables.upload).where(tables.upload.c.id.in_(upload_ids)))
        return list(gone)

    def _delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            try:
                self._blobs.delete(key)
            except BlobsUnusable as error:
                log.warning("%s stays for now: %s", key, error)

    def _delete_strangers(self) -> None:
        """Pieces that no table names, twice in a row: one that is being put has a row by the second look."""
        found = set(self._blobs.keys("pieces/"))
        if found:
            with self._store.reading() as connection:
                found -= set(connection.execute(select(tables.piece.c.blob)).scalars())
        self._delete(found & self._strangers)
        self._strangers = found - self._strangers


# -- what a box says about an upload, checked ---------------------------------------------------------------------


def _whole(text: str | None, name: str) -> int:
    if text is None or not re.fullmatch(r"[0-9]{1,15}", text):
        raise UploadRefused(f"{name} must be a whole number", 400)
    return int(text)


def check_piece(data: bytes, checksum: str | None) -> None:
    """Raises UploadRefused: 400 without a checksum that is known, 460 when the bytes have another."""
    algorithm, _, told = (checksum or "").partition(" ")
    if algorithm not in ALGORITHMS:
        raise UploadRefused(
            "each piece needs Upload-Checksum", 400, hint=f"`ALGORITHM BASE64`, with {' or '.join(ALGORITHMS)}."
        )
    try:
        expected = base64.b64decode(told, validate=True)
    except (binascii.Error, ValueError):
        raise UploadRefused("Upload-Checksum is no base64", 400) from None
    if hashlib.new(algorithm, data).digest() != expected:
        raise UploadRefused("the piece arrived with another checksum", 460, hint="Send it again.")


def checked_metadata(header: str) -> dict[str, Any]:
    """Upload-Metadata as values. Raises UploadRefused."""
    if len(header) > METADATA_BYTES_MOST:
        raise UploadRefused(f"Upload-Metadata of more than {METADATA_BYTES_MOST} bytes", 400)
    told: dict[str, str] = {}
    for pair in header.split(","):
        key, _, value = pair.strip().partition(" ")
        try:
            told[key] = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, ValueError):
            raise UploadRefused("Upload-Metadata holds `KEY BASE64` pairs", 400) from None
    try:
        message = wire.Message("upload", told)
        value, kind = told.get("value", "clip"), told.get("kind")
        if not wire.is_sha256(told.get("sha256")):
            raise wire.WireError("upload.sha256 must be a SHA-256")
        if kind not in KINDS or value not in wire.VALUES:
            raise wire.WireError(
                f"upload.kind must be one of {', '.join(KINDS)}, upload.value one of {', '.join(wire.VALUES)}"
            )
        return {
            "sha256": told["sha256"], "kind": kind, "value": value,
            "camera": message.name("camera") if kind == "clip" or told.get("camera") else "",
            "from_ms": _ms(told, "from_ms"), "to_ms": _ms(told, "to_ms"),
            "event": message.id("event") if told.get("event") else None, "command": message.id("command") if told.get("command") else None,
        }  # fmt: skip
    except wire.WireError as error:
        raise UploadRefused(str(error), 400) from None


def _ms(told: dict[str, str], key: str) -> int:
    text = told.get(key, "0")
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise wire.WireError(f"upload.{key} must be milliseconds")
    return int(text)
