"""Health of the box that no other process tells: disk and card wear, temperature, load, slot, update, and today's ledger. Reads the system."""

from __future__ import annotations

import os
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from nvr import ledger, scrub, troubles
from nvr.clock import Clock, boot_id
from nvr.errors import NvrError
from nvr.media import Cause, ClockState
from nvr.site_settings import Site

GAPS_MOST = 2000  # some 50 bytes each; a message has 256 KiB


def disk(data_dir: Path, trouble: str) -> dict[str, Any]:
    """Of the disk that holds the data; what nobody knows of it is None. Wear and what does not read back are told by `scrub.py`."""
    said = scrub.read_status(data_dir)
    wear, forgotten = (_object(said.get(key)) for key in ("wear", "forgotten"))
    lost = sorted(str(stream) for stream, number in forgotten.items() if number)
    if lost:
        trouble = ", ".join(
            each for each in (trouble, f"does not read back what was recorded: {', '.join(lost)[:200]}") if each
        )
    body: dict[str, Any] = {"total_bytes": 0, "free_bytes": 0}
    try:
        found = os.statvfs(data_dir)
        body = {"total_bytes": found.f_blocks * found.f_frsize, "free_bytes": found.f_bavail * found.f_frsize}
    except OSError as error:
        trouble = trouble or f"the disk is away: {error.strerror}"
    keys = (
        "written_bytes",
        "bytes_per_day",
        "life_left_percent",
        "days_left",
        "is_from_disk",
        "cycles",
        "write_amplification",
    )
    return {**body, **{key: wear.get(key) for key in keys}, "trouble": trouble}


def troubles_of(run_dir: Path, record: dict[str, Any], at_ms: int) -> list[dict[str, Any]]:
    """What `nvr run` and `record` say is wrong with the box itself; at_ms: now, 0 unknown."""
    return [asdict(each) for each in troubles.all_of(run_dir, record, at_ms)]


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def temperature_c() -> float | None:
    """The hottest zone that tells something possible."""
    found = []
    for path in Path("/sys/class/thermal").glob("thermal_zone*/temp"):
        try:
            found.append(int(path.read_text()) / 1000)
        except (OSError, ValueError):
            continue
    return max((each for each in found if -40 < each < 150), default=None)


def load() -> float:
    return round(os.getloadavg()[0], 2)


def gaps(data_dir: Path, stream: str, from_ns: int, to_ns: int, clock: Clock) -> dict[str, Any]:
    """`{from_ms, to_ms, gaps: [[from_ms, to_ms, cause], ...]}`: one stream between two times, as the ledger counts it; what lies between
    the gaps was recorded.

    Begins with the stream's first picture, and ends where nothing is decided yet or after GAPS_MOST: what is outside is not said.
    A gap that is shorter than a millisecond is left out. Raises NvrError when that cannot be told.
    """
    now = clock.read()
    if now.state is ClockState.UNKNOWN:
        raise NvrError("this box does not know the time", hint="It learns it from the hub within minutes.")
    if stream not in ledger.reader.streams(data_dir):
        raise NvrError(f"{stream}: nothing was ever recorded there", hint="Look at the camera.")
    (account,) = ledger.ledger(data_dir, [stream], from_ns, to_ns, now=now, boot_id=boot_id())
    account = account.since_the_first()
    found: list[list[Any]] = []
    end_ms = account.to_ns // 1_000_000
    for part in account.gaps():
        gap_ms = [part.from_ns // 1_000_000, part.to_ns // 1_000_000]
        if part.cause is None or gap_ms[0] == gap_ms[1]:
            continue
        if len(found) == GAPS_MOST:
            end_ms = gap_ms[0]
            break
        found.append([*gap_ms, part.cause.value])
    return {"from_ms": account.from_ns // 1_000_000, "to_ms": end_ms, "gaps": found}


def ledger_today(site: Site, data_dir: Path, clock: Clock) -> dict[str, Any]:
    """Recorded and missing seconds of each main stream since midnight at the site; {} while nobody knows when that was.

    A day on which a camera was put up begins with its first picture. A stream of which the journal is not written yet is left out.
    """
    now = clock.read()
    if now.state is ClockState.UNKNOWN:
        return {}
    midnight = datetime.fromtimestamp(now.wall_ns / 1e9, site.time_zone).replace(
        hour=0, minute=0, second=0, microsecond=0
    )
    names = {f"{camera.name}/main" for camera in site.cameras}
    try:
        known = set(ledger.reader.streams(data_dir))
        accounts = ledger.ledger(
            data_dir, sorted(names & known), int(midnight.timestamp()) * 1_000_000_000, None, now=now, boot_id=boot_id()
        )
    except (NvrError, OSError, KeyError, ValueError):
        return {}
    told = {}
    for account in accounts:
        account = account.since_the_first()
        if account.parts and all(part.cause is Cause.NOT_KNOWN for part in account.parts):
            continue  # seconds after the first start
        fields = account.to_json()
        told[account.stream.partition("/")[0]] = {key: fields[key] for key in ("recorded_s", "missing_s", "by_cause")}
    return told
