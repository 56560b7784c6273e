"""DIR/hub.yaml -> frozen settings. Every key is checked before anything starts; docs/hub.md lists them for people.

A hub with no file at all is complete: SQLite and a folder below DIR, one tenant called "city".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml

from nvr.errors import NvrError

FILE = "hub.yaml"


class HubSettingsFaulty(NvrError):
    """The settings file says something that cannot be."""


@dataclass(frozen=True, slots=True)
class City:
    """What the pages begin with."""

    title: str = "Kota"
    lat: float = -3.695  # Ambon, the first city
    lon: float = 128.181
    time_zone: str = "Asia/Jayapura"
    language: str = "id"


@dataclass(frozen=True, slots=True)
class HubSettings:
    data_dir: Path
    listen: str = "127.0.0.1:8443"  # behind nginx or caddy; a hub that faces the net alone has a certificate
    url: str = ""  # by which boxes and people reach it; for links in messages
    database: str = ""  # "": SQLite in data_dir; else postgresql+psycopg://...
    objects: str = ""  # "": a folder in data_dir; else s3://bucket/prefix?endpoint=https://...&region=...
    certificate_path: Path | None = None
    key_path: Path | None = None
    proxies: tuple[str, ...] = ("127.0.0.1", "::1")  # whose X-Forwarded-For is believed
    city: City = field(default_factory=City)
    upload_most_mb: int = 512  # one clip; ten minutes at 4 Mbit/s are 300 MB
    uploads_keep_days: int = 14  # half-finished ones: a link may be away for weeks
    free_least_mb: int = 1024  # of the disk under objects; below it no upload begins
    history_keep_days: int = 90  # one heartbeat a minute
    people: Mapping[str, Any] = field(default_factory=dict)  # the people side checks its own keys

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.data_dir / 'hub.db'}"

    @property
    def objects_url(self) -> str:
        return self.objects or str(self.data_dir / "objects")


def load(data_dir: Path, **given: Any) -> HubSettings:
    """The settings of DIR/hub.yaml, overridden by what was given on the command line (None: not given).

    Raises HubSettingsFaulty with the key and what it may be.
    """
    data_dir = Path(data_dir).absolute()
    path = data_dir / FILE
    try:
        told = yaml.safe_load(path.read_text("utf-8")) if path.exists() else {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise HubSettingsFaulty(
            f"{path} is no YAML: {error}", hint="Mend it, or move it away: all keys have defaults."
        ) from None
    return settings_of(
        data_dir,
        {} if told is None else told,
        str(path),
        {key: value for key, value in given.items() if value is not None},
    )


def settings_of(data_dir: Path, told: object, where: str, given: Mapping[str, Any] = {}) -> HubSettings:
    """Pure part of load()."""
    if not isinstance(told, dict):
        raise HubSettingsFaulty(f"{where} must hold keys and values", hint="docs/hub.md has an example.")
    values: dict[str, Any] = {}
    for key, value in told.items():
        if key not in KEYS:
            raise _faulty(where, key, f"no such key; there are {', '.join(sorted(KEYS))}")
        values[_NAMES.get(str(key), str(key))] = KEYS[str(key)](where, str(key), value)
    settings = HubSettings(data_dir, **values)
    settings = replace(settings, **given)
    if (settings.certificate_path is None) != (settings.key_path is None):
        raise _faulty(where, "certificate", "certificate and key belong together")
    _check_database(where, settings.database)
    _check_objects(where, settings.objects)
    return settings


def _faulty(where: str, key: object, what: str) -> HubSettingsFaulty:
    return HubSettingsFaulty(f"{where}: {key}: {what}", hint="docs/hub.md lists every key with an example.")


def _check_database(where: str, url: str) -> None:
    if url and not re.match(r"(sqlite:///|postgresql\+psycopg://)", url):
        raise _faulty(where, "database", "it must begin with postgresql+psycopg:// or sqlite:///")


def _check_objects(where: str, url: str) -> None:
    if "://" in url and not re.match(r"s3://[a-z0-9][a-z0-9.-]{1,62}(/|\?|$)", url):
        raise _faulty(where, "objects", "it must be a folder or s3://BUCKET/PREFIX?endpoint=URL")


def _text(where: str, key: str, value: object) -> str:
    if not isinstance(value, str) or not value or len(value) > 1000:
        raise _faulty(where, key, "must be text")
    return value


def _path(where: str, key: str, value: object) -> Path:
    return Path(_text(where, key, value)).expanduser()


def _whole(least: int, most: int) -> Callable[[str, str, object], int]:
    def check(where: str, key: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise _faulty(where, key, f"must be a whole number from {least} to {most}")
        return value

    return check


def _texts(where: str, key: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise _faulty(where, key, "must be a list of addresses")
    return tuple(_text(where, key, each) for each in value)


def _city(where: str, key: str, value: object) -> City:
    if not isinstance(value, dict) or not set(value) <= {"title", "lat", "lon", "time_zone", "language"}:
        raise _faulty(where, key, "may hold title, lat, lon, time_zone, language")
    city = replace(City(), **value)
    for name, most in (("lat", 90), ("lon", 180)):
        number = getattr(city, name)
        if isinstance(number, bool) or not isinstance(number, int | float) or not abs(number) <= most:
            raise _faulty(where, f"city.{name}", f"must be degrees from -{most} to {most}")
    if city.language not in ("id", "en"):
        raise _faulty(where, "city.language", "must be id or en")
    _text(where, "city.title", city.title)
    try:
        ZoneInfo(_text(where, "city.time_zone", city.time_zone))
    except (ZoneInfoNotFoundError, ValueError):
        raise _faulty(where, "city.time_zone", "is no time zone such as Asia/Jayapura") from None
    return city


def _mapping(where: str, key: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _faulty(where, key, "must hold keys and values")
    return value


_NAMES = {"certificate": "certificate_path", "key": "key_path"}
KEYS: dict[str, Callable[[str, str, Any], Any]] = {
    "listen": _text,
    "url": _text,
    "database": _text,
    "objects": _text,
    "certificate": _path,
    "key": _path,
    "proxies": _texts,
    "city": _city,
    "upload_most_mb": _whole(1, 4096),
    "uploads_keep_days": _whole(1, 365),
    "free_least_mb": _whole(0, 10_000_000),
    "history_keep_days": _whole(1, 3650),
    "people": _mapping,
}
