"""Aiming and focusing: a picture as characters of a terminal, and how sharp it is. PyAV, numpy and Pillow are imported only here.

The figure is the mean square of the Laplacian over the middle of the picture, against that of the same picture with some noise
allowed for: it rises as the lens comes into focus. It compares pictures of one camera at one place, nothing else: so the best so far is shown beside it.
"""

from __future__ import annotations

import io
import sys
from typing import Any

from nvr.errors import NvrError

MIDDLE = 0.6  # of width and height: corners of cheap lenses are never sharp


class NoPicture(NvrError):
    """What came cannot be decoded."""


def frame_of(mp4: bytes) -> Any:
    """The first picture of a fragment as an RGB array. Raises NoPicture."""
    try:
        import av
    except ImportError:
        raise NoPicture("a decoder is needed to aim", hint="pip install 'nvr[codecs]' brings PyAV.") from None
    try:
        with av.open(io.BytesIO(mp4)) as container:
            for frame in container.decode(video=0):
                return frame.to_ndarray(format="rgb24")
    except (av.FFmpegError, ValueError, IndexError) as error:
        raise NoPicture(f"the picture cannot be decoded: {error}") from None
    raise NoPicture("there is no picture in what came")


def sharpness(rgb: Any) -> float:
    """0 and up; twice as much is clearly sharper."""
    import numpy

    height, width = rgb.shape[:2]
    top, left = int(height * (1 - MIDDLE) / 2), int(width * (1 - MIDDLE) / 2)
    middle = rgb[top : height - top, left : width - left].astype(numpy.float32)
    luma = middle @ numpy.array([0.299, 0.587, 0.114], numpy.float32)
    laplacian = 4 * luma[1:-1, 1:-1] - luma[:-2, 1:-1] - luma[2:, 1:-1] - luma[1:-1, :-2] - luma[1:-1, 2:]
    return round(float((laplacian**2).mean()) / max(float(luma.var()), 25.0) * 100, 1)


def drawn(rgb: Any, columns: int, rows: int) -> str:
    """The picture in half blocks with 24-bit colours, at most so large."""
    from PIL import Image

    picture = Image.fromarray(rgb)
    scale = min(columns / picture.width, rows * 2 / picture.height)
    picture = picture.resize(
        (max(1, int(picture.width * scale)), max(2, int(picture.height * scale) // 2 * 2)), Image.Resampling.BILINEAR
    )
    pixels = picture.load()
    lines = []
    for y in range(0, picture.height, 2):
        cells = []
        for x in range(picture.width):
            (r, g, b), (r2, g2, b2) = pixels[x, y], pixels[x, y + 1]
            cells.append(f"\x1b[38;2;{r};{g};{b}m\x1b[48;2;{r2};{g2};{b2}m▀")
        lines.append("".join(cells) + "\x1b[0m")
    return "\n".join(lines)


def jpeg(rgb: Any) -> bytes:
    from PIL import Image

    made = io.BytesIO()
    Image.fromarray(rgb).save(made, "JPEG", quality=85)
    return made.getvalue()


def bar(value: float, best: float, width: int = 30) -> str:
    """`[##########------]`, full at the best so far."""
    filled = round(width * value / best) if best else 0
    return f"[{'#' * filled}{'-' * (width - filled)}]"


def can_draw() -> bool:
    return sys.stdout.isatty()
