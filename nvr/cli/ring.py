"""`nvr ring`: what is recorded, whether it is whole, and what must not be recycled."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from nvr.cli.options import (
    Place,
    camera_option,
    json_option,
    place_options,
    print_json,
    print_table,
    size_text,
    span_options,
    stream_name,
)
from nvr.errors import NvrError


class RecorderRuns(NvrError):
    """This needs the rings for itself."""


@click.group()
def ring() -> None:
    """What is recorded, and whether it is whole."""


@ring.command()
@place_options
@json_option
@click.pass_context
def ls(context: click.Context, place: Place, as_json: bool) -> None:
    """List the rings: from when to when, how much, and what pictures.

    \b
    Example:
        nvr ring ls --site site.yaml
    """
    from nvr.cli.rings import opened, picture_of, timeline_of

    with opened(place) as found:
        timeline = timeline_of(place, found.rings)
        streams = []
        for stream, each in found.rings.items():
            from_ns = to_ns = None
            pictures = size_bytes = 0
            for row in each.rows():
                span = timeline.span_of(row.record)
                from_ns = span.from_ns if from_ns is None else min(from_ns, span.from_ns)
                to_ns = span.to_ns if to_ns is None else max(to_ns, span.to_ns)
                pictures += row.record.pictures
                size_bytes += row.position.size_bytes
            picture = picture_of(each)
            streams.append(
                {
                    "stream": stream,
                    "segments": len(each.segments()),
                    "from": None if from_ns is None else place.iso(from_ns),
                    "to": None if to_ns is None else place.iso(to_ns),
                    "bytes": size_bytes,
                    "pictures": pictures,
                    "codec": picture.codec if picture else None,
                    "width": picture.width if picture else None,
                    "height": picture.height if picture else None,
                }
            )
    found.warn()
    if as_json:
        print_json({"streams": streams})
    elif streams:
        rows = [_row(stream) for stream in streams]
        print_table(("stream", "from", "to", "size", "segments", "pictures", "picture"), rows, right=(3, 4, 5))
    elif not found.unreadable:
        click.echo(f"nothing is recorded in {place.data_dir} yet")
    context.exit(1 if found.unreadable else 0)


def _row(stream: dict[str, Any]) -> list[str]:
    picture = f"{stream['codec']} {stream['width']}x{stream['height']}" if stream["codec"] else "-"
    return [
        stream["stream"],
        (stream["from"] or "-").replace("T", " "),
        (stream["to"] or "-").replace("T", " "),
        size_text(stream["bytes"]),
        str(stream["segments"]),
        str(stream["pictures"]),
        picture,
    ]


@ring.command()
@place_options
@json_option
@click.pass_context
def check(context: click.Context, place: Place, as_json: bool) -> None:
    """Read every fragment of every ring and tell what is damaged. The recorder must not be running.

    Exit status 0 when all is whole, 1 when there are faults.

    \b
    Example:
        nvr ring check --data /data/rings
    """
    from nvr.cli.rings import opened
    from nvr.ring import check as checking

    with rings_for_ourselves(place.data_dir):
        faults = checking.check(place.data_dir)
        fragments = pictures = 0
        with opened(place) as found:
            for each in found.rings.values():
                for row in each.rows():
                    fragments += 1
                    pictures += row.record.pictures
            streams = len(found.rings) + len(found.unreadable)
    if as_json:
        told = [asdict(fault) for fault in faults]
        print_json({"streams": streams, "fragments": fragments, "pictures": pictures, "faults": told})
    else:
        for fault in faults:
            click.echo(str(fault))
        count = _many(len(faults), "fault") if faults else "no fault"
        click.echo(f"{_many(streams, 'stream')}, {_many(fragments, 'fragment')}, {_many(pictures, 'picture')}: {count}")
    context.exit(1 if faults else 0)


@ring.command()
@place_options
@json_option
def rebuild(place: Place, as_json: bool) -> None:
    """Make the index again from the media alone. The recorder must not be running.

    \b
    Example:
        nvr ring rebuild --data /data/rings
    """
    from nvr.ring import index

    with rings_for_ourselves(place.data_dir):
        found = index.rebuild(place.data_dir)
    if as_json:
        print_json({"streams": [{"stream": stream, "fragments": count} for stream, count in sorted(found.items())]})
        return
    for stream, count in sorted(found.items()):
        click.echo(f"{stream}: {count} fragments")


@ring.command()
@camera_option(required=False)
@place_options
@json_option
def dump(place: Place, camera: str | None, as_json: bool) -> None:
    """Print every fragment as it describes itself, one line for each.

    \b
    Example:
        nvr ring dump --data /data/rings --camera street
    """
    from nvr.cli.rings import opened
    from nvr.ring import check as checking
    from nvr.ring import reader

    only = stream_name(camera) if camera else None
    if as_json:
        with opened(place, only) as found:
            found.warn()
            for each in found.rings.values():
                for row in each.rows():
                    print_json(_plain({**asdict(row.position), **asdict(row.record)}))
        return
    paths = reader.streams(place.data_dir)
    if only is not None and only not in paths:
        raise click.UsageError(
            f"There is no ring of {only} in {place.data_dir}. There are: {', '.join(sorted(paths)) or 'none'}."
        )
    for stream in sorted(paths):
        if only is None or stream == only:
            for line in checking.dump(paths[stream]):
                click.echo(line)


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in fields.items()}


@ring.command()
@camera_option(required=True)
@span_options
@click.option("--reason", required=True, help="Why, for whoever finds it held.")
@place_options
@json_option
def hold(place: Place, camera: str, from_text: str | None, to_text: str | None, reason: str, as_json: bool) -> None:
    """Keep a span from being recycled, until it is released.

    \b
    Example:
        nvr ring hold --site site.yaml --camera street --from 14:00 --to 14:30 --reason "crash, case 4711"
    """
    from nvr.ring import holds

    stream = stream_name(camera)
    from_ns, to_ns = place.span_ns(from_text, to_text)
    if from_ns is None or to_ns is None:
        raise click.UsageError("Say from when to when: --from TIME --to TIME.")
    held = holds.Hold(secrets.token_hex(4), stream, from_ns, to_ns, reason)
    holds.add(place.data_dir / "holds.json", held)
    if as_json:
        print_json(_hold_json(place, held))
    else:
        click.echo(f"held as {held.id}; let it go with: nvr ring release {held.id} {place.options}")


@ring.command()
@click.argument("hold_id", metavar="[ID]", required=False)
@place_options
@json_option
@click.pass_context
def release(context: click.Context, place: Place, hold_id: str | None, as_json: bool) -> None:
    """Let a held span go; without ID, list what is held.

    \b
    Example:
        nvr ring release 3fa94c01 --site site.yaml
    """
    from nvr.ring import holds

    path = place.data_dir / "holds.json"
    held = holds.load(path)
    if hold_id is None:
        if as_json:
            print_json({"holds": [_hold_json(place, each) for each in held]})
        else:
            for each in held:
                click.echo(
                    f"{each.id}  {each.stream}  {place.iso(each.from_ns)}  {place.iso(each.to_ns)}  {each.reason}"
                )
            if not held:
                click.echo("nothing is held")
        return
    if hold_id not in {each.id for each in held}:
        known = ", ".join(each.id for each in held) or "nothing"
        raise click.UsageError(f"Nothing is held as {hold_id}. Held: {known}.")
    holds.release(path, hold_id)
    if as_json:
        print_json({"released": hold_id})
    else:
        click.echo(f"released {hold_id}")


def _hold_json(place: Place, held: Any) -> dict[str, Any]:
    times = {"from": place.iso(held.from_ns), "to": place.iso(held.to_ns)}
    return {"id": held.id, "stream": held.stream, **times, "reason": held.reason}


@contextmanager
def rings_for_ourselves(data_dir: Path) -> Iterator[None]:
    """Hold the lock that `nvr run` holds. Raises RecorderRuns while it does."""
    path = data_dir / "run" / "box.lock"
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        yield  # nothing ever ran here: there is nobody to wait for
        return
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RecorderRuns(
                f"`nvr run` is recording into {data_dir}",
                hint="Stop it first (Ctrl-C, or systemctl stop nvr), or look at a copy of the directory.",
            ) from None
        yield
    finally:
        os.close(fd)


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count != 1 else ''}"
