"""`python -m nvr.detect --data DIR --site FILE`: looks at the cameras of one box, as a process of its own."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from functools import partial
from pathlib import Path
from types import FrameType

from nvr import site_kept, systemd
from nvr.arena import Arena
from nvr.detect import models
from nvr.detect.objects import NoRuntime, ObjectModel
from nvr.detect.process import Process
from nvr.detect.tflite_file import BadModel
from nvr.errors import NvrError
from nvr.priority import step_back
from nvr.recorder import source_of
from nvr.site_settings import Camera, source_options
from nvr.source import Source
from nvr.stream import RecordedStream

log = logging.getLogger(__name__)


def the_model(folder: Path) -> ObjectModel | None:
    """The first model in `folder` that can be used; None where there is none: then what moves is told, and not what it is."""
    for name, card in models.cards(folder):
        try:
            if isinstance(card, BadModel):
                raise card
            return ObjectModel(*models.load(folder, name))
        except (BadModel, NoRuntime) as error:
            log.warning("%s %s", error, error.hint)
    log.info("no object model in %s: things that move are told, and not what they are", folder)
    return None


def small_source(data_dir: Path, camera: Camera, arena: Arena) -> Source:
    """The small stream of a camera, for us alone."""
    assert camera.small is not None
    stream = RecordedStream(f"{camera.name}/small", source_options(camera.small, camera.stall_s, data_dir), 0)
    return source_of(stream, arena)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m nvr.detect", description="Look at the cameras of one box.")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the box's data directory")
    parser.add_argument("--site", type=Path, required=True, metavar="FILE", help="the box's site file")
    parser.add_argument("--models", type=Path, metavar="DIR", help="where models lie (default: DIR/models of the data)")
    parser.add_argument("--kept", action="store_true", help="the site is the one that `nvr run` kept")
    options = parser.parse_args()
    systemd.set_up_logging("detect")
    systemd.end_with_parent()
    step_back()
    try:
        settings = site_kept.in_force(options.site, options.data, is_kept=options.kept)
        process = Process(
            settings, options.data, model=the_model(options.models or options.data / "models"),
            make_source=partial(small_source, options.data),
        )  # fmt: skip
    except NvrError as error:
        print(f"{error}\n{error.hint}".rstrip(), file=sys.stderr)
        return 2

    def stop(number: int, frame: FrameType | None) -> None:
        process.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    process.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
