"""What is in the rings of a data directory, with the best knowledge of when it was. For commands only."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from nvr.cli.options import Place
from nvr.errors import NvrError

if TYPE_CHECKING:
    from nvr.ring.reader import Ring
    from nvr.timeline import Timeline


@dataclass(frozen=True, slots=True)
class Picture:
    codec: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Opened:
    """The rings of a data directory, and why some of them cannot be read."""

    rings: dict[str, Ring]
    unreadable: dict[str, NvrError]

    def warn(self) -> None:
        """Tell on standard error what is left out."""
        for error in self.unreadable.values():
            click.echo(f"nvr: left out: {error}", err=True)
            click.echo(f"     {error.hint}", err=True)


@contextmanager
def opened(place: Place, only: str | None = None) -> Iterator[Opened]:
    """Every ring, or the one of the stream `only`; one that cannot be read does not hide the others.

    Raises click.UsageError when `only` is not there, and RingUnreadable when it is and cannot be read.
    """
    from nvr.ring import reader

    paths = reader.streams(place.data_dir)
    if only is not None and only not in paths:
        known = ", ".join(sorted(paths)) or "none"
        raise click.UsageError(f"There is no ring of {only} in {place.data_dir}. There are: {known}.")
    found = Opened({}, {})
    try:
        for stream, path in sorted(paths.items()):
            if only is not None and stream != only:
                continue
            try:
                found.rings[stream] = reader.Ring(path)
            except reader.RingUnreadable as error:
                if only is not None:
                    raise
                found.unreadable[stream] = error
        yield found
    finally:
        for ring in found.rings.values():
            ring.close()


def timeline_of(place: Place, rings: dict[str, Ring]) -> Timeline:
    """When everything was, from all fragments and the journal."""
    from nvr import journal
    from nvr.timeline import Timeline

    rows = [(row.record for row in ring.rows()) for ring in rings.values()]
    return Timeline.from_rows(rows, journal.read(place.data_dir / "journal").samples())


def picture_of(ring: Ring) -> Picture | None:
    """Codec and size, from the newest segment's head; None where that cannot be read any more."""
    newest = ring.newest()
    if newest is None:
        return None
    try:
        head = ring.init_segment(newest.position)
    except NvrError:
        return None
    entry = head.find(b"avc1", head.find(b"stsd"))
    if entry < 0 or len(head) < entry + 32:
        return None
    # VisualSampleEntry (14496-12, 12.1.3): 24 bytes behind its name stand width and height
    width, height = struct.unpack_from(">HH", head, entry + 4 + 24)
    return Picture("h264", width, height)
