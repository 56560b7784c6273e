"""What was seen, drawn into a film: zones and lines, tracks with their numbers, the states that hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nvr.detect.decoder import FilmWriter, Pixels
from nvr.detect.stills import _frame, _stroke
from nvr.scene import PERSON, TWO_WHEELER, Facts, Line, Zone

_PLACE = (255, 200, 0)
_COLOURS = {PERSON: (80, 255, 80), TWO_WHEELER: (255, 120, 255)}
_VEHICLE = (80, 200, 255)
_NEVER_MOVED = (150, 150, 150)
_SIZE = 2  # pixels a dot

# 3 x 5 dots a letter, one octal digit for each row: enough for what is said here.
_FONT = {
    "0": "75557", "1": "26227", "2": "71747", "3": "71717", "4": "55711", "5": "74717", "6": "74757", "7": "71122",
    "8": "75757", "9": "75717", "a": "25755", "b": "65656", "c": "34443", "d": "65556", "e": "74647", "f": "74644",
    "g": "34553", "h": "55755", "i": "72227", "j": "11152", "k": "55655", "l": "44447", "m": "57755", "n": "65555",
    "o": "25552", "p": "65644", "q": "25573", "r": "65655", "s": "34216", "t": "72222", "u": "55557", "v": "55552",
    "w": "55775", "x": "55255", "y": "55222", "z": "71247", "-": "00700", ".": "00002", ":": "02020", "_": "00007",
}  # fmt: skip


class Drawing:
    """One film. close() ends it."""

    def __init__(self, path: Path, zones: Sequence[Zone], lines: Sequence[Line]) -> None:
        """Raises NoFilm."""
        self._film = FilmWriter(path)
        self._zones, self._lines = zones, lines

    def add(self, rgb: Pixels, facts: Facts, states: Sequence[str]) -> None:
        picture = rgb.copy()
        for zone in self._zones:
            for a, b in zip(zone.corners, zone.corners[1:] + zone.corners[:1], strict=True):
                _stroke(picture, a, b, _PLACE)
        for line in self._lines:
            _stroke(picture, line.start, line.end, _PLACE)
        for track in facts.tracks:
            colour = _COLOURS.get(track.kind, _VEHICLE) if track.has_moved else _NEVER_MOVED
            rect = track.rect.clipped()
            _frame(picture, rect, colour, 2 if track.seen_ns == facts.at_ns else 1)
            write(picture, f"{track.number} {track.kind}", rect.left, rect.top, colour)
        for number, state in enumerate([f"{facts.at_ns / 1e9:.1f}", *states]):
            write(picture, state, 0.01, 0.01 + number * 7 * _SIZE / picture.shape[0], (255, 255, 255))
        self._film.add(picture, facts.at_ns)

    def close(self) -> None:
        self._film.close()


def write(picture: Pixels, text: str, left: float, top: float, colour: tuple[int, int, int]) -> None:
    """Letters on black, kept inside the picture; what has no letter is a space."""
    rows = np.array([[int(bit) for letter in text.lower()[:48] for bit in f"{int(_FONT.get(letter, '00000')[row]):03b}0"] for row in range(5)], bool)  # fmt: skip
    dots = np.pad(rows, 1).repeat(_SIZE, 0).repeat(_SIZE, 1)
    height, width = picture.shape[:2]
    y, x = (
        min(max(int(top * height), 0), max(height - dots.shape[0], 0)),
        min(max(int(left * width), 0), max(width - dots.shape[1], 0)),
    )
    part = picture[y : y + dots.shape[0], x : x + dots.shape[1]]
    part[:] = 0
    part[dots[: part.shape[0], : part.shape[1]]] = colour
