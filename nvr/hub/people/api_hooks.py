"""`/api/v1/webhooks` and `/notifications`: where the hub sends word. For administrators of all places."""

from __future__ import annotations

import ipaddress
import secrets
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Path
from sqlalchemy import Connection, delete, insert, select, update

from nvr.hub import tables as core
from nvr.hub.people import answers, answers_admin, dialling, guard, notify, outgoing, roles, tables
from nvr.hub.people.guard import Asked, Needs, Refused
from nvr.hub.people.webhooks import deliver, note_result

router = APIRouter()

Administrator = Annotated[Asked, Depends(Needs(roles.ADMINISTER, everywhere=True))]
HookId = Annotated[int, Path(ge=1, le=guard.KEY_MOST)]


@router.get("/webhooks", response_model=answers_admin.Webhooks, tags=["webhooks"])
def webhooks(asked: Administrator) -> Any:
    table = tables.webhook
    with asked.hub.store.reading() as connection:
        rows = connection.execute(select(table).where(table.c.tenant_id == asked.tenant_id).order_by(table.c.id)).all()
        depths = outgoing.depths(connection, asked.tenant_id, outgoing.WEBHOOK)
    found = []
    for row in rows:
        depth = depths.get(row.id, outgoing.Depth(0, 0, ""))
        found.append(
            {"id": row.id, "title": row.title, "url": row.url, "what": row.what, "is_on": row.is_on, "by": row.by_user,
             "waiting": depth.waiting, "failed": depth.failed, "trouble": depth.trouble, "last_ms": row.last_ms or None,
             "last_trouble": row.last_trouble}
        )  # fmt: skip
    return {"now_ms": asked.now_ms, "webhooks": found}


@router.post("/webhooks", status_code=201, response_model=answers_admin.WebhookMade, tags=["webhooks"])
def make_webhook(body: answers_admin.WebhookNew, asked: Administrator) -> Any:
    """The secret with which each delivery is signed is shown once."""
    check_url(body.url, dialling.may_call_itself(asked.hub.settings))
    secret = secrets.token_urlsafe(32)
    with asked.hub.store.writing() as connection:
        inserted = connection.execute(
            insert(tables.webhook).values(
                tenant_id=asked.tenant_id, title=body.title, url=body.url, secret=asked.seal.close(secret, "webhook"),
                what=sorted(set(body.what)), by_user=asked.person.name,
            )
        )  # fmt: skip
        number = int(inserted.inserted_primary_key[0])  # type: ignore[index]
        asked.log(connection, "webhook made", f"webhook {number}", url=body.url)
    return {"id": number, "secret": secret}


