"""tools/city/ambon.yaml as values, and the order in which boxes and cameras stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

AMBON_PATH = Path(__file__).with_name("ambon.yaml")
TEMPLATES = {
    "traffic": "traffic",
    "service-office": "service-office",
    "health-centre": "service-office",
    "public-space": "public-space",
}


@dataclass(frozen=True, slots=True)
class Place:
    """A place; its position is approximate."""

    name: str
    title_id: str
    title_en: str
    kind: str  # as the hub has it
    lat: float
    lon: float
    pattern: str  # its story in day.py
    cameras: tuple[str, ...]
    hours: Mapping[str, str] | None  # where it is an office

    @property
    def template(self) -> str:
        return TEMPLATES[self.kind]

    def camera_name(self, camera: str) -> str:
        """Unique in the box, and readable alone."""
        return f"{self.name}-{camera}"


@dataclass(frozen=True, slots=True)
class Box:
    name: str
    places: tuple[Place, ...]

    @property
    def cameras(self) -> list[tuple[str, Place]]:
        return [(place.camera_name(camera), place) for place in self.places for camera in place.cameras]


@dataclass(frozen=True, slots=True)
class City:
    title: str
    lat: float
    lon: float
    time_zone: str
    boxes: tuple[Box, ...]
    hours: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def places(self) -> list[Place]:
        return [place for box in self.boxes for place in box.places]

    def without(self, places: set[str]) -> City:
        """The same without some places, which somebody else looks at."""
        boxes = tuple(
            Box(box.name, tuple(each for each in box.places if each.name not in places)) for box in self.boxes
        )
        return City(
            self.title, self.lat, self.lon, self.time_zone, tuple(box for box in boxes if box.places), self.hours
        )


def load(path: Path = AMBON_PATH) -> City:
    told = yaml.safe_load(path.read_text("utf-8"))
    boxes = tuple(
        Box(
            name,
            tuple(
                Place(
                    each["name"], each["id"], each["en"], each["kind"], each["lat"], each["lon"], each["pattern"], tuple(each["cameras"]),
                    told["hours"].get(each["kind"]),
                )
                for each in places
            ),
        )
        for name, places in told["boxes"].items()
    )  # fmt: skip
    return City(told["title"], told["lat"], told["lon"], told["time_zone"], boxes, told["hours"])
