"""`nvrctl site`: site files from a table, from flags or from answers; checked before anything is written."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from nvr.errors import NvrError
from tools.nvrctl import secret
from tools.nvrctl.output import FILE, FOLDER, json_option, print_json, print_table, size_text, yes_option

TEMPLATES = ("traffic", "service-office", "public-space")


@click.group()
def site() -> None:
    """Make site files from a list of cameras, and check them.

    A site file describes one box: its cameras, what is looked for, how long footage is kept, and its hub. docs/settings.md
    lists every key.

    \b
    Examples:
        nvrctl site new --table cameras.csv --out sites
        nvrctl site check sites
    """


@site.command()
@click.option(
    "--table",
    "table_path",
    type=FILE,
    help="CSV, TSV or XLSX with a row for each camera; one file comes out for each box.",
)
@click.option(
    "--out", "folder", type=FOLDER, default=Path("sites"), show_default=True, help="Folder for the site files."
)
@click.option("--site", "site_name", metavar="NAME", default="", help="Site, where the table does not say.")
@click.option("--box", metavar="NAME", default="", help="Box, without a table.")
@click.option(
    "--camera",
    "cameras",
    multiple=True,
    metavar="NAME=RTSP-URL[,SMALL-URL]",
    help="A camera, without a table; give it several times.",
)
@click.option(
    "--template", type=click.Choice(TEMPLATES), help="What the cameras are for, where the table does not say."
)
@click.option("--user", default="", help="User at the cameras, where the table does not say.")
@click.option(
    "--password-file",
    type=FILE,
    help="File with the password at the cameras; a password on the command line is seen by everybody.",
)
@click.option("--time-zone", default="", help="Time zone, where the table does not say.  [default: Asia/Jayapura]")
@click.option("--hub", metavar="URL", default="", help="Hub, where the table does not say.")
@click.option(
    "--fingerprint", default="", help="SHA-256 of the hub's certificate, where no public authority vouches for it."
)
@click.option("--ring-gb", default="", help="Disk for each camera, where the table does not say.  [default: 20]")
@click.option("--replace", is_flag=True, help="Write over site files that are there already.")
@json_option
@yes_option
def new(
    table_path: Path | None, folder: Path, site_name: str, box: str, cameras: tuple[str, ...], template: str | None, user: str,
    password_file: Path | None, time_zone: str, hub: str, fingerprint: str, ring_gb: str, replace: bool, as_json: bool, yes: bool,
) -> None:  # fmt: skip
    """Write a site file for each box, from a table, from flags, or from answers.

    The table's first row names its columns: box, camera and url are needed; site, template, small, user, password, place, ring_gb,
    keep_days, hours, time_zone, hub and fingerprint may be there, in any order (Indonesian headings do as well: kotak, kamera,
    alamat, kata sandi, jam buka). Hours are written `mon-thu 08:00-14:00; fri 08:00-11:00`. Every wrong cell is named by its row
    and column with what to write instead, and nothing is written then.

    \b
    Examples:
        nvrctl site new --table cameras.csv --out sites
        nvrctl site new --box waihaong-1 --template service-office --camera entrance=rtsp://10.0.0.11/main
        nvrctl site new                                    (asks)
    """
    from tools.nvrctl import site_draft, table

    defaults = {
        "site": site_name, "template": template or "", "user": user, "time_zone": time_zone, "hub": hub, "fingerprint": fingerprint, "ring_gb": ring_gb,
        "password": secret.read(password_file) if password_file else "",
    }  # fmt: skip
    columns: dict[str, int] = {}
    faults: list[site_draft.CellFault] = []
    if table_path is not None:
        if box or cameras:
            raise click.UsageError("Give a table, or --box and --camera, not both.")
        rows, columns, faults = table.read(table_path)
        name = str(table_path)
    elif box and cameras:
        rows, name = [_row(number, box, each) for number, each in enumerate(cameras, 1)], "--camera"
    elif box or cameras or yes or not sys.stdin.isatty():
        raise click.UsageError("Say what to write: --table FILE, or --box NAME with --camera NAME=URL.")
    else:
        rows, defaults = _asked(defaults)
        name = "what you typed"
    drafts: list[site_draft.Draft] = []
    if not faults:
        drafts, faults = site_draft.drafts(rows, defaults)
        faults += [fault for draft in drafts for fault in site_draft.faults_of(draft, folder)]
    if faults:
        raise site_draft.TableFaulty(name, site_draft.placed(faults, columns))
    written = [
        _write(folder / f"{draft.box}.yaml", draft.text, replace=replace)
        for draft in _writable(drafts, folder, replace)
    ]
    if as_json:
        print_json({"files": [str(path) for path in written]})
        return
    for path in written:
        click.echo(f"{path}: written")
    click.echo(f"Next: nvrctl site check {folder}, then nvrctl card write IMAGE DEVICE... --site {folder}")


def _row(number: int, box: str, text: str):  # type: ignore[no-untyped-def]
    from nvr.site_kinds import shown
    from tools.nvrctl.site_draft import Row

    name, sign, addresses = text.partition("=")
    main, _, small = addresses.partition(",")
    if not sign or not main:
        raise click.BadParameter(
            f"{shown(text)} is not NAME=URL, such as entrance=rtsp://10.0.0.11/main.", param_hint="--camera"
        )
    for address in (main, small):
        secret.warn_of_address(address, "--user NAME --password-file FILE, or a table.")
    return Row(
        number, {"box": box, "camera": name.strip(), "url": main.strip(), **({"small": small.strip()} if small else {})}
    )


def _asked(defaults: dict[str, str]):  # type: ignore[no-untyped-def]
    """A person answers; what was given by flags is offered. Each answer is judged when it is given, as the whole file is afterwards."""
    from tools.nvrctl.site_draft import HOURS, Row

    click.echo("A site file for one box. Enter takes what stands in brackets.", err=True)
    box = _answer("Name of the box (lower-case letters, digits, -)", "box")
    site_name = defaults["site"] or box.rpartition("-")[0] or box
    defaults["site"] = _answer("Site it belongs to", "site", site_name)
    defaults["time_zone"] = _answer("Time zone", "time_zone", defaults["time_zone"] or "Asia/Jayapura")
    defaults["hub"] = _answer("Hub (https://..., or - for none)", "hub", defaults["hub"] or "-", none="-")
    rows: list[Row] = []
    while True:
        cells = {"box": box, "camera": _answer("Name of the camera", "camera", taken=[row["camera"] for row in rows])}
        cells["url"] = _answer("  its address (rtsp://...)", "url")
        cells["small"] = _answer("  address of its small stream, or -", "small", "-", none="-")
        cells["user"] = _answer("  user, or -", "user", defaults["user"] or "-", none="-")
        if cells["user"]:
            cells["password"] = click.prompt(
                "  password", hide_input=True, default=defaults["password"], show_default=False, err=True
            )
        cells["template"] = click.prompt(
            "  what it looks at", type=click.Choice(TEMPLATES), default=defaults["template"] or "traffic", err=True
        )
        if cells["template"] == "service-office":
            cells["hours"] = _answer("  opening hours", "hours", HOURS["service-office"], template="service-office")
        cells["ring_gb"] = _answer("  GB of disk", "ring_gb", defaults["ring_gb"] or "20")
        rows.append(Row(len(rows) + 1, cells))
        if not click.confirm("Another camera?", default=False, err=True):
            return rows, defaults


def _answer(
    question: str, name: str, default: str = "", *, none: str = "", taken: Sequence[str] = (), **others: str
) -> str:
    """Asked until it is good, each time with what is wrong. `none`: what stands for no answer, which is "" then."""
    from tools.nvrctl import site_draft

    def judged(text: str) -> str:
        text = text.strip()
        if none and text == none:
            return ""
        if text in taken:
            raise click.UsageError(f"{text!r} is the name of another camera already")
        what = site_draft.fault_of_answer(name, text, others)
        if what:
            raise click.UsageError(what)
        return text

    return str(click.prompt(question, default=default, show_default=bool(default), value_proc=judged, err=True))


def _writable(drafts, folder: Path, replace: bool):  # type: ignore[no-untyped-def]
    """All of them, or none: raises NvrError when one is there already and says something else."""
    there = [folder / f"{draft.box}.yaml" for draft in drafts if (folder / f"{draft.box}.yaml").exists()]
    if there and not replace:
        raise NvrError(
            f"{', '.join(map(str, there))}: there already", hint="Another --out, or --replace to write over them."
        )
    return drafts


def _write(path: Path, text: str, *, replace: bool) -> Path:
    """Whole or not at all; it holds the cameras' passwords, so it is ours alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.new")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    if replace:
        os.replace(draft, path)
    else:
        try:
            os.link(draft, path)  # never over a file that came meanwhile
        finally:
            os.unlink(draft)
    return path


