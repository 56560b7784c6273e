"""One pretend camera: a timeline of pictures that loops with rising time, its faults, and who watches.

All who watch get the same packets with the same numbers, as from a camera that encodes once. Somebody who
comes while others watch starts at the next keyframe; with `rewinds`, the first to come starts at the
first picture of the footage.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Protocol

from tools.camera import packets
from tools.camera.footage import Footage, Picture

TICKS_PER_S = 90_000
REPORT_EVERY_NS = 2_000_000_000  # sender reports; RFC 3550, 6.2 asks for 5 s, cameras do 1 to 10


class Watcher(Protocol):
    """A client that plays this camera."""

    waits_for_keyframe: bool

    def send_picture(self, data: bytearray, offsets: list[int] | tuple[int, ...]) -> bool:
        """False when the client does not take its data and the picture was left out."""

    def send_report(self, report: bytes) -> None: ...

    def send_raw(self, data: bytes) -> None: ...

    def close(self) -> None: ...

    def state(self) -> dict[str, object]: ...


@dataclass(slots=True)
class Faults:
    """What is wrong with this camera. Every field can be set over HTTP: `POST /NAME?field=value`."""

    silent: int = 0  # 1: connections stay, nothing is sent
    frozen: int = 0  # 1: the same keyframe again and again, with rising time
    drop: int = 0  # so many packets are still to be lost
    drop_every: int = 0  # every n-th packet is lost
    swap_every: int = 0  # every n-th packet changes places with the one before
    garbage: int = 0  # so many bytes of nonsense before the next picture (TCP only)
    refuse: int = 0  # this status (403, 404, 503 ...) is the answer to everything
    hang: int = 0  # 1: requests are read and never answered
    udp_lost: int = 0  # 1: what goes out by UDP arrives nowhere, as behind a firewall
    only: str = ""  # "udp" or "tcp": the other one is refused with 461
    early: int = 0  # 1: packets are sent before the answer to PLAY
    reports: int = 1  # 0: no sender reports
    inband: int = 1  # 0: parameter sets only in the SDP
    sprop: int = 1  # 0: parameter sets only in the stream
    clock_s: float = 0.0  # the camera's clock is ahead by so much
    footage: int = 0  # which of the files of this camera is shown; other parameter sets from the next keyframe on

    def set(self, name: str, value: str) -> None:
        """Raises ValueError for an unknown name or a value that is no number."""
        kinds = {each.name: each.type for each in fields(self)}
        if name not in kinds:
            raise ValueError(f"no switch {name!r}; there are: {', '.join(kinds)}")
        setattr(self, name, value if kinds[name] == "str" else float(value) if kinds[name] == "float" else int(value))


class PretendCamera:
    def __init__(
        self,
        name: str,
        footage: list[Footage],
        *,
        speed: float = 1.0,
        loops: bool = True,
        rewinds: bool = False,
        starts_at: float = 0.0,
    ) -> None:
        """`starts_at`: how much of the footage (0 to 1) is over at the start."""
        self.name = name
        self.faults = Faults()
        self.watchers: list[Watcher] = []
        self.pictures = self.packets = self.lost = self.skipped = 0
        self.on_picture: Callable[[str, int], None] = lambda name, watchers: (
            None
        )  # each picture, and to how many it went
        self._all = footage
        self._footage = footage[0]
        self._speed, self._loops, self._rewinds = speed, loops, rewinds
        chance = random.Random(name)  # the same for a name, so that tests can be repeated
        self.ssrc = chance.getrandbits(32)
        self.sequence = chance.getrandbits(16)
        self._rtp_base = chance.getrandbits(32)
        self._payload_bytes = 0
        self._next = int(starts_at * len(footage[0].pictures))  # which picture comes next
        self._offset_ticks = 0  # where this round of the footage starts on the timeline
        self._start_ns = time.monotonic_ns() - self._ns(self._footage.pictures[self._next].decode_ticks)
        self._report_due_ns = 0
        self._last_ticks = 0
        self._frozen: Picture | None = None
        self.has_ended = False

    @property
    def footage(self) -> Footage:
        """What is shown, and what the SDP says."""
        return self._all[self.faults.footage % len(self._all)]

    def start_for_first(self, now_ns: int) -> bool:
        """Begin at the first picture again; False when somebody watches already or it does not rewind."""
        if self.watchers or not (self._rewinds or self.has_ended):
            return False
        self._offset_ticks = self._last_ticks + TICKS_PER_S
        self._start_ns = now_ns - self._ns(self._offset_ticks)
        self._next, self.has_ended, self._report_due_ns = 0, False, 0
        self._footage = self.footage
        return True

    def rtp_ticks(self) -> int:
        """RTP time of the next picture, modulo 2**32."""
        picture = self._footage.pictures[self._next]
        return (self._rtp_base + self._offset_ticks + picture.decode_ticks + picture.composition_ticks) & 0xFFFFFFFF

    def due_ns(self) -> int:
        """When the next picture is to be sent, by time.monotonic_ns()."""
        return self._start_ns + self._ns(self._offset_ticks + self._footage.pictures[self._next].decode_ticks)

    def send_due(self, now_ns: int) -> None:
        """Send every picture whose time has come to everybody who watches."""
        while not self.has_ended and self.due_ns() <= now_ns:
            if self._rewinds and not self.watchers:
                self._start_ns = (
                    now_ns - self._ns(self._offset_ticks) + 1_000_000_000
                )  # nobody there: time stands still
                return
            self._send_next()
            self._step()

    def _ns(self, ticks: int) -> int:
        return int(ticks * 100_000 / 9 / self._speed)

    def _step(self) -> None:
        self._next += 1
        if self._next < len(self._footage.pictures):
            following = self._footage.pictures[self._next]
            if following.is_keyframe and self.footage is not self._footage:
                self._change_footage(self._offset_ticks + following.decode_ticks)
            return
        if not self._loops:
            self.has_ended = True
            for watcher in self.watchers:
                watcher.send_report(packets.goodbye(self.ssrc))
            return
        self._change_footage(self._offset_ticks + self._footage.duration_ticks)

    def _change_footage(self, offset_ticks: int) -> None:
        self._next, self._offset_ticks, self._footage = 0, offset_ticks, self.footage

    def _send_next(self) -> None:
        picture, faults = self._footage.pictures[self._next], self.faults
        ticks = self._offset_ticks + picture.decode_ticks + picture.composition_ticks
        self._last_ticks = self._offset_ticks + picture.decode_ticks
        self.pictures += 1
        shown = picture
        if faults.frozen:
            if self._frozen is None:
                self._frozen = next(
                    each for each in reversed(self._footage.pictures[: self._next + 1]) if each.is_keyframe
                )
            shown = self._frozen
        else:
            self._frozen = None
        template = shown.template(with_parameter_sets=bool(faults.inband))
        first = self.sequence
        self.sequence = (first + len(template.offsets)) & 0xFFFF
        self.packets += len(template.offsets)
        self._payload_bytes += template.payload_bytes
        if faults.silent or not self.watchers:
            self.on_picture(self.name, 0)
            return
        data = packets.filled(template, first, self._rtp_base + ticks, self.ssrc)
        offsets: list[int] | tuple[int, ...] = template.offsets
        if faults.drop or faults.drop_every or faults.swap_every:
            data, offsets = self._damaged(data, offsets, first)
        if faults.garbage:
            nonsense = random.Random(faults.garbage).randbytes(faults.garbage).replace(b"$", b"%")
            faults.garbage = 0
            for watcher in self.watchers:
                watcher.send_raw(nonsense)
        self._send_report(ticks)
        taken = 0
        for watcher in tuple(self.watchers):
            if watcher.waits_for_keyframe and not shown.is_keyframe:
                continue
            watcher.waits_for_keyframe = False
            if data and not watcher.send_picture(data, offsets):
                self.skipped += 1
            elif data:
                taken += 1
        self.on_picture(self.name, taken)

    def _send_report(self, ticks: int) -> None:
        """The camera's clock runs with its pictures, so that a fast or late sender tells no nonsense."""
        if not self.faults.reports or self._ns(ticks) < self._report_due_ns:
            return
        self._report_due_ns = self._ns(ticks) + int(REPORT_EVERY_NS / self._speed)
        wall_ns = (
            time.time_ns() - time.monotonic_ns() + self._start_ns + self._ns(ticks) + int(self.faults.clock_s * 1e9)
        )
        report = packets.sender_report(self.ssrc, wall_ns, self._rtp_base + ticks, self.packets, self._payload_bytes)
        for watcher in self.watchers:
            watcher.send_report(report)

    def _damaged(
        self, data: bytearray, offsets: tuple[int, ...] | list[int], first: int
    ) -> tuple[bytearray, list[int]]:
        faults = self.faults
        ends = (*offsets[1:], len(data))
        kept: list[memoryview] = []
        for number, (start, end) in enumerate(zip(offsets, ends, strict=True), first):
            packet = memoryview(data)[start:end]
            if faults.drop > 0 or (faults.drop_every and number % faults.drop_every == 0):
                faults.drop -= faults.drop > 0
                self.lost += 1
            elif faults.swap_every and number % faults.swap_every == 0 and kept:
                kept.insert(-1, packet)
            else:
                kept.append(packet)
        joined, starts = bytearray(), []
        for packet in kept:
            starts.append(len(joined))
            joined += packet
        return joined, starts

    def state(self) -> dict[str, object]:
        """For `GET /`: what was sent, so that a test can compare it with what was recorded."""
        return {
            "name": self.name, "pictures": self.pictures, "packets": self.packets, "lost": self.lost, "skipped": self.skipped,
            "late_ms": max(0, (time.monotonic_ns() - self.due_ns()) // 1_000_000) if self.watchers else 0,
            "faults": {each.name: getattr(self.faults, each.name) for each in fields(self.faults)},
            "watchers": [watcher.state() for watcher in self.watchers],
        }  # fmt: skip
