"""Which rules look at a camera: what its site file says, else what its template stands for.

`tamper` and `camera` look after every camera. A template's rules go to every zone and line the camera has.
"""

from __future__ import annotations

from nvr import site_keys
from nvr.rules.camera import CameraRule
from nvr.rules.congestion import Congestion
from nvr.rules.crowd import CrowdRule
from nvr.rules.intrusion import Intrusion
from nvr.rules.line_crossing import LineCrossing
from nvr.rules.loitering import Loitering
from nvr.rules.queue import Queue
from nvr.rules.rule import Rule
from nvr.rules.schedule import Schedule
from nvr.rules.service_open import ServiceOpen
from nvr.rules.stopped_vehicle import StoppedVehicle
from nvr.rules.tamper import TamperRule
from nvr.scene import Event, Facts
from nvr.site_scene import Rule as RuleSettings
from nvr.site_settings import Camera, Site

# The rules of each built-in template, for each zone or each line.
TEMPLATES: dict[str, tuple[str, ...]] = {
    "traffic": ("congestion", "stopped_vehicle", "line_crossing"),
    "service-office": ("service_open", "queue", "intrusion"),
    "public-space": ("crowd", "loitering", "line_crossing"),
}
ALWAYS = ("tamper", "camera")


def settings_of(camera: Camera) -> tuple[RuleSettings, ...]:
    """The rules of a camera with all their settings, in the site's order."""
    found = list(camera.rules)
    if not found:
        for name in TEMPLATES.get(camera.template, ()):
            found += _for_each_place(name, camera)
    named = {rule.name for rule in found}
    return (*found, *(RuleSettings(name, {}) for name in ALWAYS if name not in named))


def _for_each_place(name: str, camera: Camera) -> list[RuleSettings]:
    if name in ("service_open", "intrusion") and not camera.hours:
        return []  # when it should be open, or empty, nobody said
    defaults = {key.name: key.default for key in site_keys.RULES[name]}
    if "line" in defaults:
        return [RuleSettings(name, {**defaults, "line": line.name}) for line in camera.lines]
    return [RuleSettings(name, {**defaults, "zone": zone.name}) for zone in camera.zones]


def rules_of(camera: Camera, site: Site) -> list[Rule]:
    """Made anew, with nothing remembered."""
    schedule = Schedule(site.time_zone, camera.hours, site.holidays)
    zones = {zone.name: zone for zone in camera.zones}
    lines = {line.name: line for line in camera.lines}
    made: list[Rule] = []
    for name, settings in ((rule.name, dict(rule.settings)) for rule in settings_of(camera)):
        zone = settings.pop("zone", "")
        if name == "service_open":
            made.append(ServiceOpen(zone, schedule, **settings))
        elif name == "queue":
            made.append(Queue(zone, **settings))
        elif name == "congestion":
            made.append(Congestion(zones[zone], **settings))
        elif name == "stopped_vehicle":
            made.append(StoppedVehicle(zone, **settings))
        elif name == "line_crossing":
            made.append(LineCrossing(lines[settings["line"]]))
        elif name == "intrusion":
            is_always = settings["when"] == "always" or not camera.hours
            made.append(Intrusion(zone, None if is_always else schedule, after_s=settings["after_s"]))
        elif name == "loitering":
            made.append(Loitering(zone, **settings))
        elif name == "crowd":
            made.append(CrowdRule(zone, **settings))
        elif name == "tamper":
            made.append(TamperRule(schedule if camera.hours else None))
        elif name == "camera":
            made.append(CameraRule())
    return made


class Rules:
    """All rules of one camera."""

    def __init__(self, camera: Camera, site: Site) -> None:
        self.rules = rules_of(camera, site)
        self._states: dict[tuple[str, str], str] = {}

    def look(self, facts: Facts) -> list[Event]:
        """What follows from one more moment, in the order of the rules."""
        told = [event for rule in self.rules for event in rule.look(facts)]
        for event in told:
            if event.is_end:
                self._states.pop((event.kind, event.zone), None)
            elif event.state not in ("crossed", "visit"):
                self._states[event.kind, event.zone] = event.state
        return told

    def states(self) -> list[str]:
        """What holds now, a line for each rule that said something."""
        return [f"{kind} {zone}: {state}".replace(" :", ":") for (kind, zone), state in self._states.items()]
