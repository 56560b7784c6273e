"""Truth beside what box and hub say. Pure; every finding names its second, so that somebody can look at it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

from nvr.ledger import Part
from nvr.media import Cause
from tools.city.simulator.truth import AGAIN_S, SILENT_S, STARTED_S, Alarm, Done, Sent, Window, cut_offs, is_within

NS_PER_S = 1_000_000_000
PICTURES_APART = 3  # of one stretch: those that were on their way when its first and its last second began


# -- the ledger beside the oracle ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wrong:
    """A second that is not as it should be."""

    second: int
    what: str


@dataclass
class CameraScore:
    camera: str
    seconds: int = 0
    recorded: int = 0
    excused: Counter[str] = field(
        default_factory=Counter
    )  # cause -> seconds that are missing with a cause that is right
    wrong: list[Wrong] = field(default_factory=list)  # missing, with a cause that did not happen
    lost: list[Wrong] = field(default_factory=list)  # missing, and nothing had happened to it
    unsaid: list[Wrong] = field(default_factory=list)  # the ledger has no word of it
    invented: list[Wrong] = field(default_factory=list)  # recorded, though the camera sent nothing
    pictures_sent: int = 0  # in stretches in which nothing happened
    pictures_recorded: int = 0
    pictures_wrong: list[Wrong] = field(default_factory=list)

    def is_quietly_lost(self) -> bool:
        return bool(self.wrong or self.lost or self.unsaid or self.invented or self.pictures_wrong)


def shares(parts: Iterable[Part], from_s: int, to_s: int) -> dict[int, dict[Cause | None, float]]:
    """How much of each second (0 to 1) had which fate; None: recorded. Seconds of which the ledger says nothing are empty."""
    found: dict[int, dict[Cause | None, float]] = {second: {} for second in range(from_s, to_s)}
    for part in parts:
        for second in range(max(part.from_ns // NS_PER_S, from_s), min(-(-part.to_ns // NS_PER_S), to_s)):
            length_ns = min(part.to_ns, (second + 1) * NS_PER_S) - max(part.from_ns, second * NS_PER_S)
            fates = found[second]
            fates[part.cause] = fates.get(part.cause, 0.0) + length_ns / NS_PER_S
    return found


def of_camera(
    camera: str, parts: Sequence[Part], pictures: Mapping[int, float], windows: Sequence[Window], sent: Sent | None,
    silences: Sequence[tuple[float, float]], from_s: int, to_s: int,
) -> CameraScore:  # fmt: skip
    """`pictures`: how many of each second lie in the ring; `silences`: when the camera sent nothing."""
    score = CameraScore(camera, seconds=to_s - from_s)
    calm: list[int] = []
    for second, fates in shares(parts, from_s, to_s).items():
        open_windows = [each for each in windows if each.from_s < second + 1 and second < each.to_s]
        said = sum(fates.values())
        if said < 0.5:
            score.unsaid.append(Wrong(second, "the ledger says nothing"))
        elif fates.get(None, 0.0) >= 0.5:
            score.recorded += 1
            # The seconds at both ends of a silence are partly sent; RunClock may put a late picture a second off.
            if any(begin_s + 2 <= second and second + 1 <= end_s - 2 for begin_s, end_s in silences):
                score.invented.append(Wrong(second, "recorded, and the camera sent nothing"))
            elif not open_windows:
                calm.append(second)
        else:
            cause = max((each for each in fates if each is not None), key=lambda each: fates[each])
            allowed = frozenset[Cause]().union(*(each.causes for each in open_windows))
            if cause in allowed:
                score.excused[cause.value] += 1
            elif open_windows:
                what = ", ".join(sorted({each.what for each in open_windows}))
                score.wrong.append(Wrong(second, f"missing because of {cause.value}, during: {what}"))
            else:
                score.lost.append(Wrong(second, f"missing because of {cause.value}, and nothing had happened"))
    _count_pictures(score, calm, pictures, sent)
    return score


def _count_pictures(score: CameraScore, calm: Sequence[int], pictures: Mapping[int, float], sent: Sent | None) -> None:
    """In each stretch in which nothing happened, as many pictures lie in the ring as the camera sent."""
    for begin, end in stretches(calm):
        wanted = sum(sent.sent.get(second, 0) for second in range(begin, end)) if sent else 0
        found = sum(pictures.get(second, 0.0) for second in range(begin, end))
        score.pictures_sent += wanted
        score.pictures_recorded += round(found)
        if abs(found - wanted) > PICTURES_APART:
            score.pictures_wrong.append(Wrong(begin, f"{wanted} pictures sent until {end}, {found:.1f} recorded"))


def stretches(seconds: Iterable[int]) -> list[tuple[int, int]]:
    """Seconds in a row as [first, end)."""
    found: list[tuple[int, int]] = []
    for second in seconds:
        if found and found[-1][1] == second:
            found[-1] = (found[-1][0], second + 1)
        else:
            found.append((second, second + 1))
    return found


# -- alarms beside truth -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ToldAlarm:
    """One that lies at the hub."""

    camera: str
    kind: str
    state: str
    from_s: float
    received_s: float


@dataclass
class AlarmScore:
    due: int = 0
    told: int = 0  # different ones, of the kinds that are scored
    found: int = 0
    missed: list[Alarm] = field(default_factory=list)
    false: list[ToldAlarm] = field(default_factory=list)
    twice: list[Alarm] = field(default_factory=list)
    delays_s: list[float] = field(default_factory=list)  # of those whose box could be heard all the time

    @property
    def recall(self) -> float:
        return self.found / self.due if self.due else 1.0

    @property
    def precision(self) -> float:
        return (self.told - len(self.false)) / self.told if self.told else 1.0

    def delay_text(self) -> str:
        if not self.delays_s:
            return "-"
        return f"median {median(self.delays_s):.1f} s, longest {max(self.delays_s):.1f} s"


def of_alarms(
    due: Sequence[Alarm], told: Sequence[ToldAlarm], is_heard: Mapping[Alarm, bool] | None = None
) -> AlarmScore:
    """`is_heard`: whether the box of an alarm could reach the hub from its beginning until it is told; only those are timed."""
    score = AlarmScore(due=sum(alarm.is_sure for alarm in due))
    # A queue that grows is told again with the same beginning: the same alarm.
    first: dict[tuple[str, str, str, int], ToldAlarm] = {}
    for each in sorted(told, key=lambda each: each.received_s):
        first.setdefault((each.camera, each.kind, each.state, round(each.from_s)), each)
    different = list(first.values())
    score.told = len(different)
    for alarm in due:
        mine = [each for each in different if _is_of(each, alarm)]
        if not alarm.is_sure:
            continue
        if not mine:
            score.missed.append(alarm)
            continue
        score.found += 1
        if len(mine) > 1:
            score.twice.append(alarm)
        if is_heard is None or is_heard.get(alarm, True):
            score.delays_s.append(mine[0].received_s - alarm.from_s)
    score.false = [each for each in different if not any(_is_of(each, alarm) for alarm in due)]
    return score


def _is_of(told: ToldAlarm, alarm: Alarm) -> bool:
    """By when it says that it began; by when it came, where the box's clock was wrong."""
    if (told.camera, told.kind, told.state) != (alarm.camera, alarm.kind, alarm.state):
        return False
    return alarm.from_s - 5 <= told.from_s <= alarm.to_s + 15 or (
        alarm.from_s <= told.received_s <= alarm.to_s + 20 and abs(told.from_s - alarm.from_s) > 600
    )


