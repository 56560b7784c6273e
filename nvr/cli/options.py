"""Options that several commands share: where the rings are, which stream, from when to when, and --json."""

from __future__ import annotations

import functools
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nvr.cli import times

if TYPE_CHECKING:
    from nvr.site import Site

Command = Callable[..., Any]
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the rings are, and the time zone in which people mean times."""

    data_dir: Path
    zone: tzinfo
    site: Site | None
    options: str  # as they were given, for commands that are named to people

    def time_ns(self, text: str | None, option: str) -> int | None:
        """A time that somebody typed. Raises click.UsageError."""
        if text is None:
            return None
        try:
            return times.parsed_ns(text, self.zone, datetime.now(self.zone))
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint=option) from None

    def span_ns(self, from_text: str | None, to_text: str | None) -> tuple[int | None, int | None]:
        """Both ends. Raises click.UsageError when they are no times or the wrong way round."""
        from_ns, to_ns = self.time_ns(from_text, "--from"), self.time_ns(to_text, "--to")
        if from_ns is not None and to_ns is not None and from_ns >= to_ns:
            raise click.UsageError(f"--from ({self.iso(from_ns)}) must be earlier than --to ({self.iso(to_ns)}).")
        return from_ns, to_ns

    def iso(self, wall_ns: int) -> str:
        return times.iso(wall_ns, self.zone)


def place_options(command: Command) -> Command:
    """--site FILE or --data DIR; the command gets a `place`."""

    @click.option("--site", "site_path", type=FILE, help="Site file: names the data directory and the time zone.")
    @click.option("--data", "data_dir", type=FOLDER, help="Data directory, instead of the one in the site file.")
    @functools.wraps(command)
    def with_place(*arguments: Any, site_path: Path | None, data_dir: Path | None, **more: Any) -> Any:
        return command(*arguments, place=_place(site_path, data_dir), **more)

    return with_place


def place_text(site_path: Path | None, data_dir: Path | None) -> str:
    """--site and --data as somebody would have to type them again."""
    given = [("--site", site_path), ("--data", data_dir)]
    return " ".join(f"{option} {shlex.quote(str(path))}" for option, path in given if path is not None)


def _place(site_path: Path | None, data_dir: Path | None) -> Place:
    if site_path is None and data_dir is None:
        raise click.UsageError("Say where the rings are: --site FILE or --data DIR.")
    if site_path is None:
        assert data_dir is not None
        place = Place(data_dir, times.zone_of_this_machine(), None, place_text(site_path, data_dir))
    else:
        from nvr import site as site_room

        site = site_room.load(site_path)
        place = Place(data_dir or site.storage.path, site.time_zone, site, place_text(site_path, data_dir))
    if not place.data_dir.is_dir():
        raise click.UsageError(f"There is no data directory {place.data_dir}: nothing was recorded here yet.")
    return place


def json_option(command: Command) -> Command:
    """--json; the command gets `as_json`."""

    def remember(context: click.Context, parameter: click.Parameter, value: bool) -> bool:
        context.meta["nvr.json"] = value
        return value

    return click.option("--json", "as_json", is_flag=True, callback=remember, is_eager=True, help="Print JSON.")(
        command
    )


def span_options(command: Command) -> Command:
    """--from and --to, as typed."""
    how = 'ISO 8601 with an offset, or at the site: "14:03", "2026-07-01 14:03", "-10m", "now".'
    command = click.option("--to", "to_text", metavar="TIME", help="End; not part of it.")(command)
    return click.option("--from", "from_text", metavar="TIME", help=f"Begin: {how}")(command)


def stream_name(camera: str) -> str:
    """`street` is `street/main`. Raises click.UsageError."""
    name, slash, kind = camera.partition("/")
    if not name or (slash and kind not in ("main", "small")):
        raise click.UsageError(f"{camera!r} is no stream: write NAME, NAME/main or NAME/small.")
    return f"{name}/{kind or 'main'}"


def camera_option(*, required: bool) -> Callable[[Command], Command]:
    return click.option(
        "--camera", required=required, metavar="NAME[/STREAM]", help="Camera, or one of its streams; NAME is NAME/main."
    )


def print_json(value: object) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, indent=2 if _is_terminal() else None))


def _is_terminal() -> bool:
    return sys.stdout.isatty()


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> None:
    """Columns wide enough for what is in them; those in `right` are aligned right."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, *rows):
        cells = [cell.rjust(width) if column in right else cell.ljust(width) for column, (cell, width) in enumerate(zip(row, widths, strict=True))]  # fmt: skip
        click.echo("  ".join(cells).rstrip())


def size_text(size_bytes: int) -> str:
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes} B"