def check_url(url: str, may_call_itself: bool) -> None:
    """Refuses what no receiver has and an attacker wants: the hub itself, addresses of this very link, such as a cloud's metadata, and multicast."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host = ""
    if not host or "@" in parts.netloc:
        raise Refused(422, "url", "the address has no host, or a password in it", hint="Write https://host/path.")
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return  # a name: dialling.py looks at what it leads to, each time
    if why := dialling.why_refused(ip, may_call_itself):
        raise Refused(422, "url", f"{host} {why}", hint="Write https://host/path.")


@router.patch("/webhooks/{hook_id}", status_code=204, tags=["webhooks"])
def switch_webhook(hook_id: HookId, body: answers.Switch, asked: Administrator) -> None:
    _switch(asked, tables.webhook, hook_id, body.is_on, "webhook")


@router.delete("/webhooks/{hook_id}", status_code=204, tags=["webhooks"])
def remove_webhook(hook_id: HookId, asked: Administrator) -> None:
    _remove(asked, tables.webhook, hook_id, outgoing.WEBHOOK)


@router.post("/webhooks/{hook_id}/try", status_code=204, tags=["webhooks"])
def try_webhook(hook_id: HookId, asked: Administrator) -> None:
    """Deliver `{"what": "test"}` now, signed as everything is; 502 says what the receiver said. Also one that is switched off."""
    table = tables.webhook
    with asked.hub.store.writing() as connection:
        row = connection.execute(
            select(table).where(table.c.id == hook_id, table.c.tenant_id == asked.tenant_id)
        ).one_or_none()
        if row is None:
            raise guard.not_found("webhook")
        letter = outgoing.test(connection, asked.tenant_id, hook_id, asked.person.name, asked.now_ms)
    may_call_itself = dialling.may_call_itself(asked.hub.settings)
    trouble = deliver(row.url, asked.seal.open(row.secret, "webhook"), letter, asked.now_ms, may_call_itself)
    with asked.hub.store.writing() as connection:
        if trouble:
            outgoing.drop(connection, letter)
        else:
            outgoing.sent(connection, [letter], asked.now_ms)
        note_result(connection, hook_id, trouble, asked.now_ms)
        asked.log(connection, "webhook tried", f"webhook {hook_id}", trouble=trouble)
    if trouble:
        raise Refused(502, "not delivered", f"the receiver did not take it: {trouble}", hint="Look at its address.")


def _switch(asked: Asked, table: Any, hook_id: int, is_on: bool, what: str) -> None:
    with asked.hub.store.writing() as connection:
        this = update(table).where(table.c.id == hook_id, table.c.tenant_id == asked.tenant_id).values(is_on=is_on)
        if connection.execute(this).rowcount != 1:
            raise guard.not_found(what)
        asked.log(connection, f"{what} {'on' if is_on else 'off'}", f"{what} {hook_id}")


def _remove(asked: Asked, table: Any, hook_id: int, channel: str) -> None:
    with asked.hub.store.writing() as connection:
        this = delete(table).where(table.c.id == hook_id, table.c.tenant_id == asked.tenant_id)
        if connection.execute(this).rowcount != 1:
            raise guard.not_found(channel)
        outgoing.drop_target(connection, channel, hook_id)
        asked.log(connection, f"{channel} removed", f"{channel} {hook_id}")


# -- notifications -------------------------------------------------------------------------------------------


@router.get("/notifications", response_model=answers_admin.Notifications, tags=["notifications"])
def notifications(asked: Administrator) -> Any:
    """Who is told what, and when not. Addresses are not shown again: they hold keys of other services."""
    table = tables.notification
    with asked.hub.store.reading() as connection:
        rows = connection.execute(select(table).where(table.c.tenant_id == asked.tenant_id).order_by(table.c.id)).all()
        depths = outgoing.depths(connection, asked.tenant_id, outgoing.NOTIFICATION)
        places = dict(
            connection.execute(
                select(core.place.c.id, core.place.c.name).where(core.place.c.tenant_id == asked.tenant_id)
            ).all()
        )
    found = []
    for row in rows:
        depth = depths.get(row.id, outgoing.Depth(0, 0, ""))
        names = None if row.place_ids is None else sorted(places[each] for each in row.place_ids if each in places)
        found.append(
            {"id": row.id, "title": row.title, "service": row.service, "language": row.language, "quiet": row.quiet,
             "families": row.families, "places": names, "is_on": row.is_on, "by": row.by_user, "waiting": depth.waiting,
             "failed": depth.failed, "trouble": depth.trouble}
        )  # fmt: skip
    return {"now_ms": asked.now_ms, "notifications": found}


@router.post("/notifications", status_code=201, response_model=answers.Made, tags=["notifications"])
def make_notification(body: answers_admin.NotificationNew, asked: Administrator) -> Any:
    """An address of Apprise (mail, Telegram, SMS gateways and others), in which language, for what, and its quiet hours."""
    service = notify.service_of(body.address)
    if not service:
        raise Refused(422, "address", "this is no address that Apprise knows", hint="For Telegram: tgram://TOKEN/CHAT.")
    with asked.hub.store.writing() as connection:
        place_ids = _place_ids(connection, asked, body.places)
        inserted = connection.execute(
            insert(tables.notification).values(
                tenant_id=asked.tenant_id, title=body.title, address=asked.seal.close(body.address, "notification"), service=service,
                language=body.language, quiet=body.quiet, families=sorted(set(body.families)), place_ids=place_ids, by_user=asked.person.name,
            )
        )  # fmt: skip
        number = int(inserted.inserted_primary_key[0])  # type: ignore[index]
        asked.log(connection, "notification made", f"notification {number}", service=service)
    return {"id": number}


@router.patch("/notifications/{hook_id}", status_code=204, tags=["notifications"])
def change_notification(hook_id: HookId, body: answers_admin.NotificationChange, asked: Administrator) -> None:
    """Everything but the address, which nobody could look at before changing it: that takes a new notification."""
    table, changed = tables.notification, body.model_dump(exclude_unset=True)
    if changed.keys() <= {"is_on"}:
        _switch(asked, table, hook_id, body.is_on, "notification")
        return
    with asked.hub.store.writing() as connection:
        if "places" in changed:
            changed["place_ids"] = _place_ids(connection, asked, changed.pop("places"))
        if "families" in changed:
            changed["families"] = sorted(set(changed["families"]))
        this = update(table).where(table.c.id == hook_id, table.c.tenant_id == asked.tenant_id).values(**changed)
        if connection.execute(this).rowcount != 1:
            raise guard.not_found("notification")
        asked.log(connection, "notification changed", f"notification {hook_id}", what=", ".join(sorted(changed)))


def _place_ids(connection: Connection, asked: Asked, names: list[str] | None) -> list[int] | None:
    return None if names is None else sorted({asked.place(connection, name).id for name in names})


@router.delete("/notifications/{hook_id}", status_code=204, tags=["notifications"])
def remove_notification(hook_id: HookId, asked: Administrator) -> None:
    _remove(asked, tables.notification, hook_id, outgoing.NOTIFICATION)


@router.post("/notifications/{hook_id}/try", status_code=204, tags=["notifications"])
def try_notification(hook_id: HookId, asked: Administrator) -> None:
    """Send a message now, to see that it arrives; 502 says what the service said."""
    table = tables.notification
    with asked.hub.store.reading() as connection:
        row = connection.execute(
            select(table).where(table.c.id == hook_id, table.c.tenant_id == asked.tenant_id)
        ).one_or_none()
    if row is None:
        raise guard.not_found("notification")
    city = asked.hub.settings.city.title
    text = "Pesan percobaan." if row.language == "id" else "This is a test message."
    address, may_call_itself = (
        asked.seal.open(row.address, "notification"),
        dialling.may_call_itself(asked.hub.settings),
    )
    trouble = notify.send(address, f"{city}: nvr", text, may_call_itself)
    with asked.hub.store.writing() as connection:
        asked.log(connection, "notification tried", f"notification {hook_id}", trouble=trouble)
    if trouble:
        raise Refused(
            502, "not sent", f"the message was not taken: {trouble}", hint="Look at the address.", trouble=trouble
        )
