"""Does a camera send the same picture again and again? Told without decoding, for cameras nobody looks at as well, within a dozen seconds.

No living camera sends two keyframes of the same bytes: its sensor's noise is in each of them. So one keyframe of each camera is
looked at every few seconds; only when its bytes were seen a moment ago, all of the last ones are. An encoder may number its keyframes
in turn (`idr_pic_id`, H.264 7.4.3: two that follow each other differ), so a frozen camera shows two forms at most; footage that is played in
a loop has more. A camera that counts them up, whose rate control still moves, or that draws a clock into the picture is not noticed here: `rules/tamper.py`
looks at decoded pictures.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path

from nvr.detect.feeds import RingPictures, keyframes, piece_of
from nvr.errors import NvrError
from nvr.h264 import nal_type
from nvr.media import FragmentRecord, Position

LOOK_S = 3.5
SAME_S = 5.0
FORMS = 2
LOOKS = 3  # of two forms in turn, each look finds one that was there at the three before it
KEPT = 12  # keyframes
_SLICE_TYPES = range(1, 6)  # H.264, table 7-1: the picture itself, without what says when it was taken

Fragment = tuple[Position, FragmentRecord]


def frozen_since(seen: Sequence[tuple[bytes, int]]) -> tuple[frozenset[bytes], int] | None:
    """The forms of the picture that all last keyframes show, and when the first of them was taken; None: they differ, or are too few.

    `seen`: of each keyframe in a row its bytes' digest and when it was taken, ms.
    """
    for most in range(1, FORMS + 1):
        forms: set[bytes] = set()
        first = len(seen)
        while first and len(forms | {seen[first - 1][0]}) <= most:
            first -= 1
            forms.add(seen[first][0])
        stretch = seen[first:]
        counted = Counter(digest for digest, _ in stretch)
        # Each form twice at least: any two keyframes have no more than two forms.
        if stretch and min(counted.values()) >= 2 and stretch[-1][1] - stretch[0][1] >= SAME_S * 1000:
            return frozenset(forms), stretch[0][1]
    return None


class _Looked:
    """What is known of one camera."""

    def __init__(self) -> None:
        self.last: deque[bytes] = deque(maxlen=LOOKS)
        self.forms: frozenset[bytes] = frozenset()  # of the picture it froze in
        self.at: tuple[str, int, int] = ("", 0, 0)  # stream, run, sequence


class Frozen:
    """All cameras of a box. `since_ms` is what the heartbeat says."""

    def __init__(self, data_dir: Path, cameras: tuple[str, ...], newest: Callable[[str], Fragment | None]) -> None:
        """`newest(camera)`: the newest fragment that begins with a keyframe; None when there is none of now."""
        self._rings_path, self._newest = data_dir / "rings", newest
        self._readers: dict[str, RingPictures] = {}
        self._kept: dict[str, deque[Fragment]] = {}
        self._looked = {camera: _Looked() for camera in cameras}
        self.since_ms = dict.fromkeys(cameras, 0)

    def take(self, fragment: Fragment) -> None:
        """One that was announced."""
        if fragment[1].is_keyframe:
            self._kept.setdefault(fragment[0].stream, deque(maxlen=KEPT)).append(fragment)

    def look(self, taken_ms: Callable[[FragmentRecord], int]) -> bool:
        """One look at each camera; whether one froze or lives again. `taken_ms`: when, by the hub's time. Blocking."""
        before = [bool(since_ms) for since_ms in self.since_ms.values()]
        for camera in self._looked:
            try:
                self._look_at(camera, taken_ms)
            except NvrError:
                continue  # the ring went on meanwhile; the next look has a newer one
        return before != [bool(since_ms) for since_ms in self.since_ms.values()]

    def _look_at(self, camera: str, taken_ms: Callable[[FragmentRecord], int]) -> None:
        newest = self._newest(camera)
        if newest is None:  # it sends nothing: that is said elsewhere
            self._looked[camera], self.since_ms[camera] = _Looked(), 0
            return
        looked, stream, run = self._looked[camera], newest[0].stream, newest[1].run
        if looked.at == (stream, run, newest[1].sequence):
            return
        looked.at = stream, run, newest[1].sequence
        digest = self.digest(newest)
        if digest in looked.forms:
            return
        looked.forms, self.since_ms[camera] = frozenset(), 0
        if digest in looked.last:
            kept = [each for each in list(self._kept.get(stream, ())) if each[1].run == run]
            found = frozen_since([(self.digest(each), taken_ms(each[1])) for each in kept])
            if found is not None:
                looked.forms, self.since_ms[camera] = found
        looked.last.append(digest)

    def digest(self, fragment: Fragment) -> bytes:
        """Of its first keyframe's slices. Raises NvrError when it cannot be read."""
        position, record = fragment
        camera, _, kind = position.stream.partition("/")
        reader = self._readers.setdefault(position.stream, RingPictures(self._rings_path / camera / kind))
        try:
            _, pictures = reader.read(piece_of(position, record))
        except (NvrError, OSError) as error:
            reader.close()
            raise NvrError(f"{position.stream}: {error}") from error
        found = blake2b(digest_size=16)
        for picture in keyframes(pictures)[:1]:
            for nal in _nal_units(b"".join(picture.unit.payload.views())):
                if nal_type(nal) in _SLICE_TYPES:
                    found.update(nal)
        return found.digest()

    async def run(self, taken_ms: Callable[[FragmentRecord], int], changed: Callable[[], None]) -> None:
        """Look again and again, and call `changed` when a camera froze or lives again. Runs until cancelled."""
        while True:
            began_s = time.monotonic()
            if await asyncio.to_thread(self.look, taken_ms):
                changed()
            await asyncio.sleep(max(LOOK_S - (time.monotonic() - began_s), LOOK_S / 2))


def _nal_units(payload: bytes) -> Iterator[memoryview]:
    """Each behind its length in 4 bytes (ISO/IEC 14496-15, 5.3.2); what is cut short is left out."""
    view, place = memoryview(payload), 0
    while place + 4 <= len(view):
        end = place + 4 + int.from_bytes(view[place : place + 4], "big")
        if end > len(view):
            return
        yield view[place + 4 : end]
        place = end
