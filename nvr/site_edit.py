"""Zones, masks and lines of one camera, changed in the text of a site file: comments, order and everything else stay.

The nodes know where they stand in the text; only what differs is written anew. Nothing is judged here: whoever replaces a
file checks the new text as a whole first (`nvr.site.check_text`) and compares what it says (`changed()`).
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from nvr import durable
from nvr.errors import NvrError
from nvr.scene import Line, Point, Zone
from nvr.site import SiteFaulty, check_text
from nvr.site_kinds import Wrong, check_name
from nvr.site_settings import Camera, Site
from nvr.site_yaml import FILE_BYTES, compose

DIGITS = 4  # a ten-thousandth of the picture is less than a pixel


class CannotEdit(NvrError):
    """The text cannot be changed by a program; a person can."""


class ChangedMeanwhile(NvrError):
    """The file is not the one that the change was made from."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """One zone, mask or line as somebody drew it."""

    name: str
    points: tuple[Point, ...]  # corners; of a line its two ends
    was: str = ""  # its name in the file, when it is there already


@dataclass(frozen=True, slots=True)
class Drawing:
    """All that is drawn over one camera's picture; what is not in it goes."""

    zones: tuple[Drawn, ...]
    masks: tuple[Drawn, ...]
    lines: tuple[Drawn, ...]


@dataclass(frozen=True, slots=True)
class _Change:
    start: int
    end: int
    text: str


def is_name(text: str) -> bool:
    """Whether a place may be called so."""
    try:
        check_name(text)
    except Wrong:
        return False
    return True


def version_of(data: bytes) -> str:
    """Names the contents of a site file."""
    return hashlib.sha256(data).hexdigest()


def read(path: Path) -> bytes:
    """Raises NvrError."""
    try:
        with open(path, "rb") as file:
            return file.read(FILE_BYTES + 1)
    except OSError as error:
        raise NvrError(
            f"cannot read the site file: {error.strerror}", hint="Look at the card or the disk it lies on."
        ) from error


def save(path: Path, version: str, camera: str, drawing: Drawing) -> str:
    """Write what was drawn into the site file, which is replaced as a whole; its new version.

    Raises ChangedMeanwhile, CannotEdit, SiteFaulty (then with every fault of the new text), NvrError when it cannot be written.
    """
    data = read(path)
    if version_of(data) != version:
        raise ChangedMeanwhile(
            "the site file was changed by somebody else since this page read it",
            hint="Load the page again, then draw anew.",
        )
    new = changed(data, path, camera, drawing)
    if new != data:
        _replace(path, data, new)
    return version_of(new)


def changed(data: bytes, path: Path, camera: str, drawing: Drawing) -> bytes:
    """The new text of a site file. Raises CannotEdit, SiteFaulty."""
    before = check_text(data, path)
    if before.site is None:
        raise SiteFaulty(path, before.faults)
    old = _camera(before.site, camera)
    new = edited(data, old, drawing)
    after = check_text(new, path)
    if after.site is None:
        raise SiteFaulty(path, after.faults)
    found = _camera(after.site, camera)
    same = replace(found, zones=old.zones, masks=old.masks, lines=old.lines, rules=old.rules)
    others = replace(after.site, cameras=tuple(same if each.name == camera else each for each in after.site.cameras))
    if others != before.site or not _says(found, drawing):
        raise CannotEdit(
            "the site file is written in a way that this page cannot change safely",
            hint="Write the zones into the file by hand; docs/settings.md shows how.",
        )
    return new


def _camera(site: Site, name: str) -> Camera:
    for camera in site.cameras:
        if camera.name == name:
            return camera
    raise CannotEdit(f"the site file has no camera {name}", hint="Load the page again.")


def _rounded(points: Iterable[Point]) -> tuple[Point, ...]:
    return tuple((round(x, DIGITS), round(y, DIGITS)) for x, y in points)


def _says(camera: Camera, drawing: Drawing) -> bool:
    """Whether a camera has what was drawn, and nothing else."""
    pairs = (
        (((zone.name, zone.corners) for zone in camera.zones), drawing.zones),
        (((zone.name, zone.corners) for zone in camera.masks), drawing.masks),
        (((line.name, (line.start, line.end)) for line in camera.lines), drawing.lines),
    )
    return all(
        {name: _rounded(points) for name, points in said} == {each.name: _rounded(each.points) for each in drawn}
        for said, drawn in pairs
    )


