"""`nvrctl image show` and `check`: what is in an image file, before it goes to cards."""

from __future__ import annotations

from pathlib import Path

import click

from tools.nvrctl.output import FILE, json_option, print_json, print_table, size_text


@click.command()
@click.argument("file", type=FILE)
@json_option
def show(file: Path, as_json: bool) -> None:
    """Tell an image's size, its partitions, and what lies beside it (block map, SHA-256).

    \b
    Example:
        nvrctl image show box.img.zst
    """
    from tools.nvrctl import image_file
    from tools.nvrctl.partitions import partitions, selector_of

    found = image_file.look_at(file)
    parts = partitions(image_file.head(found))
    selector = selector_of(parts)
    if as_json:
        print_json(
            {
                "file": str(file), "packing": found.packing or "none", "file_bytes": found.file_bytes, "size_bytes": found.size_bytes,
                "mapped_bytes": found.map.mapped_bytes if found.has_map else None, "sha256": found.sha256 or None, "takes_site_file": selector is not None,
                "partitions": [{"number": each.number, "name": each.name, "kind": each.kind, "offset": each.offset, "size_bytes": each.size_bytes} for each in parts],
            }
        )  # fmt: skip
        return
    click.echo(
        f"{file}: {size_text(found.size_bytes)}, {found.packing or 'not packed'}{f' to {size_text(found.file_bytes)}' if found.packing else ''}"
    )
    click.echo(
        f"block map: {size_text(found.map.mapped_bytes)} of data"
        if found.has_map
        else "block map: none; all of it would be written"
    )
    click.echo(f"sha256: {found.sha256 or 'none beside it'}")
    print_table(
        ["partition", "name", "offset", "size"],
        [
            [str(each.number), each.name or each.kind, size_text(each.offset), size_text(each.size_bytes)]
            for each in parts
        ],
        right=(2, 3),
    )
    click.echo(
        f"site file: goes on partition {selector.number}"
        if selector
        else "site file: there is no partition `selector` for it"
    )


@click.command()
@click.argument("file", type=FILE)
@json_option
@click.pass_context
def check(context: click.Context, file: Path, as_json: bool) -> None:
    """Unpack all of an image and compare it with its block map and its SHA-256. Exit status 1 when it is damaged.

    \b
    Example:
        nvrctl image check box.img.zst
    """
    from tools.nvrctl import image_file
    from tools.nvrctl.image_pieces import check_image

    found = image_file.look_at(file)
    check_image(found)
    covered = image_file.compared_with(found)
    if as_json:
        print_json({"ok": True, "size_bytes": found.size_bytes, "compared_with": covered})
    else:
        click.echo(
            f"{file}: good, compared with {' and '.join(covered)}"
            if covered
            else f"{file}: unpacks without a fault; nothing lies beside it to compare with"
        )
    context.exit(0)
