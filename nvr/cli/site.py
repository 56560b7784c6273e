"""`nvr site`: look at a site file before a box does."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from nvr.cli import times
from nvr.cli.options import FILE, FOLDER, json_option, print_json, size_text


@click.group()
def site() -> None:
    """Look at a site file."""


@site.command()
@click.argument("file", type=FILE)
@click.option("--data", "data_dir", type=FOLDER, help="Also ask whether the rings fit the disk of this directory.")
@json_option
@click.pass_context
def check(context: click.Context, file: Path, data_dir: Path | None, as_json: bool) -> None:
    """Read a site file completely and tell every fault with its line and what to write instead.

    Exit status 0 when it is good, 1 when it has faults. Of a faulty file it also says whether the box of --data, or of the file's own
    storage.path, records with an earlier text of it.

    \b
    Example:
        nvr site check harbour.yaml
    """
    from nvr import site as site_room
    from nvr import site_kept
    from nvr.site_budget import BudgetTooLarge

    checked = site_room.check(file)
    faults = list(checked.faults)
    if checked.site is not None and data_dir is not None:
        try:
            site_room.check_budgets(checked.site, data_dir)
        except BudgetTooLarge as error:
            faults.append(site_room.Fault(1, "cameras", str(error), error.hint))
    kept = site_kept.kept(data_dir or site_kept.storage_path(file), file) if faults else None
    if as_json:
        warnings = [asdict(warning) for warning in checked.warnings]
        print_json(
            {
                "ok": not faults,
                "faults": [asdict(fault) for fault in faults],
                "warnings": warnings,
                "recorded_before": kept is not None,
            }
        )
    else:
        for fault in faults:
            _print(file, fault, "")
        for warning in checked.warnings:
            _print(file, warning, "warning: ")
        _print_summary(file, checked.site, len(faults))
        if kept is not None:
            when = times.iso(int(kept.at_s * 1e9), times.zone_of_this_machine())
            click.echo(
                f"    NOT IN FORCE: `nvr run` records with the text that recorded last, kept {when}, until this file is good again"
            )
    context.exit(1 if faults else 0)


def _print(file: Path, fault, prefix: str) -> None:  # type: ignore[no-untyped-def]
    key = f"{fault.key}: " if fault.key else ""
    click.echo(f"{file}:{fault.line}: {prefix}{key}{fault.what}")
    if fault.instead:
        click.echo(f"    instead: {fault.instead}")


def _print_summary(file: Path, site, faults: int) -> None:  # type: ignore[no-untyped-def]
    if faults:
        click.echo(f"{file}: {faults} fault{'s' if faults > 1 else ''}")
        return
    streams = site.recorded_streams()
    total_bytes = sum(stream.ring_bytes + stream.hold_bytes for stream in streams)
    click.echo(f"{file}: good. Box {site.box} records {len(streams)} streams of {len(site.cameras)} cameras, {size_text(total_bytes)} of disk at most")  # fmt: skip
