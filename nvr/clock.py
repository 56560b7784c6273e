"""What time it is, how sure that is, and when a picture was taken.

Everything that needs time takes a `Clock`; tests pass one of their own (tests/clocks.py). The monotonic
side orders and measures; the wall side is only ever a label with a state and an error bound
(docs/time.md). What the labels of a whole disk mean together is worked out in `timeline.py`.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import time
from collections import deque
from pathlib import Path
from typing import Protocol

from nvr.media import ClockReading, ClockState

NS_PER_S = 1_000_000_000

# No clock that was ever set shows a time before this source was written (2025-01-01 UTC).
SOURCE_DATE_NS = 1_735_689_600 * NS_PER_S

# A clock that nobody disciplines: a coin cell clock loses minutes in a year, but it may have been set by hand, in
# local time, or a day off. A week covers what sites report; a person or the hub can say better.
RTC_ERROR_NS = 7 * 86_400 * NS_PER_S

# Without a battery clock the operating system starts where it was shut down (fake-hwclock, systemd-timesyncd):
# late by however long the box was off.
NO_RTC_ERROR_NS = 366 * 86_400 * NS_PER_S

# systemd-timesyncd tells the kernel a maximum error of 0 after every answer, whatever the round trip was; over a
# mobile link half of that is some 50 ms.
SYNC_FLOOR_NS = 50_000_000

ASK_KERNEL_NS = NS_PER_S  # adjtimex(2) costs more than both clocks together, and ten times a second nothing new is said
STEP_NS = 10_000_000  # more than any slewing does in a second

MAX_DRIFT_PPM = 500  # the kernel's own bound for an oscillator (adjtimex(2): tolerance), and ours for a camera's


class Clock(Protocol):
    def mono_ns(self) -> int:
        """Nanoseconds since boot; never steps."""

    def read(self) -> ClockReading:
        """Both clocks at one instant, with state and error bound."""

    def sleep_until(self, mono_ns: int) -> None:
        """Return at `mono_ns` or soon after; at once if that has passed."""


class SystemClock:
    """The clocks of this machine. What the kernel will not tell (containers, other systems) counts as not synced."""

    def __init__(self) -> None:
        self._not_before_ns = software_date_ns()
        self._undisciplined_error_ns = RTC_ERROR_NS if has_battery_clock() else NO_RTC_ERROR_NS
        self._asked_ns = -ASK_KERNEL_NS
        self._asked_offset_ns = 0
        self._kernel_error_ns: int | None = None

    def mono_ns(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def read(self) -> ClockReading:
        mono_ns, wall_ns, apart_ns = _both_clocks()
        error_ns = self._error_ns(mono_ns, wall_ns - mono_ns)
        if wall_ns < self._not_before_ns:
            return ClockReading(mono_ns, wall_ns, ClockState.UNKNOWN, 0)
        if error_ns is None:
            return ClockReading(mono_ns, wall_ns, ClockState.PLAUSIBLE, self._undisciplined_error_ns)
        return ClockReading(mono_ns, wall_ns, ClockState.SYNCED, error_ns + apart_ns)

    def _error_ns(self, mono_ns: int, offset_ns: int) -> int | None:
        """What the kernel said of its error; asked again after a second, and at once when somebody set the clock."""
        waited_ns = mono_ns - self._asked_ns
        if waited_ns >= ASK_KERNEL_NS or abs(offset_ns - self._asked_offset_ns) > STEP_NS:
            self._asked_ns, self._asked_offset_ns, waited_ns = mono_ns, offset_ns, 0
            self._kernel_error_ns = kernel_error_ns()
        if self._kernel_error_ns is None:
            return None
        return self._kernel_error_ns + waited_ns * MAX_DRIFT_PPM // 1_000_000

    def sleep_until(self, mono_ns: int) -> None:
        # BOOTTIME counts through sleep and timeouts do not, so a machine that slept is asked again. select() rather than
        # time.sleep(), because libfaketime moves the latter's deadline: tests set the wall clock of a real recorder.
        while (remaining_ns := mono_ns - self.mono_ns()) > 0:
            select.select((), (), (), min(remaining_ns / 1e9, 1.0))


def _both_clocks() -> tuple[int, int, int]:
    """(monotonic, wall, how far apart they may have been read), all ns; the best of three tries."""
    best = (0, 0, -1)
    for _ in range(3):
        before_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        wall_ns = time.time_ns()
        apart_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - before_ns
        if best[2] < 0 or apart_ns < best[2]:
            best = (before_ns + apart_ns // 2, wall_ns, apart_ns)
        if best[2] < 20_000:  # 20 us: nobody came in between
            break
    return best


def boot_id() -> bytes:
    """16 bytes that are the same until the machine boots again; random ones where the kernel has no such file."""
    try:
        return bytes.fromhex(Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", ""))[:16].ljust(
            16, b"\0"
        )
    except (OSError, ValueError):
        return _RANDOM_BOOT_ID


_RANDOM_BOOT_ID = os.urandom(16)


def software_date_ns() -> int:
    """No earlier than this can it be. A read-only image carries its build date in its files.

    In a checkout the dates of the files say when they were unpacked by whatever clock, so they are not used.
    """
    try:
        if os.statvfs(__file__).f_flag & os.ST_RDONLY:
            return max(SOURCE_DATE_NS, Path(__file__).stat().st_mtime_ns)
    except OSError:
        pass
    return SOURCE_DATE_NS


def has_battery_clock(sys_path: Path = Path("/sys/class/rtc")) -> bool:
    """Whether the kernel knows a real-time clock; most small boards have none."""
    try:
        return any(sys_path.iterdir())
    except OSError:
        return False


# -- what somebody else says: the hub, or a person -----------------------------------------------------

OFFER_NAME = "clock-offer.json"  # in DATA/run: of this boot only, and gone with it


def offer_reading(run_dir: Path, boot: bytes, reading: ClockReading) -> None:
    """Tell `record` what a trusted clock says; it goes into the journal, and a timeline then knows (docs/time.md)."""
    fields = [boot.hex(), reading.mono_ns, reading.wall_ns, int(reading.state), reading.error_ns]
    draft = run_dir / f".{OFFER_NAME}"
    draft.write_text(json.dumps(fields))
    draft.replace(run_dir / OFFER_NAME)


def offered_reading(run_dir: Path, boot: bytes, now: ClockReading) -> ClockReading | None:
    """What was offered in this boot; None for nothing, or for what cannot be. Never better than plausible: nobody disciplines by it."""
    try:
        boot_hex, mono_ns, wall_ns, state, error_ns = json.loads((run_dir / OFFER_NAME).read_bytes()[:1000])
        reading = ClockReading(int(mono_ns), int(wall_ns), ClockState(state), int(error_ns))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    if (
        boot_hex != boot.hex()
        or not 0 <= reading.mono_ns <= now.mono_ns
        or not SOURCE_DATE_NS < reading.wall_ns < 2**62
    ):
        return None
    if reading.state is not ClockState.PLAUSIBLE or not 0 < reading.error_ns < RTC_ERROR_NS:
        return None
    return reading


# -- what the kernel says: adjtimex(2) ---------------------------------------------------------------

_STA_UNSYNC, _STA_NANO, _STA_CLOCKERR = 0x0040, 0x2000, 0x1000
_TIME_OOP, _TIME_ERROR = 3, 5


class _Timex(ctypes.Structure):
    _fields_ = [
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("time_s", ctypes.c_long),
        ("time_us", ctypes.c_long),
        ("rest", ctypes.c_long * 32),  # more than any kernel writes
    ]


def _find_adjtimex():  # type: ignore[no-untyped-def]
    try:
        return ctypes.CDLL(None).adjtimex
    except (OSError, AttributeError):
        return None


_adjtimex = _find_adjtimex()


def kernel_error_ns() -> int | None:
    """How wrong the wall clock can be by the kernel's account; None while nothing disciplines it, or it will not say.

    maxerror grows by 500 ppm between two answers of the time source; offset is what is still being slewed away.
    """
    if _adjtimex is None:
        return None
    timex = _Timex(modes=0)
    returned = _adjtimex(ctypes.byref(timex))
    if returned < 0 or returned == _TIME_ERROR or timex.status & (_STA_UNSYNC | _STA_CLOCKERR):
        return None
    offset_ns = abs(timex.offset) * (1 if timex.status & _STA_NANO else 1000)
    leap_ns = NS_PER_S if returned == _TIME_OOP else 0  # the leap second itself: the same second twice
    return timex.maxerror * 1000 + offset_ns + leap_ns + SYNC_FLOOR_NS


# -- when a picture was taken ------------------------------------------------------------------------

_SLEW_PPM = 2 * MAX_DRIFT_PPM  # keeps up with a drifting camera and has as much again to recover
_AHEAD_SLEW_PPM = 20_000  # of box time: a run that began with a burst of old pictures is right again in a minute or so
_AHEAD_SLOW_NS = 100_000_000
_AHEAD_LIMIT_NS = 10 * NS_PER_S  # more than any network holds back: a file played faster than real time
_BUCKET_NS = 3 * NS_PER_S
_BUCKETS = 10  # the smallest delay of the last 30 s counts; 500 ppm in 30 s are 15 ms
_STALL_NS = 3 * NS_PER_S  # silence, and then ticks that go on as if nothing had been
_STALL_CONFIRM_NS = NS_PER_S  # by then a network that only held pictures back has delivered them
_BEHIND_LIMIT_NS = 10 * NS_PER_S


class RunClock:
    """Maps the ticks of one run to box time, by the pictures that were delayed least.

    The network only ever adds delay, so the smallest `arrival - ticks` of the last half minute says how the
    camera's clock stands to ours. That difference is followed slowly (a camera's clock may be wrong by 500 ppm), so
    that jitter does not show; where a camera was silent for seconds and its ticks do not tell, it is set anew.

    Times come out strictly rising with the ticks. The ticks of a camera whose clock runs fast say up to 500 ppm more
    than box time went by, so the end of a fragment is where the next one of its run begins, if that is earlier
    than its duration says (`timeline.py` does so).
    """

    def __init__(self, first_arrival_ns: int, *, not_before_ns: int = 0) -> None:
        """`not_before_ns`: the end of the run before, in box time; pictures that a server repeats do not go there."""
        self._not_before_ns = max(not_before_ns, 0)
        self._offset_ns: int | None = None  # box time at tick 0; settled at the first mono_ns()
        self._buckets: deque[tuple[int, int]] = deque()  # (number of bucket, smallest offset in it)
        self._arrival_ns = first_arrival_ns
        self._slewed_ns = first_arrival_ns  # box time up to which the offset was slewed
        self._last_ticks_ns = -1
        self._last_mono_ns = self._not_before_ns - 1
        self._stall: tuple[int, int] | None = None  # (ticks in ns, arrival) of the first picture after a silence
        self._anchors: list[tuple[int, int]] = []  # (ticks in ns, new offset), for pictures not asked about yet

    def observe(self, run_ticks: int, arrival_ns: int) -> None:
        """Learn from one picture; in order. The more pictures are shown, the better the delay is known."""
        ticks_ns = run_ticks * 100_000 // 9
        silence_ns = arrival_ns - self._arrival_ns
        self._arrival_ns = max(self._arrival_ns, arrival_ns)
        offset_ns = arrival_ns - ticks_ns
        if self._buckets and silence_ns > _STALL_NS and offset_ns - self._expected_ns() > _STALL_NS:
            self._stall = (ticks_ns, arrival_ns)
        number = self._arrival_ns // _BUCKET_NS
        if self._buckets and self._buckets[-1][0] >= number:
            if offset_ns < self._buckets[-1][1]:
                self._buckets[-1] = (self._buckets[-1][0], offset_ns)
        else:
            self._buckets.append((number, offset_ns))
            # While a stall is not settled, the times before it still count, however long it was.
            while self._stall is None and self._buckets[0][0] <= number - _BUCKETS:
                self._buckets.popleft()
        if self._stall is not None:
            self._settle_stall(offset_ns, arrival_ns)

    def _expected_ns(self) -> int:
        """Where the newest pictures are taken to stand, before any slewing."""
        if self._anchors:
            return self._anchors[-1][1]
        lowest_ns = min(offset_ns for _, offset_ns in self._buckets)
        return lowest_ns if self._offset_ns is None else min(lowest_ns, self._offset_ns)

    def _settle_stall(self, offset_ns: int, arrival_ns: int) -> None:
        """The network held pictures back (they catch up), or the camera's ticks stood still (they never do)."""
        assert self._stall is not None
        ticks_ns, since_ns = self._stall
        if offset_ns - self._expected_ns() <= _STALL_NS:
            self._stall = None  # caught up
        elif arrival_ns - since_ns >= _STALL_CONFIRM_NS:
            # The silence was longer than a bucket, so these hold nothing from before it.
            later_ns = min(lowest_ns for number, lowest_ns in self._buckets if number >= since_ns // _BUCKET_NS)
            self._anchors.append((ticks_ns, later_ns))
            self._buckets = deque([(arrival_ns // _BUCKET_NS, later_ns)])
            self._stall = None

    def mono_ns(self, run_ticks: int, arrival_ns: int) -> int:
        """Box time at which the picture with `run_ticks` was taken; ticks rise from call to call.

        May be asked for every picture or only for the first of each fragment, at once or when the fragment is
        closed and its other pictures were shown to observe() (better: a burst at the start of a run is then seen).
        """
        ticks_ns = run_ticks * 100_000 // 9
        if arrival_ns >= self._arrival_ns or not self._buckets:
            self.observe(run_ticks, arrival_ns)
        if self._offset_ns is None:
            self._offset_ns = max(min(offset_ns for _, offset_ns in self._buckets), self._not_before_ns - ticks_ns)
        elif self._anchors and ticks_ns >= self._anchors[0][0]:
            while self._anchors and ticks_ns >= self._anchors[0][0]:
                self._offset_ns = max(self._offset_ns, self._anchors.pop(0)[1])
        elif not self._anchors and self._stall is None:
            self._slew(ticks_ns)
        self._slewed_ns = self._arrival_ns
        self._last_ticks_ns = ticks_ns
        self._last_mono_ns = max(ticks_ns + self._offset_ns, self._last_mono_ns + 1)
        return self._last_mono_ns

    def _slew(self, ticks_ns: int) -> None:
        """Move the offset towards the smallest delay seen lately, slower than time goes by."""
        assert self._offset_ns is not None
        error_ns = min(offset_ns for _, offset_ns in self._buckets) - self._offset_ns
        media_ns, box_ns = ticks_ns - self._last_ticks_ns, self._arrival_ns - self._slewed_ns
        if error_ns > _BEHIND_LIMIT_NS:  # a file at half speed, or silence in many small pieces
            self._offset_ns += error_ns
        elif error_ns >= 0:
            self._offset_ns += min(error_ns, box_ns * _SLEW_PPM // 1_000_000)
        elif error_ns >= -_AHEAD_LIMIT_NS:
            rate_ppm = _AHEAD_SLEW_PPM if error_ns < -_AHEAD_SLOW_NS else _SLEW_PPM
            self._offset_ns -= min(-error_ns, max(min(media_ns, box_ns), 0) * rate_ppm // 1_000_000)
