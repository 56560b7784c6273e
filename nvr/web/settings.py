"""What the page must know of a box: names, time zone and streams. No camera address, no password."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from nvr.site import Site


@dataclass(frozen=True, slots=True)
class CameraSettings:
    name: str
    title: str  # for people
    place: str
    streams: tuple[str, ...]  # "main", "small": those that are recorded


@dataclass(frozen=True, slots=True)
class PageSettings:
    site: str
    box: str
    time_zone: str
    cameras: tuple[CameraSettings, ...]
    ring_bytes: dict[str, int]  # stream -> its budget
    # Clips of the page are copies for somebody to fetch now; the ring still holds the footage, so little is enough.
    clips_bytes: int = 2_000_000_000
    clips_days: float = 7.0
    site_path: Path | None = None  # where zones are read, and drawn into

    @classmethod
    def from_site(cls, site: Site) -> PageSettings:
        streams = site.recorded_streams()
        cameras = tuple(
            CameraSettings(
                name=camera.name,
                title=camera.name.replace("-", " ").replace("_", " ").capitalize(),
                place=camera.place if camera.place != site.name else "",
                streams=tuple(each.name.split("/")[1] for each in streams if each.name.split("/")[0] == camera.name),
            )
            for camera in site.cameras
        )
        return cls(
            site.name, site.box, site.time_zone.key, cameras, {each.name: each.ring_bytes for each in streams},
            site_path=site.path,
        )  # fmt: skip

    @property
    def stream_names(self) -> frozenset[str]:
        return frozenset(f"{camera.name}/{kind}" for camera in self.cameras for kind in camera.streams)

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)

    def to_json(self) -> dict[str, Any]:
        return {
            "site": self.site,
            "box": self.box,
            "time_zone": self.time_zone,
            "cameras": [asdict(camera) for camera in self.cameras],
        }
