"""What the golden files hold, as values; `python -m golden.make` in tests/ writes those that are missing.

A file that was shipped is never written again: a changed format gets another name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import crc32c

from golden.dump import dump
from nvr import fmp4
from nvr.media import ClockState, FragmentRecord, ParameterSets

SETS = ParameterSets(
    (bytes.fromhex("6764001facd940c8137e5840000003004000000c83c60c6580"),), (bytes.fromhex("68ef8fcb"),)
)

# Not decodable: four NAL units with their lengths, the bytes counted up.
_PICTURES = tuple(
    b"".join((len(unit).to_bytes(4, "big"), unit))
    for unit in (bytes([kind, *range(size)]) for kind, size in ((0x65, 200), (0x41, 40), (0x01, 17), (0x41, 33)))
)
FRAGMENT_SAMPLES = tuple(
    fmp4.Sample(len(picture), 3600, composition, picture[4] == 0x65)
    for picture, composition in zip(_PICTURES, (3600, 7200, 0, 3600), strict=True)
)
FRAGMENT_RECORD = FragmentRecord(
    box_id=bytes.fromhex("b0b1b2b3b4b5b6b7b8b9babbbcbdbebf"),
    boot_id=bytes.fromhex("c0c1c2c3c4c5c6c7c8c9cacbcccdcecf"),
    stream="simpang-mardika/main",
    run=3,
    lap=2,
    segment=17,
    sequence=100_001,
    mono_ns=86_400_123_456_789,
    wall_ns=1_767_225_600_123_456_789,  # 2026-01-01T00:00:00.123456789Z
    clock_state=ClockState.SYNCED,
    clock_error_ns=12_345_678,
    run_ticks=8_100_000,
    duration_ticks=14_400,
    pictures=4,
    payload_bytes=sum(map(len, _PICTURES)),
    lost_packets=5,
    is_keyframe=True,
    camera_wall_ns=1_767_225_599_000_000_000,
    previous_hash=hashlib.sha256(b"the fragment before").digest(),
    hash=bytes(32),
)


def init() -> bytes:
    return fmp4.init_segment(SETS, 800, 600)


def fragment() -> bytes:
    payload = b"".join(_PICTURES)
    head = fmp4.head(9, 720_000, FRAGMENT_SAMPLES, len(payload))
    record = replace(FRAGMENT_RECORD, hash=fmp4.fragment_hash(hashlib.sha256(payload), head, FRAGMENT_RECORD))
    return (
        head + payload + fmp4.commit_record(record, head, crc32c.crc32c(payload), fmp4.commit_record_size(len(payload)))
    )


EXAMPLES: dict[str, Callable[[], bytes]] = {"init-v1": init, "fragment-v1": fragment}

if __name__ == "__main__":
    for name, made in EXAMPLES.items():
        path = Path(__file__).parent / f"{name}.bin"
        if not path.exists():
            path.write_bytes(made())
            path.with_suffix(".txt").write_text(dump(made()))
            print(f"wrote {path}")
