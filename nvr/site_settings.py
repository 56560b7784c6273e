"""What a site file says, as values: one box, its cameras and their streams. Import them from `nvr.site`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from nvr.site_holidays import Holidays
from nvr.site_scene import Line, OpenTime, Rule, Zone


@dataclass(frozen=True, slots=True)
class RtspSource:
    url: str  # without user and password
    user: str = ""
    password: str = field(default="", repr=False)
    transport: str = "auto"  # auto, tcp, udp
    tls_fingerprint: str = ""  # SHA-256 of the only certificate that is accepted, 64 hex digits; "": any that verifies
    tls_verify: bool = True
    kind: str = "rtsp"


@dataclass(frozen=True, slots=True)
class ReplaySource:
    file: str  # absolute
    loop: bool = False
    speed: float = 1.0  # times real time; infinity: as fast as it goes
    fps: float | None = None  # only for files that do not say
    kind: str = "replay"


@dataclass(frozen=True, slots=True)
class UsbSource:
    device: str
    width: int = 1280
    height: int = 720
    fps: float = 25.0
    rate_mbit: float = 2.0
    kind: str = "usb"


@dataclass(frozen=True, slots=True)
class PiCameraSource:
    number: int = 0
    width: int = 1280
    height: int = 720
    fps: float = 25.0
    rate_mbit: float = 2.0
    small_size: tuple[int, int] | None = None  # None: nobody wants a small stream of this sensor
    small_rate_mbit: float = 0.5
    kind: str = "picamera"


@dataclass(frozen=True, slots=True)
class PiCameraSmallSource:
    """The small stream of a camera whose main stream is recorded: one sensor, scaled and encoded twice by one process."""

    number: int = 0
    kind: str = "picamera-small"


SourceSettings = RtspSource | ReplaySource | UsbSource | PiCameraSource | PiCameraSmallSource


def source_options(source: SourceSettings, stall_s: float, data_dir: Path) -> dict[str, Any]:
    """A source as JSON: `kind`, and what its constructor takes."""
    options = asdict(source)
    if isinstance(source, PiCameraSource | PiCameraSmallSource):
        options["small_socket"] = str(data_dir.absolute() / "run" / f"picamera-{source.number}.sock")
    if options["kind"] == "rtsp":
        options["stall_s"] = stall_s
    if options["kind"] == "replay" and options["speed"] == float("inf"):
        options["speed"] = None  # JSON has no infinity
    return options


@dataclass(frozen=True, slots=True)
class Camera:
    name: str
    place: str
    main: SourceSettings
    small: SourceSettings | None
    ring_bytes: int
    small_ring_bytes: int | None  # None: the small stream is not recorded
    hold_bytes: int | None  # beyond each ring; None: a tenth of it
    keep_days: float | None
    evidence: bool
    stall_s: float
    template: str = ""
    zones: tuple[Zone, ...] = ()
    masks: tuple[Zone, ...] = ()
    lines: tuple[Line, ...] = ()
    hours: tuple[OpenTime, ...] = ()
    rules: tuple[Rule, ...] = ()

    @property
    def is_looked_at(self) -> bool:
        """Whether the site file asks for anything of its picture; all others are only recorded."""
        return bool(self.rules or self.zones or self.lines or self.template)


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """One recorded stream."""

    name: str  # "camera/main"
    source: SourceSettings
    ring_bytes: int
    hold_bytes: int  # beyond the ring, for held footage
    keep_days: float | None
    evidence: bool
    stall_s: float


@dataclass(frozen=True, slots=True)
class Storage:
    path: Path  # absolute
    loss_bound_s: float
    reserve_bytes: int


@dataclass(frozen=True, slots=True)
class Web:
    listen: str
    port: int


@dataclass(frozen=True, slots=True)
class Hub:
    url: str
    code: str = field(default="", repr=False)
    fingerprint: str = ""
    cap_kbit_s: float | None = None  # None: as much as the link takes
    floor_kbit_s: float = 16.0  # of the cap, for what is urgent
    quiet_hours: tuple[
        tuple[int, int], ...
    ] = ()  # minutes of the day, site time; the end is not part of it, and may be smaller
    still_s: float = 10.0
    clips: str = "all"  # all, alarms, none
    clip_before_s: float = 10.0
    clip_after_s: float = 10.0
    yields: bool = False  # to others on the same link


@dataclass(frozen=True, slots=True)
class Site:
    path: Path
    name: str
    box: str
    time_zone: ZoneInfo
    storage: Storage
    web: Web
    hub: Hub | None
    cameras: tuple[Camera, ...]
    holidays: Holidays = field(default_factory=Holidays, repr=False)

    def recorded_streams(self) -> tuple[StreamSettings, ...]:
        """Every stream that has a ring, in the order of the file."""
        streams = []
        for camera in self.cameras:
            streams.append(_stream(camera, "main", camera.main, camera.ring_bytes))
            if camera.small is not None and camera.small_ring_bytes is not None:
                streams.append(_stream(camera, "small", camera.small, camera.small_ring_bytes))
        return tuple(streams)


def host_name(box: str) -> str:
    """What the box calls itself on its network, BOX.local with multicast DNS: a host name has no `_` (RFC 952, RFC 1123 2.1)."""
    return box.replace("_", "-")


def _stream(camera: Camera, kind: str, source: SourceSettings, ring_bytes: int) -> StreamSettings:
    hold_bytes = ring_bytes // 10 if camera.hold_bytes is None else camera.hold_bytes
    name = f"{camera.name}/{kind}"
    return StreamSettings(name, source, ring_bytes, hold_bytes, camera.keep_days, camera.evidence, camera.stall_s)
