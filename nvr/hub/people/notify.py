"""Messages to people, through Apprise: the only file that imports it. What is said is decided in words.py, when in quiet.py."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any
from zoneinfo import ZoneInfo

import apprise
from sqlalchemy import Connection, select

from nvr.hub import tables as core
from nvr.hub.parts import Hub
from nvr.hub.people import current, dialling, outgoing, quiet, tables, words

log = logging.getLogger(__name__)

# Apprise knows services that run programs or write files of this machine: none for somebody with a browser.
_REFUSED = frozenset(("file", "syslog", "dbus", "gnome", "kde", "qt", "glib", "macosx", "windows", "rsyslog"))
_TROUBLE_MOST = 200


def service_of(address: str) -> str:
    """The name of the service, or "" for an address that is none, or one of this machine."""
    scheme = address.partition("://")[0].lower()
    if scheme in _REFUSED or "\n" in address:
        return ""
    plugin = apprise.Apprise.instantiate(address, suppress_exceptions=True)
    return str(plugin.service_name)[:40] if plugin is not None else ""


def send(address: str, title: str, text: str, may_call_itself: bool) -> str:
    """Why a message was not taken; "" when it was. Blocks for as long as the service takes; never raises."""
    asset = apprise.AppriseAsset(app_id="nvr", app_desc="nvr", app_url="", async_mode=False)
    sender = apprise.Apprise(asset=asset)
    if not service_of(address) or not sender.add(address):
        return "the address is not one that Apprise knows"
    try:
        # The log of Apprise names addresses, which hold keys: only its own words of failure are told, cut short.
        with (
            dialling.watched(may_call_itself) as watch,
            apprise.LogCapture(level=apprise.logging.WARNING) as output,
        ):
            is_sent = sender.notify(title=title, body=text, body_format=apprise.NotifyFormat.TEXT)
            said = output.getvalue().strip().splitlines()
    except Exception as error:  # a hundred services by as many authors
        return type(error).__name__
    if is_sent:
        return ""
    if watch.refused:
        return _without(watch.refused[0], address)[:_TROUBLE_MOST]
    return _without(said[-1].rpartition(" - ")[2], address)[:_TROUBLE_MOST] if said else "the service did not take it"


def _without(text: str, address: str) -> str:
    """A text in which no part of a secret address is left."""
    for part in sorted(
        {*address.partition("://")[2].replace("?", "/").replace("@", "/").replace(":", "/").split("/"), address},
        key=len,
    ):
        if len(part) >= 6:
            text = text.replace(part, "***")
    return text


def compose(
    connection: Connection,
    letters: Sequence[outgoing.Letter],
    tenant_id: int,
    zone: ZoneInfo,
    city: str,
    address: str,
    language: str,
) -> tuple[str, str]:
    """Title and text for several letters to one target; several steps of one alert are one line, the newest."""
    newest: dict[int, outgoing.Letter] = {}
    for letter in letters:
        newest[int(letter.body["alert"])] = letter
    table = core.place
    places = {
        row.id: current.titles(row.name, row.title_id, row.title_en)
        for row in connection.execute(select(table).where(table.c.tenant_id == tenant_id))
    }
    cameras = dict(
        connection.execute(
            select(core.camera.c.id, core.camera.c.name).where(
                core.camera.c.id.in_(
                    [each.body["camera_id"] for each in newest.values() if each.body["camera_id"] is not None]
                )
            )
        ).all()
    )
    boxes = dict(
        connection.execute(
            select(core.box.c.id, core.box.c.name).where(
                core.box.c.id.in_([each.body["box"] for each in newest.values() if each.body["box"]])
            )
        ).all()
    )
    lines = []
    for letter in newest.values():
        body = letter.body
        place = places.get(body["place_id"], {}).get(language if language in ("id", "en") else "id", "")
        camera = cameras.get(body["camera_id"], "")
        where = " / ".join(each for each in (place, camera) if each) or boxes.get(body["box"], "")
        lines.append(words.line(body, where, zone, language))
    is_alarm = any(letter.value <= quiet.ALARM for letter in letters)
    return words.message(lines, is_alarm, city, address, language)


def send_waiting(hub: Hub, seal: Any, now_ms: int) -> int:
    """Send what is due, grouped by target; how many messages went out. By the one worker."""
    zone = ZoneInfo(hub.settings.city.time_zone)
    with hub.store.reading() as connection:
        by_target = outgoing.waiting(connection, outgoing.NOTIFICATION, now_ms)
        targets = {row.id: row for row in connection.execute(select(tables.notification))} if by_target else {}
    count = 0
    for target_id, letters in by_target.items():
        target = targets.get(target_id)
        if target is None or not target.is_on:
            with hub.store.writing() as connection:
                outgoing.failed(connection, letters, "switched off", now_ms, is_hopeless=True)
            continue
        going = quiet.batch(
            [quiet.Waiting(each.id, each.value, each.created_ms, each.due_ms) for each in letters], now_ms
        )
        ids = {each.id for each in going}
        batch = [each for each in letters if each.id in ids]
        if not batch:
            continue
        with hub.store.reading() as connection:
            title, text = compose(
                connection, batch, target.tenant_id, zone, hub.settings.city.title, hub.settings.url, target.language
            )
        trouble = send(seal.open(target.address, "notification"), title, text, dialling.may_call_itself(hub.settings))
        with hub.store.writing() as connection:
            if trouble:
                log.warning("notification %d (%s): %s", target_id, target.service, trouble)
                outgoing.failed(connection, batch, trouble, now_ms)
            else:
                outgoing.sent(connection, batch, now_ms)
                count += 1
    return count
