"""Delivers webhooks: one POST for each message, signed, in order for each receiver, retried with back-off."""

from __future__ import annotations

import ipaddress
import json
import logging
import socket
from typing import Any
from urllib.parse import urlsplit

import httpx
from sqlalchemy import Connection, select, update

from nvr.hub.parts import Hub
from nvr.hub.people import outgoing, signing, tables

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
            trouble = deliver(target.url, secret, letter, hub.now_ms())
            with hub.store.writing() as connection:
                note_result(connection, target_id, trouble, hub.now_ms())
                if trouble:
                    log.warning("webhook %d: %s", target_id, trouble)
                    outgoing.failed(connection, letters[number:], trouble, now_ms)
                    break
                outgoing.sent(connection, [letter], now_ms)
                count += 1
    return count


def deliver(url: str, secret: str, letter: outgoing.Letter, now_ms: int) -> str:
    """Why the receiver did not take it; "" when it answered 2xx. No redirect is followed, no answer is read."""
    body = json.dumps({"id": letter.id, **letter.body}, separators=(",", ":"), ensure_ascii=False).encode()
    headers = {
        "Content-Type": "application/json",
        "Nvr-Delivery": str(letter.id),
        "Nvr-Signature": signing.signature(secret, body, now_ms // 1000),
        "User-Agent": "nvr",
    }
    if trouble := where_it_leads(url):
        return trouble
    try:
        with (
            httpx.Client(timeout=TIMEOUT_S, follow_redirects=False, trust_env=False) as client,
            client.stream("POST", url, content=body, headers=headers) as answer,
        ):
            return "" if 200 <= answer.status_code < 300 else f"the receiver answered {answer.status_code}"
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:
        return f"{type(error).__name__}: {error}"[:200]


def note_result(connection: Connection, target_id: int, trouble: str, now_ms: int) -> None:
    """What the receiver said last, for whoever looks why nothing arrives; the queue forgets it."""
    this = update(tables.webhook).where(tables.webhook.c.id == target_id)
    connection.execute(this.values(last_ms=now_ms, last_trouble=trouble[:300]))


def is_refused(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    ip = mapped or ip  # ::ffff:169.254.169.254 is dialled as what it maps
    return ip.is_link_local or ip.is_multicast or ip.is_unspecified


def where_it_leads(url: str) -> str:
    """Why a name must not be called now; "" when it may. A name may lead elsewhere a moment later: the firewall has the last word."""
    host = urlsplit(url).hostname or ""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        return f"{host}: {error}"[:200]
    if any(is_refused(ipaddress.ip_address(str(each[4][0]).partition("%")[0])) for each in found):
        return f"{host} leads to an address that is none of a receiver"
    return ""
