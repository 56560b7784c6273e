"""`nvr clip`: cut a span out of a ring, and prove where a clip came from."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nvr.cli import times
from nvr.cli.options import (
    FILE,
    Place,
    camera_option,
    json_option,
    place_options,
    print_json,
    size_text,
    span_options,
    stream_name,
)
from nvr.errors import NvrError

if TYPE_CHECKING:
    from nvr.clips import ClipReport


@click.group()
def clip() -> None:
    """Cut clips and prove where they came from."""


@clip.command()
@camera_option(required=True)
@span_options
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write; named after camera and time where it is not given.",
)
@click.option("--replace", is_flag=True, help="Write over a file that is there.")
@click.option("--by", "cut_by", metavar="TEXT", default="", help="Who cuts it and what for; signed with the clip.")
@click.option("--parts", is_flag=True, help="Where the camera changed its picture size, begin another file.")
@place_options
@json_option
def cut(
    place: Place,
    camera: str,
    from_text: str | None,
    to_text: str | None,
    output: Path | None,
    replace: bool,
    cut_by: str,
    parts: bool,
    as_json: bool,
) -> None:
    """Cut a span out of a ring into one MP4 file, without re-encoding, with its proof.

    Without --from and --to it takes all that is there.

    \b
    Examples:
        nvr clip cut --site site.yaml --camera street --from 14:03 --to 14:05 -o crash.mp4
        nvr clip cut --data /data/rings --camera street/small --from -10m --by "duty officer, case 4711"
    """
    from nvr import clips

    stream = stream_name(camera)
    from_ns, to_ns = place.span_ns(from_text, to_text)
    path = output or Path(_name(place, stream, from_ns))
    cutting = clips.cut_parts if parts else clips.cut
    try:
        found = cutting(place.data_dir, stream, from_ns, to_ns, path, replace=replace, cut_by=cut_by)
    except clips.ClipFailed as error:
        raise NvrError(clips.at_the_site(str(error), place.zone), hint=error.hint) from error
    reports = found if isinstance(found, list) else [found]
    if as_json:
        told = [_report(place, report) for report in reports]
        print_json({"clips": told} if parts else told[0])
        return
    for report in reports:
        span = f"{place.iso(report.span.from_ns)} to {place.iso(report.span.to_ns)}"
        click.echo(f"{report.path}: {stream}, {span}, {report.pictures} pictures, {size_text(report.size_bytes)}")
        for gap in report.gaps:
            click.echo(f"  gap from {place.iso(gap.from_ns)} to {place.iso(gap.to_ns)}: {gap.cause.value}")
    click.echo(f"signed by {reports[-1].fingerprint}")
    click.echo(f'check it with: nvr clip verify {shlex.quote(str(reports[-1].path))} --key "{reports[-1].fingerprint}"')


def _report(place: Place, report: ClipReport) -> dict[str, Any]:
    gaps = [
        {"from": place.iso(gap.from_ns), "to": place.iso(gap.to_ns), "cause": gap.cause.value} for gap in report.gaps
    ]
    return {
        "file": str(report.path),
        "stream": report.span.stream,
        "from": place.iso(report.span.from_ns),
        "to": place.iso(report.span.to_ns),
        "bytes": report.size_bytes,
        "fragments": report.fragments,
        "pictures": report.pictures,
        "gaps": gaps,
        "fingerprint": report.fingerprint,
    }


def _name(place: Place, stream: str, from_ns: int | None) -> str:
    when = "all" if from_ns is None else place.iso(from_ns)[:19].replace(":", "").replace("T", "_")
    return f"{stream.replace('/', '-')}_{when}.mp4"


@clip.command()
@click.argument("file", type=FILE)
@click.option(
    "--key", "fingerprint", help="Fingerprint of the box's key, as its owner gave it to you: proves which box it was."
)
@json_option
@click.pass_context
def verify(context: click.Context, file: Path, fingerprint: str | None, as_json: bool) -> None:
    """Find out whether a clip is what a box recorded, bit by bit.

    Without --key it proves that the clip is whole and signed by somebody; with it, by which box.
    Exit status 0 when it is genuine, 1 when it is not.

    \b
    Examples:
        nvr clip verify crash.mp4
        nvr clip verify crash.mp4 --key "fc67 b593 ..."
    """
    from nvr import clips

    if fingerprint is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", re.sub(r"[\s:]", "", fingerprint)):
        raise click.BadParameter(
            f"{fingerprint!r} is no fingerprint: 64 hexadecimal digits, as `nvr clip key` prints them on the box.",
            param_hint="--key",
        )
    verdict: dict[str, Any] = clips.verify(file, fingerprint)
    if as_json:
        print_json(verdict)
    else:
        click.echo(f"{file}: {'genuine' if verdict['genuine'] else 'NOT GENUINE'}")
        # A clip says nothing of the time zone that it is from: people read the time of their own machine, with its offset.
        lines = [
            f"{name}: {verdict[name]}" for name in ("box", "camera", "from", "to", "fingerprint") if verdict.get(name)
        ]
        lines += [*verdict["reasons"], *(f"note: {note}" for note in verdict["notes"])]
        for line in lines:
            click.echo(f"  {clips.at_the_site(line, times.zone_of_this_machine())}")
    context.exit(0 if verdict["genuine"] else 1)


@clip.command()
@place_options
@json_option
def key(place: Place, as_json: bool) -> None:
    """Print the fingerprint of this box's key, for whoever will have to check its clips.

    Give it to them in another way than the clips.

    \b
    Example:
        nvr clip key --site site.yaml
    """
    from nvr.evidence import Identity

    identity = Identity.load_or_create(place.data_dir / "identity" / "key")
    if as_json:
        print_json({"fingerprint": identity.fingerprint, "public_key": identity.public_bytes.hex()})
    else:
        click.echo(identity.fingerprint)
