"""`nvr model`: models that tell what is on a picture, and their cards."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from nvr.cli.options import FILE, FOLDER, Command, json_option, place_text, print_json, print_table

_FOLDER = "models"  # in the data directory


def _of_box(command: Command) -> Command:
    """--site or --data, as elsewhere; but a box may get its models before it records, so the directory need not be there."""
    command = click.option(
        "--data", "data_dir", type=FOLDER, help="Data directory, instead of the one in the site file."
    )(command)
    return click.option("--site", "site_path", type=FILE, help="Site file of the box: names the data directory.")(
        command
    )


@click.group()
def model() -> None:
    """Models that tell persons and vehicles on a picture."""


@model.command()
@click.argument("file", type=FILE)
@click.option("--name", help="What it is called here; the file's own name where this is not given.")
@click.option("--labels", "labels_path", type=FILE, help="Names of its classes, one a line, where the file holds none.")
@click.option("--licence", default="", help="Its licence, where the file names none.")
@click.option("--origin", default="", help="Where it came from: one line for the card.")
@_of_box
@json_option
def add(
    file: Path, name: str | None, labels_path: Path | None, licence: str, origin: str,
    site_path: Path | None, data_dir: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Put a model (.tflite) and its card into the data directory, after looking whether it can be used.

    \b
    Example:
        nvr model add ssd_mobilenet.tflite --name ssd-mobilenet --site site.yaml
    """
    from nvr.detect import models

    labels = labels_path.read_text("utf-8", "replace") if labels_path is not None else None
    folder = _data_dir(site_path, data_dir) / _FOLDER
    card = models.add(folder, file, name or _name_of(file), labels=labels, licence=licence, origin=origin)
    if as_json:
        print_json(_as_values(card))
        return
    _print_card(card)
    click.echo(f"Added to {folder}. Next: nvr model check {card.name} {place_text(site_path, data_dir)}")


@model.command()
@_of_box
@json_option
def ls(site_path: Path | None, data_dir: Path | None, as_json: bool) -> None:
    """List the models of a box.

    \b
    Example:
        nvr model ls --site site.yaml
    """
    from nvr.detect import models

    found = models.cards(_data_dir(site_path, data_dir) / _FOLDER)
    if as_json:
        print_json({"models": [_as_values(card) if isinstance(card, models.Card) else {"name": name, "error": str(card)} for name, card in found]})  # fmt: skip
        return
    if not found:
        click.echo("No model. The box sees that something moves, and not what. `nvr model add` puts one there.")
        return
    rows = [
        [name, f"{card.width}x{card.height}", f"{card.size_bytes / 1e6:.1f} MB", ", ".join(sorted(set(card.kinds.values()))), card.licence]
        if isinstance(card, models.Card)
        else [name, "", "", "", str(card)]
        for name, card in found
    ]  # fmt: skip
    print_table(["model", "input", "size", "tells", "licence"], rows)


@model.command()
@click.argument("model_name", metavar="FILE|NAME")
@click.option("--labels", "labels_path", type=FILE, help="As with `add`, for a file.")
@click.option("--licence", default="", help="As with `add`, for a file.")
@_of_box
@json_option
def check(
    model_name: str,
    labels_path: Path | None,
    licence: str,
    site_path: Path | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Tell whether a model can be used, and run it once if this machine can.

    FILE is a .tflite file anywhere; NAME one that was added to a box. Exit status 1 when it cannot be used; what it lacks is
    named.

    \b
    Example:
        nvr model check ssd_mobilenet.tflite
    """
    from nvr.detect import models

    path = Path(model_name)
    if path.is_file():
        labels = labels_path.read_text("utf-8", "replace") if labels_path is not None else None
        data = path.read_bytes()
        card = models.describe(data, _name_of(path), labels=labels, licence=licence)
    else:
        card, data = models.load(_data_dir(site_path, data_dir, f"{model_name} is no file. ") / _FOLDER, model_name)
    ran, why_not = _run_once(card, data)
    if as_json:
        print_json({**_as_values(card), "ran": ran, "why_not": why_not})
        return
    _print_card(card)
    click.echo(f"Good, and it runs: {ran}." if ran else f"Good. It was not run here: {why_not}.")


def _data_dir(site_path: Path | None, data_dir: Path | None, before: str = "") -> Path:
    """Raises click.UsageError."""
    if data_dir is not None:
        return data_dir
    if site_path is None:
        raise click.UsageError(f"{before}Say which box is meant: --site FILE or --data DIR.")
    from nvr import site as site_room

    return site_room.load(site_path).storage.path


def _name_of(file: Path) -> str:
    return "".join(letter if letter.isalnum() or letter in "._" else "-" for letter in file.stem.lower()).strip("-._")


def _run_once(card: Any, data: bytes) -> tuple[str, str]:
    """(how it went, why it was not tried). Raises BadModel when the runtime refuses it."""
    try:
        from nvr.detect import objects
    except ImportError as error:
        return "", f"{error.name} is not installed"
    try:
        loaded = objects.ObjectModel(card, data)
    except objects.NoRuntime as error:
        return "", str(error)
    import time

    import numpy as np

    started_ns = time.process_time_ns()
    for _ in range(3):
        loaded.detect(np.full((card.height, card.width, 3), 90, np.uint8))
    return f"{(time.process_time_ns() - started_ns) / 3e6:.0f} ms of CPU for a picture, one thread", ""


def _as_values(card: Any) -> dict[str, Any]:
    return {**asdict(card), "labels": len(card.labels)}


def _print_card(card: Any) -> None:
    told = ", ".join(sorted(set(card.kinds.values())))
    click.echo(
        f"{card.name}: {card.notes or 'a detection model'}, {card.size_bytes / 1e6:.1f} MB, sha256 {card.sha256[:16]}…"
    )
    click.echo(f"  input    {card.width} x {card.height}, {card.input_type}")
    click.echo(f"  tells    {told} (from {len(card.labels)} labels)")
    click.echo(f"  licence  {card.licence}")
    if card.origin:
        click.echo(f"  origin   {card.origin}")