# -- text ----------------------------------------------------------------------------------------------


def edited(data: bytes, camera: Camera, drawing: Drawing) -> bytes:
    """The text with what was drawn in place of what `camera` has there. Raises CannotEdit."""
    top, fault = compose(data)
    if fault is not None or not isinstance(top, yaml.MappingNode):
        raise CannotEdit("this is not a site file", hint="nvr site check says what is wrong.")
    text = data.decode("utf-8")
    node = _value(_value(top, "cameras"), camera.name)
    if not isinstance(node, yaml.MappingNode):
        raise CannotEdit(f"camera {camera.name} is not written as a group of keys", hint="Write it so, by hand.")
    changes: list[_Change] = []
    groups: tuple[tuple[str, tuple[Drawn, ...], Sequence[Zone | Line]], ...] = (
        ("zones", drawing.zones, camera.zones), ("masks", drawing.masks, camera.masks), ("lines", drawing.lines, camera.lines),
    )  # fmt: skip
    missing: list[tuple[str, tuple[Drawn, ...]]] = []
    for group, drawn, known in groups:
        if {each.name: _rounded(each.points) for each in drawn} == {
            each.name: _rounded(_points(each)) for each in known
        }:
            continue
        pair = next((pair for pair in node.value if pair[0].value == group), None)
        if pair is None:
            missing.append((group, drawn))
        else:
            key, value = pair
            before = {each.name: _rounded(_points(each)) for each in known}
            changes += _group_changes(text, node, key, value, group, drawn, before)
    if missing:
        changes.append(_new_groups(text, node, missing))
    for kind, drawn in (("zone", drawing.zones), ("line", drawing.lines)):
        changes += _renamed_in_rules(
            node, kind, {each.was: each.name for each in drawn if each.was and each.was != each.name}
        )
    for change in sorted(changes, key=lambda change: (change.start, change.end), reverse=True):
        text = text[: change.start] + change.text + text[change.end :]
    return text.encode("utf-8")


def _points(each: Zone | Line) -> tuple[Point, ...]:
    return (each.start, each.end) if isinstance(each, Line) else each.corners


def _value(node: yaml.Node | None, name: str) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == name:
                return value
    return None


def _is_block(node: yaml.Node) -> bool:
    return isinstance(node, yaml.CollectionNode) and not node.flow_style and bool(node.value)


def _end(node: yaml.Node) -> int:
    """Where a node's text ends; a block's own end mark stands behind the comments that follow it."""
    if not _is_block(node):
        return int(node.end_mark.index)
    children = [child for item in node.value for child in (item if isinstance(item, tuple) else (item,))]
    return max(_end(child) for child in children)


def _line_start(text: str, place: int) -> int:
    return text.rfind("\n", 0, place) + 1


def _line_end(text: str, place: int) -> int:
    """Before the line break."""
    end = text.find("\n", place)
    end = len(text) if end < 0 else end
    return end - 1 if text[place:end].endswith("\r") else end


def _pair(point: Point) -> str:
    return "[" + ", ".join(f"{value:.{DIGITS}f}".rstrip("0").rstrip(".") or "0" for value in point) + "]"


def _flow(group: str, points: Sequence[Point]) -> str:
    if group == "lines":
        return f"{{from: {_pair(points[0])}, to: {_pair(points[1])}}}"
    return "[" + ", ".join(_pair(point) for point in points) + "]"


def _new_groups(text: str, camera: yaml.MappingNode, groups: list[tuple[str, tuple[Drawn, ...]]]) -> _Change:
    """Groups that the camera does not have yet, behind its last key."""
    if not _is_block(camera):
        place = int(camera.end_mark.index) - 1
        before = text[:place].rstrip()
        comma = "" if before.endswith((",", "{")) else ", "
        inner = ", ".join(f"{group}: {{{_flow_entries(group, drawn)}}}" for group, drawn in groups)
        return _Change(place, place, comma + inner)
    newline = "\r\n" if "\r\n" in text else "\n"
    indent = " " * camera.value[0][0].start_mark.column
    lines = []
    for group, drawn in groups:
        lines.append(
            f"{indent}{group}:" if drawn else f"{indent}{group}: {{}}"
        )  # empty: not even what the template says
        lines += [f"{indent}  {each.name}: {_flow(group, each.points)}" for each in drawn]
    place = _line_end(text, _end(camera))
    return _Change(place, place, "".join(newline + line for line in lines))


