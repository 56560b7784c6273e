"""The site file: what one box records, where to, and for how long. YAML in, frozen settings out.

`load()` takes a file only as a whole and only without a fault; `check()` gives every fault with its line and
what to write instead. The values are in `site_settings.py`, the keys in `site_keys.py`, reading YAML with lines in
`site_yaml.py`, zones, hours and rules in `site_scene.py`, and whether the rings fit the disk in `site_budget.py`. No password is ever part of a
repr, a fault or a warning.
"""

from __future__ import annotations

import os
import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import yaml

from nvr import site_keys
from nvr.errors import NvrError
from nvr.site_budget import check_budgets
from nvr.site_holidays import NONE, OF_TIME_ZONE, Holidays
from nvr.site_holidays import load as load_holidays
from nvr.site_kinds import Wrong, check_name, closest, shown
from nvr.site_scene import Line, OpenTime, Rule, Zone, read_hours, read_lines, read_rules, read_zones
from nvr.site_settings import (
    Camera,
    Hub,
    PiCameraSmallSource,
    PiCameraSource,
    ReplaySource,
    RtspSource,
    Site,
    SourceSettings,
    Storage,
    StreamSettings,
    UsbSource,
    Web,
)
from nvr.site_sources import Sources, of_one_sensor, with_login_of
from nvr.site_yaml import Entry, Fault, Reader, compose, line_of

__all__ = [
    "GB",
    "Camera",
    "Checked",
    "Fault",
    "Hub",
    "Line",
    "OpenTime",
    "PiCameraSmallSource",
    "PiCameraSource",
    "ReplaySource",
    "RtspSource",
    "Rule",
    "Site",
    "SiteFaulty",
    "SourceSettings",
    "Storage",
    "StreamSettings",
    "UsbSource",
    "Web",
    "Zone",
    "check",
    "check_budgets",
    "check_text",
    "load",
]

GB = 1_000_000_000


class SiteFaulty(NvrError):
    """The site file has faults; nothing was done."""

    def __init__(self, path: Path, faults: tuple[Fault, ...]) -> None:
        lines = [f"{path}:{fault.line}: {fault.key + ': ' if fault.key else ''}{fault.what}" for fault in faults]
        super().__init__("\n".join(lines), hint=f"`nvr site check {path}` says what to write instead.")
        self.path = path
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Checked:
    """What reading a site file gave; there is a site exactly when there are no faults."""

    site: Site | None
    faults: tuple[Fault, ...]
    warnings: tuple[Fault, ...]


def load(path: Path | str) -> Site:
    """The settings in `path`. Raises SiteFaulty with every fault, or NvrError when it cannot be read."""
    checked = check(path)
    if checked.site is None:
        raise SiteFaulty(Path(path), checked.faults)
    return checked.site


def check(path: Path | str) -> Checked:
    """Read and judge `path` completely. Raises NvrError when it cannot be read at all."""
    path = Path(path)
    try:
        with open(path, "rb") as file:
            data = file.read((1 << 20) + 1)
            mode = os.fstat(file.fileno()).st_mode
    except OSError as error:
        raise NvrError(
            f"cannot read the site file {path}: {error.strerror}", hint="Check its name and its permissions."
        ) from error
    checked = check_text(data, path)
    if checked.site is not None and mode & 0o004 and _has_secrets(checked.site):
        warning = Fault(1, "", "holds passwords, and everybody on this machine can read it", f"chmod 640 {path}")
        return Checked(checked.site, (), (*checked.warnings, warning))
    return checked


def check_text(data: bytes, path: Path) -> Checked:
    """Judge the bytes of a site file; `path` is where relative names in it start from."""
    node, fault = compose(data)
    if node is None:
        return Checked(None, (fault,) if fault else (), ())
    reader = Reader()
    site = _Top(reader, path.absolute()).read(node)
    faults = tuple(sorted(reader.faults))
    return Checked(None if faults else site, faults, tuple(sorted(reader.warnings)))


def _has_secrets(site: Site) -> bool:
    sources = [source for camera in site.cameras for source in (camera.main, camera.small)]
    return any(isinstance(source, RtspSource) and source.password for source in sources)


