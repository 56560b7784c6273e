"""`nvr detect`: what the rules of a site make of a film, and how right that is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nvr.cli import times
from nvr.cli.options import FILE, json_option, print_json

if TYPE_CHECKING:
    from nvr.detect.grading import Seen, Truth
    from nvr.detect.objects import ObjectModel
    from nvr.media import StreamEvent
    from nvr.site import Camera, Site

_MODEL_HELP = "A model file (.tflite) or folder of models. Without one: those of the site's data directory, else none."


@click.group()
def detect() -> None:
    """Try the rules of a site on films."""


@detect.command()
@click.argument("file", type=FILE)
@click.option("--site", "site_path", type=FILE, required=True, help="Site file: its zones, lines, hours and rules.")
@click.option("--camera", "camera_name", metavar="NAME", help="Camera of the site file; needed when it has several.")
@click.option(
    "--at",
    "at_text",
    metavar="TIME",
    help="When the film begins; otherwise at an opening time, so that rules about hours can be tried.",
)
@click.option("--model", "model_path", type=click.Path(exists=True, path_type=Path), help=_MODEL_HELP)
@click.option(
    "--fps", type=click.FloatRange(1, 120), help="Pictures a second, for a bare H.264 file, which does not say."
)
@click.option(
    "--draw",
    "draw_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write a film with zones and tracks drawn.",
)
@json_option
def replay(
    file: Path, site_path: Path, camera_name: str | None, at_text: str | None, model_path: Path | None,
    fps: float | None, draw_path: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Play a film to the rules of a site, faster than real time.

    The same film and site give the same output, byte for byte.

    \b
    Examples:
        nvr detect replay crash.mp4 --site site.yaml --camera street
        nvr detect replay monday.mp4 --site site.yaml --at "2026-07-06 07:55" --json
    """
    from nvr import site as site_room
    from nvr.detect.drawing import Drawing
    from nvr.detect.pipeline import Pipeline, Settings
    from nvr.detect.replay import Summary, line_of, sentence
    from nvr.detect.replay import replay as replayed
    from nvr.rules.templates import Rules

    site = site_room.load(site_path)
    camera = _camera(site, camera_name, file)
    begin_ns = _begin_ns(site, camera, at_text)
    model = _model(model_path, site.storage.path / "models")
    pipeline = Pipeline(camera.name, camera.zones, camera.lines, model=model, settings=Settings(masks=camera.masks))
    rules = Rules(camera, site)
    summary = Summary()
    drawing = None if draw_path is None else Drawing(draw_path, camera.zones, camera.lines)
    try:
        for facts, events in replayed(film_events(file, fps), pipeline, rules.look, begin_ns):
            summary.add(facts, events)
            for event in events:
                line = line_of(event, site.time_zone)
                click.echo(json.dumps(line, ensure_ascii=False) if as_json else sentence(line))
            if drawing is not None and pipeline.frame is not None:
                drawing.add(pipeline.frame, facts, rules.states())
    finally:
        if drawing is not None:
            drawing.close()
    last = {**summary.line(), "camera": camera.name, "begin": times.iso(begin_ns, site.time_zone)}
    if as_json:
        click.echo(json.dumps(last, ensure_ascii=False))
    else:
        _print_summary(last)


def _print_summary(line: dict[str, Any]) -> None:
    model = f"model {line['model']}" if line["model"] else "without a model: things that move, not what they are"
    moved = ", ".join(f"{count} {kind}" for kind, count in line["things_that_moved"].items()) or "nothing"
    click.echo(f"{line['length_s']:.1f} s, {line['looks']} looks, {model}; moved: {moved}; begins at {line['begin']}")


@detect.command("eval")
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--model",
    "model_path",
    type=click.Path(exists=True, path_type=Path),
    help="Another model than the one each truth file names.",
)
@click.option("--no-model", is_flag=True, help="Without any model: what motion alone can tell.")
@click.option(
    "--no-crops", is_flag=True, help="The model sees whole pictures only: what looking at small zones enlarged gains."
)
@click.option("--looks", "looks_per_s", type=click.FloatRange(1, 30), help="Looks a second; a box has 5.")
@json_option
@click.pass_context
def evaluate(
    context: click.Context, folder: Path, model_path: Path | None, no_model: bool, no_crops: bool,
    looks_per_s: float | None, as_json: bool,
) -> None:  # fmt: skip
    """Replay every film that has a truth file in DIR, and print how right the result is.

    Films that are not there are left out and named. Exit status 1 when a promise is not kept.

    \b
    Example:
        nvr detect eval tests/detect/truth
    """
    from nvr.detect import grading

    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise click.UsageError(f"There is no truth file (*.json) in {folder}.")
    rows: list[grading.Row] = []
    left_out = []
    for truth in [grading.read(path) for path in paths]:
        if not truth.film.is_file():
            left_out.append(f"{truth.path.name}: there is no film {truth.film}")
            continue
        wanted = model_path or truth.model
        if not no_model and wanted is not None and not wanted.exists():
            left_out.append(f"{truth.path.name}: there is no model {wanted}")
            continue
        seen = seen_of(truth, None if no_model else wanted, has_crops=not no_crops, looks_per_s=looks_per_s)
        rows += grading.grade(seen)
    kept = sum(row.is_kept for row in rows)
    if as_json:
        print_json({"rows": [asdict(row) for row in rows], "kept": kept, "left_out": left_out})
    else:
        click.echo("| film | what | found | promised | kept |\n| --- | --- | --- | --- | --- |")
        for row in rows:
            click.echo(
                f"| {row.film} | {row.what} | {row.found} | {row.promised} | {'yes' if row.is_kept else '**no**'} |"
            )
        for line in left_out:
            click.echo(f"left out: {line}", err=True)
    context.exit(0 if kept == len(rows) else 1)


