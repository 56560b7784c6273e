"""A picture of a real terminal for the documents: runs a command in tmux, and draws what stands there after a while.

    python -m tools.terminal_picture OUT.png SECONDS 'nvrctl card write ...' [COLUMNS] [LINES]

Needs tmux and a monospace font (Debian: tmux, fonts-dejavu-core).
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

FONT = Path("/usr/share/fonts/truetype/dejavu/DejaVuSansMono.ttf")
SIZE, BACKGROUND, INK = 15, (24, 26, 30), (220, 222, 226)
_COLOURS = {31: (240, 110, 100), 32: (120, 200, 120), 33: (230, 200, 100), 34: (120, 160, 240), 39: INK}


def captured(command: str, seconds: float, columns: int, lines: int) -> str:
    """The screen, with its escape sequences."""
    name = f"picture-{time.monotonic_ns()}"
    subprocess.run(
        [
            "tmux",
            "new-session",
            "-d",
            "-s",
            name,
            "-x",
            str(columns),
            "-y",
            str(lines),
            f"bash --norc -c {_quoted(command + '; sleep 60')}",
        ],
        check=True,
    )
    try:
        time.sleep(seconds)
        return subprocess.run(
            ["tmux", "capture-pane", "-e", "-p", "-t", name], capture_output=True, text=True, check=True
        ).stdout
    finally:
        subprocess.run(["tmux", "kill-session", "-t", name], check=False)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def drawn(screen: str) -> Image.Image:
    font = ImageFont.truetype(str(FONT), SIZE)
    width, height = round(font.getlength("M")), SIZE + 4
    lines = screen.rstrip("\n").split("\n")
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    picture = Image.new("RGB", (width * (max(map(len, plain), default=1) + 2), height * (len(lines) + 1)), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    for row, line in enumerate(lines):
        ink, paper, column = INK, BACKGROUND, 1
        for part in re.split(r"(\x1b\[[0-9;]*m)", line):
            if part.startswith("\x1b["):
                ink, paper = _style([int(each or 0) for each in part[2:-1].split(";")], ink, paper)
                continue
            for letter in part:
                place = (column * width, row * height + height // 2)
                if paper != BACKGROUND:
                    draw.rectangle((place[0], place[1], place[0] + width - 1, place[1] + height - 1), paper)
                if letter == "▀":  # drawn as a rectangle: fonts leave gaps between rows
                    draw.rectangle((place[0], place[1], place[0] + width - 1, place[1] + height // 2 - 1), ink)
                else:
                    draw.text(place, letter, ink, font)
                column += 1
    return picture


def _style(codes: list[int], ink: tuple[int, ...], paper: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    while codes:
        code = codes.pop(0)
        if code == 0:
            ink, paper = INK, BACKGROUND
        elif code in (38, 48) and codes[:1] == [2]:
            colour, codes = tuple(codes[1:4]), codes[4:]
            ink, paper = (colour, paper) if code == 38 else (ink, colour)
        elif code in _COLOURS:
            ink = _COLOURS[code]
    return ink, paper


def main() -> None:
    out, seconds, command, *size = sys.argv[1:]
    columns, lines = (int(size[0]) if size else 120, int(size[1]) if len(size) > 1 else 24)
    drawn(captured(command, float(seconds), columns, lines)).save(out, optimize=True)


if __name__ == "__main__":
    main()
