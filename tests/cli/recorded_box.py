"""A data directory with footage in it, made once by `nvr run --once`, and a way to call commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from nvr.cli.command import nvr

ROOT = Path(__file__).resolve().parents[2]

SITE = """\
site: test
box: test-1
time_zone: Asia/Jayapura
cameras:
  street:
    main: {{source: replay, file: "{film}", speed: max}}
    ring_gb: 0.05
  gate:
    main: {{source: replay, file: "{film}", speed: max}}
    ring_gb: 0.05
"""


@dataclass(frozen=True)
class Box:
    """Something recorded, and its site file."""

    site_path: Path
    data_dir: Path
    pictures: int  # of each stream

    @property
    def at(self) -> list[str]:
        return ["--site", str(self.site_path), "--data", str(self.data_dir)]


def call(*arguments: str) -> Result:
    """A command in this process."""
    return CliRunner().invoke(nvr, [str(argument) for argument in arguments], prog_name="nvr")


def told(*arguments: str, status: int = 0) -> Any:
    """What a command prints with --json."""
    result = call(*arguments, "--json")
    assert result.exit_code == status, result.output
    return json.loads(result.stdout)


def program(*arguments: str, cwd: Path = ROOT, **more: Any) -> subprocess.CompletedProcess[str]:
    """A command as a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "nvr", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
        timeout=60,
        check=False,
        **more,
    )


def film(path: Path, pictures: int) -> Path:
    """A small H.264 film with a keyframe each second."""
    import av
    import numpy as np

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "bf": "0", "g": "25"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(pictures):
            pixels = np.full((240, 320, 3), number * 2 % 256, np.uint8)
            pixels[number % 200 : number % 200 + 40] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(stream.encode())
    return path
