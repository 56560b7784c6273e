"""`/api/v1/bundles` and `/rollouts`: updates of boxes, stored here and rolled out by groups. For administrators of all places."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from sqlalchemy import Connection, delete, insert, select, update
from starlette.requests import ClientDisconnect

from nvr.hub import tables as core
from nvr.hub.blobs import bundle_key
from nvr.hub.people import answers, answers_updates, guard, roles, rolling, rollouts, tables, tile
from nvr.hub.people.guard import Asked, Needs, Refused

router = APIRouter(tags=["updates"])

Administrator = Annotated[Asked, Depends(Needs(roles.ADMINISTER, everywhere=True))]
BundleId = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]
RolloutId = Annotated[int, Path(ge=1, le=guard.KEY_MOST)]
BUNDLE_BYTES_MOST = 1 << 30  # boxes take no more
_MAGIC = b"hsqs"  # a RAUC bundle is a squashfs with its signature behind it


@router.get("/bundles", response_model=answers_updates.Bundles)
def bundles(asked: Administrator) -> Any:
    """Updates that lie at the hub, the newest first."""
    table = core.bundle
    with asked.hub.store.reading() as connection:
        rows = connection.execute(
            select(table).where(table.c.tenant_id == asked.tenant_id).order_by(table.c.id.desc())
        ).all()
    return {
        "now_ms": asked.now_ms,
        "bundles": [
            {"sha256": row.sha256, "version": row.version, "size_bytes": row.size_bytes, "by": row.by_user, "stored_ms": row.stored_ms}
            for row in rows
        ],
    }  # fmt: skip


@router.post("/bundles", status_code=201, response_model=answers_updates.Bundle)
async def store_bundle(
    asked: Administrator,
    request: Request,
    version: Annotated[str, Query(pattern=r"^[A-Za-z0-9._+~-]{1,64}$")],
    sha256: Annotated[str | None, Query(pattern=r"^[0-9a-f]{64}$")] = None,
) -> Any:
    """The body is the bundle (.raucb), as it is. Boxes check its signature; the hub cannot. The same again changes nothing."""
    hub = asked.hub
    room_bytes = await asyncio.to_thread(hub.blobs.free_bytes)
    path = hub.settings.data_dir / "assembling" / f"bundle-{secrets.token_hex(8)}"
    digest, size_bytes, begins = hashlib.sha256(), 0, b""
    try:
        with open(path, "xb") as file:
            async for part in request.stream():
                size_bytes += len(part)
                begins = begins or part[:4]
                if size_bytes > BUNDLE_BYTES_MOST or (part and begins[:4] != _MAGIC[: len(begins)]):
                    break
                if room_bytes is not None and size_bytes + hub.settings.free_least_mb * 1_048_576 > room_bytes:
                    raise Refused(507, "no room", "the hub has no room for it", hint="Make room on its disk.")
                digest.update(part)
                await asyncio.to_thread(file.write, part)
        if begins != _MAGIC or size_bytes > BUNDLE_BYTES_MOST:
            raise Refused(422, "no bundle", "this is no update bundle", hint="Send the .raucb that image/build made.")
        if sha256 is not None and sha256 != digest.hexdigest():
            raise Refused(
                422, "other bundle", f"what arrived has the SHA-256 {digest.hexdigest()}", hint="Send it again."
            )
        return await asyncio.to_thread(_keep, asked, path, digest.hexdigest(), size_bytes, version)
    except ClientDisconnect:
        raise Refused(400, "cut short", "the bundle ended too early", hint="Send it again.") from None
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _keep(asked: Asked, path: Any, digest: str, size_bytes: int, version: str) -> dict[str, Any]:
    table, key = core.bundle, bundle_key(asked.tenant_id, digest)
    asked.hub.blobs.put_file(key, path)
    with asked.hub.store.writing() as connection:
        this = table.c.tenant_id == asked.tenant_id, table.c.sha256 == digest
        row = connection.execute(select(table).where(*this)).one_or_none()
        if row is None:
            connection.execute(
                insert(table).values(
                    tenant_id=asked.tenant_id, sha256=digest, version=version, size_bytes=size_bytes, blob=key,
                    by_user=asked.person.name, stored_ms=asked.now_ms,
                )
            )  # fmt: skip
            asked.log(connection, "bundle stored", f"bundle {digest}", version=version, size_bytes=size_bytes)
            row = connection.execute(select(table).where(*this)).one()
    return {
        "sha256": digest,
        "version": row.version,
        "size_bytes": row.size_bytes,
        "by": row.by_user,
        "stored_ms": row.stored_ms,
    }


@router.delete("/bundles/{sha256}", status_code=204)
def remove_bundle(sha256: BundleId, asked: Administrator) -> None:
    """Not while boxes are updated with it."""
    table = core.bundle
    with asked.hub.store.writing() as connection:
        row = connection.execute(
            select(table).where(table.c.tenant_id == asked.tenant_id, table.c.sha256 == sha256)
        ).one_or_none()
        if row is None:
            raise guard.not_found("bundle")
        running = _running(connection, asked.tenant_id)
        if running is not None and running.sha256 == sha256:
            raise Refused(409, "in use", "boxes are being updated with it", hint="Stop the update first.")
        connection.execute(delete(table).where(table.c.id == row.id))
        asked.log(connection, "bundle removed", f"bundle {sha256}", version=row.version)
    asked.hub.blobs.delete(row.blob)


# -- rolling out -----------------------------------------------------------------------------------------------


def _running(connection: Connection, tenant_id: int) -> Any:
    table = tables.rollout
    return connection.execute(
        select(table).where(table.c.tenant_id == tenant_id, table.c.state == rolling.RUNNING)
    ).first()


@router.get("/rollouts", response_model=answers_updates.Rollouts)
def all_rollouts(asked: Administrator) -> Any:
    """How updates went, and go: each box with its group and its state."""
    table, of_box, box = tables.rollout, tables.rollout_box, core.box
    with asked.hub.store.reading() as connection:
        rows = connection.execute(
            select(table).where(table.c.tenant_id == asked.tenant_id).order_by(table.c.id.desc()).limit(20)
        ).all()
        boxes: dict[int, list[dict[str, Any]]] = {}
        for row in connection.execute(
            select(of_box, box.c.name, box.c.site, box.c.seen_ms, box.c.software)
            .join(box, box.c.id == of_box.c.box_id)
            .where(of_box.c.rollout_id.in_([row.id for row in rows]))
            .order_by(of_box.c.stage, box.c.name, box.c.id)
        ):
            boxes.setdefault(row.rollout_id, []).append(
                {"id": row.box_id, "name": row.name, "site": row.site, "stage": row.stage, "state": row.state, "detail": row.detail,
                 "is_here": not tile.is_silent(row.seen_ms or None, asked.now_ms), "software": row.software,
                 "asked_ms": row.asked_ms or None, "ended_ms": row.ended_ms or None}
            )  # fmt: skip
    return {
        "now_ms": asked.now_ms,
        "rollouts": [
            {"id": row.id, "version": row.version, "sha256": row.sha256, "url": row.url, "state": row.state, "stage": row.stage,
             "by": row.by_user, "created_ms": row.created_ms, "ended_ms": row.ended_ms or None, "why": row.why,
             "boxes": boxes.get(row.id, [])}
            for row in rows
        ],
    }  # fmt: skip


@router.post("/rollouts", status_code=201, response_model=answers.Made)
def begin_rollout(body: answers_updates.RolloutNew, asked: Administrator) -> Any:
    """One box, ten minutes later a tenth of them, then all. A box that fails stops it; boxes that are away are asked when they are back."""
    with asked.hub.store.writing() as connection:
        if _running(connection, asked.tenant_id) is not None:
            raise Refused(409, "another update", "another update is under way", hint="Wait for its end, or stop it.")
        version, url = _bundle_of(connection, asked, body)
        chosen = _boxes(connection, asked, body)
        number = rolling.begin(
            connection, asked.tenant_id, chosen, version=version, sha256=body.sha256, url=url, by=asked.person.name, now_ms=asked.now_ms,
        )  # fmt: skip
        asked.log(
            connection, "rollout begun", f"rollout {number}", version=version, sha256=body.sha256, boxes=len(chosen)
        )
    return {"id": number}


def _bundle_of(connection: Connection, asked: Asked, body: answers_updates.RolloutNew) -> tuple[str, str]:
    """(version, address for the boxes)."""
    if body.url is not None:
        if body.version is None:
            raise Refused(422, "version", "which version is at this address?", hint="Name it.")
        return body.version, body.url
    table = core.bundle
    row = connection.execute(
        select(table).where(table.c.tenant_id == asked.tenant_id, table.c.sha256 == body.sha256)
    ).one_or_none()
    if row is None:
        raise guard.not_found("bundle")
    return row.version, f"{rolling.BUNDLES}/{row.sha256}"  # boxes know by which name they call us


def _boxes(connection: Connection, asked: Asked, body: answers_updates.RolloutNew) -> list[Any]:
    """In the order in which they are tried: the one that was named, those that are here and well, the others."""
    table = core.box
    rows = connection.execute(
        select(table)
        .where(table.c.tenant_id == asked.tenant_id, table.c.blocked.is_(False))
        .order_by(table.c.name, table.c.id)
    ).all()
    known = {row.id for row in rows}
    if not set(body.boxes or ()) <= known or (body.first is not None and body.first not in known):
        raise guard.not_found("box")
    chosen = [row for row in rows if body.boxes is None or row.id in body.boxes or row.id == body.first]
    if not chosen:
        raise Refused(409, "no boxes", "there is no box to update", hint="Enrol one first.")

    def order(row: Any) -> tuple[bool, bool, bool]:
        disk = (row.heartbeat or {}).get("disk")
        has_trouble = bool(isinstance(disk, dict) and disk.get("trouble"))
        return row.id != body.first, tile.is_silent(row.seen_ms or None, asked.now_ms), has_trouble

    return sorted(chosen, key=order)


def _one(connection: Connection, asked: Asked, rollout_id: int, state: str) -> Any:
    table = tables.rollout
    row = connection.execute(
        select(table).where(table.c.id == rollout_id, table.c.tenant_id == asked.tenant_id)
    ).one_or_none()
    if row is None:
        raise guard.not_found("update")
    if row.state != state:
        raise Refused(409, "not possible", f"this update is {row.state}", hint="Load this page again.")
    return row


@router.post("/rollouts/{rollout_id}/stop", status_code=204)
def stop_rollout(rollout_id: RolloutId, body: answers_updates.RolloutStop, asked: Administrator) -> None:
    """No further box is asked. Those that were asked go on by themselves."""
    with asked.hub.store.writing() as connection:
        row = _one(connection, asked, rollout_id, rolling.RUNNING)
        rolling.stop(connection, row, f"{asked.person.name}: {body.reason}", asked.now_ms)
        asked.log(connection, "rollout stopped", f"rollout {rollout_id}", version=row.version, why=body.reason)


@router.post("/rollouts/{rollout_id}/go-on", status_code=204)
def go_on_with_rollout(rollout_id: RolloutId, body: answers_updates.RolloutGoOn, asked: Administrator) -> None:
    """With the group where it was stopped, after somebody looked why."""
    table, of_box = tables.rollout, tables.rollout_box
    with asked.hub.store.writing() as connection:
        row = _one(connection, asked, rollout_id, rolling.STOPPED)
        if _running(connection, asked.tenant_id) is not None:
            raise Refused(409, "another update", "another update is under way", hint="Wait for its end, or stop it.")
        this = update(table).where(table.c.id == row.id)
        connection.execute(this.values(state=rolling.RUNNING, ended_ms=0, why=""))
        failed = of_box.c.rollout_id == row.id, of_box.c.state == rollouts.FAILED
        values = (
            {"state": rollouts.WAITING, "detail": "", "command_id": None, "ended_ms": 0}
            if body.retry
            else {"state": rollouts.SKIPPED}
        )
        connection.execute(update(of_box).where(*failed).values(**values))
        asked.log(connection, "rollout went on", f"rollout {rollout_id}", version=row.version, retry=body.retry)