class _Top:
    """One reading of one file. What is faulty gets a stand-in, so that the rest is still looked at."""

    def __init__(self, reader: Reader, path: Path) -> None:
        self.reader = reader
        self.path = path
        self.templates: dict[str, dict[str, Entry]] = {}
        self.sources = Sources(reader, path.parent)

    def read(self, node: yaml.Node) -> Site | None:
        reader = self.reader
        if not isinstance(node, yaml.MappingNode):
            reader.fault(line_of(node), "", "a site file is a group of keys", "docs/settings.md shows a complete one.")
            return None
        entries = reader.entries(node, "")
        elsewhere = {name: place for name, place in site_keys.BELONGS.items() if not place.startswith("the site file")}
        top = reader.section(entries, site_keys.SITE, path="", line=1, elsewhere=elsewhere)
        storage = self._storage(top["storage"])
        web = reader.section(*self._group(top["web"], "web"), site_keys.WEB, path="web", line=_line(top["web"]), elsewhere=site_keys.BELONGS)  # fmt: skip
        if top["web"] is not None:
            self._check_listen(web["listen"], _line(top["web"]))
        hub = self._hub(top["hub"])
        self._read_templates(top["templates"])
        zone = self._time_zone(top["time_zone"], entries)
        holidays = self._holidays(top["holidays"] or OF_TIME_ZONE.get(top["time_zone"] or "", NONE), entries)
        cameras = self._cameras(top["cameras"], top["site"] or "")
        if reader.faults or zone is None:
            return None
        return Site(
            self.path, top["site"], top["box"], zone, storage, Web(web["listen"], web["port"]), hub, cameras, holidays
        )

    def _group(self, node: yaml.Node | None, path: str) -> tuple[dict[str, Entry]]:
        return ({} if node is None else self.reader.entries(node, path),)

    def _time_zone(self, name: str | None, entries: Mapping[str, Entry]) -> ZoneInfo | None:
        if name is None:
            return None
        try:
            return ZoneInfo(name)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            near = closest(name, zoneinfo.available_timezones())
            self.reader.fault(
                entries["time_zone"].line,
                "time_zone",
                f"{shown(name)} is no time zone of the tz database",
                f"time_zone: {near or 'Asia/Jayapura'}",
            )
            return None

    def _holidays(self, name: str, entries: Mapping[str, Entry]) -> Holidays:
        try:
            return load_holidays(name, self.path.parent)
        except NvrError as error:
            line = entries["holidays"].line if "holidays" in entries else 1
            self.reader.fault(line, "holidays", str(error), error.hint)
            return Holidays()

    def _check_listen(self, listen: str, line: int) -> None:
        import ipaddress

        try:
            ipaddress.ip_address(listen)
        except ValueError:
            self.reader.fault(line, "web.listen", f"{shown(listen)} is not an IP address", "listen: 0.0.0.0")

    def _storage(self, node: yaml.Node | None) -> Storage:
        values = self.reader.section(*self._group(node, "storage"), site_keys.STORAGE, path="storage", line=_line(node), elsewhere=site_keys.BELONGS)  # fmt: skip
        path = self.path.parent / Path(values["path"]).expanduser()
        return Storage(path, values["loss_bound_s"], round(values["reserve_gb"] * GB))

    def _hub(self, node: yaml.Node | None) -> Hub | None:
        if node is None:
            return None
        values = self.reader.section(*self._group(node, "hub"), site_keys.HUB, path="hub", line=_line(node), elsewhere=site_keys.BELONGS)  # fmt: skip
        if "@" in urlsplit(values["url"] or "").netloc:
            self.reader.fault(
                _line(node),
                "hub.url",
                "the hub is not reached with a user and a password",
                "Take them out; `code` enrols the box.",
            )
        if values["cap_kbit_s"] is not None and (values["floor_kbit_s"] or 0) > values["cap_kbit_s"] / 2:
            self.reader.fault(
                _line(node), "hub.floor_kbit_s",
                f"{values['floor_kbit_s']:g} kbit/s of a cap of {values['cap_kbit_s']:g} leave too little for everything else",
                f"floor_kbit_s: {values['cap_kbit_s'] / 4:g}",
            )  # fmt: skip
        return Hub(
            values["url"], values["code"], values["fingerprint"], values["cap_kbit_s"], values["floor_kbit_s"],
            _quiet_hours(values["quiet_hours"]), values["still_s"], values["clips"], values["clip_before_s"], values["clip_after_s"],
            values["yields"],
        )  # fmt: skip

    # -- cameras -------------------------------------------------------------------------------------

    def _read_templates(self, node: yaml.Node | None) -> None:
        self.templates = {name: {} for name in site_keys.BUILT_IN_TEMPLATES}
        if node is None:
            return
        for name, entry in self.reader.entries(node, "templates").items():
            if not self._is_named_well(entry):
                continue
            keys = self.reader.entries(entry.value, entry.path)
            # Checked here as well, because a template that no camera takes may be wrong too.
            optional = tuple(_optional(key) for key in site_keys.SHARED)
            self._shared(
                self.reader.section(keys, optional, path=entry.path, line=entry.line, elsewhere=site_keys.BELONGS),
                keys,
                None,
            )
            self.templates[name] = {
                key: value for key, value in keys.items() if key in {known.name for known in site_keys.SHARED}
            }

    def _is_named_well(self, entry: Entry) -> bool:
        try:
            check_name(entry.name)
        except Wrong as wrong:
            self.reader.fault(entry.line, entry.path, wrong.what, wrong.instead)
            return False
        return True

    def _cameras(self, node: yaml.Node | None, site_name: str) -> tuple[Camera, ...]:
        if node is None:
            return ()
        entries = self.reader.entries(node, "cameras")
        if not entries:
            self.reader.fault(
                _line(node), "cameras", "there is no camera in it", "Add one; docs/settings.md has an example."
            )
        cameras: list[Camera] = []
        alike: dict[str, str] = {}  # name without - and _ -> the name as it was first
        for name, entry in entries.items():
            self._is_named_well(entry)
            plain = name.replace("-", "").replace("_", "")
            if plain in alike:
                self.reader.fault(
                    entry.line,
                    entry.path,
                    f"can be mistaken for the camera {alike[plain]!r}",
                    "Give it a name of its own.",
                )
            alike.setdefault(plain, name)
            camera = self._camera(entry, site_name)
            if camera is not None:
                cameras.append(camera)
        return tuple(cameras)

    def _camera(self, entry: Entry, site_name: str) -> Camera | None:
        reader = self.reader
        entries = reader.entries(entry.value, entry.path)
        if not entries:
            return None
        if "template" in entries:
            template = reader.value(site_keys.Text(r".{1,80}"), entries["template"])
            if template is not None and template not in self.templates:
                near = closest(template, self.templates)
                known = ", ".join(self.templates)
                reader.fault(entries["template"].line, entries["template"].path, f"there is no template {shown(template)}", f"template: {near}" if near else f"Known: {known}.")  # fmt: skip
            entries = {**self.templates.get(template or "", {}), **entries}
        values = reader.section(
            entries, site_keys.CAMERA, path=entry.path, line=entry.line, elsewhere=site_keys.BELONGS
        )
        main = self.sources.read(values["main"], f"{entry.path}.main")
        small = with_login_of(main, self.sources.read(values["small"], f"{entry.path}.small", main=main))
        main, small = of_one_sensor(main, small)
        if values["small_ring_gb"] is not None and values["small"] is None:
            reader.fault(
                entries["small_ring_gb"].line,
                f"{entry.path}.small_ring_gb",
                "there is no small stream to record",
                "Add `small:`, or take this out.",
            )
        if "hours" not in entries and values["rules"] is not None:
            for rule in values["rules"].value:
                if rule[0].value == "service_open":
                    reader.fault(
                        line_of(rule[0]),
                        f"{entry.path}.rules.service_open",
                        "needs to know when the place should be open",
                        'hours: {mon-fri: "08:00-14:00"}',
                    )
        zones, lines, hours, rules = self._shared(values, entries, entry)
        masks = read_zones(reader, values["masks"], entries["masks"].path if "masks" in entries else "")
        if main is None or values["ring_gb"] is None:
            return None
        return Camera(
            name=entry.name,
            place=values["place"] or site_name,
            main=main,
            small=small,
            ring_bytes=round(values["ring_gb"] * GB),
            small_ring_bytes=None if values["small_ring_gb"] is None else round(values["small_ring_gb"] * GB),
            hold_bytes=None if values["hold_gb"] is None else round(values["hold_gb"] * GB),
            keep_days=values["keep_days"],
            evidence=values["evidence"],
            stall_s=values["stall_s"],
            template=values["template"],
            zones=zones,
            masks=masks,
            lines=lines,
            hours=hours,
            rules=rules,
        )

    def _shared(
        self, values: Mapping[str, Any], entries: Mapping[str, Entry], camera: Entry | None
    ) -> tuple[tuple[Zone, ...], tuple[Line, ...], tuple[OpenTime, ...], tuple[Rule, ...]]:
        """Zones, lines, hours and rules; rules of a template are held against the zones of each camera that takes it."""
        path = {name: entry.path for name, entry in entries.items()}
        zones = read_zones(self.reader, values["zones"], path.get("zones", ""))
        lines = read_lines(self.reader, values["lines"], path.get("lines", ""))
        for line in lines:
            if line.name in {zone.name for zone in zones}:
                self.reader.fault(
                    _line(values["lines"]),
                    f"{path['lines']}.{line.name}",
                    "a zone of this camera has the same name",
                    "Give each a name of its own.",
                )
        hours = read_hours(self.reader, values["hours"], path.get("hours", ""))
        # A zone with a fault is there all the same: it is told once, and not again by each rule that names it.
        known = None if camera is None else (_keys(values["zones"]), _keys(values["lines"]))
        rules = read_rules(self.reader, values["rules"], path.get("rules", ""), known, camera.name if camera else "")
        return zones, lines, hours, rules


def _optional(key: site_keys.Key) -> site_keys.Key:
    return site_keys.Key(key.name, key.kind, key.meaning, key.default)


def _quiet_hours(text: str) -> tuple[tuple[int, int], ...]:
    """ "22:00-06:00, 12:00-13:00" as minutes of the day."""
    spans = []
    for part in text.split(",") if text else ():
        begin, end = (time.strip().split(":") for time in part.split("-"))
        spans.append((int(begin[0]) * 60 + int(begin[1]), int(end[0]) * 60 + int(end[1])))
    return tuple(spans)


def _keys(node: yaml.Node | None) -> set[str]:
    return {str(key.value) for key, _ in node.value} if isinstance(node, yaml.MappingNode) else set()


def _line(node: yaml.Node | None) -> int:
    return 1 if node is None else line_of(node)
