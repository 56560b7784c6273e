"""Writes one image to many cards at once from one unpacking, and reads every card back. The order on each card:

    1. zeros over the first MB and the last 64 kB     from now on it looks empty, whatever happens
    2. marks behind the image                         (marks.py) does it hold what it claims?
    3. the image, without its first MB                with what this card has for itself laid over it
    4. all of it read back, past the cache            the checksum of each piece against what was sent
    5. the marks read back
    6. the first MB, and read back                    only now it is a disk with partitions

One thread unpacks into a pool of buffers; each card has a thread that writes from them. The slowest card sets the pace, a card
that takes nothing for `stall_s` is left behind. Nothing here prints or asks; `on_change` is told when something changed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import signal
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import crc32c

from nvr.errors import NvrError
from tools.nvrctl import image_file, marks
from tools.nvrctl.device import Disk, buffer
from tools.nvrctl.image_file import ImageFaulty, ImageFile
from tools.nvrctl.image_pieces import RangeChecks, fill, whereabouts
from tools.nvrctl.marks import BLOCK, Answer
from tools.nvrctl.partitions import HEAD_BYTES, partitions
from tools.nvrctl.plan import PIECE_BYTES, Patch, Piece, is_head, lay_over, pieces, touching, whole_parts

BUFFERS = 8  # 32 MB: what a slow card may be behind
TAIL_BYTES = 64 << 10  # an old partition table's copy stands in the last 33 sectors
SAMPLES_MOST = 200
STOP_S = 30.0
STALL_S = 120.0  # a card that cleans up inside may take half a minute for one write

GOOD, LIES, DROPS, GONE, STALLED, STOPPED, FAILED = (
    "good",
    "lies about its size",
    "drops writes",
    "gone",
    "stalled",
    "stopped",
    "failed",
)


@dataclass(slots=True)
class Progress:
    """How far one card is; read by whoever shows it, written by its own thread."""

    phase: str = "waiting"  # waiting, writing, reading back, done
    written_bytes: int = 0
    read_bytes: int = 0
    total_bytes: int = 0  # to be written; as much is read back


@dataclass(frozen=True, slots=True)
class Verdict:
    kind: str  # one of the words above
    detail: str = ""
    real_bytes: int | None = None  # for a card that lies
    write_s: float = 0.0
    read_s: float = 0.0
    read_past_cache: bool = True

    @property
    def is_good(self) -> bool:
        return self.kind == GOOD


@dataclass(slots=True)
class Card:
    """One card of a run."""

    disk: Disk
    patches: tuple[Patch, ...] = ()
    progress: Progress = field(default_factory=Progress)
    verdict: Verdict | None = None


@contextlib.contextmanager
def noted_signals(stop: threading.Event) -> Iterator[None]:
    """Ctrl-C and the like only set `stop`: an exception at a random place is no way to stop a disk from being written.

    To be entered, in the main thread, before the first card is opened.
    """
    before = {
        number: signal.signal(number, lambda *_: stop.set())
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Stopped(Exception):
    """Somebody pressed Ctrl-C, or the image turned out bad."""


class _Buffer:
    """One piece on its way; free again when every card has let go of it."""

    def __init__(self) -> None:
        self.view = buffer(PIECE_BYTES)
        self.users = 0


class Burn:
    """One run. Make it, call run() from the main thread; stop() from anywhere."""

    def __init__(
        self,
        image: ImageFile,
        cards: Sequence[Card],
        *,
        stall_s: float = STALL_S,
        on_change: Callable[[], None] | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        """`stop`: set by stop(), or by somebody else from before this was made."""
        self.image, self.cards = image, tuple(cards)
        parts = partitions(image_file.head(image))
        self.pieces = pieces(
            image.map, [patch for card in cards for patch in card.patches], whole_parts(image.map, parts)
        )
        self._stall_s = stall_s
        self._on_change = on_change or (lambda: None)
        self._stop = stop or threading.Event()
        self._source_error: NvrError | None = None
        self._is_source_good = threading.Event()
        self._head = memoryview(bytearray(sum(each.size_bytes for each in self.pieces if is_head(each))))
        self._digests: dict[int, int] = {}  # offset of a piece -> checksum of the image's bytes of it
        self._free: queue.SimpleQueue[_Buffer] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._queues: dict[int, queue.Queue[tuple[Piece, _Buffer] | None]] = {}
        for _ in range(BUFFERS):
            self._free.put(_Buffer())

    def stop(self) -> None:
        self._stop.set()

    def run(self, *, tick_s: float = 0.2) -> None:
        """Write all cards; afterwards each has its verdict and is closed. stop() stops them; raises nothing."""
        threads = []
        total_bytes = sum(piece.size_bytes for piece in self.pieces)
        for number, card in enumerate(self.cards):
            card.progress.total_bytes = total_bytes
            self._queues[number] = queue.Queue(maxsize=BUFFERS)
            threads.append(
                threading.Thread(
                    target=self._card_thread, args=(number, card), daemon=True, name=f"card {card.disk.name}"
                )
            )
        threads.append(threading.Thread(target=self._source_thread, daemon=True, name="image"))
        for thread in threads:
            thread.start()
        while any(card.verdict is None for card in self.cards) and not self._stop.wait(tick_s):
            self._tell()
        self._wait_for_threads(threads)
        self._tell()

    def _tell(self) -> None:
        try:
            self._on_change()
        except OSError:
            pass  # the terminal was closed; the cards go on

    def _wait_for_threads(self, threads: Sequence[threading.Thread]) -> None:
        """A write that is under way ends by itself; one that hangs in the kernel is not waited for."""
        self._stop.set()
        end = time.monotonic() + STOP_S
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        for card in self.cards:
            if card.verdict is None:
                card.verdict = Verdict(STALLED, "did not answer any more; its partition table was not written")

    # -- the image

    def _source_thread(self) -> None:
        try:
            self._send_image()
            self._is_source_good.set()
        except NvrError as error:
            self._source_error = error
            self._stop.set()
        except OSError as error:
            self._source_error = ImageFaulty(f"{self.image.path} cannot be read: {error.strerror}")
            self._stop.set()
        except _Stopped:
            pass
        finally:
            for number in self._queues:
                self._put(number, None)

    def _send_image(self) -> None:
        checks = RangeChecks(self.image)
        with image_file.opened(self.image) as stream:
            head_at = 0
            for piece in self.pieces:
                place = self._take_buffer()
                view = place.view[: piece.size_bytes]
                fill(stream, piece, view, checks)
                self._digests[piece.offset] = checksum(view)
                if is_head(piece):
                    self._head[head_at : head_at + piece.size_bytes] = view
                    head_at += piece.size_bytes
                    self._free.put(place)
                    continue
                targets = [number for number, card in enumerate(self.cards) if card.verdict is None]
                if not targets:
                    raise _Stopped
                place.users = len(targets)
                for number in targets:
                    self._put(number, (piece, place))
            stream.finish()

    def _take_buffer(self) -> _Buffer:
        """The next free one. A card that holds all of them for too long is left behind."""
        since = time.monotonic()
        while True:
            if self._stop.is_set():
                raise _Stopped
            try:
                return self._free.get(timeout=0.5)
            except queue.Empty:
                if time.monotonic() - since > self._stall_s:
                    self._leave_behind()
                    since = time.monotonic()

    def _leave_behind(self) -> None:
        """The cards that have written least do not answer; the others go on with new buffers."""
        waiting = [card for card in self.cards if card.verdict is None and card.progress.phase == "writing"]
        least = min((card.progress.written_bytes for card in waiting), default=0)
        for card in waiting:
            if card.progress.written_bytes == least:
                card.verdict = Verdict(
                    STALLED,
                    f"took nothing for {self._stall_s:.0f} s after {least / 1e6:.0f} MB; its partition table was not written",
                )
        for _ in range(BUFFERS):
            self._free.put(_Buffer())

    def _put(self, number: int, item: tuple[Piece, _Buffer] | None) -> None:
        card = self.cards[number]
        while True:
            try:
                self._queues[number].put(item, timeout=0.5)
                return
            except queue.Full:
                if card.verdict is not None or self._stop.is_set():
                    if item is not None:
                        self._let_go(item[1])
                    return

    def _let_go(self, place: _Buffer) -> None:
        with self._lock:
            place.users -= 1
            is_free = place.users == 0
        if is_free:
            self._free.put(place)

    # -- a card

    def _card_thread(self, number: int, card: Card) -> None:
        verdict = Verdict(FAILED, "this should not have happened")
        disk, was_written = card.disk, False
        try:
            verdict = self._written_and_read(number, card)
            was_written = verdict.is_good
        except _Stopped:
            error = self._source_error
            verdict = (
                Verdict(FAILED, str(error)) if error else Verdict(STOPPED, "stopped before the end; it looks empty")
            )
        except OSError as error:
            verdict = _verdict_of(error, card.progress)
        except Exception as error:  # whatever it is, this card is not good, and the others go on
            verdict = Verdict(FAILED, f"{type(error).__name__}: {error}")
        finally:
            if not was_written:
                verdict = self._leave_empty(disk, verdict)
            try:
                disk.close(whole=was_written)
            except OSError as error:
                if was_written:
                    verdict = _verdict_of(error, card.progress)
            if card.verdict is None:
                card.progress.phase = "done"
                card.verdict = verdict
            self._drain(number)

    def _drain(self, number: int) -> None:
        """Give back what still comes for a card that is done."""
        waiting = self._queues[number]
        while True:
            try:
                item = waiting.get(timeout=0.05)
            except queue.Empty:
                if not any(card.verdict is None for card in self.cards) or self._stop.is_set():
                    return
                continue
            if item is None:
                return
            self._let_go(item[1])

    def _leave_empty(self, disk: Disk, verdict: Verdict) -> Verdict:
        """The head of a card that is not good must not be there, whenever it was stopped."""
        if verdict.kind in (GONE, STALLED) or disk.is_file:
            return verdict
        try:
            self._wipe(disk)
        except OSError:
            pass  # it was wiped at the start as well; a disk that fails now keeps that
        return verdict

    def _wipe(self, disk: Disk) -> None:
        zeros = buffer(min(HEAD_BYTES, disk.size_bytes // BLOCK * BLOCK))
        disk.write(0, zeros)
        tail = disk.size_bytes // BLOCK * BLOCK - TAIL_BYTES
        if tail > 0:
            disk.write(tail, zeros[:TAIL_BYTES])
        disk.sync()

    def _written_and_read(self, number: int, card: Card) -> Verdict:
        disk, progress = card.disk, card.progress
        started_s = time.monotonic()
        progress.phase = "writing"
        nonce = os.urandom(12)
        places: tuple[int, ...] = ()
        if not disk.is_file:
            self._wipe(disk)
            places = marks.places(disk.size_bytes, self.image.size_bytes)
            self._write_marks(disk, places, nonce)
        expected = self._write_pieces(number, card)
        disk.sync()
        self._check_stop()
        written_s = time.monotonic()
        progress.phase = "reading back"
        samples: dict[int, bytes] = {}
        answers = [*self._read_pieces(card, expected, samples), *self._read_marks(disk, places, nonce)]
        found = marks.finding(answers, disk.size_bytes)
        if found.kind == DROPS and samples:
            # Something of ours in the wrong place would show that the card wraps around.
            wrapped = whereabouts(self.image, self.pieces, samples)
            answers += [Answer(offset, BLOCK, False, False, came_from) for offset, came_from in wrapped.items()]
            found = marks.finding(answers, disk.size_bytes)
        if found.kind != GOOD:
            return Verdict(
                found.kind, found.detail, found.real_bytes, written_s - started_s, time.monotonic() - written_s
            )
        self._wait_for_the_source()
        if places:
            disk.write(places[-1], buffer(BLOCK))  # where a partition table's copy may go
        wrong = self._write_head(card)
        if wrong:
            return Verdict(DROPS, wrong, None, written_s - started_s, time.monotonic() - written_s)
        return Verdict(
            GOOD, "", None, written_s - started_s, time.monotonic() - written_s, getattr(disk, "is_direct", True)
        )

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise _Stopped

    def _wait_for_the_source(self) -> None:
        """No card becomes whole before the image as a whole was found good."""
        while not self._is_source_good.wait(0.2):
            self._check_stop()

    def _write_marks(self, disk: Disk, places: Sequence[int], nonce: bytes) -> None:
        block = buffer(BLOCK)
        for place in places:
            self._check_stop()
            block[:] = marks.mark(nonce, place)
            disk.write(place, block)
        if places:
            disk.sync()

    def _write_pieces(self, number: int, card: Card) -> dict[int, int]:
        """Write what comes; the checksum that each piece must have on this card, by its offset."""
        expected: dict[int, int] = {}
        own = buffer(PIECE_BYTES)
        while (item := self._next(number, card)) is not None:
            piece, place = item
            try:
                view = place.view[: piece.size_bytes]
                digest = self._digests[piece.offset]
                if touching(card.patches, piece):
                    own[: piece.size_bytes] = view
                    view = own[: piece.size_bytes]
                    lay_over(view, piece, card.patches)
                    digest = checksum(view)
                expected[piece.offset] = digest
                card.disk.write(piece.offset, view)
            finally:
                self._let_go(place)
            card.progress.written_bytes += piece.size_bytes
        return expected

    def _next(self, number: int, card: Card) -> tuple[Piece, _Buffer] | None:
        while True:
            self._check_stop()
            if card.verdict is not None:  # left behind
                raise _Stopped
            try:
                return self._queues[number].get(timeout=0.2)
            except queue.Empty:
                continue

    def _read_pieces(self, card: Card, expected: Mapping[int, int], samples: dict[int, bytes]) -> Iterator[Answer]:
        """What came back from each piece; of wrong ones a few blocks go into `samples`, by their offset."""
        for piece, part in self._read_ahead(card.disk, [piece for piece in self.pieces if not is_head(piece)]):
            is_right = checksum(part) == expected[piece.offset]
            if not is_right and len(samples) < SAMPLES_MOST:
                samples |= _samples(piece.offset, part)
            yield Answer(piece.offset, piece.size_bytes, is_right, False, None, not is_right and _is_blank(part))
            card.progress.read_bytes += piece.size_bytes

    def _read_ahead(self, disk: Disk, wanted: Sequence[Piece]) -> Iterator[tuple[Piece, memoryview]]:
        """The next piece is on its way while the last one is hashed: a card that waits for us is slower than `cmp`."""
        views = (buffer(PIECE_BYTES), buffer(PIECE_BYTES))

        def read(number: int) -> memoryview:
            piece = wanted[number]
            view = views[number % 2][: piece.size_bytes]
            disk.read_into(piece.offset, view)
            return view

        with ThreadPoolExecutor(1, "read") as reader:
            coming = reader.submit(read, 0) if wanted else None
            for number, piece in enumerate(wanted):
                self._check_stop()
                assert coming is not None
                view = coming.result()
                if number + 1 < len(wanted):
                    coming = reader.submit(read, number + 1)
                yield piece, view

    def _read_marks(self, disk: Disk, places: Sequence[int], nonce: bytes) -> Iterator[Answer]:
        block = buffer(BLOCK)
        for place in places:
            self._check_stop()
            disk.read_into(place, block)
            came_from = marks.offset_of(bytes(block), nonce)
            yield Answer(place, BLOCK, came_from == place, True, came_from, _is_blank(block))

    def _write_head(self, card: Card) -> str:
        """Write and read back the first MB; what is wrong with it, or ""."""
        disk, at = card.disk, 0
        for piece in self.pieces:
            if not is_head(piece):
                break
            view = buffer(piece.size_bytes)
            view[:] = self._head[at : at + piece.size_bytes]
            at += piece.size_bytes
            lay_over(view, piece, card.patches)
            self._check_stop()
            disk.write(piece.offset, view)
            disk.sync()
            back = buffer(piece.size_bytes)
            disk.read_into(piece.offset, back)
            if back != view:
                return "the partition table came back other than it was written"
            card.progress.written_bytes += piece.size_bytes
            card.progress.read_bytes += piece.size_bytes
        return ""


def checksum(view: memoryview) -> int:
    """64 bits over a piece: CRC-32C and CRC-32, each in the processor's own instructions.

    A card is no forger, and SHA-256 costs ten times as much for each card. The image itself was held to its SHA-256.
    """
    return crc32c.crc32c(view) << 32 | zlib.crc32(view)


def _samples(offset: int, part: memoryview) -> dict[int, bytes]:
    """Up to four blocks of a piece that are not blank, by where they came back."""
    found = {}
    for at in range(0, len(part) - BLOCK + 1, max(BLOCK, len(part) // 4 // BLOCK * BLOCK)):
        if not _is_blank(part[at : at + BLOCK]):
            found[offset + at] = bytes(part[at : at + BLOCK])
    return found


def _is_blank(view: memoryview) -> bool:
    first = view[0]
    return first in (0, 255) and bytes(view) == bytes([first]) * len(view)


def _verdict_of(error: OSError, progress: Progress) -> Verdict:
    at = f"after {progress.written_bytes / 1e6:.0f} MB written, {progress.read_bytes / 1e6:.0f} MB read back"
    if error.errno in (errno.ENODEV, errno.ENXIO, errno.ENOMEDIUM, errno.ENOENT):
        return Verdict(GONE, f"pulled out, or its reader was, {at}")
    if error.errno == errno.EIO:
        return Verdict(GONE, f"does not answer any more, {at}: pulled out, or broken")
    if error.errno == errno.ENOSPC:
        return Verdict(FAILED, f"no space left, {at}")
    return Verdict(FAILED, f"{error.strerror or error}, {at}")