# -- clips beside originals ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ClipSeen:
    """One that lies at the hub, held against the box it came from."""

    camera: str
    sha256: str
    is_whole: bool  # its bytes have the hash that the box gave
    is_genuine: bool
    differs: str  # from the footage in the ring; "" when every byte of media is the same
    from_s: float
    to_s: float
    command: str = ""
    event: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """What became of somebody's wish for footage."""

    camera: str
    from_s: float
    to_s: float
    command: str
    state: str  # as /commands/{id} says: done, refused ...
    detail: str
    is_there: bool  # the ledger says that something of it is recorded


@dataclass
class ClipScore:
    asked: int = 0
    answered: int = 0
    clips: int = 0
    wrong: list[str] = field(default_factory=list)


def of_clips(clips: Sequence[ClipSeen], asked: Sequence[Asked], owed: Mapping[str, str]) -> ClipScore:
    """`owed`: events that promised a clip -> their camera."""
    score = ClipScore(asked=len(asked), clips=len(clips))
    for clip in clips:
        name = f"clip {clip.sha256[:12]} of {clip.camera}"
        if not clip.is_whole:
            score.wrong.append(f"{name}: the hub holds other bytes than the box sent")
        if not clip.is_genuine:
            score.wrong.append(f"{name}: not genuine")
        if clip.differs:
            score.wrong.append(f"{name}: {clip.differs}")
    for ask in asked:
        mine = [clip for clip in clips if clip.command == ask.command]
        if ask.state == "refused" and not ask.is_there:
            score.answered += 1
        elif not mine:
            score.wrong.append(f"asked for {ask.camera} at {ask.from_s:.0f}: {ask.state}, {ask.detail or 'no clip'}")
        else:
            score.answered += 1
            score.wrong += _twice(mine, f"asked for {ask.camera} at {ask.from_s:.0f}")
    for event, camera in owed.items():
        mine = [clip for clip in clips if clip.event == event]
        if not mine:
            score.wrong.append(f"event {event[:12]} of {camera}: its clip did not come")
        score.wrong += _twice(mine, f"event {event[:12]} of {camera}")
    return score