def seen_of(truth: Truth, model_path: Path | None, *, has_crops: bool = True, looks_per_s: float | None = None) -> Seen:
    """A film of an evaluation, seen with its site file. Raises NvrError."""
    from nvr import site as site_room
    from nvr.detect.grading import Seen
    from nvr.detect.pipeline import Pipeline, Settings
    from nvr.detect.replay import replay as replayed
    from nvr.rules.templates import Rules

    site = site_room.load(truth.site)
    camera = _camera(site, truth.camera or None, truth.film)
    model = None if model_path is None else _model(model_path, model_path)
    looks_per_s = looks_per_s or truth.looks_per_s or Settings().frames_per_s
    settings = Settings(masks=camera.masks, frames_per_s=looks_per_s, has_crops=has_crops)
    pipeline = Pipeline(camera.name, camera.zones, camera.lines, model=model, settings=settings)
    begin_ns = _begin_ns(site, camera, truth.begin or None)
    moments = list(replayed(film_events(truth.film, truth.fps), pipeline, Rules(camera, site).look, begin_ns))
    return Seen([facts for facts, _ in moments], [event for _, events in moments for event in events], truth)


def _camera(site: Site, name: str | None, file: Path) -> Camera:
    """Raises click.UsageError."""
    if name is not None:
        for camera in site.cameras:
            if camera.name == name:
                return camera
        raise click.UsageError(
            f"There is no camera {name!r}. There are: {', '.join(each.name for each in site.cameras)}."
        )
    if len(site.cameras) == 1:
        return site.cameras[0]
    plays = [
        camera
        for camera in site.cameras
        if any(
            Path(getattr(source, "file", "/")) == file.absolute() for source in (camera.main, camera.small) if source
        )
    ]
    if len(plays) == 1:
        return plays[0]
    raise click.UsageError(f"Which camera's rules? --camera {' or '.join(each.name for each in site.cameras)}.")


def _begin_ns(site: Site, camera: Camera, text: str | None) -> int:
    """A fixed time where nobody says one: the first opening on an ordinary week, or noon of its Monday."""
    from nvr.rules.schedule import Schedule

    monday = datetime(2026, 1, 5, tzinfo=site.time_zone)
    if text is not None:
        try:
            return times.parsed_ns(text, site.time_zone, monday)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--at") from None
    monday_ns = round(monday.timestamp()) * 1_000_000_000
    opening_ns = Schedule(site.time_zone, camera.hours, site.holidays).first_opening_ns(monday_ns)
    return monday_ns + 12 * 3600 * 1_000_000_000 if opening_ns is None else opening_ns


def _model(path: Path | None, folder: Path) -> ObjectModel | None:
    """Raises BadModel, NoRuntime."""
    from nvr.detect import models
    from nvr.detect.objects import ObjectModel

    if path is not None and path.is_file():
        data = path.read_bytes()
        return ObjectModel(models.describe(data, path.stem.lower()), data)
    found = [name for name, card in models.cards(path or folder) if isinstance(card, models.Card)]
    if not found:
        if path is not None:
            raise click.BadParameter(f"There is no usable model in {path}.", param_hint="--model")
        return None
    return ObjectModel(*models.load(path or folder, found[0]))


def film_events(file: Path, fps: float | None) -> Iterator[StreamEvent]:
    """What a file holds as the events of a stream, as fast as they are taken. Raises NvrError for a file without H.264."""
    import tempfile

    from nvr.errors import NvrError
    from nvr.media import RunEnded, RunStarted
    from nvr.source.replay import Replay

    if file.suffix.lower() in (".mkv", ".avi", ".ts", ".mts", ".flv", ".webm"):
        from nvr.detect.decoder import as_mp4

        with tempfile.TemporaryDirectory(prefix="nvr-") as folder:
            copy = Path(folder) / "film.mp4"
            as_mp4(file, copy)
            yield from film_events(copy, fps)
        return
    source = Replay(file, loop=False, speed=None, fps=fps)
    has_started, now_ns = False, 0
    try:
        while True:
            now_ns += 100_000_000
            for event in source.drain(now_ns):
                has_started = has_started or isinstance(event, RunStarted)
                if isinstance(event, RunEnded) and not has_started:
                    what = event.detail.removeprefix(f"{file.name}: ")
                    raise NvrError(f"{file}: {what}", hint="Give an MP4 or a bare H.264 file.")
                yield event
                if isinstance(event, RunEnded) and event.is_final:
                    return
    finally:
        source.close()
