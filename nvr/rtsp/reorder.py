"""Datagrams in the order of their sequence numbers: UDP may deliver them in another one.

A packet that is early waits for those before it, for a short time and in a small number; then what is missing is given
up, and the walker counts it as lost. Nothing is copied: what waits are places in the arena.
"""

from __future__ import annotations

HELD_LIMIT = 64  # packets; 1080p at 8 Mbit/s sends 80 in 100 ms
WAIT_NS = 250_000_000  # longer than two drains, shorter than anybody notices
_BEHIND_LIMIT = 100  # RFC 3550, A.1: MAX_MISORDER
_AHEAD_LIMIT = 3000  # MAX_DROPOUT

Place = tuple[bytearray, int, int, int]  # buffer, start, end, arrival_ns


class ReorderWindow:
    def __init__(self) -> None:
        self._next = -1
        self._held: dict[int, Place] = {}
        self.reordered = 0

    @property
    def due(self) -> int:
        """The number of the packet that goes on at once when it comes, because nothing waits; -1 for none."""
        return -1 if self._held else self._next

    def took(self, packets: int) -> None:
        """So many packets came in order, the first of them with the number that was `due`."""
        self._next = self._next + packets & 0xFFFF

    def push(self, seq: int, place: Place) -> list[Place]:
        """One packet in; all that are in order now out."""
        if self._next < 0:
            self._next = seq
        ahead = seq - self._next & 0xFFFF
        if ahead == 0:
            self._next = seq + 1 & 0xFFFF
            return [place, *self._follow()] if self._held else [place]
        if ahead >= 0x10000 - _BEHIND_LIMIT or seq in self._held:
            return [place]  # late or twice: the walker counts it
        if ahead > _AHEAD_LIMIT:  # the sender's numbers jumped: whether to believe it is the walker's to decide
            out = [*self._give_up(), place]
            self._next = seq + 1 & 0xFFFF
            return out
        self.reordered += 1
        self._held[seq] = place
        return self._skip() if len(self._held) > HELD_LIMIT else []

    def expire(self, now_ns: int) -> list[Place]:
        """What has waited long enough."""
        if self._held and now_ns - min(place[3] for place in self._held.values()) > WAIT_NS:
            return self._give_up()
        return []

    def _follow(self) -> list[Place]:
        out = []
        while (place := self._held.pop(self._next, None)) is not None:
            out.append(place)
            self._next = self._next + 1 & 0xFFFF
        return out

    def _skip(self) -> list[Place]:
        """Give up what is missing before the first packet that waits."""
        self._next = min(self._held, key=lambda seq: seq - self._next & 0xFFFF)
        return self._follow()

    def _give_up(self) -> list[Place]:
        out = []
        while self._held:
            out += self._skip()
        return out