def _twice(clips: Sequence[ClipSeen], name: str) -> list[str]:
    """Parts of one wish follow each other (its pictures changed); the same second never comes twice."""
    ordered = sorted(clips, key=lambda clip: clip.from_s)
    return [
        f"{name}: the same second came twice, in {one.sha256[:12]} and {other.sha256[:12]}"
        for one, other in pairwise(ordered)
        if other.from_s < one.to_s - 0.5
    ]


# -- heartbeats beside truth ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Seen:
    """What the hub showed of a box when somebody looked."""

    at_s: float
    box: str
    is_here: bool
    recording: Mapping[str, bool]  # of its cameras, by the last heartbeat
    named: str  # trouble of the disk, and the causes of cameras, in the box's words
    age_s: float = 0.0  # of that heartbeat


@dataclass
class HeartbeatScore:
    looks: int = 0
    lies: list[str] = field(
        default_factory=list
    )  # shown as here though it was cut off, or as recording though it could not
    false_silence: list[str] = field(default_factory=list)
    silences_due: int = 0  # looks at which a box had to be shown as silent
    unnamed: list[str] = field(default_factory=list)  # faults of a card that no heartbeat named
    named: int = 0


def of_heartbeats(seen: Sequence[Seen], done: Sequence[Done], boxes: Mapping[str, Sequence[str]]) -> HeartbeatScore:
    """`boxes`: cameras by box, empty for light ones."""
    score = HeartbeatScore(looks=len(seen))
    away = {box: cut_offs(done, box) for box in boxes}
    for look in seen:
        spans = away[look.box]
        # Two seconds: how often somebody looks.
        is_due_silent = any(begin_s + SILENT_S + 2 < look.at_s < end_s for begin_s, end_s in spans)
        score.silences_due += is_due_silent
        if is_due_silent and look.is_here:
            score.lies.append(f"{look.box} shown as here at {look.at_s:.0f}, cut off for more than {SILENT_S:.0f} s")
        if not look.is_here and not is_within(spans, look.at_s, after_s=max(AGAIN_S, STARTED_S)):
            score.false_silence.append(f"{look.box} shown as silent at {look.at_s:.0f}, and nothing cut it off")
        if look.is_here and look.age_s < 12:
            score.lies += _recording_lies(look, done)
    for each in done:
        if each.fault.kind != "card" or each.fault.how == "full" or each.to_s - each.from_s < 20:
            continue
        box = each.fault.target
        if any(begin_s < each.to_s and each.from_s < end_s + AGAIN_S for begin_s, end_s in away[box]):
            continue  # nobody could hear it
        mine = [look for look in seen if look.box == box and each.from_s < look.at_s < each.to_s + 15]
        if any("disk" in look.named or "card" in look.named for look in mine):
            score.named += 1
        else:
            score.unnamed.append(f"{each.fault.how} on {box} from {each.from_s:.0f} to {each.to_s:.0f}")
    return score


