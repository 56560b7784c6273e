"""The camera picture every peer records: 1080p25 H.264 at 4 Mbit/s, no B-frames, made once by ffmpeg."""

from __future__ import annotations

import subprocess
from pathlib import Path

FPS = 25
GOP_PICTURES = 50  # what most cameras ship with; a fragment of ours is then half a GOP
SECONDS = 40


def make(path: Path) -> None:
    """Write the file unless it is there. Mandelbrot zoom with temporal noise, so the rate is real work."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part.mp4")
    subprocess.run(
        ["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", f"mandelbrot=s=1920x1080:r={FPS},noise=alls=6:allf=t",
         "-t", str(SECONDS), "-c:v", "libx264", "-preset", "veryfast", "-bf", "0", "-g", str(GOP_PICTURES),
         "-b:v", "4M", "-maxrate", "4.4M", "-bufsize", "4M", "-pix_fmt", "yuv420p", str(unfinished)],
        check=True,
    )  # fmt: skip
    unfinished.rename(path)
