"""Pictures to runs: ticks from 0, decoding order, parameter sets, the camera's clock, and where a run must end.

A run starts at a keyframe whose parameter sets are known. It ends, and another starts at the next keyframe, when parameter
sets change, when the camera's time stamps jump, when the sender begins anew, or when pictures turn out to be shown in
another order than was believed. No sockets, no clock.

Other parameter sets need another segment. A camera that changes them all the time would use up its ring with segments that
are almost empty; its keyframes carry their parameter sets in the stream from then on, and its runs go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nvr.gather import Gather
from nvr.h264 import BadH264
from nvr.media import TICKS_PER_S, AccessUnit, AccessUnits, Cause, ParameterSets, RunEnded, RunStarted, StreamEvent
from nvr.parameter_sets import Sps, parse_sps
from nvr.rtsp.decode_clock import DecodeClock
from nvr.rtsp.rtcp import SenderClock
from nvr.rtsp.rtp import Joined, Picture
from nvr.rtsp.sdp import without_trailer

_JUMP_TICKS = 10 * TICKS_PER_S  # time stamps that run ahead of the box's clock by so much at once
_BACK_TICKS = 2 * TICKS_PER_S  # more than any B picture goes back
# A camera whose stamps say 30 s for every 25 s (it stamps for 25 pictures a second and sends 30) would have its footage dated
# further and further into the future. From the first lead on, more than cameras send at once at the start, its time is
# slowed down; the second one, within what RunClock makes up for, is never reached.
_LEAD_TICKS, _LEAD_LIMIT_TICKS = 6 * TICKS_PER_S, 10 * TICKS_PER_S
# The other way round, stamps that say 1 s for every 10 s: RunClock follows 2 %, so footage would be dated further and further into the past and
# lie in a tenth of its time. So long in a row at one rate is no network that stalls and no camera that pauses.
_SLOW_NS, _SLOW_SPANS, _SLOW_RATE, _SLOW_ALIKE = 10 * 1_000_000_000, 3, 1.04, 1.15
_STRETCH_MOST = 1000.0
_STUCK_PICTURES = 25  # with the same stamp, one behind the other: its clock stands still, and ours counts. Slices of one picture are fewer.
_REORDER_LIMIT = 16  # H.264, A.3.1: the most a decoder holds
_SPS_LIMIT, _PPS_LIMIT = 32, 64
_NAL_SPS = 7
# So many changes of parameter sets in so short a time are no person at the camera's settings.
_CHANGES_LIMIT, _CHANGES_NS = 3, 120 * 1_000_000_000


@dataclass(slots=True)
class Learned:
    """What the pictures of a camera have shown so far; it outlives sessions, so that none begins with old mistakes."""

    reorder_frames: int = -1  # when the SPS was wrong or silent
    has_changing_sets: bool = False  # keyframes are recorded with their parameter sets before them
    stretch: float = 1.0  # its time stamps run so much slower than time does


class Runs:
    """Turns the pictures of one session into stream events."""

    def __init__(self, offered: ParameterSets, detail: str, learned: Learned | None = None) -> None:
        """`offered`: from the SDP; may be empty. `detail` goes into every RunStarted. `learned` is added to."""
        self._detail = detail
        self._learned = learned or Learned()
        self._sps: dict[int, bytes] = {}
        self._pps: dict[int, bytes] = {}
        self._sets: ParameterSets | None = None  # of the run, while there is one
        self._decode: DecodeClock | None = None
        self._last_sets: ParameterSets | None = None  # of the last keyframe
        self._changes_ns: list[int] = []  # when they were others than before, lately
        self._ts = -1
        self._stuck = 0  # pictures in a row that had the stamp of the one before
        self._ticks = 0  # unwrapped, of the last picture
        self._arrival_ns = 0
        self._began_ticks = self._began_ns = 0  # of the run
        self._pace = 1.0  # how much of the camera's time counts
        self._span_ticks = self._span_ns = 0  # where the span began in which its rate is looked at
        self._slow: list[float] = []  # how much longer than its stamps the last spans were, while they were so
        self._lost = 0
        self._complaint = ""
        self.clock = SenderClock()
        self.pictures = 0
        self.skipped = 0  # outside of a run
        self.keyframes = 0
        self.runs = 0
        self.width = self.height = 0
        self.offer(offered)

    @property
    def is_running(self) -> bool:
        return self._sets is not None

    def offer(self, sets: ParameterSets) -> None:
        """Parameter sets from outside the stream; used from the next keyframe on."""
        for nal in (*sets.sps, *sets.pps):
            self._learn(nal)

    def push_all(self, pictures: Sequence[Picture | Joined]) -> list[StreamEvent]:
        """push() for each, in order; the pictures of an undisturbed run take a shorter way."""
        events: list[StreamEvent] = []
        if self._arrival_ns - self._span_ns >= _SLOW_NS:
            events += self._look_whether_slow()
        ahead_ticks = self._ticks - self._began_ticks - (self._arrival_ns - self._began_ns) * 9 // 100_000
        self._pace = self._learned.stretch if ahead_ticks <= _LEAD_TICKS else _pace(ahead_ticks) * self._learned.stretch
        for picture in pictures:
            if len(picture) == 4:
                events += self._push_joined(picture)
                continue
            payload, ts, is_keyframe, lost, new_sets, arrival_ns, restarted = picture
            decode = self._decode
            step = (ts - self._ts + 0x80000000 & 0xFFFFFFFF) - 0x80000000
            if (
                decode is None or is_keyframe or new_sets or lost or restarted or self._lost or not 0 < step < TICKS_PER_S
            ):  # fmt: skip
                events += self.push(picture)
                continue
            self._ts, self._arrival_ns = ts, arrival_ns
            self._ticks += step if self._pace == 1.0 else int(step * self._pace)
            self.pictures += 1
            decode_ticks, composition_ticks = decode.times(self._ticks)
            events.append(
                AccessUnit(payload, decode_ticks, composition_ticks, arrival_ns, False, 0, self.clock.wall_ns(ts))
            )
        return events

    def _push_joined(self, joined: Joined) -> Sequence[StreamEvent]:
        """What push() for each would give; as one event where the run goes on as it did."""
        payload, stamps, sizes_bytes, arrival_ns = joined
        decode, before, ticks = self._decode, self._ts, self._ticks
        presented = []
        if decode is not None and not self._lost and self._pace == 1.0:
            for ts in stamps:
                step = (ts - before + 0x80000000 & 0xFFFFFFFF) - 0x80000000
                if not 0 < step < TICKS_PER_S:
                    break
                before = ts
                ticks += step
                presented.append(ticks)
            else:
                times = decode.plain_times(presented)
                if times is not None:
                    self._ts, self._ticks, self._arrival_ns = before, ticks, arrival_ns
                    self.pictures += len(times)
                    return (AccessUnits(payload, sizes_bytes, times, arrival_ns, self.clock.wall_ns(stamps[0])),)
        events: list[StreamEvent] = []
        for ts, size_bytes in zip(stamps, sizes_bytes, strict=True):
            events += self.push((payload.split(size_bytes), ts, False, 0, (), arrival_ns, False))
        return events

    def _look_whether_slow(self) -> list[StreamEvent]:
        """A camera whose time runs at a small rate of ours: the run ends, and from the next keyframe on its time is stretched by what was measured."""
        passed_ns, told_ns = self._arrival_ns - self._span_ns, (self._ticks - self._span_ticks) * 100_000 // 9
        self._span_ticks, self._span_ns = self._ticks, self._arrival_ns
        if self._sets is None or told_ns <= 0 or passed_ns < told_ns * _SLOW_RATE:
            self._slow = []
            return []
        self._slow = [*self._slow, passed_ns / told_ns]
        if len(self._slow) < _SLOW_SPANS:
            return []
        slow, self._slow = self._slow, []
        if max(slow) > min(slow) * _SLOW_ALIKE:
            return []
        self._learned.stretch = min(self._learned.stretch * sum(slow) / len(slow), _STRETCH_MOST)
        return self.end(
            Cause.CAMERA,
            f"the camera's time stamps run {self._learned.stretch:.3g} times too slow, they are stretched from now on",
        )

    def push(self, picture: Picture) -> list[StreamEvent]:
        """The events that one picture causes, in order."""
        payload, ts, is_keyframe, lost, new_sets, arrival_ns, restarted = picture
        events: list[StreamEvent] = []
        self._lost += lost
        changed = [self._learn(nal) for nal in new_sets] if new_sets else []
        jump = self._advance(ts, arrival_ns)
        if restarted:
            events += self.end(Cause.CAMERA, "the camera started its stream anew")
        elif jump:
            events += self.end(Cause.CAMERA, f"the camera's time stamps jumped by {jump / TICKS_PER_S:.1f} s")
        elif "changed" in changed and not is_keyframe:
            events += self.end(
                Cause.CAMERA, "the camera changed its parameter sets, and the keyframe behind them is missing"
            )
        if is_keyframe:
            self.keyframes += 1
            events += self._keyframe()
        if self._sets is None or self._decode is None:
            self.skipped += 1
            return events
        decode_ticks, composition_ticks = self._decode.times(self._ticks)
        lost, self._lost = self._lost, 0
        self.pictures += 1
        if is_keyframe and self._learned.has_changing_sets and self._last_sets is not None:
            payload = _with_sets(payload, self._last_sets)
        wall_ns = self.clock.wall_ns(ts)
        events.append(AccessUnit(payload, decode_ticks, composition_ticks, arrival_ns, is_keyframe, lost, wall_ns))
        return events

    def end(self, cause: Cause, detail: str) -> list[StreamEvent]:
        """End the run, if there is one; the next keyframe starts another."""
        if self._sets is None:
            return []
        self._sets = self._decode = None
        return [RunEnded(cause, detail)]

    def _advance(self, ts: int, arrival_ns: int) -> int:
        """Unwrap the time stamp; by how many ticks it jumped, 0 when it did not."""
        if self._ts < 0:
            self._ts, self._ticks, self._arrival_ns = ts, ts, arrival_ns
            return 0
        step = (ts - self._ts + 0x80000000 & 0xFFFFFFFF) - 0x80000000
        waited_ticks = (arrival_ns - self._arrival_ns) * 9 // 100_000
        self._ts, self._arrival_ns = ts, arrival_ns
        self._ticks += int(step * self._pace)
        self._stuck = self._stuck + 1 if step == 0 else 0
        if self._stuck > _STUCK_PICTURES:  # or footage of hours would be as long as a blink
            self._ticks += waited_ticks
        return step if step < -_BACK_TICKS or step - waited_ticks > _JUMP_TICKS else 0

    def _keyframe(self) -> list[StreamEvent]:
        """Start a run here if there is none, or if this one cannot go on."""
        if not self._sps or not self._pps:
            return self.complain("keyframes come without parameter sets, and the camera offered none")
        sets = ParameterSets(tuple(self._sps.values()), tuple(self._pps.values()))
        events: list[StreamEvent] = []
        learned = self._learned
        if self._last_sets not in (None, sets):
            lately = [changed_ns for changed_ns in self._changes_ns if self._arrival_ns - changed_ns < _CHANGES_NS]
            self._changes_ns = [*lately, self._arrival_ns][-_CHANGES_LIMIT:]
        self._last_sets = sets
        if self._sets is not None and self._decode is not None:
            needed = self._decode.needed_frames
            if sets != self._sets and not learned.has_changing_sets:
                events += self.end(Cause.CAMERA, "the camera changed its parameter sets")
            elif needed > self._decode.reorder_frames and self._decode.reorder_frames < _REORDER_LIMIT:
                learned.reorder_frames = min(needed, _REORDER_LIMIT)
                events += self.end(
                    Cause.CAMERA, f"pictures are shown {needed} later than they are decoded, from now on"
                )
            else:
                return []
        try:
            sps = parse_sps(sets.sps[0])
        except BadH264 as error:
            return events + self.complain(f"the camera's parameter set cannot be read: {error}")
        learned.has_changing_sets = learned.has_changing_sets or len(self._changes_ns) == _CHANGES_LIMIT
        self._sets, self._decode, self._complaint = sets, self._decode_clock(sps), ""
        self._began_ticks, self._began_ns = self._ticks, self._arrival_ns
        self._span_ticks, self._span_ns, self._slow = self._ticks, self._arrival_ns, []
        self.runs += 1
        self.width, self.height = sps.width, sps.height
        detail = (
            self._detail
            if learned.stretch == 1.0
            else f"{self._detail}, its clock is {learned.stretch:.3g} times too slow"
        )
        detail += ", its parameter sets change all the time" if learned.has_changing_sets else ""
        return [*events, RunStarted(sets, sps.width, sps.height, detail)]

    def _decode_clock(self, sps: Sps) -> DecodeClock:
        # Where the SPS does not tell, almost no camera reorders; the first B picture shows when one does.
        told = sps.reorder_frames if sps.is_reorder_told else 0
        return DecodeClock(
            max(told, self._learned.reorder_frames),
            round(TICKS_PER_S / sps.fps) if sps.fps and 1 <= sps.fps <= 240 else 3600,
        )

    def complain(self, detail: str) -> list[StreamEvent]:
        """Say why no run starts; once."""
        if detail == self._complaint:
            return []
        self._complaint = detail
        return [RunEnded(Cause.CAMERA, detail)]

    def _learn(self, nal: bytes) -> str:
        """Put a parameter set where its number belongs: "same", "new" or "changed" (another with that number was known)."""
        nal = without_trailer(nal)
        if len(nal) < 2:
            return "same"
        if nal[0] & 31 == _NAL_SPS:
            known, number, limit = self._sps, _first_number(nal[4:]), _SPS_LIMIT
        else:
            known, number, limit = self._pps, _first_number(nal[1:]), _PPS_LIMIT
        before = known.get(number)
        if before == nal:
            return "same"
        # The newest SPS comes first: it is the one that the next keyframe means.
        rest = {key: value for key, value in known.items() if key != number}
        known.clear()
        known.update(
            {number: nal, **dict(list(rest.items())[: limit - 1])}
            if known is self._sps
            else {**dict(list(rest.items())[-limit + 1 :]), number: nal}
        )
        return "new" if before is None else "changed"


def _pace(ahead_ticks: int) -> float:
    """How much of the camera's time counts when it is so far ahead of the box's: less and less."""
    return max((_LEAD_LIMIT_TICKS - ahead_ticks) / (_LEAD_LIMIT_TICKS - _LEAD_TICKS), 0.01)


def _with_sets(payload: Gather, sets: ParameterSets) -> Gather:
    """The picture with its parameter sets before it, as in a byte stream; nothing of the picture is copied."""
    gather = Gather()
    for nal in (*sets.sps, *sets.pps):
        gather.append(memoryview(len(nal).to_bytes(4, "big") + nal))
    gather.extend(payload)
    return gather


def _first_number(data: bytes) -> int:
    """The Exp-Golomb code (H.264, 9.1) at the start: the id of a parameter set. -1 when there is none."""
    bits = int.from_bytes(data[:8].ljust(8, b"\0"), "big")
    zeros = 64 - bits.bit_length()
    return (bits >> 63 - 2 * zeros) - 1 if zeros <= 16 else -1
