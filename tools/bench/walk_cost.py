"""What walking RTP packets costs: nanoseconds for each packet, in Python and in C, without sockets and disks.

    python -m tools.bench.walk_cost [FILE.h264]

Packetises an H.264 stream (made with ffmpeg when no file is given: 1080p25, 4 Mbit/s) at 1400 bytes as cameras do, lays it into
buffers as the arena would, and walks 100 ms of stream at a time, as the recorder does. The best of several
rounds counts, because everything else on the machine can only add.
"""

from __future__ import annotations

import gc
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from nvr.rtsp.rtp import PyWalker

PAYLOAD_TYPE = 96
PAYLOAD_BYTES = 1388  # 1400 with the RTP header
FPS = 25
ROUNDS = 7
REGION_BYTES = 256 * 1024


def packetise(nals: list[bytes]) -> list[bytes]:
    """Interleaved RTP packets: single NAL units and FU-A, marker on the last of each picture."""
    packets: list[bytes] = []
    ticks = 0

    def add(payload: bytes, marker: bool) -> None:
        head = struct.pack(
            ">cBHBBHII", b"$", 0, len(payload) + 12, 0x80, PAYLOAD_TYPE | marker << 7, len(packets) & 0xFFFF, ticks, 1
        )
        packets.append(head + payload)

    for number, nal in enumerate(nals):
        kind = nal[0] & 31
        following = nals[number + 1] if number + 1 < len(nals) else b"\x09\x80"
        # The last slice of a picture: what follows is no slice, or the first of another picture.
        is_last = kind in (1, 5) and (following[0] & 31 not in (1, 5) or following[1] & 0x80 != 0)
        if len(nal) <= PAYLOAD_BYTES:
            add(nal, is_last)
        else:
            for at in range(1, len(nal), PAYLOAD_BYTES - 2):
                part = nal[at : at + PAYLOAD_BYTES - 2]
                ends = at + len(part) == len(nal)
                add(bytes((nal[0] & 0xE0 | 28, (at == 1) << 7 | ends << 6 | kind)) + part, ends and is_last)
        if is_last:
            ticks += 90_000 // FPS
    return packets


def make_stream(seconds: int = 20) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stream.h264"
        subprocess.run(
            [
                "ffmpeg",
                "-v",
                "error",
                "-f",
                "lavfi",
                "-i",
                f"mandelbrot=s=1920x1080:r={FPS},noise=alls=6:allf=t",
                "-t",
                str(seconds),
                "-c:v",
                "libx264",
                "-preset",
                "ultrafast",
                "-tune",
                "zerolatency",
                "-x264-params",
                "slices=1:sliced-threads=0",
                "-bf",
                "0",
                "-g",
                "50",
                "-b:v",
                "4M",
                "-maxrate",
                "4.4M",
                "-bufsize",
                "4M",
                str(path),
            ],
            check=True,
        )
        return path.read_bytes()


def regions_of(packets: list[bytes]) -> list[tuple[bytearray, int, int]]:
    """(buffer, start, end) for each 100 ms, several in each buffer, as many cameras share it."""
    per_region = max(len(packets) * 100 // (1000 * sum(p[5] >> 7 for p in packets) // FPS), 1)
    regions, buffer, used = [], bytearray(REGION_BYTES), 0
    for at in range(0, len(packets), per_region):
        data = b"".join(packets[at : at + per_region])
        if used + len(data) > REGION_BYTES - 32:
            buffer, used = bytearray(REGION_BYTES), 0
        buffer[used : used + len(data)] = data
        regions.append((buffer, used, used + len(data)))
        used += len(data)
    return regions


def cost_ns(walker_type: type, packets: list[bytes]) -> tuple[float, int]:
    """(best ns for each packet, pictures)"""
    best, pictures = float("inf"), 0
    for _ in range(ROUNDS):
        regions = regions_of(packets)
        walker = walker_type(PAYLOAD_TYPE)
        gc.collect()
        gc.freeze()
        gc.disable()
        started = time.process_time_ns()
        pictures = 0
        for buffer, start, end in regions:
            walker.walk(buffer, start, end, 0)
            pictures += len(walker.take())
        best = min(best, (time.process_time_ns() - started) / len(packets))
        gc.enable()
        gc.unfreeze()
        assert walker.lost == 0 and walker.malformed == 0
    return best, pictures


def main() -> None:
    raw = Path(sys.argv[1]).read_bytes() if len(sys.argv) > 1 else make_stream()
    nals = [nal.rstrip(b"\0") for nal in raw.split(b"\0\0\1")[1:]]
    packets = packetise(nals)
    seconds = sum(p[5] >> 7 for p in packets) / FPS
    print(f"{len(packets)} packets, {sum(map(len, packets)) / len(packets):.0f} bytes each, {seconds:.1f} s of stream")
    walkers: list[tuple[str, type]] = [("python", PyWalker)]
    try:
        from nvr._fast import Walker

        walkers.append(("c", Walker))
    except ImportError:
        print("nvr._fast is not built")
    for name, walker_type in walkers:
        ns, pictures = cost_ns(walker_type, packets)
        per_minute = ns * len(packets) / seconds * 60 / 1e9
        print(f"{name:7} {ns:7.1f} ns/packet  {per_minute * 1000:7.2f} ms CPU per camera-minute  {pictures} pictures")


if __name__ == "__main__":
    main()
