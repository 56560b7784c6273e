"""Small stills for the wall: the newest keyframe of a camera as a JPEG, privacy masks black, with a signature over when it was taken.

Needs PyAV and numpy; where they are not installed there are no stills, and the heartbeat says so. Blocking; called in a thread.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nvr import wire
from nvr.detect.decoder import Decoder, jpeg, resized
from nvr.detect.feeds import RingPictures, keyframes, piece_of
from nvr.detect.motion import zone_mask
from nvr.errors import NvrError
from nvr.evidence import Identity
from nvr.media import FragmentRecord, Position
from nvr.site_settings import Camera
from nvr.wire import Message

WIDEST_PX = 480  # a tile of the wall on a phone
COARSENESS = 10
TILE_BYTES = 14_000  # of a busy street; above it the still is made coarser, because 37 of them share 1 Mbit/s


class NoStill(NvrError):
    """There is no picture to make a still of; the next fragment may have one."""


@dataclass(frozen=True, slots=True)
class Still:
    camera: str
    captured_ns: int  # box wall time as the recorder had it; meaningless where the clock is not known
    record: FragmentRecord
    jpeg: bytes


class Stills:
    """Of all cameras; one thread."""

    def __init__(self, data_dir: Path, cameras: tuple[Camera, ...]) -> None:
        self._masks = {camera.name: camera.masks for camera in cameras}
        self._rings_path = data_dir / "rings"
        self._readers: dict[str, RingPictures] = {}

    def make(self, position: Position, record: FragmentRecord) -> Still:
        """Of the first keyframe in an announced fragment. Raises NoStill."""
        camera, _, kind = position.stream.partition("/")
        reader = self._readers.setdefault(position.stream, RingPictures(self._rings_path / camera / kind))
        try:
            started, pictures = reader.read(piece_of(position, record))
            chosen = keyframes(pictures)
            if not chosen:
                raise NoStill(f"{position.stream}: no keyframe in this fragment")
            decoder = Decoder(started)
            frames = [*decoder.decode(chosen[0].unit, chosen[0].at_ns), *decoder.drain()]
        except NoStill:
            raise
        except (NvrError, OSError) as error:
            reader.close()
            raise NoStill(f"{position.stream}: {error}") from error
        if not frames:
            raise NoStill(f"{position.stream}: the keyframe cannot be decoded")
        rgb = frames[0].rgb.copy()
        for mask in self._masks.get(camera, ()):  # before anything is made smaller: no edge of it may shine through
            rgb[zone_mask(mask, *rgb.shape[:2])] = 0
        height, width = rgb.shape[:2]
        if width > WIDEST_PX:
            rgb = resized(rgb, WIDEST_PX, max(2, round(height * WIDEST_PX / width)))
        data = jpeg(np.ascontiguousarray(rgb), COARSENESS)
        if len(data) > TILE_BYTES:
            data = jpeg(np.ascontiguousarray(rgb), min(31, COARSENESS * len(data) // TILE_BYTES + 1))
        return Still(camera, record.wall_ns + chosen[0].at_ns - record.mono_ns, record, data)

    def close(self) -> None:
        for reader in self._readers.values():
            reader.close()


def message(still: Still, identity: Identity, captured_ns: int, state: str, error_ns: int) -> Message:
    """As it goes to the hub; `captured_ns` is the best that is known now, 0 unknown."""
    digest = hashlib.sha256(still.jpeg).hexdigest()
    captured_ms = captured_ns // 1_000_000
    body = {
        "camera": still.camera, "captured_ms": captured_ms, "clock": {"state": state, "error_ms": error_ns // 1_000_000},
        "sha256": digest, "signature": identity.sign(wire.still_signed(still.camera, captured_ms, digest)).hex(),
    }  # fmt: skip
    return Message("still", body, still.jpeg)
