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
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from nvr import systemd
from nvr.announce import Announcer
from nvr.arena import Arena
from nvr.clock import MAX_DRIFT_PPM, Clock, SystemClock, boot_id
from nvr.errors import NvrError
from nvr.evidence import Identity, IdentityFailed
from nvr.journal import SIZE_BYTES as JOURNAL_BYTES
from nvr.journal import Journal, JournalFailed, JournalFile, Kind
from nvr.media import AccessUnit, Cause, ClockReading, ClockState, RunEnded, RunStarted
from nvr.ring.disk import DiskFailed, check_same_disk
from nvr.ring.layout import RingSettings, fragment_s_for
from nvr.ring.syncer import Syncer
from nvr.ring.writer import Writer, Written
from nvr.source import TURN_NS, Source

log = logging.getLogger(__name__)

NS_PER_S = 1_000_000_000
STATUS_EVERY_NS = NS_PER_S
# Turns that come so late are told: cameras keep a second or two for us, and then leave out pictures.
LATE_NS, TELL_LATE_NS = 2 * NS_PER_S, 60 * NS_PER_S


@dataclass(frozen=True, slots=True)
class RecordedStream:
    """One stream that is recorded."""

    name: str  # "camera/main"
    source: dict[str, Any]  # kind: rtsp, replay, usb or picamera; the rest is for its constructor
    ring_bytes: int
    keep_days: float | None = None
    hold_bytes: int = 0
    evidence: bool = True


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


def source_of(settings: RecordedStream, arena: Arena) -> Source:
    """The source that a stream's settings name. Raises NvrError for settings it does not take."""
    options = {key: value for key, value in settings.source.items() if key != "kind"}
    kind = settings.source["kind"]
    if kind == "rtsp":
        from nvr.source.rtsp import Rtsp

        return Rtsp(arena=arena, label=settings.name, **options)
    if kind == "replay":
        from nvr.source.replay import Replay

        return Replay(options.pop("file"), **options)
    if kind == "usb":
        from nvr.source.usb import Usb

        return Usb(arena=arena, label=settings.name, **options)
    if kind == "picamera":
        from nvr.source.picamera import PiCamera

        return PiCamera(arena=arena, label=settings.name, **options)
    raise NvrError(f"{settings.name}: no source is called {kind!r}", hint="rtsp, replay, usb and picamera are there.")


class Rate:
    """How much came in lately, for people who look at a page: the last five to ten seconds."""

    def __init__(self) -> None:
        self._marks: list[tuple[int, int, int]] = []

    def per_s(self, now_ns: int, pictures: int, payload_bytes: int) -> tuple[float, float]:
        """(pictures, bits) per second; call once a second."""
        self._marks = [*self._marks[-9:], (now_ns, pictures, payload_bytes)]
        first = self._marks[0]
        seconds = (now_ns - first[0]) / NS_PER_S
        if seconds <= 0:
            return 0.0, 0.0
        return (pictures - first[1]) / seconds, (payload_bytes - first[2]) * 8 / seconds


