"""Facts made by hand, for tests of rules: a camera that sees well, and what is changed about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from nvr.scene import KINDS, PERSON, Event, Facts, Health, InZone, Rect, Sight, Tamper, Track, ZoneFacts

NS = 1_000_000_000
CLEAR = Tamper(
    brightness=0.44, contrast=0.19, dark_share=0.06, sharpness=0.31, sharpness_usual=0.32, edges_kept=0.97, detail=0.8,
    shift=(0.0, 0.0), shift_trust=0.9, frozen_ns=0, loop_ns=0, loop_period_ns=0, learned_ns=3600 * NS,
)  # fmt: skip
SOMEBODY = Rect(0.4, 0.4, 0.5, 0.8)
WELL = Health()
SEEING = Sight(model="m", kinds=frozenset(KINDS))

# What makes a camera worth nothing as a witness, by name.
BLIND = {
    "covered": replace(CLEAR, detail=0.02, contrast=0.02, edges_kept=0.0),
    "dark": replace(CLEAR, brightness=0.03, dark_share=0.99, detail=0.05, contrast=0.01, edges_kept=0.1),
    "out of focus": replace(CLEAR, sharpness=0.05, detail=0.4, edges_kept=0.4),
    "moved": replace(CLEAR, edges_kept=0.1, shift=(0.2, 0.0), shift_trust=0.9),
    "frozen": replace(CLEAR, frozen_ns=60 * NS),
    "looped": replace(CLEAR, loop_ns=60 * NS, loop_period_ns=30 * NS),
}


def track(number: int = 1, kind: str = PERSON, rect: Rect = SOMEBODY, *, at_s: float = 0.0, first_s: float = 0.0,
          moved_s: float | None = None, has_moved: bool = True, velocity: tuple[float, float] = (0.0, 0.0), speed: float | None = None) -> Track:  # fmt: skip
    speed = abs(velocity[1]) + abs(velocity[0]) * 16 / 9 if speed is None else speed
    moved_ns = round((at_s if moved_s is None else moved_s) * NS)
    return Track(
        number, kind, 0.8, rect, round(first_s * NS), round(at_s * NS), 9, velocity, speed, has_moved, moved_ns
    )


def look(at_s: float, tracks: Sequence[Track] = (), *, zone: str = "z", entered_s: float | None = None, wall_ns: int | None = None, tamper: Tamper = CLEAR,
         covered: float = 0.0, motion: float = 0.0, sight: Sight = SEEING, health: Health = WELL, has_picture: bool = True,
         is_light_change: bool = False) -> Facts:  # fmt: skip
    """All tracks are in the zone, since `entered_s` or since each was seen first."""
    inside = tuple(InZone(each, each.first_ns if entered_s is None else round(entered_s * NS), 1.0) for each in tracks)
    of_zone = ZoneFacts(zone, inside, motion, 0.0, covered)
    return Facts(
        camera="c", at_ns=round(at_s * NS), wall_ns=wall_ns, has_picture=has_picture, height_px=360, aspect=16 / 9,
        zones=(of_zone, replace(of_zone, zone="")), crossings=(), tracks=tuple(tracks), motion_share=motion, foreground_share=0.0,
        is_light_change=is_light_change, tamper=tamper, health=health, sight=replace(sight, looked_ns=round(at_s * NS)),
    )  # fmt: skip


def told(rule, looks: Iterable[Facts]) -> list[Event]:  # type: ignore[no-untyped-def]
    return [event for facts in looks for event in rule.look(facts)]
