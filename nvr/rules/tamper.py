"""`tamper`: is the camera shown what it was meant to see? Covered, out of focus, moved, frozen, looped.

`doubts()` judges one moment and is what other rules ask before they say anything; `TamperRule` turns lasting doubts into
events. A night is not a cover: a picture that got dark is `dark`, which is a reason to say nothing and no reason to
alert anybody. What is black from one moment to the next, without a trace of a shape, is covered, unless the place has closed and the
light was switched off. What the numbers mean is in `scene.Tamper`.
"""

from __future__ import annotations

from nvr.rules.debounce import Debounced
from nvr.rules.rule import NS_PER_S, event, seconds
from nvr.rules.schedule import Due, Schedule
from nvr.scene import Event, Facts

ABSENT, DARK, COVERED, DEFOCUSED, TURNED, FROZEN, LOOPED = (
    "no picture", "dark", "covered", "out of focus", "moved", "frozen", "looped",
)  # fmt: skip

# What lasts so long is told. Covering, turning and blurring by hand takes seconds; somebody who walks past the lens does too.
HOLD_S = {COVERED: 5.0, DEFOCUSED: 15.0, TURNED: 10.0, FROZEN: 0.0, LOOPED: 0.0}

FROZEN_NS = 2 * NS_PER_S  # longer than any camera repeats a picture; noise alone makes two pictures differ
FROZEN_TOLD_NS = 10 * NS_PER_S
LOOPED_NS = 5 * NS_PER_S  # things that sway repeat themselves for shorter
LOOPED_TOLD_NS = 15 * NS_PER_S
LEARNED_NS = 60 * NS_PER_S

DARK_BRIGHTNESS = 0.10
DARK_SHARE = 0.85
LIT = 0.15  # brightness of a picture that a bag over the camera takes away
AT_ONCE_NS = 3 * NS_PER_S  # the last dusk takes minutes
EDGES_LIT = 0.20  # darker pictures may have no edges worth judging
COVERED_DETAIL = 0.12
SOFTER, SOFTER_KEPT = (
    0.8,
    0.72,
)  # healthy drawn nights: never below 0.82, and 0.80 of the edges; out of focus 0.78 and 0.68
SHIFTED = 0.03  # of width or height; wind on a pole moves less
SHIFT_TRUST = 0.5


def doubts(facts: Facts) -> frozenset[str]:
    """Why this moment's picture proves nothing; empty for a good one."""
    numbers = facts.tamper
    if not facts.has_picture or not facts.health.is_sending:
        return frozenset((ABSENT,))
    found = set()
    if numbers.frozen_ns >= FROZEN_NS:
        found.add(FROZEN)
    if numbers.loop_ns >= LOOPED_NS:
        found.add(LOOPED)
    is_dark = numbers.brightness < DARK_BRIGHTNESS and numbers.dark_share > DARK_SHARE
    if is_dark:
        found.add(DARK)
    elif numbers.detail < COVERED_DETAIL:
        found.add(COVERED)
    elif numbers.learned_ns >= LEARNED_NS:
        # 0 is a picture without strong edges: out of focus if there is light, and not known if there is little.
        has_edges = numbers.sharpness > 0 or numbers.brightness >= EDGES_LIT
        is_far = max(abs(numbers.shift[0]), abs(numbers.shift[1])) > SHIFTED and numbers.shift_trust > SHIFT_TRUST
        # At night noise is as sharp as ever and lamps are soft anyway: fewer sharp edges, and fewer of the known ones.
        is_soft = numbers.sharpness < 0.5 * numbers.sharpness_usual or (
            numbers.sharpness < SOFTER * numbers.sharpness_usual and numbers.edges_kept < SOFTER_KEPT and not is_far
        )
        if has_edges and is_soft and numbers.detail < 0.9:
            found.add(DEFOCUSED)
        if is_far or (numbers.edges_kept < 0.25 and DEFOCUSED not in found):
            found.add(TURNED)
    return frozenset(found)