# -- check and show ------------------------------------------------------------------------------------


def site_files(paths: Sequence[Path]) -> list[Path]:
    """Files as they are, folders as the site files in them, by name. Raises NvrError for a folder without any."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(
                each for each in path.iterdir() if each.suffix in (".yaml", ".yml") and not each.name.startswith(".")
            )
            if not inside:
                raise NvrError(
                    f"there is no site file in {path}", hint="nvrctl site new --table cameras.csv writes them."
                )
            found += inside
        else:
            found.append(path)
    return found


@site.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@json_option
@click.pass_context
def check(context: click.Context, files: tuple[Path, ...], as_json: bool) -> None:
    """Read site files completely, each by itself and all together, and tell every fault with its line and what to write instead.

    Together: no two boxes of one name, no camera in two boxes, no one-time code in two files. Exit status 1 when there are faults.

    \b
    Examples:
        nvrctl site check harbour.yaml
        nvrctl site check sites
    """
    from nvr import site as site_room

    faults: list[dict] = []
    warnings: list[dict] = []
    sites = []
    paths = site_files(files)
    for path in paths:
        checked = site_room.check(path)
        faults += [{"file": str(path), **asdict(fault)} for fault in checked.faults]
        warnings += [{"file": str(path), **asdict(warning)} for warning in checked.warnings]
        if checked.site is not None:
            sites.append((path, checked.site))
    faults += _together(sites)
    if as_json:
        print_json({"ok": not faults, "files": [str(path) for path in paths], "faults": faults, "warnings": warnings})
    else:
        for kind, found in (("", faults), ("warning: ", warnings)):
            for fault in found:
                key = f"{fault['key']}: " if fault["key"] else ""
                click.echo(f"{fault['file']}:{fault['line']}: {kind}{key}{fault['what']}")
                if fault["instead"]:
                    click.echo(f"    instead: {fault['instead']}")
        many = f"{len(paths)} site file{'s' if len(paths) > 1 else ''}"
        click.echo(f"{many}: {len(faults)} fault{'s' if len(faults) > 1 else ''}" if faults else f"{many}: good")
    context.exit(1 if faults else 0)


def _together(sites) -> list[dict]:  # type: ignore[no-untyped-def]
    """What is only wrong because of another file."""
    from nvr.site import RtspSource
    from nvr.site_settings import host_name

    once = "Give each box a name of its own; nord_1 and nord-1 are one on the network."
    first: dict[tuple[str, str], Path] = {}
    faults = []
    for path, found in sites:
        claims = [("box", host_name(found.box), "box", f"the box name {found.box!r}", once)]
        if found.hub is not None and found.hub.code:
            instead = "Take it out: `nvrctl card write` gives each card its own."
            claims.append(("code", found.hub.code, "hub.code", "the one-time code", instead))
        for camera in found.cameras:
            if isinstance(camera.main, RtspSource):
                key = f"cameras.{camera.name}.main.url"
                instead = "A camera recorded by two boxes takes twice its network."
                claims.append(("url", camera.main.url, key, "the camera's address", instead))
        for kind, value, key, what, instead in claims:
            other = first.setdefault((kind, value), path)
            if other != path:
                what = f"{what} stands in {other} as well"
                faults.append(
                    {"file": str(path), "line": _line(path, key), "key": key, "what": what, "instead": instead}
                )
    return faults


def _line(path: Path, key: str) -> int:
    """Where `key` stands in a site file, or what of it stands there: `main` may come from a template."""
    import yaml

    from nvr.site_yaml import compose, line_of

    node, line = compose(path.read_bytes())[0], 1
    for part in key.split("."):
        entries = node.value if isinstance(node, yaml.MappingNode) else []
        name, node = next(((name, value) for name, value in entries if name.value == part), (None, None))
        if name is None:
            break
        line = line_of(name)
    return line


@site.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@json_option
def show(files: tuple[Path, ...], as_json: bool) -> None:
    """Tell what boxes would do: their cameras, what is looked for, and how much disk that takes. No password is shown.

    \b
    Example:
        nvrctl site show sites
    """
    from nvr import site as site_room
    from nvr.site_settings import RtspSource

    boxes = []
    for path in site_files(files):
        found = site_room.load(path)
        streams = found.recorded_streams()
        boxes.append(
            {
                "file": str(path), "site": found.name, "box": found.box, "time_zone": found.time_zone.key,
                "hub": found.hub.url if found.hub else None, "has_code": bool(found.hub and found.hub.code),
                "disk_bytes": sum(stream.ring_bytes + stream.hold_bytes for stream in streams),
                "cameras": [
                    {
                        "camera": camera.name, "place": camera.place, "template": camera.template,
                        "from": camera.main.url if isinstance(camera.main, RtspSource) else camera.main.kind,
                        "ring_bytes": camera.ring_bytes, "keep_days": camera.keep_days,
                        "zones": [zone.name for zone in camera.zones], "rules": [rule.name for rule in camera.rules],
                    }
                    for camera in found.cameras
                ],
            }
        )  # fmt: skip
    if as_json:
        print_json({"boxes": boxes})
        return
    for box in boxes:
        click.echo(
            f"{box['file']}: box {box['box']} of {box['site']}, {box['time_zone']}, hub {box['hub'] or 'none'}, at most {size_text(box['disk_bytes'])} of disk"
        )
        rows = [
            [
                each["camera"],
                each["place"],
                each["template"] or "-",
                each["from"],
                size_text(each["ring_bytes"]),
                f"{each['keep_days']:g} days" if each["keep_days"] else "as long as it fits",
            ]
            for each in box["cameras"]
        ]
        print_table(
            ["  camera", "place", "template", "from", "ring", "kept"],
            [["  " + row[0], *row[1:]] for row in rows],
            right=(4,),
        )
