"""A box on disk for tests of the page: rings written by the real writer, at times that a test chooses."""

from __future__ import annotations

from pathlib import Path

from clip_ring import SMALL
from clocks import ManualClock

from nvr.evidence import Identity
from nvr.gather import Gather
from nvr.journal import Journal, Kind
from nvr.media import TICKS_PER_S, AccessUnit, Cause, ClockState, RunStarted
from nvr.ring.layout import RingSettings
from nvr.ring.syncer import Syncer
from nvr.ring.writer import Writer, Written
from nvr.web.settings import CameraSettings, PageSettings

NS = 1_000_000_000
DAY_NS = 1_782_831_600 * NS  # 2026-07-01T00:00:00+09:00
START_NS = DAY_NS + 9 * 3600 * NS
PER_SECOND = 5
SETTINGS = PageSettings(
    "puskesmas-waihaong", "waihaong-1", "Asia/Jayapura",
    (CameraSettings("gate", "Gate", "", ("main",)), CameraSettings("street", "Street", "simpang-mardika", ("main", "small"))),
    {"gate/main": 64_000_000, "street/main": 64_000_000, "street/small": 64_000_000},
)  # fmt: skip


class DiskBox:
    """Records gate/main; everything is durable after each call."""

    def __init__(
        self, data_dir: Path, *, wall_ns: int = START_NS, state: ClockState = ClockState.SYNCED, boot: bytes = b"a" * 16
    ) -> None:
        self.data_dir = data_dir
        self.clock = ManualClock(mono_ns=50 * NS, wall_ns=wall_ns, state=state)
        self.identity = Identity.load_or_create(data_dir / "identity" / "key")
        self.journal = Journal.open(data_dir / "journal", boot, self.clock.read())
        self.journal.note(Kind.STARTED, self.clock.read())
        settings = RingSettings(stream="gate/main", path=data_dir / "rings" / "gate" / "main", ring_bytes=64_000_000)
        self.writer = Writer(settings, box_id=self.identity.box_id, boot_id=boot)
        self.syncer = Syncer([self.writer], clock=self.clock, loss_bound_s=5.0, identity=self.identity)
        self.syncer.open()

    def record(
        self, seconds: int, *, keyframe_every_s: int = 1, picture_bytes: int = 900, forms: int = 251
    ) -> list[Written]:
        """One run of so many seconds. `forms`: how many different pictures there are, in turn."""
        self.journal.note_stream("gate/main", self.clock.read(), None)
        written = self.writer.start_run(RunStarted(SMALL, 320, 240), self.clock.read())
        for number in range(seconds * PER_SECOND):
            is_keyframe = number % (PER_SECOND * keyframe_every_s) == 0
            unit = (
                bytes((0x65 if is_keyframe else 0x41,))
                + bytes((number // PER_SECOND % forms if forms < 251 else number % forms,)) * picture_bytes
            )
            payload = Gather()
            payload.append(memoryview(len(unit).to_bytes(4, "big") + unit))
            ticks = number * TICKS_PER_S // PER_SECOND
            written += self.writer.push(
                AccessUnit(payload, ticks, 0, self.clock.mono_ns(), is_keyframe), self.clock.read()
            )
            self.clock.advance(NS // PER_SECOND)
            self.syncer.burst()
        written += self.writer.end_run(self.clock.read())
        self.syncer.burst()
        self.journal.sync(self.clock.read())
        return written

    def miss(self, seconds: float, cause: Cause, detail: str = "") -> None:
        self.journal.note_stream("gate/main", self.clock.read(), cause, detail)
        self.clock.advance(int(seconds * NS))

    def close(self) -> None:
        self.writer.close(self.clock.read())
        self.journal.note(Kind.STOPPED, self.clock.read())
        self.journal.close(self.clock.read())
        self.syncer.stop()
