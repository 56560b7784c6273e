"""The `record` process: from every camera to its ring, in one thread, and nothing else.

    settings on standard input -> streams -> every 100 ms: source.drain -> writer.push -> announce

It imports neither numpy nor av nor yaml, waits for no other process, no name server and no disk sync (the
syncer is a second thread), and tells everything it does through `announce.py` and the journal. A fault of one
stream, source or ring, never touches another. `python -m nvr.recorder` reads its settings as JSON from standard
input, because camera passwords do not belong into a command line.
"""

from __future__ import annotations

import fcntl
import gc
import json
import logging
import os
import signal
import sys
import threading
import time
from collections import deque
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from nvr import systemd
from nvr.announce import Announcer
from nvr.arena import Arena
from nvr.clock import Clock, SystemClock, boot_id, offered_reading
from nvr.errors import NvrError
from nvr.evidence import Identity, IdentityFailed
from nvr.journal import SIZE_BYTES as JOURNAL_BYTES
from nvr.journal import Journal, JournalFailed, JournalFile, Kind
from nvr.media import Cause, ClockReading
from nvr.ring.disk import DiskFailed, check_same_disk
from nvr.ring.layout import RingSettings, fragment_s_for
from nvr.ring.syncer import Syncer
from nvr.ring.writer import Writer
from nvr.source import TURN_NS, Source
from nvr.stream import RecordedStream, Stream

log = logging.getLogger(__name__)

NS_PER_S = 1_000_000_000
STATUS_EVERY_NS = NS_PER_S
# Turns that come so late are told: cameras keep a second or two for us, and then leave out pictures.
LATE_NS, TELL_LATE_NS = 2 * NS_PER_S, 60 * NS_PER_S
STALE_NS = NS_PER_S // 2
CAUGHT_UP_NS = 10 * NS_PER_S  # longer than what waited in the sockets takes to arrive, and a GOP


@dataclass(frozen=True, slots=True)
class Settings:
    """All that `record` must know; built from the site file by `box.py`."""

    data_dir: str
    loss_bound_s: float
    streams: tuple[RecordedStream, ...]
    once: bool = False  # end when every source has ended

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """Raises ValueError, TypeError or KeyError when this is not what to_json() wrote."""
        fields = json.loads(text)
        fields["streams"] = tuple(RecordedStream(**stream) for stream in fields["streams"])
        return cls(**fields)


def source_of(settings: RecordedStream, arena: Arena, *, joins: bool = False) -> Source:
    """The source that a stream's settings name. Raises NvrError for settings it does not take.

    `joins`: the caller takes `AccessUnits` as well as `AccessUnit`.
    """
    options = {key: value for key, value in settings.source.items() if key != "kind"}
    kind = settings.source["kind"]
    if kind == "rtsp":
        from nvr.source.rtsp import Rtsp

        return Rtsp(arena=arena, label=settings.name, joins=joins, **options)
    if kind == "replay":
        from nvr.source.replay import Replay

        return Replay(options.pop("file"), **options)
    if kind == "usb":
        from nvr.source.usb import Usb

        return Usb(arena=arena, label=settings.name, **options)
    if kind == "picamera":
        from nvr.source.picamera import PiCamera

        return PiCamera(arena=arena, label=settings.name, **options)
    if kind == "picamera-small":
        from nvr.source.picamera import PiCameraSmall

        return PiCameraSmall(arena=arena, label=settings.name, **options)
    raise NvrError(f"{settings.name}: no source is called {kind!r}", hint="rtsp, replay, usb and picamera are there.")


def held_up_by(late_ns: int, queued_ns: int, longest_write_ns: int) -> Cause:
    """Why a turn came so late: its thread stood in the queue for a processor for most of that time, or a write took so long.

    Neither of them: it did not run for another reason, stopped or busy with itself, and that is not the disk's fault nor the camera's.
    """
    if queued_ns < late_ns // 2 and longest_write_ns > late_ns // 8:
        return Cause.DISK_SLOW
    return Cause.BOX_BUSY


class QueueTime:
    """How long the calling thread was ready to run and did not, as the kernel counts it (schedstat, proc(5))."""

    def __init__(self) -> None:
        """Counts nothing where the kernel does not."""
        try:
            self._fd = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._fd = -1
        self._marked_ns = self._ns()

    def _ns(self) -> int:
        try:
            return int(os.pread(self._fd, 64, 0).split()[1])
        except (OSError, ValueError, IndexError):
            return 0

    def mark(self) -> None:
        """From here on lately_ns() counts."""
        self._marked_ns = self._ns()

    def lately_ns(self) -> int:
        return self._ns() - self._marked_ns


