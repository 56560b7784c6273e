"""Alerts: which events become one, which belong together, and how one goes from open to done. Pure; `alerting.py` acts.

Nothing is silently dismissed. An alert ends only when a person says what was done. When the condition is over by itself the alert
says so and stays. An instruction that is not done in time brings its alert back.

    open --acknowledge--> acknowledged --instruct--> instructed --done(note)--> done
      ^                        |                         |
      +------ happens again, or the instruction is overdue
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from nvr import wire
from nvr.errors import NvrError

OPEN, ACKNOWLEDGED, INSTRUCTED, DONE = "open", "acknowledged", "instructed", "done"
STATES = (OPEN, ACKNOWLEDGED, INSTRUCTED, DONE)
ASKED = "asked"  # by a person; nothing rang

EPISODE_S = 1800.0  # what happens again after so long is news, also to somebody who acknowledged it
BOX_SILENT_S = 90.0  # the wall says so after 30 s; a link that drops for a minute every hour calls nobody
NOT_RECORDING_S = 60.0
START_S = 60.0  # a box needs so long to start
MISSING_S = 60.0  # seconds of a camera and day that are not there
LIFE_LEFT_PERCENT = 10.0
TROUBLES_MOST = 20
IDS_KEPT = 50  # of the events of one alert, the first one and the newest; `count` counts all
SIGNS_MOST = 64

# What belongs together, so that a storm of one camera is one alert for each thing a person would do about it.
FAMILIES = {
    "service_open": "service",
    "queue": "queue",
    "congestion": "traffic",
    "stopped_vehicle": "incident",
    "intrusion": "people",
    "loitering": "people",
    "crowd": "people",
    "tamper": "picture",
    "camera": "picture",
    "not recording": "picture",
    "footage missing": "footage",
    "box silent": "box",
    "disk": "box",
    "box": "box",
    ASKED: "asked",
}
# Kinds of which one state is bad and every other one ends it; of all other kinds a state begins and ends by itself.
BAD_STATE = {"service_open": "closed", "congestion": "jam"}
# What wakes people. Not the wire's `value`: for the link a jam is urgent too, and nobody gets up at two for one.
ALARMS = frozenset(("stopped_vehicle", "intrusion"))


class NotPossible(NvrError):
    """This step does not follow from where the alert is."""


@dataclass(frozen=True, slots=True)
class Sign:
    """One thing that began or ended, as far as alerts are concerned."""

    kind: str
    what: str  # the state, such as "covered", "jam", "closed"
    zone: str
    at_ms: int
    value: int  # wire.ALARM or wire.STATE
    is_over: bool
    event_id: str = ""

    @property
    def key(self) -> str:
        """What is true while it goes on. An ending of BAD_STATE kinds has no state of its own: it ends the bad one."""
        return f"{self.kind}/{BAD_STATE.get(self.kind, self.what)}/{self.zone}"


@dataclass(frozen=True, slots=True)
class Alert:
    """Where one alert stands."""

    state: str
    value: int
    kind: str  # of the sign that opened it
    what: str
    first_ms: int
    last_ms: int
    count: int
    signs: tuple[str, ...]  # what of it is still true
    event_ids: tuple[str, ...]
    over_ms: int = 0  # since when nothing of it is true any more; 0: it goes on
    due_ms: int = 0  # of the instruction that is not done; 0: there is none


def sign_of(
    kind: str, state: str, zone: str, *, at_ms: int, is_end: bool, event_id: str = "", value: int = wire.STATE
) -> Sign | None:
    """What an event means for alerts; None: nothing. A state that is not bad ends the bad one of its kind and zone."""
    if kind not in FAMILIES or kind == ASKED or not state:
        return None
    if kind == "queue" and state != "long queue":
        return None
    if kind in BAD_STATE:
        is_end = state != BAD_STATE[kind]
    value = wire.ALARM if kind in ALARMS else max(value, wire.STATE)
    return Sign(kind, state, zone, at_ms, value, is_end, event_id)


def family(kind: str) -> str:
    return FAMILIES[kind]


def joins(alert: Alert, sign: Sign) -> bool:
    """Whether a sign of the same camera and family belongs to this alert, which is the newest of them that is not done.

    While nobody took it up it takes everything. Later only what follows closely: what begins anew after half an hour must be seen anew.
    """
    if alert.state == DONE:
        return False
    if sign.is_over:
        return sign.key in alert.signs
    return alert.state == OPEN or sign.key in alert.signs or sign.at_ms - alert.last_ms < EPISODE_S * 1000


def opened(sign: Sign) -> Alert:
    ids = (sign.event_id,) if sign.event_id else ()
    return Alert(OPEN, sign.value, sign.kind, sign.what, sign.at_ms, sign.at_ms, 1, (sign.key,), ids)


def after(alert: Alert, sign: Sign) -> Alert:
    """The alert with one more sign. An alarm in what was only a state opens it again: somebody took up something smaller.

    It is called after something that is true now, where that weighs as much: nothing that is over is said to go on.
    """
    if sign.is_over:
        left = tuple(key for key in alert.signs if key != sign.key)
        return replace(alert, signs=left, over_ms=0 if left else max(sign.at_ms, alert.first_ms))
    signs = alert.signs if sign.key in alert.signs else (*alert.signs, sign.key)[-SIGNS_MOST:]
    ids = alert.event_ids
    if sign.event_id and sign.event_id not in ids:
        ids = (*ids, sign.event_id)
        if len(ids) > IDS_KEPT:
            ids = (ids[0], *ids[2 - IDS_KEPT - 1 :])
    is_worse = sign.value < alert.value
    is_named_anew = is_worse or (not alert.signs and sign.value == alert.value)
    return replace(
        alert,
        state=OPEN if is_worse else alert.state,
        value=min(alert.value, sign.value),
        kind=sign.kind if is_named_anew else alert.kind,
        what=sign.what if is_named_anew else alert.what,
        first_ms=min(alert.first_ms, sign.at_ms),
        last_ms=max(alert.last_ms, sign.at_ms),
        count=alert.count + 1,
        signs=signs,
        event_ids=ids,
        over_ms=0,
    )


def is_news(before: Alert | None, now: Alert) -> bool:
    """Whether people are told: once when it opens, again when it got worse. The hundredth sign of a storm is none."""
    return before is None or (now.state == OPEN and (before.state != OPEN or now.value < before.value))


# -- what people do ------------------------------------------------------------------------------------------


def acknowledged(alert: Alert) -> Alert:
    if alert.state != OPEN:
        raise NotPossible(f"the alert is {alert.state} already", hint="Reload: somebody was faster.")
    return replace(alert, state=INSTRUCTED if alert.due_ms else ACKNOWLEDGED)


def instructed(alert: Alert, to: str, what: str, due_ms: int, now_ms: int) -> Alert:
    """Also a second time: then the newest term counts."""
    if alert.state == DONE:
        raise NotPossible("the alert is done", hint="What happens again opens a new one.")
    if not to.strip() or not what.strip():
        raise NotPossible("an instruction says to whom and what", hint="Fill in both.")
    if due_ms <= now_ms:
        raise NotPossible("the term of an instruction lies ahead", hint="Choose a later time.")
    return replace(alert, state=INSTRUCTED, due_ms=due_ms)


def done(alert: Alert, note: str) -> Alert:
    if alert.state == DONE:
        raise NotPossible("the alert is done already", hint="Reload: somebody was faster.")
    if not note.strip():
        raise NotPossible("say in a few words what was done", hint="An alert is never closed without a word.")
    return replace(alert, state=DONE, due_ms=0)


def is_overdue(alert: Alert, now_ms: int) -> bool:
    return alert.state in (ACKNOWLEDGED, INSTRUCTED) and 0 < alert.due_ms <= now_ms


def overdue(alert: Alert) -> Alert:
    """Back to everybody's list; the term was told once and does not come back by itself again."""
    return replace(alert, state=OPEN, due_ms=0)