def blindness(facts: Facts) -> str:
    """The first doubt as a sentence; "" when the camera sees what it should."""
    found = doubts(facts)
    first = next((doubt for doubt in (ABSENT, FROZEN, LOOPED, COVERED, DARK, TURNED, DEFOCUSED) if doubt in found), "")
    return _SENTENCES.get(first, "")


_SENTENCES = {
    ABSENT: "the camera sends no picture",
    DARK: "it is too dark to see",
    COVERED: "the camera is covered",
    DEFOCUSED: "the camera is out of focus",
    TURNED: "the camera was moved",
    FROZEN: "the picture is frozen",
    LOOPED: "the camera repeats old pictures",
}


class TamperRule:
    """Tells when a doubt lasts, and when it is over."""

    kind = "tamper"
    where = ""

    def __init__(self, schedule: Schedule | None = None) -> None:
        """`schedule`: of a place with opening hours; outside of them a light that goes off is no cover."""
        self._schedule = schedule
        self._lit_ns: int | None = None  # when the picture was last bright
        self._was_dark = False
        self._is_black_at_once = False
        self._states = {what: Debounced(False, {True: hold_s, False: 10.0}) for what, hold_s in HOLD_S.items()}
        self._began_ns: dict[str, int] = {}

    def look(self, facts: Facts) -> list[Event]:
        found = doubts(facts)
        if self._covered_at_once(facts, DARK in found):
            found |= {COVERED}
        if FROZEN in found and facts.tamper.frozen_ns < FROZEN_TOLD_NS:
            found -= {FROZEN}
        if LOOPED in found and facts.tamper.loop_ns < LOOPED_TOLD_NS:
            found -= {LOOPED}
        told: list[Event] = []
        for what, state in self._states.items():
            # Nothing is known of a camera that is gone, and little of one that sees nothing.
            unknown = ABSENT in found or (what in (DEFOCUSED, TURNED) and found & {DARK, COVERED, FROZEN})
            change = state.observe(seconds(facts.at_ns), None if unknown else what in found)
            if change is None:
                continue
            if change.state:
                self._began_ns[what] = _began_ns(facts, what, round(change.from_s * NS_PER_S))
            told.append(
                event(
                    self,
                    facts,
                    what,
                    self._began_ns[what],
                    numbers=_numbers(facts, what),
                    detail=_SENTENCES[what] if change.state else "sees again",
                    is_end=not change.state,
                )
            )
        return told

    def _covered_at_once(self, facts: Facts, is_dark: bool) -> bool:
        if not facts.has_picture:
            return False
        if is_dark and not self._was_dark:
            self._is_black_at_once = self._lit_ns is not None and facts.at_ns - self._lit_ns <= AT_ONCE_NS
        self._was_dark = is_dark
        if not is_dark and facts.tamper.brightness >= LIT:
            self._lit_ns = facts.at_ns
        if not is_dark or not self._is_black_at_once or facts.tamper.detail >= COVERED_DETAIL:
            return False
        return self._schedule is None or facts.wall_ns is None or self._schedule.at(facts.wall_ns).due is not Due.CLOSED


def _began_ns(facts: Facts, what: str, seen_ns: int) -> int:
    """Frozen and looped pictures say themselves since when."""
    lasted_ns = {FROZEN: facts.tamper.frozen_ns, LOOPED: facts.tamper.loop_ns}.get(what)
    return seen_ns if lasted_ns is None else max(facts.at_ns - lasted_ns, 0)


def _numbers(facts: Facts, what: str) -> tuple[tuple[str, float], ...]:
    numbers = facts.tamper
    return {
        COVERED: (("detail_share", numbers.detail), ("brightness", numbers.brightness)),
        DEFOCUSED: (("sharpness", numbers.sharpness), ("sharpness_usual", numbers.sharpness_usual)),
        TURNED: (("shift_x", numbers.shift[0]), ("shift_y", numbers.shift[1]), ("edges_kept", numbers.edges_kept)),
        FROZEN: (("frozen_s", seconds(numbers.frozen_ns)),),
        LOOPED: (("loop_s", seconds(numbers.loop_ns)), ("period_s", seconds(numbers.loop_period_ns))),
    }[what]
