"""The floor peer: `python -m tools.bench.floor DIRECTORY SECONDS URL...` receives and writes, and does nothing else."""

from __future__ import annotations

import ctypes
import os
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

TICK_MS = 100
FILE_BYTES = 64 << 20
CHUNK_BYTES = 512 << 10


def library() -> ctypes.CDLL:
    built = Path(tempfile.gettempdir()) / f"nvr-bench-floor-{os.getuid()}.so"
    source = Path(__file__).with_suffix(".c")
    if not built.exists() or built.stat().st_mtime < source.stat().st_mtime:
        subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", built, source], check=True)
    return ctypes.CDLL(str(built))


def playing(url: str) -> socket.socket:
    """A socket on which the camera at `url` has been told to play, interleaved."""
    match = re.fullmatch(r"rtsp://([^:/]+):(\d+)(/.*)", url)
    if not match:
        raise SystemExit(f"not an address of the bench farm: {url}")
    connection = socket.create_connection((match[1], int(match[2])))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    received = b""

    def ask(method: str, target: str, *headers: str) -> tuple[str, str]:
        nonlocal received
        ask.sequence = getattr(ask, "sequence", 0) + 1  # type: ignore[attr-defined]
        lines = [f"{method} {target} RTSP/1.0", f"CSeq: {ask.sequence}", *headers, "", ""]  # type: ignore[attr-defined]
        connection.sendall("\r\n".join(lines).encode())
        while b"\r\n\r\n" not in received:
            received += connection.recv(65536)
        head, _, received = received.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: *(\d+)", head, re.I)
        body_bytes = int(length[1]) if length else 0
        while len(received) < body_bytes:
            received += connection.recv(65536)
        body, received = received[:body_bytes], received[body_bytes:]
        if b" 200 " not in head.split(b"\r\n")[0]:
            raise SystemExit(f"{method} {url}: {head.decode(errors='replace')}")
        return head.decode(), body.decode()

    _, sdp = ask("DESCRIBE", url, "Accept: application/sdp")
    control = re.findall(r"a=control:(\S+)", sdp)[-1]
    if not control.startswith("rtsp:"):
        control = f"{url}/{control}"
    head, _ = ask("SETUP", control, "Transport: RTP/AVP/TCP;unicast;interleaved=0-1")
    session = re.search(r"session: *([^;\r\n]+)", head, re.I)
    assert session
    ask("PLAY", url, f"Session: {session[1]}", "Range: npt=0.000-")
    connection.setblocking(False)
    return connection


def main() -> None:
    directory, seconds, urls = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
    floor = library()
    files = []
    for number in range(len(urls)):
        fd = os.open(directory / f"floor{number}.bin", os.O_RDWR | os.O_CREAT)
        os.posix_fallocate(fd, 0, FILE_BYTES)
        files.append(fd)
    sockets = [playing(url) for url in urls]
    integers = ctypes.c_int * len(urls)
    floor.floor_run.restype = ctypes.c_int64
    received = floor.floor_run(
        integers(*(s.fileno() for s in sockets)), integers(*files), len(urls), TICK_MS,
        ctypes.c_double(seconds), ctypes.c_int64(FILE_BYTES), ctypes.c_int64(CHUNK_BYTES),
    )  # fmt: skip
    if received < 0:
        raise SystemExit(f"the floor stopped: {os.strerror(-received)}")


if __name__ == "__main__":
    main()
