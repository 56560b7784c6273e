"""An update goes to one box, then to a tenth of them, then to all; a box that fails stops it. Who is when, and how a box stands. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WAITING, ASKED, BUSY, GOOD, FAILED, SKIPPED = "waiting", "asked", "busy", "good", "failed", "skipped"
STAGES = 3
SOAK_MS = 10 * 60_000  # a group is watched for so long before the next begins: what breaks a box mostly does so soon
SILENT_MS = 30 * 60_000  # a box that was asked and says nothing for so long has failed: a restart takes minutes
LONGEST_MS = 24 * 3_600_000  # 200 MB over 256 kbit/s are two hours, at night on a shared link
AT_ONCE = 20  # boxes that fetch; the hub's own link is no wider

_DONE = "committed"  # firmware/gate.py
_GONE_WRONG = ("refused", "return")


@dataclass(frozen=True, slots=True)
class Heard:
    """What the hub knows of a box that was asked."""

    seen_ms: int
    update: Mapping[str, Any]  # of its last heartbeat: state, version, reason
    answer: str = ""  # why it, or the hub in its stead, refused the command; "" when not
    has_begun: bool = False  # it said that it fetches this version; from then on the firmware speaks, which calls it as its bundle does


def stages(boxes: Sequence[str]) -> list[int]:
    """The stage of each box, given in the order in which they are to be tried."""
    tenth = max(1, round(len(boxes) / 10))
    return [0 if number == 0 else 1 if number <= tenth else 2 for number in range(len(boxes))]


def runs_already(update: Mapping[str, Any], version: str) -> bool:
    return update.get("state") == _DONE and update.get("version") == version


def judged(
    version: str, asked_ms: int, said_before: Mapping[str, Any] | None, heard: Heard, now_ms: int
) -> tuple[str, str]:
    """State and detail of a box that was asked. `said_before`: its `update` at that time, None once it has said another."""
    if heard.answer:
        return FAILED, heard.answer
    state, reason = str(heard.update.get("state", "")), str(heard.update.get("reason", ""))
    is_this = heard.has_begun or heard.update.get("version") == version
    is_new = is_this and dict(heard.update) != dict(said_before or {})
    if is_new and state == _DONE:
        return GOOD, ""
    if is_new and state in _GONE_WRONG:
        return FAILED, f"{state}: {reason}" if reason else state
    if now_ms - max(heard.seen_ms, asked_ms) > SILENT_MS:
        return FAILED, f"silent for {(now_ms - heard.seen_ms) // 60_000} minutes since it was asked"
    if now_ms - asked_ms > LONGEST_MS:
        return FAILED, f"not done after {LONGEST_MS // 3_600_000} hours; it says: {state or 'nothing'} {reason}".strip()
    return (BUSY, f"{state}: {reason}" if reason else state) if is_new and state else (ASKED, "")


@dataclass(frozen=True, slots=True)
class Box:
    """One box of a running update."""

    stage: int
    state: str
    is_here: bool
    ended_ms: int


def next_stage(stage: int, boxes: Sequence[Box], now_ms: int) -> int:
    """`stage`, or the one after it once this one has proved itself; STAGES when nothing is left to do.

    A box that is away holds nothing up, and is asked when it comes back; but a group of which none was updated proves nothing.
    """
    here = [box for box in boxes if box.stage == stage]
    if not here:
        return stage + 1
    if stage == STAGES - 1:
        is_over = all(box.state in (GOOD, FAILED, SKIPPED) for box in boxes)
        return STAGES if is_over else stage
    good = [box for box in here if box.state == GOOD]
    under_way = any(box.state in (ASKED, BUSY) or (box.state == WAITING and box.is_here) for box in here)
    if under_way or not (good or all(box.state == SKIPPED for box in here)):
        return stage
    return stage + 1 if now_ms - max((box.ended_ms for box in good), default=0) >= SOAK_MS else stage
