"""Listens to a stream for some seconds through the recorder's own client, and counts. Nothing is kept."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from nvr.arena import Arena
from nvr.clock import SystemClock
from nvr.media import TICKS_PER_S, AccessUnit, RunEnded, RunStarted
from nvr.source import TURN_NS
from nvr.source.rtsp import Rtsp
from tools.nvrctl.fitness import Measured, is_b_slice

FIRST_PICTURE_S = 20.0  # cameras that wake up, and a GOP of ten seconds


def measured(
    url: str, user: str = "", password: str = "", *, seconds: float = 10.0, transport: str = "auto", tls_verify: bool = True,
    is_over: Callable[[], bool] = lambda: False,
) -> Measured:  # fmt: skip
    """What came within `seconds` of the first picture; says why where nothing did. Raises BadRtsp for a bad address."""
    clock = SystemClock()
    source = Rtsp(url, user, password, transport, tls_verify=tls_verify, arena=Arena(), label="check", clock=clock)
    counted = _Counted()
    started_s = time.monotonic()
    try:
        while not is_over():
            for event in source.drain(clock.mono_ns()):
                counted.take(event)
            now_s = time.monotonic()
            if counted.first_s is None and (now_s - started_s > FIRST_PICTURE_S or counted.is_hopeless):
                break
            if counted.first_s is not None and now_s - counted.first_s >= seconds:
                break
            time.sleep(TURN_NS / 1e9)
        facts = source.facts()
    finally:
        source.close()
    return counted.result(facts)


class _Counted:
    def __init__(self) -> None:
        self.first_s: float | None = None
        self.last_s = 0.0
        self.is_hopeless = False
        self._pictures = self._keyframes = self._bytes = self._b_pictures = self._lost = 0
        self._sizes: list[tuple[int, int]] = []
        self._keyframe_ticks: list[int] = []  # of the present run
        self._gops: list[float] = []
        self._ticks = 0
        self._run_ticks = 0
        self._run_pictures = 0
        self._all_ticks = 0
        self._interruptions: list[str] = []
        self._trouble = ""

    def take(self, event: RunStarted | AccessUnit | RunEnded) -> None:
        if isinstance(event, RunStarted):
            self._sizes.append((event.width, event.height))
            self._keyframe_ticks = []
        elif isinstance(event, RunEnded):
            self._end_of_run()
            if self._pictures:
                # B pictures that the parameter set did not announce: our client starts a run anew for them, and that is its business.
                if "than they are decoded" not in event.detail:
                    self._interruptions.append(event.detail)
            else:
                self._trouble = event.detail
                # What no second try will change.
                self.is_hopeless = any(
                    word in event.detail
                    for word in ("does not record", "offers only", "names no stream", "refuses user", "wants a user")
                )
        else:
            self._picture(event)

    def _picture(self, unit: AccessUnit) -> None:
        now_s = time.monotonic()
        self.first_s = now_s if self.first_s is None else self.first_s
        self.last_s = now_s
        self._pictures += 1
        self._run_pictures += 1
        self._bytes += unit.payload.size_bytes
        self._lost += unit.lost_packets
        self._ticks = unit.decode_ticks
        if unit.is_keyframe:
            self._keyframes += 1
            if self._keyframe_ticks:
                self._gops.append((unit.decode_ticks - self._keyframe_ticks[-1]) / TICKS_PER_S)
            self._keyframe_ticks.append(unit.decode_ticks)
        elif _has_b_slice(unit):
            self._b_pictures += 1

    def _end_of_run(self) -> None:
        if self._run_pictures > 1:
            self._all_ticks += self._ticks
            self._run_ticks += self._run_pictures - 1
        self._run_pictures = 0

    def result(self, facts: dict[str, object]) -> Measured:
        self._end_of_run()
        # A long GOP shows even when its end did not come any more.
        if (
            self._keyframe_ticks
            and self._gops
            and self._ticks - self._keyframe_ticks[-1] > max(self._gops) * TICKS_PER_S
        ):
            self._gops.append((self._ticks - self._keyframe_ticks[-1]) / TICKS_PER_S)
        offset = facts.get("camera_clock_offset_s")
        # The words of nvr/rtsp/sdp.py, which tests/nvrctl/test_camera_check.py holds to it.
        refused = re.match(r"the camera sends (.{1,60}), which", self._trouble) if not self._pictures else None
        return Measured(
            seconds=max(self.last_s - (self.first_s or 0.0), 1e-3) if self._pictures else 0.0,
            pictures=self._pictures, keyframes=self._keyframes, payload_bytes=self._bytes, sizes=tuple(self._sizes),
            fps=self._run_ticks * TICKS_PER_S / self._all_ticks if self._all_ticks else 0.0,
            gops=tuple(self._gops), b_pictures=self._b_pictures, lost_packets=self._lost, interruptions=tuple(self._interruptions),
            trouble="" if self._pictures else self._trouble or f"no picture within {FIRST_PICTURE_S:.0f} s",
            codecs_refused=re.sub(r"/\d+", "", refused[1]) if refused else "", clock_ahead_s=float(offset) if isinstance(offset, int | float) else None, transport=str(facts.get("transport", "")),
        )  # fmt: skip


def _has_b_slice(unit: AccessUnit) -> bool:
    """Looks at the first slice; each NAL unit lies behind its length in four bytes."""
    start = b""
    for view in unit.payload.views():
        start += bytes(view[: 64 - len(start)])
        if len(start) >= 64:
            break
    at = 0
    while at + 5 <= len(start):
        size_bytes = int.from_bytes(start[at : at + 4], "big")
        if start[at + 4] & 31 in (1, 5):
            return is_b_slice(start[at + 4 : at + 20])
        at += 4 + size_bytes
    return False
