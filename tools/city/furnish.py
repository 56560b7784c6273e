"""Makes an empty hub the hub of the city: its settings, its places, three people, a code for each box.

What an administrator would do on the pages, done at once and on the hub's own disk. Everything is kept when it is there already.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml
from sqlalchemy import select

from nvr.hub import identity, tables
from nvr.hub.database import open_store, upsert
from nvr.hub.people import access
from nvr.hub.settings import load
from tools.city.city import City

TENANT = "city"
# Name, what the person may do everywhere.
PEOPLE = (("walikota", "mayor"), ("operator", "operator"), ("admin", "administrator"))


@dataclass(frozen=True, slots=True)
class Furnished:
    passwords: dict[str, str]  # by name of a person
    codes: dict[str, str]  # by name of a box; only of boxes that have none yet


def settings_file(folder: Path, city: City, listen: str) -> None:
    """hub.yaml; written anew at every start, because the port may be another one."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    about = {"title": city.title, "lat": city.lat, "lon": city.lon, "time_zone": city.time_zone, "language": "id"}
    text = yaml.safe_dump({"listen": listen, "city": about, "free_least_mb": 256}, sort_keys=False, allow_unicode=True)
    (folder / "hub.yaml").write_text(text)


def furnish(folder: Path, city: City, boxes: Iterable[str]) -> Furnished:
    """The hub must not run yet, or be of SQLite."""
    settings = load(folder)
    store = open_store(settings.database_url, settings.data_dir)
    now_ms = time.time_ns() // 1_000_000
    try:
        with store.writing() as connection:
            tenant_id = connection.execute(
                select(tables.tenant.c.id).where(tables.tenant.c.name == TENANT)
            ).scalar_one()
            for place in city.places:
                about = {
                    "title_id": place.title_id,
                    "title_en": place.title_en,
                    "kind": place.kind,
                    "lat": place.lat,
                    "lon": place.lon,
                }
                connection.execute(
                    upsert(connection, tables.place)
                    .values(
                        tenant_id=tenant_id,
                        name=place.name,
                        address="",
                        hours=dict(place.hours) if place.hours else None,
                        **about,
                    )
                    .on_conflict_do_nothing(index_elements=["tenant_id", "name"])
                )
            known = set(
                connection.execute(select(tables.box.c.name).where(tables.box.c.tenant_id == tenant_id)).scalars()
            )
            codes = {
                name: identity.add_code(connection, tenant_id=tenant_id, now_ms=now_ms, box=name, by_user="make demo")
                for name in boxes
                if name not in known
            }
        return Furnished(_people(folder, store, now_ms), codes)
    finally:
        store.close()


def _people(folder: Path, store: object, now_ms: int) -> dict[str, str]:
    """Random passwords, of this demo only, kept in a file that only its owner reads."""
    path = folder / "demo-passwords.json"
    if path.exists():
        return dict(json.loads(path.read_text()))
    found = {name: "-".join(secrets.token_hex(2) for _ in range(4)) for name, _ in PEOPLE}
    for name, role in PEOPLE:
        access.set_user(store, TENANT, name, found[name], [(role, None)], now_ms)  # type: ignore[arg-type]
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(found, file)
    return found
