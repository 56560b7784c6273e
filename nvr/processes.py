"""Which processes a site wants, and what each of them is told of it. Pure, but for the packages that are looked for."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

from nvr.recorder import Settings
from nvr.site_settings import Site, StreamSettings, source_options
from nvr.stream import RecordedStream

log = logging.getLogger(__name__)


def looked_for(site: Site) -> object:
    """All of a site that detection depends on."""
    cameras = [camera for camera in site.cameras if camera.is_looked_at]
    return site.time_zone.key, site.holidays, cameras


def reported(site: Site) -> object:
    """All of a site that the uplink depends on."""
    return site.hub, site.name, site.box, site.time_zone.key, site.cameras


def is_reporting(site: Site) -> bool:
    """Whether there is a hub, and what it takes to reach it."""
    if site.hub is None:
        return False
    missing = [name for name in ("httpx", "websockets") if importlib.util.find_spec(name) is None]
    if missing:
        log.warning("nothing is reported to the hub: the packages %s are not installed", ", ".join(missing))
    return not missing


def is_looking(site: Site) -> bool:
    """Whether there is anything to look for, and what it takes to look."""
    if not any(camera.is_looked_at for camera in site.cameras):
        return False
    missing = [name for name in ("av", "numpy") if importlib.util.find_spec(name) is None]
    if missing:
        log.warning(
            "detection is off: the packages %s are not installed; recording does not need them", ", ".join(missing)
        )
    return not missing


def needs_start(site: Site, data_dir: Path) -> object:
    return record_settings(site, data_dir), web_arguments(site, data_dir)


def record_settings(site: Site, data_dir: Path, *, once: bool = False) -> Settings:
    """What the recorder must know of a site."""
    return Settings(
        data_dir=str(data_dir.absolute()),
        loss_bound_s=site.storage.loss_bound_s,
        streams=tuple(_recorded(stream, data_dir) for stream in site.recorded_streams()),
        once=once,
    )


def _recorded(stream: StreamSettings, data_dir: Path) -> RecordedStream:
    return RecordedStream(
        name=stream.name,
        source=source_options(stream.source, stream.stall_s, data_dir),
        ring_bytes=stream.ring_bytes,
        hold_bytes=stream.hold_bytes,
        keep_days=stream.keep_days,
        evidence=stream.evidence,
    )


def web_arguments(site: Site, data_dir: Path) -> list[str]:
    """How the page's process is started."""
    listen = f"[{site.web.listen}]" if ":" in site.web.listen else site.web.listen
    return [
        "nvr.web",
        "--data",
        str(data_dir.absolute()),
        "--site",
        str(site.path),
        "--listen",
        f"{listen}:{site.web.port}",
    ]


def detect_arguments(site: Site, data_dir: Path) -> list[str]:
    return ["nvr.detect", "--data", str(data_dir.absolute()), "--site", str(site.path)]


def uplink_arguments(site: Site, data_dir: Path) -> list[str]:
    return ["nvr.uplink", "--data", str(data_dir.absolute()), "--site", str(site.path)]