def _recording_lies(look: Seen, done: Sequence[Done]) -> list[str]:
    """A camera that is silent for 25 s cannot be recorded by a box that says so in a heartbeat of the last 12."""
    lies = []
    for each in done:
        fault = each.fault
        if (
            fault.kind != "camera"
            or fault.how not in ("silent", "gone")
            or not each.from_s + 25 < look.at_s < each.to_s
        ):
            continue
        lies += [
            f"{camera} shown as recording at {look.at_s:.0f}, {fault.how} since {each.from_s:.0f}"
            for camera, is_recording in look.recording.items()
            if is_recording and fault.target in (camera, look.box)
        ]
    return lies


# -- all of it -----------------------------------------------------------------------------------------------------


@dataclass
class Score:
    cameras: list[CameraScore]
    check_faults: list[str]  # `ring check` of every real box
    real_alarms: AlarmScore
    light_alarms: AlarmScore
    clips: ClipScore
    heartbeats: HeartbeatScore

    def verdicts(self) -> dict[str, bool]:
        """Promise -> whether it was kept. The same seed gives the same answers."""
        alarms = (self.real_alarms, self.light_alarms)
        return {
            "every second is recorded, or missing with a cause that is right": not any(
                each.wrong or each.lost or each.unsaid or each.invented for each in self.cameras
            ),
            "what was sent while nothing happened lies in the rings, picture for picture": not any(
                each.pictures_wrong for each in self.cameras
            ),
            "every fragment on the disk is whole": not self.check_faults,
            "every alarm that was due reached the hub": not any(each.missed for each in alarms),
            "no alarm was false": not any(each.false for each in alarms),
            "no alarm was told twice": not any(each.twice for each in alarms),
            "clips are the box's own bytes, genuine, and each came once": not self.clips.wrong,
            "nobody was shown as here, or as recording, who was not": not self.heartbeats.lies,
            "nobody was shown as silent who was not": not self.heartbeats.false_silence,
            "a disk in trouble was named": not self.heartbeats.unnamed,
        }

    def is_footage_lost_quietly(self) -> bool:
        return bool(self.check_faults) or any(each.is_quietly_lost() for each in self.cameras)

    def exit_status(self) -> int:
        """0 all kept; 1 footage was lost quietly; 2 something else was not kept."""
        if self.is_footage_lost_quietly():
            return 1
        return 0 if all(self.verdicts().values()) else 2


def pictures_by_second(fragments: Iterable[tuple[int, int, int]]) -> dict[int, float]:
    """Pictures of each second, from fragments as (begin in ns of real time, length in ns, pictures): a fragment's lie evenly in it."""
    found: dict[int, float] = {}
    for begin_ns, length_ns, pictures in fragments:
        for number in range(pictures):
            second = math.floor((begin_ns + length_ns * number / pictures) / NS_PER_S)
            found[second] = found.get(second, 0) + 1
    return found