class Recorder:
    """All streams of a box. `run()` is the thread of the process; syncer and journal have one each, to wait for the disk."""

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        """Opens identity, journal and socket. Raises NvrError when a box cannot record like this at all."""
        self.settings = settings
        self.clock = clock or SystemClock()
        data_dir = self._data_dir = Path(settings.data_dir)
        run_dir = data_dir / "run"
        run_dir.mkdir(parents=True, exist_ok=True)
        self._disk_mark = ""
        try:
            self._check_disk()
        except DiskFailed as error:
            log.error("%s %s", error, error.hint)  # the rings wait for it
        self._place = _place_of(data_dir)
        self._announce_again = False
        self._lock = _locked(run_dir / "record.lock")
        self.identity_fault: str | None = None
        self.identity = self._identity(data_dir / "identity" / "key")
        self.boot_id = boot_id()
        self.journal = self._open_journal(data_dir / "journal")
        self.announcer = Announcer(run_dir)
        self.arena = Arena()
        writers = {}
        for stream in settings.streams:
            camera, _, kind = stream.name.partition("/")
            writers[stream.name] = Writer(
                RingSettings(
                    stream=stream.name,
                    path=data_dir / "rings" / camera / kind,
                    ring_bytes=stream.ring_bytes,
                    hold_bytes=stream.hold_bytes,
                    keep_days=stream.keep_days,
                    evidence=stream.evidence,
                    fragment_s=fragment_s_for(settings.loss_bound_s),
                ),
                box_id=self.identity.box_id,
                boot_id=self.boot_id,
            )
        self.streams = [
            Stream(stream, partial(source_of, stream, self.arena, joins=True), writers[stream.name], self.journal)
            for stream in settings.streams
        ]
        self._hurried = [stream for stream in self.streams if stream.is_hurried]
        self._durable: deque[tuple[str, int]] = deque()  # filled by the syncer's thread, emptied by ours
        self.syncer = Syncer(
            list(writers.values()),
            clock=self.clock,
            loss_bound_s=settings.loss_bound_s,
            identity=self.identity,
            holds_path=data_dir / "holds.json",
            on_durable=lambda stream, sequence: self._durable.append((stream, sequence)),
            on_lost=self._lost,
            before_opening=self._check_disk,
        )
        self._turns = 0
        self._offered: ClockReading | None = None  # by the hub, as the journal has it
        self._is_stopping = False
        self._has_stopped = threading.Event()
        self._late_ns = 0
        self._told_late_ns = -TELL_LATE_NS
        self._waited: dict[Cause, tuple[int, str]] = {}  # what recording waited for, when last, and how long
        self._held_up_by: Cause | None = None  # and the streams' journal says so
        self._queue = QueueTime()
        self._lost_fragments = 0

    def _identity(self, path: Path) -> Identity:
        """Footage comes first: with a key that cannot be read it is recorded all the same, signed by one that nobody knows."""
        try:
            return Identity.load_or_create(path)
        except IdentityFailed as error:
            log.error("%s %s Until then footage is recorded under a key of this process alone.", error, error.hint)
            self.identity_fault = str(error)
            return Identity.create()

    def _open_journal(self, path: Path) -> Journal | None:
        """Footage comes first: without a journal gaps have no cause, but there is footage."""
        try:
            journal = Journal.open(path, self.boot_id, self.clock.read())
        except JournalFailed as error:
            log.error("%s %s", error, error.hint)
            return None
        journal.note(Kind.STARTED, self.clock.read())
        return journal

    def _check_disk(self) -> None:
        """Raises DiskFailed unless DATA/rings is on the disk that it was on before."""
        self._disk_mark = check_same_disk(self._data_dir, self._disk_mark)

    def _return_to_disk(self) -> None:
        """Where all of DATA went away with its disk and is back now, take its files again: lock, journal, socket.

        The rings see to themselves (keeper.py). What was noted meanwhile is in memory, and goes into the journal now.
        """
        place = _place_of(self._data_dir)
        if place is None or place == self._place:
            return
        try:
            self._check_disk()
            lock = _locked(self._data_dir / "run" / "record.lock")
            if self.journal is not None:
                self.journal.go_on_in(JournalFile(self._data_dir / "journal", JOURNAL_BYTES))
        except (NvrError, OSError) as error:
            log.warning("the data directory is not as it was: %s", error)
            return
        self._lock.close()
        self._lock, self._place, self._announce_again = lock, place, True
        log.info("the disk of %s is back", self._data_dir)

    def _lost(self, stream: str, first: int, last: int) -> None:
        """The disk failed to keep what it had taken (syncer's thread): fragments `first` to `last` are not there."""
        self._lost_fragments += last - first + 1
        log.warning("%s: fragments %d to %d were written and are lost, the disk did not keep them", stream, first, last,
                    extra={"stream": stream})  # fmt: skip
        if self.journal is not None:
            self.journal.note(
                Kind.DISK, self.clock.read(), f"lost fragments {first} to {last}", stream, Cause.DISK_FAILED
            )

    def _keep_journal(self) -> None:
        """A thread of its own, because it waits for the disk: causes and signs of life become durable."""
        assert self.journal is not None
        while not self._has_stopped.wait(self.syncer.interval_s()):
            self._return_to_disk()
            self._note_offered_time()
            self.journal.sync(self.clock.read())

    def _note_offered_time(self) -> None:
        """The hub's time, which `uplink` leaves for us: a box whose own clock nobody sets learns from it."""
        assert self.journal is not None
        offered = offered_reading(self._data_dir / "run", self.boot_id, self.clock.read())
        if offered is not None and offered != self._offered:
            self._offered = offered
            self.journal.note(Kind.CLOCK, offered, "the hub")

    def stop(self) -> None:
        """Leave the loop soon; may be called from a signal handler."""
        self._is_stopping = True

    def run(self) -> None:
        """Record until stop(), or, with `once`, until every source has ended. Everything is durable on return."""
        for name, recovered in self.syncer.open().items():
            log.info("%s: %s", name, recovered, extra={"stream": name})
        self.syncer.start()
        journal_thread = threading.Thread(target=self._keep_journal, name="journal", daemon=True)
        if self.journal is not None:
            journal_thread.start()
        gc.collect()
        gc.freeze()  # what is there now stays for ever
        next_ns = self.clock.mono_ns()
        status_ns = next_ns
        try:
            while not self._is_stopping:
                self.turn()
                now_ns = self.clock.mono_ns()
                if now_ns >= status_ns:
                    status_ns = max(status_ns + STATUS_EVERY_NS, now_ns)
                    self._look_whether_held_up(now_ns)
                    self._queue.mark()
                    if self._announce_again:
                        self._listen_again()
                    self.announcer.welcome()
                    if self.announcer.has_listeners:
                        self.announcer.status(self.status())
                self.announcer.flush()
                if self.settings.once and all(stream.has_ended for stream in self.streams):
                    return
                if self._hurried and any(not stream.has_ended for stream in self._hurried):
                    next_ns = now_ns
                    continue
                next_ns += TURN_NS * self._rest()
                if next_ns < now_ns:
                    self._note_late(now_ns - next_ns, now_ns)
                    next_ns = now_ns
                self.clock.sleep_until(next_ns)
        finally:
            self._has_stopped.set()
            if self.journal is not None:
                journal_thread.join()
            self._shut_down()

    def _rest(self) -> int:
        """How many turns there are until one has something to do; those between are left out."""
        due = min((stream.next_turn for stream in self.streams if not stream.has_ended), default=0)
        turns = max(due - self._turns, 1)
        self._turns += turns - 1
        return turns

    def _listen_again(self) -> None:
        self._announce_again = False
        try:
            self.announcer.listen_again(self._data_dir / "run")
        except OSError as error:
            log.warning("nobody new can hear announcements: %s", error)

    def _note_late(self, late_ns: int, now_ns: int) -> None:
        """A turn took too long: writes that waited for the disk, or other programs. Nobody else can tell afterwards."""
        self._late_ns = max(self._late_ns, late_ns)
        if late_ns < LATE_NS:
            return
        write_ns = max((stream.writer.longest_write_ns for stream in self.streams), default=0)
        queued_ns = self._queue.lately_ns()
        cause = held_up_by(late_ns, queued_ns, write_ns)
        text = f"recording waited {late_ns / 1e9:.1f} s; " + (
            f"the longest write so far took {write_ns / 1e9:.1f} s"
            if cause is Cause.DISK_SLOW
            else f"{queued_ns / 1e9:.1f} s of them for the processor"
        )
        self._waited[cause] = (now_ns, text)
        if self._held_up_by is not cause:
            self._held_up_by = cause
            reading = self.clock.read()
            for stream in self.streams:
                stream.held_up(reading, late_ns, cause, text)
        if now_ns - self._told_late_ns < TELL_LATE_NS:
            return
        self._told_late_ns = now_ns
        log.warning("%s: cameras leave out pictures when they wait so long", text)
        if self.journal is not None:
            self.journal.note(Kind.DISK, self.clock.read(), text, "", cause)

    def _look_whether_held_up(self, now_ns: int) -> None:
        """What is missing from now on is not because of the box any more, once it held up nothing for a while."""
        if self._held_up_by is not None and now_ns - self._waited[self._held_up_by][0] > CAUGHT_UP_NS:
            self._held_up_by = None
            reading = self.clock.read()
            for stream in self.streams:
                stream.caught_up(reading)

    def _slow_disk(self, now_ns: int) -> str:
        """Whether the disk keeps up, in words; "" when it does. A write that held up recording is told for a minute."""
        return self.syncer.slow_text() or self._lately(Cause.DISK_SLOW, now_ns)

    def _lately(self, cause: Cause, now_ns: int) -> str:
        """How recording waited for it in the last minute, in words; "" when it did not."""
        at_ns, text = self._waited.get(cause, (-TELL_LATE_NS, ""))
        return text if now_ns - at_ns < TELL_LATE_NS else ""

    def turn(self) -> None:
        """Drain every stream once. A fault of one stream stays with it."""
        reading = self.clock.read()
        self._turns += 1
        for stream in self.streams:
            if stream.has_ended or stream.may_rest(self._turns):
                continue
            try:
                written = stream.drain(reading)
            except Exception as error:
                log.exception("%s: starting its source again", stream.name, extra={"stream": stream.name})
                written = stream.give_up(reading, f"{type(error).__name__}: {error}")
            for each in written:
                self.announcer.fragment(each.position, each.record)
            # A write may have waited for the disk. What the next camera sent meanwhile arrived now, and not before that: else the
            # turn after this one finds its socket empty and calls it silent.
            if self.clock.mono_ns() - reading.mono_ns > STALE_NS:
                reading = self.clock.read()
        while self._durable:
            self.announcer.durable(*self._durable.popleft())

    def status(self) -> dict[str, Any]:
        reading = self.clock.read()
        late_ns, self._late_ns = self._late_ns, 0
        return {
            "streams": {stream.name: stream.status(reading.mono_ns) for stream in self.streams},
            "clock": {"state": reading.state.name.lower(), "error_ms": reading.error_ns // 1_000_000,
                      "wall_ms": reading.wall_ns // 1_000_000, "mono_ns": reading.mono_ns},
            "boot_id": self.boot_id.hex(),
            "box_id": self.identity.box_id.hex(),
            "sync": self.syncer.facts(),
            "disk_slow": self._slow_disk(reading.mono_ns),
            "box_busy": self._lately(Cause.BOX_BUSY, reading.mono_ns),
            "lost_fragments": self._lost_fragments,
            "identity_fault": self.identity_fault,
            "journal_fault": self.journal.fault if self.journal is not None else "not open",
            "late_ms": late_ns // 1_000_000,
        }  # fmt: skip

    def _shut_down(self) -> None:
        reading = self.clock.read()
        for stream in self.streams:
            try:
                if stream.source is not None:
                    stream.source.close()
            except Exception:
                log.exception("%s: the source could not be closed", stream.name, extra={"stream": stream.name})
            try:
                for each in stream.writer.close(reading):
                    self.announcer.fragment(each.position, each.record)
            except Exception:  # the other streams' open fragments are worth closing all the same
                log.exception("%s: its open fragment is given up", stream.name, extra={"stream": stream.name})
        self.syncer.stop()
        while self._durable:
            self.announcer.durable(*self._durable.popleft())
        self.announcer.flush()
        if self.journal is not None:
            self.journal.close(self.clock.read())
        self.announcer.close()
        self._lock.close()


def _place_of(path: Path) -> tuple[int, int] | None:
    """Which directory that is, on which file system; None while it is away."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _locked(path: Path) -> TextIO:
    """Two recorders must never write into the same rings. Waits a little for one that is just ending."""
    lock = open(path, "a+")
    for _ in range(100):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError:
            time.sleep(0.1)
    raise NvrError(
        f"another recorder writes into {path.parent.parent}", hint="Stop it, or use another --data directory."
    )


def main() -> int:
    systemd.set_up_logging("record")
    systemd.end_with_parent()
    try:
        recorder = Recorder(Settings.from_json(sys.stdin.read()))
    except (NvrError, OSError) as error:
        log.error("%s %s", error, getattr(error, "hint", "Look whether the data directory can be written."))
        return 1

    def stop(number: int, frame: FrameType | None) -> None:
        recorder.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    recorder.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