class Stream:
    """One camera stream on its way from source to ring, and what is told about it."""

    def __init__(
        self, settings: RecordedStream, make_source: Callable[[], Source], writer: Writer, journal: Journal | None,
        *, first_turn: int = 0,
    ) -> None:  # fmt: skip
        """`first_turn`: how many turns it waits at first, so that not all streams are drained in the same one."""
        self.name = settings.name
        self.writer = writer
        self.source: Source | None = None
        # A file without a pace of its own is asked again at once, not at the next tick.
        self.is_hurried = settings.source.get("kind") == "replay" and settings.source.get("speed", 1.0) is None
        self.has_ended = False
        self._rest_turns = first_turn
        self._make_source = make_source
        self._retry_ns = 0
        self._journal = journal
        self._has_recorded = False
        self._run_detail = ""
        self._source_trouble: tuple[Cause, str] | None = (Cause.CAMERA, "waiting for the first picture")
        self._told: tuple[Cause | None, str] | None = None
        self._last_fault: dict[str, Any] | None = None
        self._since = ClockReading(0, 0, ClockState.UNKNOWN, 0)
        self._pictures = self._payload_bytes = self._lost_packets = self._runs = 0
        self._last_picture_ns = 0
        self._size = (0, 0)
        self._rate = Rate()

    def may_rest(self) -> bool:
        """Whether this turn may be left out, because what comes meanwhile is kept."""
        self._rest_turns -= 1
        return self._rest_turns >= 0

    def drain(self, reading: ClockReading) -> list[Written]:
        """One turn: take what the source has, give it to the ring, note what changed."""
        if self.source is None:
            if reading.mono_ns < self._retry_ns:
                return []
            self.source = self._make_source()
        written: list[Written] = []
        units: list[AccessUnit] = []
        events = self.source.drain(reading.mono_ns)
        self._rest_turns = 0 if self.is_hurried else self.source.may_wait()
        for event in events:
            if type(event) is AccessUnit:
                units.append(event)
                continue
            if units:
                written += self._push(units, reading)
                units = []
            if isinstance(event, RunStarted):
                written += self.writer.start_run(event, reading)
                self._size, self._run_detail = (event.width, event.height), event.detail
                self._runs += 1
                self._source_trouble = None
            elif isinstance(event, RunEnded):
                written += self.writer.end_run(reading)
                self.has_ended = event.is_final
                self._source_trouble = (event.cause, event.detail)
        if units:
            written += self._push(units, reading)
        self._note(reading)
        return written

    def _push(self, units: list[AccessUnit], reading: ClockReading) -> list[Written]:
        self._pictures += len(units)
        for unit in units:  # before the writer takes the payloads over
            self._payload_bytes += unit.payload.size_bytes
            self._lost_packets += unit.lost_packets
        self._last_picture_ns = units[-1].arrival_ns
        return self.writer.push_all(units, reading)

    def give_up(self, reading: ClockReading, detail: str) -> list[Written]:
        """The source failed in a way it should not have: let go of it, and make a new one a little later."""
        source, self.source = self.source, None
        self._retry_ns = reading.mono_ns + 10 * NS_PER_S
        self._source_trouble = (Cause.CAMERA, detail)
        if source is not None:
            try:
                source.close()
            except Exception:
                log.exception("%s: the source could not be closed", self.name, extra={"stream": self.name})
        written: list[Written] = []
        try:
            written = self.writer.end_run(reading)
        except Exception:
            log.exception("%s: its open fragment is given up", self.name, extra={"stream": self.name})
            self.writer.abandon_run()
        self._note(reading)
        return written

    def _note(self, reading: ClockReading) -> None:
        """Tell log and journal when the stream begins or ceases to be recorded, or the reason changes."""
        trouble = self.writer.trouble
        if self._source_trouble is not None:
            now: tuple[Cause | None, str] = self._source_trouble
        elif trouble is not None:
            now = (trouble.cause, trouble.detail)
        else:
            now = (None, self._run_detail)
        if now == self._told:
            return
        cause_changed = self._told is None or now[0] is not self._told[0]
        if now[0] is not None and self._told is not None and self._told[0] is None:
            # It takes seconds to notice that a camera fell silent, and it is missing from its last picture on.
            ceased_ns = self._last_picture_ns if self._source_trouble is not None or trouble is None else trouble.since_ns
            reading = _earlier(reading, ceased_ns)
        self._told = now
        if cause_changed:
            self._since = reading
        if self._journal is not None:
            self._journal.note_stream(self.name, reading, now[0], now[1] if now[0] is not None else "")
        if now[0] is not None and self._has_recorded:
            self._last_fault = {"cause": now[0].value, "detail": now[1], "since_ms": reading.wall_ns // 1_000_000}
        if now[0] is None:
            self._has_recorded = True
            log.info("%s: recording, %dx%d, %s", self.name, *self._size, now[1], extra={"stream": self.name})
        elif now[0] in _DISK_CAUSES:
            log.warning("%s: not recording, %s: %s", self.name, now[0].value, now[1], extra={"stream": self.name})
        else:
            log.info("%s: not recording, %s: %s", self.name, now[0].value, now[1], extra={"stream": self.name})

    def status(self, now_ns: int) -> dict[str, Any]:
        """What people and other processes are told; called once a second, because rates are counted by it."""
        cause, detail = self._told or (Cause.CAMERA, "starting")
        pictures_per_s, bits_per_s = self._rate.per_s(now_ns, self._pictures, self._payload_bytes)
        last_s = (now_ns - self._last_picture_ns) / NS_PER_S if self._last_picture_ns else None
        return {
            "recording": cause is None,
            "cause": cause.value if cause is not None else None,
            "detail": detail,
            "since_ms": self._since.wall_ns // 1_000_000,
            "since_mono_ns": self._since.mono_ns,
            "last_picture_s": round(last_s, 1) if last_s is not None else None,
            "pictures": self._pictures,
            "pictures_per_s": round(pictures_per_s, 1),
            "bits_per_s": round(bits_per_s),
            "lost_packets": self._lost_packets,
            "last_fault": self._last_fault,  # since this process began, and not of its beginning
            "runs": self._runs,
            "width": self._size[0],
            "height": self._size[1],
            "source": self.source.facts() if self.source is not None else {},
            "ring": self.writer.facts(),
        }


def _earlier(reading: ClockReading, mono_ns: int) -> ClockReading:
    """What the clocks said at `mono_ns`, by what they say now; never later than that."""
    ago_ns = max(reading.mono_ns - mono_ns, 0)
    error_ns = reading.error_ns + ago_ns * MAX_DRIFT_PPM // 1_000_000
    return ClockReading(reading.mono_ns - ago_ns, reading.wall_ns - ago_ns, reading.state, error_ns)


_DISK_CAUSES = (Cause.DISK_SLOW, Cause.DISK_FULL, Cause.DISK_FAILED, Cause.HELD_BACK)


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
            Stream(
                stream,
                partial(source_of, stream, self.arena),
                writers[stream.name],
                self.journal,
                first_turn=number % 2,
            )
            for number, stream in enumerate(settings.streams)
        ]
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
        self._is_stopping = False
        self._has_stopped = threading.Event()
        self._late_ns = 0
        self._told_late_ns = -TELL_LATE_NS
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
            self.journal.sync(self.clock.read())

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
                    if self._announce_again:
                        self._listen_again()
                    self.announcer.welcome()
                    self.announcer.status(self.status())
                self.announcer.flush()
                if self.settings.once and all(stream.has_ended for stream in self.streams):
                    return
                if any(stream.is_hurried and not stream.has_ended for stream in self.streams):
                    next_ns = now_ns
                    continue
                next_ns += TURN_NS
                if next_ns < now_ns:
                    self._note_late(now_ns - next_ns, now_ns)
                    next_ns = now_ns
                self.clock.sleep_until(next_ns)
        finally:
            self._has_stopped.set()
            if self.journal is not None:
                journal_thread.join()
            self._shut_down()

    def _listen_again(self) -> None:
        self._announce_again = False
        try:
            self.announcer.listen_again(self._data_dir / "run")
        except OSError as error:
            log.warning("nobody new can hear announcements: %s", error)

    def _note_late(self, late_ns: int, now_ns: int) -> None:
        """A turn took too long: writes that waited for the disk, or other programs. Nobody else can tell afterwards."""
        self._late_ns = max(self._late_ns, late_ns)
        if late_ns < LATE_NS or now_ns - self._told_late_ns < TELL_LATE_NS:
            return
        self._told_late_ns = now_ns
        write_ns = max((stream.writer.longest_write_ns for stream in self.streams), default=0)
        text = f"recording waited {late_ns / 1e9:.1f} s; the longest write so far took {write_ns / 1e9:.1f} s"
        log.warning("%s: cameras leave out pictures when they wait so long", text)
        if self.journal is not None:
            self.journal.note(Kind.DISK, self.clock.read(), text, "", Cause.DISK_SLOW if write_ns > late_ns // 8 else None)

    def turn(self) -> None:
        """Drain every stream once. A fault of one stream stays with it."""
        reading = self.clock.read()
        for stream in self.streams:
            if stream.has_ended or stream.may_rest():
                continue
            try:
                written = stream.drain(reading)
            except Exception as error:
                log.exception("%s: starting its source again", stream.name, extra={"stream": stream.name})
                written = stream.give_up(reading, f"{type(error).__name__}: {error}")
            for each in written:
                self.announcer.fragment(each.position, each.record)
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
    lock = open(path, "a+")  # noqa: SIM115 - held until the process ends
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
