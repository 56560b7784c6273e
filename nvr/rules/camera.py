"""`camera`: is the camera itself well? Down, wrong clock, wrong resolution, losing packets, sending damage.

These are the numbers of `record` and of the decoder; no picture is looked at.
"""

from __future__ import annotations

from collections import deque

from nvr.media import Cause
from nvr.rules.debounce import Debounced
from nvr.rules.rule import NS_PER_S, event, seconds
from nvr.scene import Event, Facts, Health

DOWN, WRONG_CLOCK, WRONG_SIZE, LOSING, DAMAGED = (
    "down", "wrong clock", "wrong resolution", "losing packets", "damaged stream",
)  # fmt: skip

CLOCK_ERROR_NS = 30 * NS_PER_S  # what is burned into its pictures then misleads whoever looks at them
LOST_PER_MIN = 20  # one lost picture every few seconds, at some ten packets each
DAMAGED_PER_MIN = 10
_MINUTE_NS = 60 * NS_PER_S
# Why a picture may be missing without any fault of the camera: it may send as well as ever, and nobody knows.
_OF_THE_BOX = frozenset(
    each.value
    for each in (Cause.BOX_OFF, Cause.BOX_BUSY, Cause.DISK_SLOW, Cause.DISK_FULL, Cause.DISK_FAILED, Cause.HELD_BACK)
)

_HOLD_S: dict[str, dict[bool, float]] = {
    DOWN: {True: 5.0, False: 5.0},  # on top of stall_s, after which `record` says so
    WRONG_CLOCK: {True: 60.0, False: 60.0},
    WRONG_SIZE: {True: 5.0, False: 5.0},
    LOSING: {True: 30.0, False: 60.0},
    DAMAGED: {True: 10.0, False: 60.0},
}


def troubles(health: Health, lost_per_min: float, damaged_per_min: float) -> dict[str, bool | None]:
    """Each trouble: there, not there, or None where nobody can say."""
    has_size = health.width_px > 0 and health.wanted_px is not None
    if not health.is_sending:
        is_down = None if health.cause in _OF_THE_BOX else True
        return {DOWN: is_down, WRONG_CLOCK: None, WRONG_SIZE: None, LOSING: None, DAMAGED: None}
    error_ns = health.camera_clock_error_ns
    return {
        DOWN: False,
        WRONG_CLOCK: None if error_ns is None else abs(error_ns) > CLOCK_ERROR_NS,
        WRONG_SIZE: (health.width_px, health.height_px) != health.wanted_px if has_size else None,
        LOSING: lost_per_min > LOST_PER_MIN,
        DAMAGED: damaged_per_min > DAMAGED_PER_MIN,
    }


class CameraRule:
    kind = "camera"
    where = ""

    def __init__(self) -> None:
        self._states = {what: Debounced(False, hold_s) for what, hold_s in _HOLD_S.items()}
        self._began_ns: dict[str, int] = {}
        self._minute: deque[tuple[int, int, int]] = deque()  # (at, lost so far, damaged so far)

    def look(self, facts: Facts) -> list[Event]:
        health = facts.health
        self._minute.append((facts.at_ns, health.lost_packets, health.damaged))
        while self._minute[0][0] < facts.at_ns - _MINUTE_NS:
            self._minute.popleft()
        lost = float(max(health.lost_packets - self._minute[0][1], 0))
        damaged = float(max(health.damaged - self._minute[0][2], 0))
        told = []
        for what, is_there in troubles(health, lost, damaged).items():
            change = self._states[what].observe(seconds(facts.at_ns), is_there)
            if change is None:
                continue
            if change.state:
                self._began_ns[what] = round(change.from_s * NS_PER_S)
            told.append(
                event(
                    self,
                    facts,
                    what,
                    self._began_ns[what],
                    numbers=_numbers(health, what, lost, damaged),
                    detail=_detail(health, what),
                    is_end=not change.state,
                )
            )
        return told


def _numbers(health: Health, what: str, lost: float, damaged: float) -> tuple[tuple[str, float], ...]:
    if what == WRONG_CLOCK and health.camera_clock_error_ns is not None:
        return (("clock_error_s", seconds(health.camera_clock_error_ns)),)
    return {LOSING: (("lost_per_min", lost),), DAMAGED: (("damaged_per_min", damaged),)}.get(what, ())


def _detail(health: Health, what: str) -> str:
    if what == DOWN:
        return f"{health.cause}: {health.detail}".strip(": ")
    if what == WRONG_SIZE and health.wanted_px is not None:
        return f"{health.width_px}x{health.height_px} instead of {health.wanted_px[0]}x{health.wanted_px[1]}"
    return ""