# -- what the hub itself notices -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that is wrong now, of a box (`camera` empty) or of one of its cameras."""

    camera: str
    kind: str
    what: str
    since_ms: int
    numbers: Mapping[str, Any]


def conditions(
    seen_ms: int | None, heartbeat: Mapping[str, Any], now_ms: int, *, was_enrolled_ms: int = 0
) -> list[Condition]:
    """What a heartbeat, or its absence, says. Of a silent box nothing else is claimed: its cameras are not known to be down."""
    last_ms = seen_ms if seen_ms is not None else was_enrolled_ms
    if now_ms - last_ms > BOX_SILENT_S * 1000:
        return [Condition("", "box silent", "silent", last_ms, {"silent_s": (now_ms - last_ms) // 1000})]
    found: list[Condition] = []
    disk = _object(heartbeat.get("disk"))
    if trouble := disk.get("trouble"):
        found.append(Condition("", "disk", "trouble", now_ms, {"trouble": str(trouble)[:200]}))
    life = disk.get("life_left_percent")
    if isinstance(life, int | float) and not isinstance(life, bool) and life < LIFE_LEFT_PERCENT:
        found.append(Condition("", "disk", "worn", now_ms, {"life_left_percent": life}))
    told = heartbeat.get("troubles")
    for trouble in [_object(each) for each in told[:TROUBLES_MOST]] if isinstance(told, list) else []:
        since_ms = trouble.get("since_ms")
        if isinstance(since_ms, bool) or not isinstance(since_ms, int) or not 0 < since_ms <= now_ms:
            since_ms = now_ms
        words = {"trouble": str(trouble.get("detail", ""))[:200]}
        found.append(Condition("", "box", str(trouble.get("kind", ""))[:40], since_ms, words))
    for name, camera in _object(heartbeat.get("cameras")).items():
        camera = _object(camera)
        same_ms = camera.get("same_since_ms")
        if isinstance(same_ms, int) and not isinstance(same_ms, bool) and same_ms > 0:
            found.append(Condition(name, "tamper", "frozen", same_ms, {}))
        since_ms = camera.get("since_ms")
        if camera.get("recording") is not False or isinstance(since_ms, bool) or not isinstance(since_ms, int):
            continue
        # 0: the recorder of the box says nothing; when the box has just started, it will.
        lasts_ms = now_ms - since_ms if since_ms > 0 else _up_ms(heartbeat) - START_S * 1000
        if lasts_ms > NOT_RECORDING_S * 1000:
            found.append(
                Condition(
                    name, "not recording", "not recording", since_ms, {"cause": str(camera.get("cause", ""))[:60]}
                )
            )
    for name, ledger in _object(heartbeat.get("ledger")).items():
        ledger = _object(ledger)
        missing_s = ledger.get("missing_s")
        if isinstance(missing_s, int | float) and not isinstance(missing_s, bool) and missing_s >= MISSING_S:
            found.append(
                Condition(
                    name,
                    "footage missing",
                    "missing",
                    now_ms,
                    {"missing_s": round(missing_s), "by_cause": _object(ledger.get("by_cause"))},
                )
            )
    return found


def signs_of(before: Iterable[str], now: Iterable[Condition], now_ms: int) -> list[Sign]:
    """What began and what ended between two looks at one box or camera. `before`: keys that were true."""
    before_keys = set(before)
    signs = [Sign(each.kind, each.what, "", max(each.since_ms, 0) or now_ms, wire.STATE, False) for each in now]
    begun = [sign for sign in signs if sign.key not in before_keys]
    still = {sign.key for sign in signs}
    ended = []
    for key in sorted(before_keys - still):
        kind, what, zone = key.split("/", 2)
        ended.append(Sign(kind, what, zone, now_ms, wire.STATE, True))
    return begun + ended


def _up_ms(heartbeat: Mapping[str, Any]) -> int:
    up_ms = heartbeat.get("mono_ms")
    return up_ms if isinstance(up_ms, int) and not isinstance(up_ms, bool) else 0


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
