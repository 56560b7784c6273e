"""YAML in which every value knows its line.

Works on the nodes that PyYAML composes, never on constructed objects: so a password `0123` stays as it was
written, `14:00` does not become 840, a key that stands twice is seen, and no tag can make an object.
A kind (`site_kinds.py`) turns one node into a value or raises Wrong; `Reader` collects what is wrong and goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from nvr.site_kinds import UNIT_NAMES, Group, Key, Kind, Wrong, closest, in_unit, unit_of

FILE_BYTES = 1 << 20  # 64 cameras with all their zones are 60 kB


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One thing that is wrong in a site file, and what to write instead."""

    line: int  # from 1
    key: str  # "cameras.street.ring_gb"
    what: str  # never shows a secret
    instead: str  # "" where only the person can know


# -- reading -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entry:
    """One `key: value` of a mapping."""

    name: str
    path: str  # dotted, from the top of the file
    line: int
    value: yaml.Node


# Words that other recorders use for the same thing.
_OTHER_WORDS = {
    "timezone": "time_zone", "tz": "time_zone", "username": "user", "login": "user", "pass": "password", "passwd": "password",
    "rtsp": "url", "uri": "url", "address": "url", "retention": "keep_days", "retain": "keep_days", "days": "keep_days", "size": "ring_gb",
    "quota": "ring_gb", "timeout": "stall_s", "protocol": "transport", "record": "main", "detect": "small", "sub": "small", "substream": "small",
    "schedule": "hours", "opening_hours": "hours", "areas": "zones", "location": "place", "name": "site", "type": "source",
    "host": "listen", "bind": "listen", "repeat": "loop", "path": "file", "dir": "path", "directory": "path",
}  # fmt: skip


class Reader:
    """Reads mappings key by key; whatever is wrong becomes a fault, and reading goes on."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self._told: set[Fault] = set()
        self.warnings: list[Fault] = []

    def fault(self, line: int, key: str, what: str, instead: str = "") -> None:
        fault = Fault(line, key, what, instead)
        if fault not in self._told:  # a template is read once for each camera that takes it
            self._told.add(fault)
            self.faults.append(fault)

    def warn(self, line: int, key: str, what: str, instead: str = "") -> None:
        self.warnings.append(Fault(line, key, what, instead))

    def entries(self, node: yaml.Node, path: str) -> dict[str, Entry]:
        """The keys of a mapping. A key that stands twice is a fault; the first one counts."""
        found: dict[str, Entry] = {}
        if not isinstance(node, yaml.MappingNode):
            self.fault(line_of(node), path, "must be a group of keys", "Write its keys below it, indented.")
            return found
        for key_node, value in node.value:
            line = line_of(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                self.fault(line, path, "a key must be one word", "Write `key: value`.")
                continue
            name = str(key_node.value)
            where = f"{path}.{name}" if path else name
            if name == "<<":
                self.fault(
                    line,
                    where,
                    "merge keys are not read",
                    "Put what cameras share under `templates:` and name it with `template:`.",
                )
            elif name in found:
                self.fault(
                    line,
                    where,
                    f"stands here a second time; the first is in line {found[name].line}",
                    "Take one of them out.",
                )
            else:
                found[name] = Entry(name, where, line, value)
        return found

    def value(self, kind: Kind, entry: Entry, default: Any = None) -> Any:
        """The checked value, or `default` after noting the fault."""
        try:
            return kind.read(entry.value, entry.name)
        except Wrong as wrong:
            self.fault(entry.line, entry.path, wrong.what, wrong.instead)
            return default

    def section(
        self,
        entries: Mapping[str, Entry],
        keys: Sequence[Key],
        *,
        path: str,
        line: int,
        elsewhere: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """A value for each of `keys`, its default where it is absent or wrong.

        `elsewhere` says of keys that are wrong here where they belong.
        """
        names = [key.name for key in keys]
        meant = {self._unknown(entry, names, elsewhere or {}) for entry in entries.values() if entry.name not in names}
        values: dict[str, Any] = {}
        for key in keys:
            values[key.name] = key.default
            if key.name in entries:
                values[key.name] = self.value(key.kind, entries[key.name], key.default)
            elif key.required and key.name not in meant:
                self.fault(line, f"{path}.{key.name}" if path else key.name, "is missing", _missing(key))
        return values

    def _unknown(self, entry: Entry, names: Sequence[str], elsewhere: Mapping[str, str]) -> str:
        """Note an unknown key; the known one that was probably meant, or ""."""
        lowered = entry.name.lower().replace("-", "_")
        stem, _, unit = lowered.rpartition("_") if "_" in lowered else (lowered, "", "")
        same_stem = [
            name for name in names if unit_of(name) and name.rpartition("_")[0] in (lowered, stem) and name != lowered
        ]
        if same_stem and lowered not in names:
            known = same_stem[0]
            converted = _converted(entry, unit, unit_of(known))
            self.fault(
                entry.line,
                entry.path,
                f"unknown key; this is given in {UNIT_NAMES[unit_of(known)]}",
                f"{known}: {converted}",
            )
            return known
        if entry.name in elsewhere:
            self.fault(entry.line, entry.path, "does not belong here", f"Move it to {elsewhere[entry.name]}.")
            return ""
        near = lowered if lowered in names else _OTHER_WORDS.get(lowered, "")
        near = near if near in names else closest(lowered, names)
        known_names = ", ".join(names)
        self.fault(
            entry.line,
            entry.path,
            "unknown key",
            f"{near}: (did you mean this?)" if near else f"Known here: {known_names}.",
        )
        return near


def _missing(key: Key) -> str:
    """What to write for a key that is not there."""
    return key.kind.what if isinstance(key.kind, Group) else f"{key.name}: ({key.kind.form()})"


def _converted(entry: Entry, unit: str, wanted: str) -> str:
    """The number somebody gave in another unit, in ours; `...` when it cannot be told."""
    text = str(entry.value.value).strip() if isinstance(entry.value, yaml.ScalarNode) else ""
    return in_unit(text, wanted) or in_unit(text + unit, wanted) or (text if text.isdecimal() and not unit else "...")


def line_of(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def compose(data: bytes) -> tuple[yaml.Node | None, Fault | None]:
    """The top node of a YAML document, or the one fault that makes it unreadable."""
    if len(data) > FILE_BYTES:
        return None, Fault(
            1, "", f"the file has {len(data)} bytes; a site file has at most {FILE_BYTES}", "Is this the right file?"
        )
    try:
        node = yaml.compose(data, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        what = error.problem or error.context or "this is not YAML"
        if "\\t" in what:
            return None, Fault(line, "", "the line is indented with a tab", "Indent with spaces.")
        if "mapping values are not allowed" in what:
            return None, Fault(
                line,
                "",
                "a value holds `: ` or this line is indented too far",
                "Put the value in quotes, or line the keys up.",
            )
        return None, Fault(
            line,
            "",
            f"not YAML: {what}",
            "Keys end in `: `, what belongs together is indented alike, quotes come in pairs.",
        )
    except yaml.YAMLError as error:
        return None, Fault(1, "", f"not YAML: {str(error).splitlines()[0]}", "Save the file as UTF-8 text.")
    except RecursionError:
        return None, Fault(1, "", "nested too deeply to be a site file", "Is this the right file?")
    if node is None:
        return None, Fault(1, "", "the file is empty", "docs/settings.md shows a complete one.")
    return node, None
