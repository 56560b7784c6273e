"""What really happened, as the one who did it knows: which seconds a camera sent, which may be missing and why, which alarms are due. Pure.

Times are seconds of real time (since 1970) unless they say otherwise. A fault is explained by its window: from a little before it began (what was not durable)
to when everything must be right again. Inside of a window footage may be missing for the window's causes and for no others; outside of all of them no second may be.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from nvr.media import Cause
from tools.city.simulator.script import Fault

LOSS_BOUND_S = 5.0  # of the site files (world.py)
STALL_S = 10.0  # the default of a site file: after so much silence a camera is dialled again
STARTED_S = 40.0  # a box that starts on a busy machine records after this
DIALLED_S = 36.0  # a camera is tried again after 30 s at most, and sends its next keyframe
TRIED_S = 20.0  # a ring that failed is tried again after 10 s at most, then the next keyframe
SILENT_S = 30.0  # the hub calls a box silent after this (wire.SILENT_S)
AGAIN_S = 45.0  # a box that was cut off tries again after 15 s at most, a connection that hangs is given up after 35 s

_STARTING = frozenset((Cause.BOX_OFF, Cause.CAMERA, Cause.NETWORK))
_AWAY = frozenset((Cause.CAMERA, Cause.NETWORK))
_DISK = frozenset((Cause.DISK_FAILED, Cause.DISK_FULL, Cause.DISK_SLOW))


@dataclass(frozen=True, slots=True)
class Done:
    """A fault as it was carried out."""

    fault: Fault
    from_s: float
    to_s: float


@dataclass(frozen=True, slots=True)
class Window:
    """Why seconds of a camera may be missing."""

    from_s: float
    to_s: float
    causes: frozenset[Cause]
    what: str


def windows(done: Iterable[Done], camera: str, box: str) -> list[Window]:
    """Everything that excuses a missing second of `camera`, which belongs to the real box `box`."""
    found = []
    for each in done:
        fault, begin_s, end_s = each.fault, each.from_s, each.to_s
        what = f"{fault.kind} {fault.how}"
        if fault.target not in (box, camera):
            continue
        if fault.kind == "power":
            found.append(Window(begin_s - LOSS_BOUND_S, end_s + STARTED_S, _STARTING, what))
        elif fault.kind == "camera" and fault.how in ("silent", "gone"):
            found.append(Window(begin_s - 2, end_s + DIALLED_S, _AWAY, what))
        elif fault.kind == "card" and fault.how in ("errors", "read-only"):
            found.append(Window(begin_s - LOSS_BOUND_S, end_s + TRIED_S, _DISK, what))
        elif fault.kind == "card" and fault.how == "stuck":
            found.append(Window(begin_s - 2, end_s + TRIED_S, frozenset((Cause.DISK_SLOW,)), what))
        elif fault.kind == "card" and fault.how == "full":
            # A ring that cannot grow takes its oldest segment: that footage was there, and made room.
            found.append(Window(0.0, end_s + TRIED_S, frozenset((Cause.RECYCLED,)), what))
            found.append(Window(begin_s - 2, end_s + TRIED_S, _DISK, what))
    return found


# -- what a camera sent ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sent:
    """Pictures of one camera by second of real time: `made` whether anybody listened or not, `sent` what a recorder was given."""

    made: Mapping[int, int]
    sent: Mapping[int, int]


def sent_of(lines: Iterable[str]) -> dict[str, Sent]:
    """What `tools.camera --sent FILE` wrote: wall time in ns, camera, to how many it was sent, one picture a line."""
    made: dict[str, dict[int, int]] = {}
    sent: dict[str, dict[int, int]] = {}
    for line in lines:
        parts = line.split()
        if len(parts) != 3:  # the last line of a process that was killed
            continue
        second, name = int(parts[0]) // 1_000_000_000, parts[1]
        made.setdefault(name, {})[second] = made.setdefault(name, {}).get(second, 0) + 1
        if int(parts[2]) > 0:
            sent.setdefault(name, {})[second] = sent.setdefault(name, {}).get(second, 0) + 1
    return {name: Sent(made[name], sent.get(name, {})) for name in made}


def silences(done: Iterable[Done], camera: str, box: str) -> list[tuple[float, float]]:
    """When nothing left the camera, whoever asked."""
    return [
        (each.from_s, each.to_s)
        for each in done
        if each.fault.kind == "camera" and each.fault.how in ("silent", "gone") and each.fault.target in (box, camera)
    ]


# -- alarms ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Alarm:
    """One that is due: it must reach the hub once. `is_sure` False: it may (something else happened at the same time)."""

    camera: str
    kind: str
    state: str
    from_s: float
    to_s: float
    is_sure: bool = True


# How long something else that happened may still be why an alarm did not come.
_AFTERWARDS_S = {"power": STARTED_S, "card": TRIED_S, "camera": DIALLED_S, "clock": 15.0, "load": 10.0}


def camera_alarms(done: Sequence[Done], boxes: Mapping[str, Sequence[str]]) -> list[Alarm]:
    """What a real box must tell of its cameras. A camera that is gone or silent is down; the same picture again and again is frozen.

    Which of them are sure is said by the script alone, so that it is the same in every run.
    """
    due = []
    for each in done:
        fault = each.fault
        if fault.kind != "camera" or fault.how == "other size":
            continue
        box = next(name for name, cameras in boxes.items() if fault.target == name or fault.target in cameras)
        for camera in boxes[box] if fault.target == box else (fault.target,):
            # The recorder calls it missing after STALL_S at most, the rule waits 5 s more; frozen is told after 10 s.
            kind, state, most_s = (
                ("tamper", "frozen", 10.0) if fault.how == "frozen" else ("camera", "down", STALL_S + 5)
            )
            if fault.for_s < (10.0 if fault.how == "frozen" else 5.0):
                continue
            others = (other.fault for other in done if other is not each and _may_hide(other.fault, camera, box))
            is_alone = not any(
                other.at_s - 5 < fault.end_s and fault.at_s < other.end_s + _AFTERWARDS_S[other.kind]
                for other in others
            )
            is_sure = is_alone and fault.for_s >= most_s + 6
            due.append(Alarm(camera, kind, state, each.from_s, each.to_s, is_sure))
    return due


def _may_hide(fault: Fault, camera: str, box: str) -> bool:
    """Whether an alarm of that camera may be late, or not come, because of this."""
    if fault.kind == "camera":
        return fault.target in (box, camera)
    return fault.kind == "load" or (fault.kind in ("power", "card", "clock") and fault.target == box)


def story_alarms(
    states: Callable[[str, float], Iterable[tuple[str, str]]], cameras: Iterable[str], from_s: float, to_s: float,
    is_cut_off: Callable[[str, float], bool],
) -> list[Alarm]:  # fmt: skip
    """What a light box must tell: `states(camera, at_s)` are the alarms (kind, state) that hold then, looked at once a second.

    One that was over before its box could tell is not due; one that could be told for ten seconds is.
    """
    due = []
    for camera in cameras:
        held: dict[tuple[str, str], float] = {}
        for number in range(math.ceil(to_s - from_s) + 1):
            at_s = from_s + number
            now = set(states(camera, at_s)) if at_s < to_s else set()
            for key in [key for key in held if key not in now]:
                begin_s = held.pop(key)
                told_s = sum(not is_cut_off(camera, begin_s + second) for second in range(math.ceil(at_s - begin_s)))
                due.append(Alarm(camera, *key, begin_s, at_s, is_sure=told_s >= 10))
            for key in now:
                held.setdefault(key, max(at_s - 1, from_s))  # it began after the look before this one
    return due


# -- who can be heard --------------------------------------------------------------------------------------------------


def cut_offs(done: Iterable[Done], box: str) -> list[tuple[float, float]]:
    """When nothing of a box can reach the hub."""
    return [
        (each.from_s, each.to_s)
        for each in done
        if each.fault.kind == "hub"
        or (each.fault.target == box and (each.fault.kind == "power" or (each.fault.kind, each.fault.how) == ("link", "down")))
    ]  # fmt: skip


def is_within(spans: Iterable[tuple[float, float]], at_s: float, before_s: float = 0.0, after_s: float = 0.0) -> bool:
    return any(from_s - before_s <= at_s < to_s + after_s for from_s, to_s in spans)