def _flow_entries(group: str, drawn: Iterable[Drawn]) -> str:
    return ", ".join(f"{each.name}: {_flow(group, each.points)}" for each in drawn)


def _group_changes(
    text: str, camera: yaml.MappingNode, key: yaml.Node, group_node: yaml.Node, group: str, drawn: tuple[Drawn, ...],
    known: dict[str, tuple[Point, ...]],
) -> list[_Change]:  # fmt: skip
    start, end = int(key.end_mark.index), _end(camera)
    if not start <= int(group_node.start_mark.index) < end or not isinstance(group_node, yaml.MappingNode):
        raise CannotEdit(
            f"the {group} of this camera are an alias of what stands elsewhere in the site file",
            hint="Give the camera zones of its own, by hand.",
        )
    if not drawn:
        return [_Change(start, _end(group_node), ": {}")]
    if not _is_block(group_node):
        return [_Change(int(group_node.start_mark.index), _end(group_node), "{" + _flow_entries(group, drawn) + "}")]
    changes = []
    by_name = {each.was: each for each in drawn if each.was}
    for name_node, value in group_node.value:
        each = by_name.pop(str(name_node.value), None)
        name_start, name_end = int(name_node.start_mark.index), int(name_node.end_mark.index)
        if each is None:
            line = _line_start(text, name_start)
            after = text.find("\n", _end(value))
            changes.append(_Change(line, len(text) if after < 0 else after + 1, ""))
            continue
        if _rounded(each.points) != known.get(str(name_node.value)):
            changes.append(_Change(name_end, _end(value), f": {_flow(group, each.points)}"))
        if each.name != name_node.value:
            changes.append(_Change(name_start, name_end, each.name))
    found = {str(name_node.value) for name_node, _ in group_node.value}
    new = [each for each in drawn if each.was not in found]
    if new:
        newline = "\r\n" if "\r\n" in text else "\n"
        first = group_node.value[0][0]
        indent = " " * first.start_mark.column
        # Before the first entry's line, because the last one may be on its way out.
        place = _line_start(text, int(first.start_mark.index))
        changes.append(
            _Change(place, place, "".join(f"{indent}{each.name}: {_flow(group, each.points)}{newline}" for each in new))
        )
    return changes


def _renamed_in_rules(camera: yaml.MappingNode, kind: str, names: dict[str, str]) -> list[_Change]:
    """Rules of this camera that name a zone or line go with its new name."""
    rules = _value(camera, "rules")
    if not names or not isinstance(rules, yaml.MappingNode):
        return []
    changes = []
    for _, value in rules.value:
        for group in value.value if isinstance(value, yaml.SequenceNode) else [value]:
            named = _value(group, kind)
            if isinstance(named, yaml.ScalarNode) and named.value in names:
                changes.append(_Change(int(named.start_mark.index), int(named.end_mark.index), names[str(named.value)]))
    return changes


# -- the file -------------------------------------------------------------------------------------------


def _replace(path: Path, old: bytes, new: bytes) -> None:
    """Replace the file as a whole, with its owner and mode, there after a power cut. Raises ChangedMeanwhile, NvrError."""
    path = path.resolve()  # a link to the file stays a link
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        state = os.stat(path)
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            left = memoryview(new)
            while left:
                left = left[os.write(fd, left) :]
            try:
                os.fchmod(fd, state.st_mode & 0o7777)
                os.fchown(fd, state.st_uid, state.st_gid)
            except PermissionError:
                pass  # a FAT partition has neither; another owner than ours cannot be kept
            os.fsync(fd)
        finally:
            os.close(fd)
        if read(path) != old:
            raise ChangedMeanwhile(
                "the site file was changed by somebody else just now", hint="Load the page again, then draw anew."
            )
        os.replace(draft, path)
        durable.sync_folder(path.parent)
    except OSError as error:
        raise NvrError(
            f"the site file {path} cannot be written: {error.strerror}",
            hint="The page's process needs to write into the folder of the site file.",
        ) from error
    finally:
        draft.unlink(missing_ok=True)
