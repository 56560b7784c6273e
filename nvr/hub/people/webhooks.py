"""Delivers webhooks: one POST for each message, signed, in order for each receiver, retried with back-off."""

from __future__ import annotations

import json
import logging
from typing import Any

import httpx
from sqlalchemy import Connection, select, update

from nvr.hub.parts import Hub
from nvr.hub.people import dialling, outgoing, signing, tables

log = logging.getLogger(__name__)

TIMEOUT_S = 10.0
AT_ONCE = 50  # for one receiver, before others have their turn


def send_waiting(hub: Hub, seal: Any, now_ms: int) -> int:
    """Deliver what is due; how many were taken. A receiver that fails keeps its order: what comes behind waits with it."""
    with hub.store.reading() as connection:
        by_target = outgoing.waiting(connection, outgoing.WEBHOOK, now_ms)
        targets = {row.id: row for row in connection.execute(select(tables.webhook))} if by_target else {}
    count = 0
    for target_id, letters in by_target.items():
        target = targets.get(target_id)
        if target is None or not target.is_on:
            with hub.store.writing() as connection:
                outgoing.failed(connection, letters, "switched off", now_ms, is_hopeless=True)
            continue
        secret = seal.open(target.secret, "webhook")
        letters = sorted(letters, key=lambda each: each.id)[:AT_ONCE]
        for number, letter in enumerate(letters):
            trouble = deliver(target.url, secret, letter, hub.now_ms(), dialling.may_call_itself(hub.settings))
            with hub.store.writing() as connection:
                note_result(connection, target_id, trouble, hub.now_ms())
                if trouble:
                    log.warning("webhook %d: %s", target_id, trouble)
                    outgoing.failed(connection, letters[number:], trouble, now_ms)
                    break
                outgoing.sent(connection, [letter], now_ms)
                count += 1
    return count


def deliver(url: str, secret: str, letter: outgoing.Letter, now_ms: int, may_call_itself: bool) -> str:
    """Why the receiver did not take it; "" when it answered 2xx. No redirect is followed, no answer is read."""
    body = json.dumps({"id": letter.id, **letter.body}, separators=(",", ":"), ensure_ascii=False).encode()
    headers = {
        "Content-Type": "application/json",
        "Nvr-Delivery": str(letter.id),
        "Nvr-Signature": signing.signature(secret, body, now_ms // 1000),
        "User-Agent": "nvr",
    }
    try:
        with (
            dialling.watched(may_call_itself) as watch,
            httpx.Client(timeout=TIMEOUT_S, follow_redirects=False, trust_env=False) as client,
            client.stream("POST", url, content=body, headers=headers) as answer,
        ):
            return "" if 200 <= answer.status_code < 300 else f"the receiver answered {answer.status_code}"
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:
        return (watch.refused or [f"{type(error).__name__}: {error}"])[0][:200]


def note_result(connection: Connection, target_id: int, trouble: str, now_ms: int) -> None:
    """What the receiver said last, for whoever looks why nothing arrives; the queue forgets it."""
    this = update(tables.webhook).where(tables.webhook.c.id == target_id)
    connection.execute(this.values(last_ms=now_ms, last_trouble=trouble[:300]))
