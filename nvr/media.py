"""Recorded video as values: access units, fragments, where they lie, and why some are missing.

Nothing here touches a disk, a socket or a clock. `gather.py` holds the bytes; `clock.py` says what time
it is; `fmp4.py` turns these values into MP4 atoms and back.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from nvr.gather import Gather

TICKS_PER_S = 90_000  # the clock of H.264 over RTP (RFC 6184, 8.2.1), and of every track we write
PAGE_BYTES = 4096  # the kernel's page; whole pages are written, so that none is ever read back


class Cause(str, Enum):
    """Why a camera-second is not there. The text is what people and `--json` see."""

    CAMERA = "camera"  # it refused, sent nothing, or sent what cannot be recorded
    NETWORK = "network"  # no way to the camera, or the connection broke
    DISK_SLOW = "disk slow"  # the disk did not take the bytes in time
    DISK_FULL = "disk full"
    DISK_FAILED = "disk failed"  # read-only, vanished, or a write or sync returned an error
    BOX_BUSY = "box busy"  # the recorder did not get the processor in time
    BOX_OFF = "box off"  # no power, or the recorder was not running
    RECYCLED = "recycled"  # recorded once; the ring has used its place again
    HELD_BACK = "held back"  # held footage filled the ring, so new footage had no place
    CLOCK_UNKNOWN = "clock unknown"  # recorded, but nobody can say yet when
    NOT_KNOWN = "not known"  # the journal that would tell is lost


class ClockState(IntEnum):
    """How far a wall time can be believed. Higher is better."""

    UNKNOWN = 0  # earlier than this software's own date: no clock was ever set in this boot
    PLAUSIBLE = 1  # a battery clock or a person set it; nobody disciplines it
    SYNCED = 2  # the kernel says that a time source disciplines it, with an error bound


@dataclass(frozen=True, slots=True)
class ClockReading:
    """Two clocks read at one instant."""

    mono_ns: int  # CLOCK_BOOTTIME: counts from boot, never steps, counts through sleep
    wall_ns: int  # since 1970-01-01 UTC; anything at all while the state is UNKNOWN
    state: ClockState
    error_ns: int  # |wall_ns - truth| is at most this; meaningless while UNKNOWN


@dataclass(frozen=True, slots=True)
class ParameterSets:
    """What a decoder must know before the first picture (H.264 7.3.2.1, 7.3.2.2), without start codes."""

    sps: tuple[bytes, ...]
    pps: tuple[bytes, ...]


class AccessUnit(NamedTuple):
    """One picture, still encoded, as the source delivered it. Nothing was copied to make it.

    A tuple, because 25 a second are made for each camera: a frozen dataclass takes four times as long.
    """

    payload: Gather  # each NAL unit behind its length in 4 bytes (14496-15, 5.3.2); owned by whoever took the unit
    decode_ticks: int  # 90 kHz, from 0 at the start of the run, strictly rising
    composition_ticks: int  # shown this much after decoding; never negative, 0 without B-frames
    arrival_ns: int  # monotonic (ClockReading.mono_ns) when its last byte was received
    is_keyframe: bool  # an IDR picture: decodable with nothing before it but the parameter sets
    lost_packets: int = 0  # RTP packets missed since the unit before
    camera_wall_ns: int = 0  # the camera's own idea of when (RTCP sender report); 0 when it never said


class AccessUnits(NamedTuple):
    """Pictures in a row that arrived together, of which nothing else is to be said: the same as so many `AccessUnit`.

    None is a keyframe, nothing was lost between them, and each is shown when it is decoded. A turn brings five of a
    camera, and handing them on as one costs a fifth.
    """

    payload: Gather  # of all, one behind the other
    sizes_bytes: list[int]
    decode_ticks: list[int]
    arrival_ns: int
    camera_wall_ns: int = 0  # of the first

    def take(self, count: int) -> tuple[AccessUnits, AccessUnits]:
        """(the first `count`, the others); `self` is used up by this."""
        sizes, times = self.sizes_bytes, self.decode_ticks
        wall_ns = self.camera_wall_ns
        if wall_ns and count < len(times):
            wall_ns += (times[count] - times[0]) * 100_000 // 9
        first = AccessUnits(self.payload.split(sum(sizes[:count])), sizes[:count], times[:count], self.arrival_ns, self.camera_wall_ns)  # fmt: skip
        return first, AccessUnits(self.payload, sizes[count:], times[count:], self.arrival_ns, wall_ns)

    def single(self) -> AccessUnit:
        """The same, when it is one."""
        return AccessUnit(self.payload, self.decode_ticks[0], 0, self.arrival_ns, False, 0, self.camera_wall_ns)


@dataclass(frozen=True, slots=True)
class RunStarted:
    """From here on a stream is uninterrupted; the next access unit is a keyframe at tick 0."""

    parameter_sets: ParameterSets
    width: int  # luma samples after cropping
    height: int
    detail: str = ""  # for the log: "rtsp/tcp, Acme D3"


@dataclass(frozen=True, slots=True)
class RunEnded:
    """The stream was interrupted, or could not be started. Repeated while the reason changes."""

    cause: Cause
    detail: str  # one line for a person: "no access unit for 12 s, reconnecting"
    is_final: bool = False  # the source has nothing more to give: a replay at its end


StreamEvent = RunStarted | AccessUnit | AccessUnits | RunEnded


@dataclass(frozen=True, slots=True)
class FragmentRecord:
    """What a fragment says about itself in its commit record; the byte table is in docs/formats/ring.md."""

    box_id: bytes  # 16 bytes, from the box's public key
    boot_id: bytes  # 16 bytes, new at every boot
    stream: str  # "camera/main"
    run: int  # counts the runs of this stream, over all boots
    lap: int  # how often this segment file has been used, from 1
    segment: int  # number of the segment file
    sequence: int  # counts the fragments of this stream over all laps and boots, from 1
    mono_ns: int  # when the first picture was taken, box clock; fragments of a run never overlap
    wall_ns: int  # the same instant as the box's wall clock had it when the fragment was closed
    clock_state: ClockState
    clock_error_ns: int
    run_ticks: int  # decode time of the first access unit since the run began
    duration_ticks: int
    pictures: int
    payload_bytes: int  # media only
    lost_packets: int
    is_keyframe: bool  # starts with one; otherwise it is a later part of a long GOP
    camera_wall_ns: int  # of the first picture, by the camera's clock; 0 unknown
    previous_hash: bytes  # 32 bytes; zeros at the start of a run, or where hashing is off
    hash: bytes  # 32 bytes; zeros where hashing is off

    @property
    def duration_ns(self) -> int:
        return self.duration_ticks * 100_000 // 9


@dataclass(frozen=True, slots=True)
class Position:
    """Where a fragment lies; everybody but the writer reads the bytes from there."""

    stream: str
    segment: int
    lap: int
    offset: int  # bytes from the start of the segment file, a multiple of PAGE_BYTES
    size_bytes: int  # head, media and commit record, a multiple of PAGE_BYTES


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of one stream in wall time; the end is not part of it."""

    stream: str
    from_ns: int
    to_ns: int
