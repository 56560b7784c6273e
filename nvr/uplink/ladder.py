"""What is given up first when the box runs short, so that recording goes on: DESIGN 2. Pure.

One step down at a time while recording suffers, one step up after a quiet minute. Each step is logged and stands in the heartbeat.
"""

from __future__ import annotations

from dataclasses import dataclass

# In this order; recording itself is not in it. What a step gives up, all further steps give up too.
STEPS = ("object detection", "stills", "live", "ordinary clips", "clips of alarms")
STILLS, LIVE, CLIPS, ALARMS = 2, 3, 4, 5  # given up from this level on

LATE_MS = 500  # a turn of the recorder that came so late: cameras keep a second or two for us
BURST_S = 4.0  # a burst of syncs that takes so long: the card does not follow
DOWN_S, UP_S = 10.0, 60.0


@dataclass(frozen=True, slots=True)
class Ladder:
    level: int = 0
    changed_s: float = float("-inf")
    good_since_s: float = float("-inf")
    why: str = ""

    @property
    def shed(self) -> list[str]:
        return list(STEPS[: self.level])


def strain_of(status: dict[str, object]) -> str:
    """Why recording suffers, by what `record` says; "" when it does not."""
    late_ms = status.get("late_ms")
    if isinstance(late_ms, int | float) and late_ms >= LATE_MS:
        return f"recording came {late_ms / 1000:.1f} s late"
    sync = status.get("sync")
    burst_s = sync.get("last_burst_s") if isinstance(sync, dict) else None
    if isinstance(burst_s, int | float) and burst_s >= BURST_S:
        return f"the disk took {burst_s:.1f} s for a sync"
    return ""


def step(ladder: Ladder, strain: str, now_s: float) -> Ladder:
    """The next state of it; called once a second."""
    if strain:
        if ladder.level < len(STEPS) and now_s - ladder.changed_s >= DOWN_S:
            return Ladder(ladder.level + 1, now_s, now_s, strain)
        return Ladder(ladder.level, ladder.changed_s, now_s, ladder.why or strain)
    if ladder.level and now_s - ladder.good_since_s >= UP_S:
        return Ladder(ladder.level - 1, now_s, now_s, ladder.why if ladder.level > 1 else "")
    return ladder
