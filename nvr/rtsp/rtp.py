"""RTP packets to pictures, in the buffer they were received in: the hot path of the recorder.

Follows RFC 3550 (section 5) and RFC 6184 (H.264, packetization modes 0 and 1: single NAL units, STAP-A, FU-A). The
payload is never copied: a picture is a `Gather` of views, and the 4-byte length of each NAL unit (14496-15, 5.3.2) is
laid over bytes that are already spent:

    $ ch len | V..PT seq timestamp ssrc | NAL unit            single: over the SSRC
                                  ^^^^^
    $ ch len | V..PT seq timestamp ssrc ind fu | fragment     FU-A start: over SSRC and indicator,
                                    ^^^^^^^ ^^                the NAL header over the FU header
    ... ind size NAL size NAL                                 STAP-A: over what was spent before the unit;
        ^^^                                                   where that is too short, 4 bytes of their own

What is kept and what is dropped, decided in docs/decisions/0010-damaged-pictures.md:

* A picture with a packet missing is dropped as a whole and counted; later pictures are delivered, with the number of
  packets lost before them. A NAL unit with a hole in it is never delivered.
* Parameter sets (and filler) are taken out of the payload: they belong into the sample entry.
* A picture ends at the marker bit once eight pictures in a row have shown that this camera sets it on the last packet and
  nowhere else; before that, and for other cameras, where the time stamp changes.

`nvr/fast/` holds the same walker in C and must be changed with this one; tests/test_fast.py compares the two.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from struct import Struct

from nvr.gather import Gather, PyGather

SLACK_BYTES = 16  # the head is unpacked with one call, which may look so far behind the last packet
PICTURE_LIMIT_BYTES = 16 << 20  # a 4K keyframe at the highest quality has some 4 MB
PIECES_LIMIT = 65_536
SETS_LIMIT = 64
SET_LIMIT_BYTES = 4096
CONTROL_LIMIT = 256  # RTCP packets kept between two take_control()
JOIN_LIMIT = 32  # pictures: a mad camera may send thousands in a turn
TRUST_AFTER = 8  # pictures
LATE_LIMIT = 100  # RFC 3550, A.1: MAX_MISORDER; older than that is a jump of the sender
_ALIKE_LEAST, _ALIKE_MOST = 4, 64  # packets
GAP_LIMIT = 3000  # RFC 3550, A.1: MAX_DROPOUT

_HEAD = Struct(
    ">HHHHQH"
).unpack_from  # $ and channel, length, flags, sequence, time stamp and SSRC, first payload bytes
_RTP = Struct(">HHII").unpack_from  # flags, sequence, time stamp, SSRC
_SIZE = Struct(">H").unpack_from
_PUT = Struct(">I").pack_into

_NAL_IDR, _NAL_SPS, _NAL_PPS, _NAL_FILLER, _NAL_SPS_EXT, _NAL_SUBSET_SPS = 5, 7, 8, 12, 13, 15
_STAP_A, _STAP_B, _FU_A, _FU_B = 24, 25, 28, 29
_NOT_PAYLOAD = frozenset((_NAL_SPS, _NAL_PPS, _NAL_FILLER, _NAL_SPS_EXT, _NAL_SUBSET_SPS))

# One picture, complete: payload, RTP time stamp (32 bits), whether it is an IDR picture, packets lost since the picture
# before, parameter sets seen since then, arrival of its last packet (ns), whether the sender started anew before it.
Picture = tuple[Gather, int, bool, int, tuple[bytes, ...], int, bool]
# Pictures in a row of which nothing else is to be said: no IDR picture, nothing lost, no parameter sets, all complete at one
# time. Payload of all, RTP time stamps, bytes of each, arrival (ns).
Joined = tuple[Gather, list[int], list[int], int]


def _alike(buffer: bytearray, at: int, end: int, stride: int) -> int:
    """How many packets there are from `at` on, each `stride` bytes behind the other, that differ in nothing but their
    sequence number, which rises by one, and their payload; at least 1: the one at `at` is known to be whole.

    Most packets of a picture are so, and looking at all heads with one call costs two thirds of one call for each.
    """
    lead = buffer[at + 17 : at + (end - at) // stride * stride : stride]
    count = min(len(lead) - len(lead.lstrip(lead[:1])), _ALIKE_MOST)
    if count < _ALIKE_LEAST:
        return 1
    heads = _heads(stride, count)(buffer, at)
    first = heads[0]  # $, channel, length, flags and sequence number
    if first + count & 0xFFFF < count:  # the sequence number begins anew among them
        return 1
    if (
        heads[::3] == tuple(range(first, first + count))
        and heads[1::3].count(heads[1]) == count
        and heads[2::3].count(heads[2]) == count
    ):
        return count
    return 1


@lru_cache(maxsize=1024)
def _heads(stride: int, count: int) -> Callable[[bytearray, int], tuple[int, ...]]:
    between = f"QQH{stride - 18}x"
    return Struct(">" + between * (count - 1) + "QQH").unpack_from


class PyWalker:
    """Walks the packets of one stream. walk() and packet() take bytes, take() gives pictures."""

    def __init__(self, payload_type: int, channel: int = 0, control_channel: int = 1, joins: bool = False) -> None:
        """`channel` and `control_channel`: where RTP and RTCP of this stream come, interleaved; -1 for none.

        `joins`: take() gives Joined for all that can be; a turn then costs little more than one picture did.
        """
        if not 0 <= payload_type <= 127 or not -1 <= channel <= 255 or not -1 <= control_channel <= 255:
            raise ValueError(f"payload type {payload_type}, channels {channel} and {control_channel}")
        self._video = 0x2400 | channel if channel >= 0 else -1
        self._control = 0x2400 | control_channel if control_channel >= 0 else -1
        self._plain = 0x8000 | payload_type  # version 2, no padding, extension, CSRC or marker
        self._payload_type = payload_type
        self._joins = joins
        # counters, for facts and receiver reports
        self.packets = 0  # taken, in sequence
        self.lost = 0
        self.late = 0  # duplicates, and what came after it was counted as lost
        self.jumps = 0  # of the sequence number, too far to be loss
        self.restarts = 0  # another SSRC
        self.malformed = 0
        self.refused = 0  # aggregation and fragmentation with decoding order numbers: nobody sends them
        self.unended = 0  # fragmented NAL units without an end bit
        self.strays = 0  # slices behind the marker
        self.damaged = 0  # pictures dropped because something of them was missing
        self.other_payload = 0  # packets of another payload type
        self.other_packets = 0  # other channels: sound, metadata
        self.other_bytes = 0
        self.ssrc = -1
        self.base_seq = -1  # first sequence number since the last jump, and the counters then
        self.base_packets = 0
        self.base_lost = 0
        # sequence
        self._want = -1
        self._bad_seq = -1
        # the picture being put together
        self._views: list[memoryview] = []
        self._size = 0
        self._source = -1  # time stamp and SSRC in one number, as the fast path compares it
        self._ts = -1
        self._open = False
        self._has_slice = False
        self._is_idr = False
        self._is_damaged = False
        self._check_first = True  # the next slice must be the first of its picture
        self._arrival_ns = 0
        self._lost_before = 0
        self._restarted = False
        self._sets: list[bytes] = []
        # the fragmented NAL unit being put together
        self._middle = -1  # FU indicator and header of its middle packets; -1 when there is none
        self._start_buffer: bytearray | None = None
        self._start_at = 0
        self._nal_header = 0
        self._nal_piece = 0  # index of its first view
        self._nal_size = 0  # of the picture before it
        # does this camera mean its marker?
        self._trusts_marker = False
        self._may_trust = True
        self._clean = 0
        self._marks = 0
        self._last_marked = False
        self._closed_ts = -1
        self._done: list[Picture | Joined] = []
        self._control_packets: list[tuple[int, bytes]] = []

    # -- what others call -------------------------------------------------------------------------

    def walk(self, buffer: bytearray, start: int, end: int, arrival_ns: int) -> int:
        """Take all complete interleaved packets of buffer[start:end]; return where the first other byte is.

        There is either the beginning of a packet (`$`), or something else for the caller to look at. The buffer is written
        to, is kept while pictures need it, and has at least SLACK_BYTES behind `end` (ValueError otherwise).
        """
        if not 0 <= start <= end <= len(buffer) - SLACK_BYTES:
            raise ValueError(f"bytes {start} to {end} of {len(buffer)}, of which {SLACK_BYTES} must stay free")
        view = memoryview(buffer)
        video, plain = self._video, self._plain
        unpack, add_all = _HEAD, self._views.extend
        want, middle, source, size, packets = self._want, self._middle, self._source, self._size, self.packets
        at, last = start, end - 4
        while at <= last:
            key, length, flags, seq, stamp, lead = unpack(buffer, at)
            after = at + 4 + length
            if after > end:
                break
            # Nine of ten packets are the middle of a fragmented slice.
            if lead == middle and seq == want and stamp == source and flags == plain and key == video and length > 14:
                stride = length + 4
                count = _alike(buffer, at, end, stride)
                add_all([view[start : start + length - 14] for start in range(at + 18, at + count * stride, stride)])
                size += count * (length - 14)
                want = seq + count & 0xFFFF
                packets += count
                at += count * stride
                continue
            if key >> 8 != 0x24:
                break
            if (
                lead == middle | 0x40 and seq == want and stamp == source and flags | 0x80 == plain | 0x80 and key == video
                and length > 14 and middle >= 0
            ):  # fmt: skip
                # The last packet of a slice: what _packet() does with it, without looking at what is known.
                add_all((view[at + 18 : after],))
                self._size, self._want, self.packets = size + length - 14, seq + 1 & 0xFFFF, packets + 1
                self._arrival_ns = arrival_ns
                self._end_fragments(unended=False)
                self._limit()
                if flags & 0x80:
                    self._marker()
                elif self._has_slice:
                    self._last_marked = False
                add_all = self._views.extend
                want, middle, source, size, packets = self._want, self._middle, self._source, self._size, self.packets
            elif key == video:
                self._want, self._size, self.packets = want, size, packets
                self._packet(buffer, view, at + 4, after, arrival_ns)
                add_all = self._views.extend
                want, middle, source, size, packets = self._want, self._middle, self._source, self._size, self.packets
            else:
                self.other_packets += 1
                self.other_bytes += length
                if key == self._control:
                    self._take_control(key & 0xFF, view[at + 4 : after])
            at = after
        self._want, self._size, self.packets = want, size, packets
        self._limit()
        return at

    def packet(self, buffer: bytearray, start: int, end: int, arrival_ns: int) -> None:
        """Take one RTP packet, buffer[start:end], as it comes in a datagram."""
        if not 0 <= start <= end <= len(buffer) - SLACK_BYTES:
            raise ValueError(f"bytes {start} to {end} of {len(buffer)}, of which {SLACK_BYTES} must stay free")
        self._packet(buffer, memoryview(buffer), start, end, arrival_ns)

    def datagrams(
        self, buffer: bytearray, start: int, slot_bytes: int, sizes_bytes: list[int], first: int, seq: int, arrival_ns: int,
    ) -> int:  # fmt: skip
        """Take the RTP packets of a row of slots as long as they are numbered `seq`, `seq` + 1 and so on; how many that were.

        `sizes_bytes[first]` is what the slot at `start` holds, and so on; less than 12 bytes are no packet, nor is more than a slot.
        """
        count = len(sizes_bytes) - first
        if first < 0 or slot_bytes < 1 or not 0 <= start <= len(buffer) - SLACK_BYTES - max(count, 0) * slot_bytes:
            raise ValueError(f"{count} slots of {slot_bytes} bytes from {start} in {len(buffer)}, of which {SLACK_BYTES} must stay free")  # fmt: skip
        view, at = memoryview(buffer), start
        for size_bytes in sizes_bytes[first:]:
            if not 12 <= size_bytes <= slot_bytes or _SIZE(buffer, at + 2)[0] != seq:
                break
            self._packet(buffer, view, at, at + size_bytes, arrival_ns)
            seq = seq + 1 & 0xFFFF
            at += slot_bytes
        return (at - start) // slot_bytes

    def take(self) -> list[Picture | Joined]:
        """The pictures that were completed since the last call, in order; Joined ones only with `joins`."""
        done, self._done = self._done, []
        return done

    def take_control(self) -> list[tuple[int, bytes]]:
        """(channel, packet) of what came on the control channel since the last call."""
        packets, self._control_packets = self._control_packets, []
        return packets

    def flush(self) -> None:
        """The stream has ended: what is there of the last picture is complete, or is dropped."""
        if self._middle >= 0:
            self._spoil()
        if self._open:
            self._close(by_marker=False)

    # -- one packet -------------------------------------------------------------------------------

    def _take_control(self, channel: int, packet: memoryview) -> None:
        if len(self._control_packets) < CONTROL_LIMIT:
            self._control_packets.append((channel, bytes(packet)))

    def _packet(self, buffer: bytearray, view: memoryview, at: int, after: int, arrival_ns: int) -> None:
        if after - at < 12:
            self.malformed += 1
            return
        flags, seq, ts, ssrc = _RTP(buffer, at)
        if flags >> 14 != 2:
            self.malformed += 1
            return
        is_ours = flags & 0x7F == self._payload_type
        if ssrc != self.ssrc:
            if not is_ours:
                self.other_payload += 1
                return
            if self.ssrc >= 0 and seq != self._want:
                self._restart()
            self.ssrc = ssrc
        missing = self._sequence(seq)
        if missing < 0:
            return
        self.packets += 1
        if missing and self._open:
            self._spoil()
        if not is_ours:
            self.other_payload += 1
            self._check_first = self._check_first or missing > 0
            return
        if ts != self._ts:
            # NAL units without a slice are the beginning of the next picture, whatever their time stamp.
            if self._open and (self._has_slice or self._is_damaged):
                self._close(by_marker=False)
            self._ts = ts
        self._source = ts << 32 | ssrc
        self._arrival_ns = arrival_ns
        if missing:
            self._check_first = True

        payload = at + 12 + 4 * (flags >> 8 & 15)
        if flags & 0x1000 and payload + 4 <= after:
            payload += 4 + 4 * _SIZE(buffer, payload + 2)[0]
        end = after
        if flags & 0x2000:
            # RFC 3550, 5.1: the last byte says how many bytes of padding there are, itself included
            end = after - buffer[after - 1] if buffer[after - 1] else -1
        if payload > end:
            self.malformed += 1
            self._spoil()
        elif payload < end:
            self._payload(buffer, view, at, payload, end)
        if flags & 0x80:
            self._marker()
        elif self._has_slice:
            self._last_marked = False

    def _sequence(self, seq: int) -> int:
        """How many packets are missing before this one; -1 when it is not to be used."""
        want = self._want
        if want < 0:
            self._rebase(seq)
            return 0
        missing = seq - want & 0xFFFF
        if missing >= 0x10000 - LATE_LIMIT:
            self.late += 1
            return -1
        if missing > GAP_LIMIT:
            # RFC 3550, A.1: believed when the next packet says the same
            if seq != self._bad_seq:
                self._bad_seq = seq + 1 & 0xFFFF
                self.lost += 1
                self._lost_before += 1
                return -1
            self.jumps += 1
            self._rebase(seq)
            return 1
        self._want = seq + 1 & 0xFFFF
        self.lost += missing
        self._lost_before += missing
        return missing

    def _rebase(self, seq: int) -> None:
        self._want = seq + 1 & 0xFFFF
        self._bad_seq = -1
        self.base_seq, self.base_packets, self.base_lost = seq, self.packets, self.lost

    def _restart(self) -> None:
        """Another SSRC and another sequence: the sender began anew, its time stamps too."""
        self.restarts += 1
        self._drop()
        self._want = -1
        self._ts = self._closed_ts = -1
        self._sets = []
        self._check_first = True
        self._restarted = True

    # -- NAL units ----------------------------------------------------------------------------------

    def _payload(self, buffer: bytearray, view: memoryview, spent: int, at: int, end: int) -> None:
        """What buffer[at:end] says; the bytes from `spent` to `at` are no longer needed."""
        kind = buffer[at] & 31
        if kind == _FU_A:
            if end - at < 2:
                self.malformed += 1
                self._spoil()
            else:
                self._fragment(buffer, view, at, end)
        elif 1 <= kind <= 23:
            self._end_fragments(unended=True)
            self._whole(buffer, view, spent, at, end)
        elif kind == _STAP_A:
            self._end_fragments(unended=True)
            at += 1
            while at + 2 <= end:
                size = _SIZE(buffer, at)[0]
                at += 2
                if size > end - at:
                    self.malformed += 1
                    self._spoil()
                    break
                if size and self._whole(buffer, view, spent, at, at + size):
                    spent = at + size
                at += size
        elif _STAP_B <= kind <= _FU_B:
            self.refused += 1
            self._spoil()
        else:
            self.malformed += 1

    def _whole(self, buffer: bytearray, view: memoryview, spent: int, at: int, end: int) -> bool:
        """One NAL unit in one piece; whether it was put into the picture."""
        kind = buffer[at] & 31
        self._begin(kind, buffer[at + 1] if end - at > 1 else 0)
        if kind in _NOT_PAYLOAD:
            self._parameter_set(kind, bytes(view[at:end]) if end - at <= SET_LIMIT_BYTES else b"")
            return False
        if self._is_damaged:
            return False
        if at - spent >= 4:
            _PUT(buffer, at - 4, end - at)
            self._views.append(view[at - 4 : end])
        else:
            self._views.append(memoryview((end - at).to_bytes(4, "big")))
            self._views.append(view[at:end])
        self._size += 4 + end - at
        self._limit()
        return True

    def _fragment(self, buffer: bytearray, view: memoryview, at: int, end: int) -> None:
        """FU-A (RFC 6184, 5.8): buffer[at] is the indicator, then header, then a part of the NAL unit."""
        indicator, header = buffer[at], buffer[at + 1]
        if header & 0x80:
            self._end_fragments(unended=True)
            kind = header & 31
            if not 1 <= kind <= 23:
                self.malformed += 1
                self._spoil()
                return
            self._begin(kind, buffer[at + 2] if end - at > 2 else 0)
            if self._is_damaged:
                return
            self._start_buffer, self._start_at = buffer, at - 3
            self._nal_header = indicator & 0xE0 | kind
            self._nal_piece, self._nal_size = len(self._views), self._size
            self._middle = indicator << 8 | kind
            self._views.append(view[at - 3 : end])
            self._size += end - at + 3
        elif self._middle < 0 or header & 31 != self._nal_header & 31:
            # The beginning is missing. Right after a loss, or when we have just joined, that is no fault of the camera.
            if not self._is_damaged:
                self.malformed += not self._check_first
                self._spoil()
            return
        elif end - at > 2:
            self._views.append(view[at + 2 : end])
            self._size += end - at - 2
        if header & 0x40:
            self._end_fragments(unended=False)
        self._limit()

    def _end_fragments(self, *, unended: bool) -> None:
        """Close the fragmented NAL unit, if there is one. Some cameras forget the end bit."""
        if self._middle < 0:
            return
        self.unended += unended
        self._middle = -1
        buffer, self._start_buffer = self._start_buffer, None
        assert buffer is not None
        size = self._size - self._nal_size - 4
        kind = self._nal_header & 31
        _PUT(buffer, self._start_at, size)
        buffer[self._start_at + 4] = self._nal_header
        if kind in _NOT_PAYLOAD:
            pieces = self._views[self._nal_piece :]
            del self._views[self._nal_piece :]
            self._size = self._nal_size
            self._parameter_set(kind, b"".join(pieces)[4:] if size <= SET_LIMIT_BYTES else b"")

    def _begin(self, kind: int, slice_byte: int) -> None:
        """A NAL unit of the current picture begins; `slice_byte` follows its header."""
        self._open = True
        if not 1 <= kind <= 5:
            return
        if kind == _NAL_IDR:
            self._is_idr = True
        if self._has_slice:
            return
        self._has_slice = True
        if kind != 3 and kind != 4 and not slice_byte & 0x80:  # first_mb_in_slice is not 0 (H.264, 7.3.3)
            if self._check_first:
                self._spoil()
            elif self._closed_ts == self._ts:
                # More of a picture that the marker had ended: this camera's marker means something else.
                self.strays += 1
                self._trusts_marker = self._may_trust = False
                self._spoil()
        self._check_first = False

    def _parameter_set(self, kind: int, nal: bytes) -> None:
        if kind != _NAL_SPS and kind != _NAL_PPS:
            return
        if not nal or len(self._sets) >= SETS_LIMIT:
            self.malformed += 1
        else:
            self._sets.append(nal)

    # -- pictures -----------------------------------------------------------------------------------

    def _limit(self) -> None:
        if self._size > PICTURE_LIMIT_BYTES or len(self._views) > PIECES_LIMIT:
            self._spoil()

    def _spoil(self) -> None:
        """Something of this picture is missing: forget what is there, wait for its end."""
        self._open = self._is_damaged = True
        self._views = []
        self._size = 0
        self._middle = -1
        self._start_buffer = None

    def _marker(self) -> None:
        self._end_fragments(unended=True)
        if not (self._has_slice or self._is_damaged):
            return
        if self._trusts_marker:
            self._close(by_marker=True)
        else:
            self._marks += 1
            self._last_marked = True

    def _close(self, *, by_marker: bool) -> None:
        self._end_fragments(unended=True)
        if self._is_damaged:
            self.damaged += 1
        elif self._has_slice:
            if self._joins and not (self._is_idr or self._lost_before or self._sets or self._restarted):
                self._join()
            else:
                gather = PyGather.of(self._views, self._size)
                lost, self._lost_before = self._lost_before, 0
                restarted, self._restarted = self._restarted, False
                sets, self._sets = tuple(self._sets), []
                self._done.append((gather, self._ts, self._is_idr, lost, sets, self._arrival_ns, restarted))  # type: ignore[arg-type]
            if not by_marker:
                self._clean = self._clean + 1 if self._marks == 1 and self._last_marked else 0
                if self._clean >= TRUST_AFTER and self._may_trust:
                    self._trusts_marker = True
        self._closed_ts = self._ts if by_marker else -1
        self._check_first = False
        self._drop()

    def _join(self) -> None:
        """Put the picture behind the one before it, of which nothing else is to be said either."""
        joined = self._done[-1] if self._done else ()
        if len(joined) == 4 and joined[3] == self._arrival_ns and len(joined[1]) < JOIN_LIMIT:
            gather, stamps, sizes, _ = joined
            gather.extend(PyGather.of(self._views, self._size))  # type: ignore[arg-type]
            stamps.append(self._ts)
            sizes.append(self._size)
        else:
            self._done.append((PyGather.of(self._views, self._size), [self._ts], [self._size], self._arrival_ns))  # type: ignore[arg-type]

    def _drop(self) -> None:
        self._views = []
        self._size = 0
        self._open = self._has_slice = self._is_idr = self._is_damaged = False
        self._marks = 0
        self._last_marked = False
        self._middle = -1
        self._start_buffer = None


try:
    if os.environ.get("NVR_PURE") == "1":  # for tests and for the bench
        raise ImportError
    from nvr._fast import Walker
except ImportError:  # no compiler at installation: the same, slower
    Walker = PyWalker  # type: ignore[assignment,misc]
