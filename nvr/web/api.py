"""The JSON API under /api, and the bytes of footage under /media. docs/guide/page.md describes it for programs."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Route

from nvr import __version__, installed
from nvr.clock import Clock
from nvr.errors import NvrError
from nvr.media import PAGE_BYTES, Position
from nvr.ring import holds
from nvr.scrub import read_status
from nvr.web.answers import (
    SECURITY_HEADERS,
    NotFound,
    Unavailable,
    WrongQuestion,
    byte_range,
    day_of,
    json_answer,
    json_body,
    span_of,
    stream_of,
)
from nvr.web.cutting import LONGEST_CLIP_S, Cutting
from nvr.web.footage import Footage
from nvr.web.guard import Guard
from nvr.web.live import Live
from nvr.web.missing import Missing
from nvr.web.settings import PageSettings

RANGE_BYTES = 8 << 20  # in one answer; a second at 60 Mbit/s
LONGEST_WINDOW_S = 3600
LONGEST_LEDGER_S = 8 * 86_400
LONGEST_HOLD_S = 7 * 86_400
SEGMENT_BYTES = 1 << 40  # no segment is larger; the file's own size is checked when it is read
DISK_ANSWERS_S = 20
READS_AT_ONCE = 4  # threads of their own wait for the disk: one that hangs must not keep people from logging in


class Api:
    def __init__(
        self,
        data_dir: Path,
        settings: PageSettings,
        live: Live,
        footage: Footage,
        missing: Missing,
        cutting: Cutting,
        clock: Clock,
    ) -> None:
        self._data_dir = data_dir
        self._settings = settings
        self._live = live
        self._footage = footage
        self._cutting = cutting
        self._missing = missing
        self._clock = clock
        self._readers = ThreadPoolExecutor(READS_AT_ONCE, "read")

    def routes(self, guard: Guard) -> list[BaseRoute]:
        def route(path: str, handler: Any, method: str = "GET") -> Route:
            return Route(path, guard.closed(handler), methods=[method])

        return [
            route("/api/streams", self._streams),
            route("/api/status", self._status),
            route("/api/day", self._day),
            route("/api/ledger", self._ledger),
            route("/api/fragments", self._fragments),
            route("/media/{camera}/{kind}/{segment}/{lap}", self._media),
            route("/api/clips", self._clips),
            route("/api/clips", self._cut, "POST"),
            route("/api/clips/{name}", self._download),
            route("/api/clips/{name}", self._delete, "DELETE"),
            route("/api/holds", self._holds),
            route("/api/holds", self._hold, "POST"),
            route("/api/holds", self._release, "DELETE"),
        ]

    async def _read(self, work: Any, *arguments: Any) -> Any:
        """Run something that waits for the disk, a few at a time. Raises Unavailable when the disk hangs."""
        try:
            async with asyncio.timeout(DISK_ANSWERS_S):
                return await asyncio.get_running_loop().run_in_executor(self._readers, work, *arguments)
        except TimeoutError:
            raise Unavailable(
                f"the disk has not answered for {DISK_ANSWERS_S} s", hint="Look at the health page."
            ) from None

    # -- how things are

    async def _streams(self, request: Request) -> Response:
        answer = []
        for camera in self._settings.cameras:
            for kind in camera.streams:
                name = f"{camera.name}/{kind}"
                facts = await self._read(self._footage.facts, name)
                answer.append(
                    {"stream": name, "place": camera.place, "ring_bytes": self._settings.ring_bytes.get(name), **facts}
                )
        return json_answer({"streams": answer})

    async def _status(self, request: Request) -> Response:
        streams: dict[str, Any] = {}
        for name, state in self._live.stream_status().items():
            ring = {"budget_bytes": self._settings.ring_bytes.get(name)}
            try:
                ring |= await self._read(self._footage.facts, name)
            except NvrError:
                pass  # a disk that does not answer must not hide what the recorder says
            streams[name] = state | _camera_facts(self._live.told(name)) | {"ring": ring}
        clock = self._clock.read()
        return json_answer(
            {
                "now_ms": clock.wall_ns // 1_000_000,
                "recorder_silent_s": self._live.recorder_silent_s(),
                "clock": {"state": int(clock.state), "error_ns": clock.error_ns},
                "disk": await self._read(self._disk),
                "troubles": await self._read(self._live.troubles_now),
                "streams": streams,
                "system": {"version": __version__, "slot": installed.slot()},
                "update": installed.last_update(self._data_dir / "run"),
            }
        )

    def _disk(self) -> dict[str, Any]:
        states = [self._live.told(name) for name in sorted(self._settings.stream_names)]
        trouble = next((state for state in states if str(state.get("cause") or "").startswith("disk")), {})
        try:
            disk = os.statvfs(self._data_dir / "rings")
            total, free = disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize
        except OSError as error:
            return {"total_bytes": None, "free_bytes": None, "cause": "disk failed", "detail": error.strerror}
        forgotten = read_status(self._data_dir).get("forgotten")
        if not trouble and isinstance(forgotten, dict) and (count := sum(forgotten.values())):
            trouble = {"cause": "disk failed", "detail": f"{count} fragments do not read back: replace this disk"}
        if not trouble and (slow := self._live.status.get("disk_slow")):
            trouble = {"cause": "disk slow", "detail": slow}
        return {
            "total_bytes": total,
            "free_bytes": free,
            "cause": trouble.get("cause"),
            "detail": trouble.get("detail"),
        }

    # -- what was recorded

    def _stream(self, request: Request) -> str:
        return stream_of(request.query_params.get("stream"), self._settings.stream_names)

    async def _day(self, request: Request) -> Response:
        stream = self._stream(request)
        from_ns, to_ns = day_of(request.query_params.get("date"), self._settings.zone)
        return json_answer(await self._read(self._missing.account, stream, from_ns, to_ns))

    async def _ledger(self, request: Request) -> Response:
        stream = self._stream(request)
        from_ns, to_ns = span_of(request.query_params, LONGEST_LEDGER_S)
        return json_answer(await self._read(self._missing.account, stream, from_ns, to_ns))

    async def _fragments(self, request: Request) -> Response:
        stream = self._stream(request)
        from_ns, to_ns = span_of(request.query_params, LONGEST_WINDOW_S)
        return json_answer(await self._read(self._footage.fragments, stream, from_ns, to_ns))

    async def _media(self, request: Request) -> Response:
        """Bytes of a segment: whole fragments, or the init segment in its first page. Ranges only."""
        parameters = request.path_params
        stream = stream_of(f"{parameters['camera']}/{parameters['kind']}", self._settings.stream_names)
        try:
            segment, lap = (int(parameters[name]) if len(parameters[name]) < 10 else -1 for name in ("segment", "lap"))
        except ValueError:
            segment = lap = -1
        if segment < 0 or lap < 0:
            raise WrongQuestion("segment and lap are numbers", hint="Take them from /api/fragments.")
        offset, size_bytes = byte_range(request.headers.get("range"), SEGMENT_BYTES, RANGE_BYTES)
        if offset % PAGE_BYTES:
            raise WrongQuestion(f"offset {offset} is not the start of a page", hint="Take offsets from /api/fragments.")
        data = await self._read(self._footage.segment_bytes, Position(stream, segment, lap, offset, size_bytes))
        headers = {
            "cache-control": "private, no-store",
            "content-range": f"bytes {offset}-{offset + size_bytes - 1}/*",
            **SECURITY_HEADERS,
        }
        return Response(data, 206, headers, "video/mp4")

    # -- clips and holds

    async def _clips(self, request: Request) -> Response:
        found = await self._read(self._cutting.clips)
        used = sum(clip.size_bytes for clip in found)
        return json_answer(
            {"clips": [clip.to_json() for clip in found], "used_bytes": used, "quota_bytes": self._settings.clips_bytes}
        )

    async def _cut(self, request: Request) -> Response:
        body = await json_body(request)
        stream = stream_of(str(body.get("stream")), self._settings.stream_names)
        from_ns, to_ns = span_of(body, LONGEST_CLIP_S)
        clip = await self._cutting.cut(stream, from_ns, to_ns)
        return json_answer(clip.to_json(), 201)

    async def _download(self, request: Request) -> Response:
        path = await self._read(self._cutting.path_of, request.path_params["name"])
        headers = {"cache-control": "private, no-store", **SECURITY_HEADERS}
        return FileResponse(path, headers=headers, media_type="video/mp4", filename=path.name)

    async def _delete(self, request: Request) -> Response:
        await self._read(self._cutting.delete, request.path_params["name"])
        return json_answer({"ok": True})

    async def _holds(self, request: Request) -> Response:
        held = await self._read(holds.load, self._data_dir / "holds.json")
        return json_answer({"holds": [_hold_json(hold) for hold in held if hold.stream in self._settings.stream_names]})

    async def _hold(self, request: Request) -> Response:
        body = await json_body(request)
        stream = stream_of(str(body.get("stream")), self._settings.stream_names)
        from_ns, to_ns = span_of(body, LONGEST_HOLD_S)
        hold = await self._read(self._add_hold, stream, from_ns, to_ns, str(body.get("reason") or "page")[:200])
        return json_answer(_hold_json(hold), 201)

    def _add_hold(self, stream: str, from_ns: int, to_ns: int, reason: str) -> holds.Hold:
        """Held by sequence numbers as well: a clock that is repaired later must not let go of the footage."""
        sequences = [row.record.sequence for row, _ in self._footage.rows(stream, from_ns, to_ns)]
        if not sequences:
            raise NotFound("nothing was recorded in this span", hint="Choose a span that is green on the timeline.")
        hold = holds.Hold(os.urandom(8).hex(), stream, from_ns, to_ns, reason, min(sequences), max(sequences))
        holds.add(self._data_dir / "holds.json", hold)
        return hold

    async def _release(self, request: Request) -> Response:
        body = await json_body(request)
        known = {hold.id for hold in await self._read(holds.load, self._data_dir / "holds.json")}
        if body.get("id") not in known:
            raise NotFound("there is no such hold (any more)", hint="GET /api/holds lists them.")
        await self._read(holds.release, self._data_dir / "holds.json", body["id"])
        return json_answer({"ok": True})


def _hold_json(hold: holds.Hold) -> dict[str, Any]:
    return {
        "id": hold.id, "stream": hold.stream, "from_ms": hold.from_ns // 1_000_000,
        "to_ms": hold.to_ns // 1_000_000, "reason": hold.reason,
    }  # fmt: skip


def _camera_facts(told: dict[str, Any]) -> dict[str, Any]:
    """What the recorder and its source say of a camera, under the names of the API; None where they say nothing."""
    source = told.get("source")
    source = source if isinstance(source, dict) else {}
    return {
        "bits_per_s": told.get("bits_per_s"),
        "pictures_per_s": told.get("pictures_per_s"),
        "lost_packets": told.get("lost_packets"),
        "width": told.get("width"),
        "height": told.get("height"),
        "last_picture_s": told.get("last_picture_s"),
        "reconnects": source.get("reconnects"),
        "clock_offset_s": source.get("camera_clock_offset_s"),
        "last_fault": told.get("last_fault"),
        "transport": source.get("transport"),
    }
